"""Admission at the listener: rate limit, load shedding and body memory."""

import anyio
import msgspec
import pytest

from atlas.core.events import ExportAccepted
from atlas.core.identifiers import API_PREFIX
from tests.conftest import GONE, an_export
from tests.support.fakes import BlockingExecutor, KnownUsers
from tests.support.listeners import answered, listening
from tests.support.scrapes import told

MIB = 1024 * 1024


class CountingUsers(KnownUsers):
    """Counts the calls of `identify_user`."""

    call_count = 0

    async def identify_user(self, token, proof=None):
        self.call_count += 1
        return await super().identify_user(token, proof)


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
    life.compute, life.identities, life.reply_seconds = BlockingExecutor(), CountingUsers(), 20.0
    life.cors_origins = ("https://app.test",)
    answers = []
    async with life.running() as flow:

        async def post(number: int) -> None:
            answers.append(await flow.post(an_export(b'{"uuid":"%d"}' % number)))

        async with anyio.create_task_group() as tasks:
            for number in range(601):  # three seconds' worth at 200 per second
                tasks.start_soon(post, number)
            await anyio.wait_all_tasks_blocked()
            call_count = life.identities.call_count
            refused = await flow.post(
                an_export(b'{"uuid":"one too many"}'), origin="https://app.test"
            )
            assert (refused.status, refused.body["error"]["code"]) == (503, "OVERLOADED")
            assert refused.headers["access-control-allow-origin"] == "https://app.test"
            assert int(refused.headers["retry-after"]) >= 3
            assert not refused.body_was_read
            assert life.identities.call_count == call_count > 600
            assert (await flow.receipt("none")).status == 404  # only exports are rejected
            life.compute.released.set()
        again = await flow.post(an_export(b'{"uuid":"one too many"}'))

    assert {answer.status for answer in answers} == {200}
    assert again.status == 200
    assert len(life.dataset.rows()) == 602


async def test_a_body_for_which_there_is_no_room_is_not_read_and_told_in_the_end(life):
    life.reply_seconds, life.edge = 0.3, {"flight_bytes_max": 1_000}
    async with listening(life) as server, await anyio.connect_tcp("127.0.0.1", server.port) as slow:
        head = "authorization: Bearer token-of-ada\r\ncontent-length: 300\r\n"
        await slow.send(f"POST {API_PREFIX}/export HTTP/1.1\r\nhost: a\r\n{head}\r\n{{".encode())
        await anyio.sleep(0.05)
        large = an_export(b'{"uuid":"%s"}' % (b"b" * 1_000))
        refused = await server.post(large, authorization="Bearer token-of-grace")
        small = await server.post(b"{}", authorization="Bearer token-of-grace")

    assert (refused.status, refused.code) == (503, "OVERLOADED")
    assert refused.headers["connection"] == "close"  # because its body was not read
    assert small.status == 503  # the slow request holds all of the memory


async def test_a_body_waits_for_its_room_and_is_taken(life):
    life.compute = BlockingExecutor()
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


@pytest.mark.parametrize(
    ("slowest", "size"),
    [
        pytest.param(100, 9_000, id="five times as fast as the slowest may be"),
        pytest.param(1, 30_000, id="so large that he would take a minute and more"),
    ],
)
async def test_whoever_is_slow_while_others_wait_for_his_room_makes_way(life, slowest, size):
    life.edge = {"flight_bytes_max": 1_000, "slow_seconds": 0.3, "slow_bytes_per_second": slowest}
    text = msgspec.json.encode(an_export(b'{"uuid":"%s"}' % (b"b" * size)))
    async with (
        listening(life) as server,
        await anyio.connect_tcp("127.0.0.1", server.port) as slow,
        anyio.create_task_group() as tasks,
    ):

        async def trickle() -> None:
            head = f"authorization: Bearer token-of-ada\r\ncontent-length: {len(text)}\r\n"
            await slow.send(f"POST {API_PREFIX}/export HTTP/1.1\r\nhost: a\r\n{head}\r\n".encode())
            for at in range(0, len(text), 50):  # 500 bytes a second
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
    f"POST {API_PREFIX}/export HTTP/1.1\r\nhost: a\r\nauthorization: Bearer token-of-ada\r\n"
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
    head = f"POST {API_PREFIX}/export HTTP/1.1\r\nhost: a\r\nauthorization: Bearer token-of-"
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
    head = f"POST {API_PREFIX}/export HTTP/1.1\r\nhost: a\r\nauthorization: Bearer token-of-ada\r\n"
    head += f"content-type: application/{kind}\r\ncontent-length: 1000\r\n\r\n"
    async with listening(life) as server, await anyio.connect_tcp("127.0.0.1", server.port) as slow:
        await slow.send(head.encode() + b'{"uuid":"a"}\n')
        while not (await told(server.flow))[("atlas_edge_inflight_bytes",)]:
            await anyio.sleep(0.01)
        server.flow.service.drain()
        answer = await answered(slow)

    assert (answer.status, answer.code) == (503, "DRAINING")
    assert int(answer.headers["retry-after"]) > 0


def build_batch(name: str, sizes: tuple[int, ...]) -> dict[str, object]:
    """Return a batch of chunks; large ones take longer to process."""
    units = [b"." * size for size in sizes]
    lines = [b'{"uuid":"%s%d","unit":"%s"}' % (name.encode(), *each) for each in enumerate(units)]
    return {"chunks": [an_export(line) for line in lines]}


async def test_of_two_batches_under_one_key_at_once_one_is_taken(life):
    life.journal_bytes_max, sizes = 100 * MIB, (400_000, 10)
    batches = {"a": build_batch("a", sizes), "b": build_batch("b", sizes[::-1])}
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
        await slow.send(f"POST {API_PREFIX}/export HTTP/1.1\r\nhost: a\r\n{head}\r\n{{".encode())
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
            await flow.send("POST", f"{API_PREFIX}/export", "token-of-ada", [b"{" * 200, GONE])
        assert (await flow.post(an_export(b'{"uuid":"%s"}' % (b"b" * 2_000)))).status == 200
