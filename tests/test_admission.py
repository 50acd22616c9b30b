"""Who may come in: not into a crowd, not too often, and not with more than there is room for."""

import itertools
import random
import tracemalloc
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import anyio
import msgspec
import pytest

from atlas.core.errors import Overloaded, RateLimited, TooManyChunks
from atlas.core.events import ExportAccepted
from atlas.edge import body, wire
from atlas.edge.admission import Crowd, Flight, Rate
from atlas.edge.admission.crowd import FEW, PATIENCE_SECONDS
from atlas.edge.admission.rate import USERS_MAX
from atlas.edge.batches import Batches
from tests.conftest import GONE, ROOM, Life, an_export
from tests.fakes import Brake, KnownUsers
from tests.test_contract import answered, listening
from tests.test_metrics import told

MIB = 1024 * 1024


@dataclass
class Time:
    """A clock that is moved by hand."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def life(tmp_path):
    return Life(tmp_path / "journal")


@pytest.fixture
def time():
    return Time()


# how often


def counted(rate: Rate, user: str = "ada") -> int:
    """How many requests of a user pass until one does not."""
    for passed in itertools.count():
        try:
            rate.count(user)
        except RateLimited:
            return passed
    raise AssertionError


def test_a_user_may_send_a_whole_minutes_requests_at_once(time):
    assert counted(Rate(100, time)) == 100


def test_then_one_comes_free_every_so_often(time):
    rate = Rate(100, time)
    counted(rate)

    time.now += 0.61
    assert counted(rate) == 1
    time.now += 6.01
    assert counted(rate) == 10
    time.now += 3_600
    assert counted(rate) == 100


def test_what_is_refused_counts_for_nothing(time):
    rate = Rate(100, time)
    counted(rate)
    for _ in range(1_000):
        with pytest.raises(RateLimited):
            rate.count("ada")

    time.now += 0.61
    rate.count("ada")


def test_when_to_come_again_is_told_and_true(time):
    rate = Rate(6, time)
    counted(rate)
    with pytest.raises(RateLimited) as refused:
        rate.count("ada")

    assert refused.value.retry_seconds == pytest.approx(10)
    time.now += refused.value.retry_seconds
    rate.count("ada")


def test_each_user_is_counted_alone(time):
    rate = Rate(100, time)
    counted(rate, "ada")

    assert counted(rate, "grace") == 100


def test_without_a_limit_all_pass(time):
    rate = Rate(0, time)
    for _ in range(10_000):
        rate.count("ada")


def test_whoever_was_away_is_forgotten(time):
    rate = Rate(100, time)
    for number in range(1_000):
        rate.count(f"user {number}")
        time.now += 1

    assert len(rate._until) < 3


def test_however_many_come_only_so_many_are_remembered(time):
    rate = Rate(100, time)
    for number in range(USERS_MAX + 1_000):
        rate.count(f"user {number}")

    assert len(rate._until) == USERS_MAX


# a crowd


def flowing(crowd: Crowd, time: Time, *, seconds: int, per_second: int) -> None:
    """So many leave every second, and others take their places."""
    for _ in range(seconds * per_second):
        time.now += 1 / per_second
        with crowd.one():
            pass


def is_a_crowd(crowd: Crowd, before: int) -> bool:
    try:
        crowd.look(before)
    except Overloaded:
        return True
    return False


def test_a_few_are_never_too_many(time):
    crowd = Crowd(time)
    with ExitStack() as inside:
        for _ in range(FEW - 1):
            inside.enter_context(crowd.one())
        time.now += 3_600
        crowd.look(0)


@pytest.mark.parametrize("per_second", [50, 400, 3_000])
def test_how_many_may_wait_follows_our_pace(time, per_second):
    crowd = Crowd(time)
    with ExitStack() as inside:
        for _ in range(FEW):
            inside.enter_context(crowd.one())
        flowing(crowd, time, seconds=20, per_second=per_second)

        may_wait = next(each for each in itertools.count() if is_a_crowd(crowd, each))
    assert may_wait + FEW == pytest.approx(PATIENCE_SECONDS * per_second, rel=0.05)


def test_who_is_turned_away_is_told_how_long_it_takes_to_serve_all_who_were(time):
    crowd = Crowd(time)
    told = []
    with ExitStack() as inside:
        for _ in range(FEW):
            inside.enter_context(crowd.one())
        flowing(crowd, time, seconds=20, per_second=100)
        for _ in range(1_000):
            with pytest.raises(Overloaded) as refused:
                crowd.look(400)
            told.append(refused.value.retry_seconds)
        flowing(crowd, time, seconds=20, per_second=100)
        with pytest.raises(Overloaded) as refused:
            crowd.look(400)

    assert told[0] == pytest.approx(4.65, rel=0.05)  # of those inside alone
    assert told[-1] == pytest.approx(14.6, rel=0.05)  # and of a thousand who come again
    assert refused.value.retry_seconds == pytest.approx(4.65, rel=0.05)  # they have come


def test_nobody_is_sent_away_for_longer_than_half_a_minute(time):
    crowd = Crowd(time)
    for _ in range(100_000):
        with pytest.raises(Overloaded) as refused:
            crowd.look(10_000)

    assert refused.value.retry_seconds == 30  # the answer says up to twice as much


def test_a_flood_is_forgotten_when_those_whom_we_could_serve_meanwhile_are(time):
    crowd = Crowd(time)
    for _ in range(200_000):
        with pytest.raises(Overloaded):
            crowd.look(1_000)
    with ExitStack() as inside:
        for _ in range(FEW):
            inside.enter_context(crowd.one())
        flowing(crowd, time, seconds=31, per_second=200)
        with pytest.raises(Overloaded) as refused:
            crowd.look(640)

    assert refused.value.retry_seconds == pytest.approx(3.5, rel=0.1)


def test_a_flow_that_stands_still_takes_no_more(time):
    crowd = Crowd(time)
    with ExitStack() as inside:
        for _ in range(FEW):
            inside.enter_context(crowd.one())
        crowd.look(0)
        time.now += PATIENCE_SECONDS + 0.1
        with pytest.raises(Overloaded):
            crowd.look(0)
        with crowd.one():
            pass
        crowd.look(0)


def test_of_those_who_end_together_each_counts(time):
    """A group is safe all at once."""
    crowd = Crowd(time)
    for _ in range(40):
        with ExitStack() as group:
            for _ in range(FEW):
                group.enter_context(crowd.one())
            time.now += 0.3

    assert crowd.per_second == pytest.approx(FEW / 0.3, rel=0.05)


def test_a_quiet_hour_says_nothing_of_our_pace(time):
    crowd = Crowd(time)
    for _ in range(60):
        time.now += 60
        with crowd.one():
            pass

    crowd.look(300)  # a minute each; the flow could do far more


# room


@dataclass
class Waiter:
    """Somebody who takes room, in a task of his own."""

    flight: Flight
    user: str = "ada"
    weight: int = 1
    has: int = 0
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    more: list[int] = field(default_factory=list)
    wake: anyio.Event = field(default_factory=anyio.Event)

    async def run(self) -> None:
        with self.scope, self.flight.body(self.user, self.weight) as held:
            while True:
                while self.more:
                    await self.flight.take(held, self.more[0])
                    self.has += self.more.pop(0)
                self.wake = anyio.Event()
                await self.wake.wait()

    async def wants(self, count: int) -> None:
        self.more.append(count)
        self.wake.set()
        await anyio.wait_all_tasks_blocked()

    async def goes(self) -> None:
        self.scope.cancel()
        await anyio.wait_all_tasks_blocked()


@dataclass
class Room:
    """A flight, and those who want room in it."""

    tasks: Any
    flight: Flight

    async def comes(self, count: int, user: str = "ada", weight: int = 1) -> Waiter:
        waiter = Waiter(self.flight, user, weight, more=[count])
        self.tasks.start_soon(waiter.run)
        await anyio.wait_all_tasks_blocked()
        return waiter


class Open:
    """`async with Open(all, of_a_user) as room`; at its end all is given back."""

    def __init__(self, bytes_max: int, bytes_max_of_user: int) -> None:
        self.flight = Flight(bytes_max, bytes_max_of_user)

    async def __aenter__(self) -> Room:
        self.tasks = anyio.create_task_group()
        await self.tasks.__aenter__()
        return Room(self.tasks, self.flight)

    async def __aexit__(self, *error):
        self.tasks.cancel_scope.cancel()
        await self.tasks.__aexit__(*error)
        assert self.flight.bytes == self.flight.waiting == 0
        assert not self.flight.is_short


async def test_who_finds_no_room_waits_until_there_is_some():
    async with Open(100, 100) as room:
        ada, grace = await room.comes(80), await room.comes(30, "grace")
        assert (ada.has, grace.has, room.flight.waiting) == (80, 0, 1)
        await ada.goes()
        assert grace.has == 30


async def test_who_needs_less_passes_who_waits_for_much():
    async with Open(100, 100) as room:
        ada, grace = await room.comes(80), await room.comes(30, "grace")
        alan = await room.comes(10, "alan")
        assert (grace.has, alan.has) == (0, 10)
        await ada.goes()
        assert grace.has == 30


async def test_small_bodies_that_come_and_go_keep_no_large_one_out():
    async with Open(1_000, 1_000) as room:
        first, second = await room.comes(20), await room.comes(20, "grace")
        large = await room.comes(5_000, "alan")
        assert (first.has, second.has, large.has) == (20, 20, 5_000)


async def test_who_finds_nothing_else_there_comes_in_with_however_much():
    async with Open(100, 50) as room:
        ada, grace = await room.comes(1_000), await room.comes(1, "grace")
        assert (ada.has, grace.has) == (1_000, 0)
        await ada.goes()
        assert grace.has == 1


async def test_a_user_has_only_his_part_and_others_pass_by_who_waits_for_it():
    async with Open(100, 50) as room:
        ada, more = await room.comes(40), await room.comes(20)
        grace = await room.comes(20, "grace")
        assert (ada.has, more.has, grace.has) == (40, 0, 20)
        await ada.goes()
        assert more.has == 20


async def test_who_waits_for_his_own_bodies_makes_nobody_hurry():
    async with Open(100, 50) as room:
        await room.comes(40)
        await room.comes(20)
        assert not room.flight.is_short
        await room.comes(61, "grace")
        assert room.flight.is_short


async def test_json_weighs_more_than_it_is_long():
    async with Open(100, 100) as room:
        ada, grace = await room.comes(20, weight=4), await room.comes(21, "grace")
        assert (ada.has, grace.has) == (20, 0)


async def test_who_is_read_already_goes_first():
    async with Open(100, 100) as room:
        ada, grace = await room.comes(80), await room.comes(20, "grace")
        alan = await room.comes(20, "alan")
        await grace.wants(10)
        grace_before, alan_before = grace.has, alan.has
        await ada.goes()
    assert (grace_before, alan_before) == (30, 0)  # beyond the limit: somebody must get on
    assert (grace.has, alan.has) == (30, 20)


async def test_of_bodies_that_wait_in_the_middle_one_at_a_time_goes_on():
    async with Open(100, 100) as room:
        ada, grace = await room.comes(50), await room.comes(50, "grace")
        await ada.wants(50)
        await grace.wants(50)
        assert (ada.has, grace.has) == (100, 50)
        await ada.wants(1_000)
        assert (ada.has, grace.has) == (1_100, 50)
        await ada.goes()
        assert grace.has == 100


async def test_two_bodies_of_a_user_do_not_wait_for_each_other_for_ever():
    async with Open(1_000, 50) as room:
        first, second = await room.comes(25), await room.comes(25)
        await first.wants(25)
        await second.wants(25)
        assert (first.has, second.has) == (50, 25)
        await first.goes()
        assert second.has == 50


async def test_who_stops_waiting_is_in_nobodys_way():
    async with Open(100, 100) as room:
        ada, grace = await room.comes(80), await room.comes(100, "grace")
        alan = await room.comes(90, "alan")
        await grace.goes()
        assert (room.flight.waiting, alan.has) == (1, 0)
        await ada.goes()
        assert alan.has == 90


async def test_what_was_reserved_is_not_taken_again():
    flight = Flight(100, 100)
    with flight.body("ada", 2) as held:
        await flight.reserve(held, 30)
        await flight.take(held, 20)
        assert flight.bytes == 60
        await flight.take(held, 20)
        assert flight.bytes == 80
        flight.give(held, 15)
        assert flight.bytes == 50
    assert flight.bytes == 0


@pytest.mark.parametrize("seed", range(20))
async def test_whoever_comes_and_grows_gets_on_and_all_is_given_back(seed):
    chance, most = random.Random(seed), 0
    flight = Flight(100, 40)

    async def one(user: str, steps: list[int]) -> None:
        nonlocal most
        with anyio.move_on_after(0.001 if chance.random() < 0.1 else 60):
            with flight.body(user, chance.choice([1, 1, 4])) as held:
                for step in steps:
                    await flight.take(held, step)
                    most = max(most, flight.bytes)
                    if chance.random() < 0.3:
                        await anyio.lowlevel.checkpoint()
                    if chance.random() < 0.1:
                        flight.give(held, step)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                steps = [chance.randint(1, 10) for _ in range(chance.randint(1, 8))]
                tasks.start_soon(one, f"user {chance.randint(1, 9)}", steps)

    assert flight.bytes == flight.waiting == 0
    assert not flight._of
    assert most <= 100 + 4 * 80  # of one body that goes beyond


# what a body is made into


@pytest.mark.parametrize("key", ["device", "timestamp", "recordCount", "options", "unknown"])
def test_what_nobody_asks_for_is_not_made_into_objects(key):
    bomb = b'{"rawhealthkit": "", "%s": [%s[]]}' % (key.encode(), b"[]," * 300_000)
    tracemalloc.start()
    sent = body.parse(bomb, wire.ExportBody)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    said = sent.said()
    assert (said.device, said.timestamp, said.record_count) == ("", "", None)
    assert peak < len(bomb) / 10


def test_of_too_many_chunks_no_more_are_made_than_tell_that_there_are():
    batches, bomb = Batches(64), b'{"chunks": [%s{}]}' % (b"{}," * 300_000)
    tracemalloc.start()
    with pytest.raises(TooManyChunks):
        batches.chunks(body.parse(bomb, batches.kind))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < len(bomb) / 10


# at the listener


class Counting(KnownUsers):
    """Whoever is asked for a user."""

    asked = 0

    async def user_of(self, token):
        self.asked += 1
        return await super().user_of(token)


async def test_one_request_too_many_is_429_and_nobody_elses_trouble(life):
    life.edge = {"rate_per_minute": 3}
    async with life.running() as flow:
        for number in range(3):
            assert (await flow.post(an_export(b'{"uuid":"%d"}' % number))).status == 200
        refused = await flow.post(an_export(), content_length="35")
        other = await flow.post(an_export(), token="token-of-grace")

    assert (refused.status, refused.body["error"]["code"]) == (429, "RATE_LIMITED")
    assert refused.body["error"]["retryable"] is True
    assert not refused.body_was_read
    assert refused.headers["retry-after"] == "20"
    assert refused.body["error"]["retryAfter"] == 20
    assert refused.headers["ratelimit-limit"] == "3"
    assert refused.headers["ratelimit-remaining"] == "0"
    assert refused.headers["ratelimit-reset"] == "20"
    assert refused.headers["ratelimit-policy"] == "3;w=60"
    assert refused.headers["connection"] == "close"
    assert other.status == 200


async def test_asking_for_receipts_counts_as_well(life):
    life.edge = {"rate_per_minute": 2}
    async with life.running() as flow:
        statuses = [(await flow.receipt("none")).status for _ in range(3)]
        sent = await flow.post(an_export())

    assert statuses == [404, 404, 429]
    assert sent.status == 429


async def test_a_stranger_counts_against_nobody(life):
    life.edge = {"rate_per_minute": 1}
    async with life.running() as flow:
        for _ in range(5):
            assert (await flow.post(an_export(), token="forged")).status == 401
        assert (await flow.post(an_export())).status == 200


async def test_into_a_crowd_nobody_comes_and_nobody_is_asked_who_he_is(life):
    life.compute, life.identities, life.reply_seconds = Brake(), Counting(), 20.0
    answers = []
    async with life.running() as flow:

        async def post(number: int) -> None:
            answers.append(await flow.post(an_export(b'{"uuid":"%d"}' % number)))

        async with anyio.create_task_group() as tasks:
            for number in range(601):  # at 200 a second, three seconds' worth
                tasks.start_soon(post, number)
            await anyio.wait_all_tasks_blocked()
            asked = life.identities.asked
            refused = await flow.post(an_export(b'{"uuid":"one too many"}'))
            assert (refused.status, refused.body["error"]["code"]) == (503, "OVERLOADED")
            assert int(refused.headers["retry-after"]) >= 3
            assert not refused.body_was_read
            assert life.identities.asked == asked > 600
            assert (await flow.receipt("none")).status == 404  # this is no export
            life.compute.released.set()
        again = await flow.post(an_export(b'{"uuid":"one too many"}'))

    assert {answer.status for answer in answers} == {200}
    assert again.status == 200
    assert len(life.dataset.rows()) == 602


async def test_a_body_for_which_there_is_no_room_is_not_read_and_told_in_the_end(life):
    life.reply_seconds, life.edge = 0.3, {"flight_bytes_max": 1_000}
    async with listening(life) as server, await anyio.connect_tcp("127.0.0.1", server.port) as slow:
        head = "authorization: Bearer token-of-ada\r\ncontent-length: 300\r\n"
        await slow.send(f"POST {ROOM}/export HTTP/1.1\r\nhost: a\r\n{head}\r\n{{".encode())
        await anyio.sleep(0.05)
        large = an_export(b'{"uuid":"%s"}' % (b"b" * 1_000))
        refused = await server.post(large, authorization="Bearer token-of-grace")
        small = await server.post(b"{}", authorization="Bearer token-of-grace")

    assert (refused.status, refused.code) == (503, "OVERLOADED")
    assert refused.headers["connection"] == "close"  # for its body was not read
    assert small.status == 503  # the slow one has all there is


async def test_a_body_waits_for_its_room_and_is_taken(life):
    life.compute = Brake()
    life.edge = {"flight_bytes_max": 1_000}
    answers = []
    async with life.running() as flow, anyio.create_task_group() as tasks:

        async def post(ndjson: bytes, user: str) -> None:
            answers.append(await flow.post(an_export(ndjson), token=f"token-of-{user}"))

        tasks.start_soon(post, b'{"uuid":"a"}', "ada")
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(post, b'{"uuid":"%s"}' % (b"b" * 1_000), "grace")
        await anyio.wait_all_tasks_blocked()
        assert flow.seen.count_of(ExportAccepted) == 0
        life.compute.released.set()

    assert [answer.status for answer in answers] == [200, 200]


async def test_whoever_is_slow_while_others_wait_for_his_room_makes_way(life):
    life.edge = {"flight_bytes_max": 1_000, "slow_seconds": 0.3, "slow_bytes_per_second": 100}
    text = msgspec.json.encode(an_export(b'{"uuid":"%s"}' % (b"b" * 9_000)))
    async with (
        listening(life) as server,
        await anyio.connect_tcp("127.0.0.1", server.port) as slow,
        anyio.create_task_group() as tasks,
    ):

        async def trickle() -> None:
            head = f"authorization: Bearer token-of-ada\r\ncontent-length: {len(text)}\r\n"
            await slow.send(f"POST {ROOM}/export HTTP/1.1\r\nhost: a\r\n{head}\r\n".encode())
            for at in range(0, len(text), 50):  # three times as fast as the slowest may be
                await slow.send(text[at : at + 50])
                await anyio.sleep(0.1)

        tasks.start_soon(trickle)
        await anyio.sleep(0.7)
        quick = await server.post(an_export())
        late = await answered(slow)
        tasks.cancel_scope.cancel()

    assert quick.status == 200
    assert late.status == 408


STREAM = (
    f"POST {ROOM}/export HTTP/1.1\r\nhost: a\r\nauthorization: Bearer token-of-ada\r\n"
    "content-type: application/x-ndjson\r\ncontent-length: 50000000\r\n\r\n"
).encode()
LINE = b'{"uuid":"%s"}\n' % (b"b" * 1_000)


async def test_what_is_gathered_of_a_stream_takes_room(life):
    life.reply_seconds, life.edge = 0.5, {"flight_bytes_max": 2 * MIB}
    async with listening(life) as server, await anyio.connect_tcp("127.0.0.1", server.port) as slow:
        await slow.send(STREAM + LINE * 3_000)
        await anyio.sleep(0.2)
        refused = await server.post(an_export(), authorization="Bearer token-of-grace")

    assert (refused.status, refused.code) == (503, "OVERLOADED")


async def test_what_is_safe_of_a_stream_takes_none_any_more(life):
    life.journal_bytes_max, life.edge = 100 * MIB, {"flight_bytes_max": 5 * MIB}
    async with listening(life) as server, await anyio.connect_tcp("127.0.0.1", server.port) as slow:
        await slow.send(STREAM + LINE * 13_000)
        await server.flow.seen.wait_for(ExportAccepted, 3)
        taken = await server.post(an_export(), authorization="Bearer token-of-grace")

    assert taken.status == 200


async def test_a_large_body_that_waits_for_its_room_keeps_nobody_else_waiting(life):
    life.edge = {"flight_bytes_max": 10_000}
    head = f"POST {ROOM}/export HTTP/1.1\r\nhost: a\r\nauthorization: Bearer token-of-"
    async with (
        listening(life) as server,
        await anyio.connect_tcp("127.0.0.1", server.port) as slow,
        await anyio.connect_tcp("127.0.0.1", server.port) as large,
    ):
        await slow.send(f"{head}ada\r\ncontent-length: 1000\r\n\r\n{{".encode())
        await large.send(f"{head}grace\r\ncontent-length: 2000\r\n\r\n{{".encode())
        while not (await told(server.flow))[("atlas_edge_queue_depth",)]:
            await anyio.sleep(0.01)
        small = await server.post(an_export(), authorization="Bearer token-of-alan")

    assert small.status == 200


@pytest.mark.parametrize("kind", ["json", "x-ndjson"])
async def test_a_body_that_is_under_way_when_we_end_is_told_so(life, kind):
    head = f"POST {ROOM}/export HTTP/1.1\r\nhost: a\r\nauthorization: Bearer token-of-ada\r\n"
    head += f"content-type: application/{kind}\r\ncontent-length: 1000\r\n\r\n"
    async with listening(life) as server, await anyio.connect_tcp("127.0.0.1", server.port) as slow:
        await slow.send(head.encode() + b'{"uuid":"a"}\n')
        while not (await told(server.flow))[("atlas_edge_flight_bytes",)]:
            await anyio.sleep(0.01)
        server.flow.service.drain()
        answer = await answered(slow)

    assert (answer.status, answer.code) == (503, "DRAINING")
    assert int(answer.headers["retry-after"]) > 0


def batch_of(name: str, sizes: tuple[int, ...]) -> dict[str, object]:
    """Chunks of which the large ones take longer than the others."""
    units = [b"." * size for size in sizes]
    lines = [b'{"uuid":"%s%d","unit":"%s"}' % (name.encode(), *each) for each in enumerate(units)]
    return {"chunks": [an_export(line) for line in lines]}


async def test_of_two_batches_under_one_key_at_once_one_is_taken(life):
    life.journal_bytes_max, sizes = 100 * MIB, (400_000, 10)
    batches = {"a": batch_of("a", sizes), "b": batch_of("b", sizes[::-1])}
    answers = {}
    async with life.running() as flow:

        async def post(name: str) -> None:
            answer = await flow.post(batches[name], "/export/batch", Idempotency_Key="one")
            answers[name] = answer.status

        async with anyio.create_task_group() as tasks:
            for name in "ab":
                tasks.start_soon(post, name)
    taken = next(name for name in "ab" if answers[name] == 200)

    assert sorted(answers.values()) == [200, 422]
    assert {row["uuid"][0] for row in life.dataset.rows()} == {taken}


async def test_whoever_waits_for_room_when_we_end_is_told_at_once(life):
    life.edge = {"flight_bytes_max": 1_000}
    async with listening(life) as server, await anyio.connect_tcp("127.0.0.1", server.port) as slow:
        head = "authorization: Bearer token-of-ada\r\ncontent-length: 300\r\n"
        await slow.send(f"POST {ROOM}/export HTTP/1.1\r\nhost: a\r\n{head}\r\n{{".encode())
        answers = []

        async def post() -> None:
            answers.append(await server.post(an_export(), authorization="Bearer token-of-grace"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(post)
            while not (await told(server.flow))[("atlas_edge_queue_depth",)]:
                await anyio.sleep(0.01)
            server.flow.service.drain()

    assert [(answer.status, answer.code) for answer in answers] == [(503, "DRAINING")]


async def test_what_a_lost_connection_held_is_given_back(life):
    life.edge = {"flight_bytes_max": 1_000}
    async with life.running() as flow:
        for _ in range(5):
            await flow.send("POST", f"{ROOM}/export", "token-of-ada", [b"{" * 200, GONE])
        assert (await flow.post(an_export(b'{"uuid":"%s"}' % (b"b" * 2_000)))).status == 200
