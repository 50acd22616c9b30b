"""The status adds up, and its viewers receive updates for as long as they read."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import anyio
import pytest
from anyio.abc import SocketStream
from starlette.types import ASGIApp

from atlas.core import events
from atlas.core.about import About
from atlas.core.errors import FileInvalid, FileRefused, FoundryError, Unavailable
from atlas.core.identifiers import PROBE
from atlas.core.status import COMMITS_MAX, HISTORY_MAX, JournalTotals, RuntimeGauges
from atlas.core.status_aggregator import StatusAggregator
from atlas.edge.operator import GaugeReader, Guard, StatusStream, build_application
from atlas.edge.operator.status_stream import VIEWERS_MAX
from atlas.outside.metrics import exposition
from atlas.runtime import QueueLoad
from atlas.server import bind
from tests.conftest import Flow, ServiceHarness, an_export, asgi
from tests.support.exports import NOON
from tests.support.listeners import FastShutdownListener

HOST = "127.0.0.1:9464"
POISONED = "healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson"  # the path of the first export
REFUSAL = "Foundry answers 400 FileContentRefused (errorInstanceId 3f6e1c5a)."
TICK_SECONDS = 0.01
EVENT = re.compile(rb"data: (\{.*?\})\n\n")
FIELDS = (
    "at version started dataset branch is_draining verdict stages counts rejects refusals journal "
    "foundry commits history replicas latency dataset_url phones"
).split()


async def picture_of(flow: Flow) -> dict:
    answer = await asgi(flow.service.operator, "GET", "/status", {"host": HOST})
    assert answer.status == 200
    return answer.body


async def test_it_adds_up(life):
    async with life.running() as flow:
        await flow.post(an_export(b'{"uuid":"a"}\n{"uuid":"b"}\nbad\n'))
        await flow.post(an_export(b'{"uuid":"a"}\n{"uuid":"b"}\nbad\n'))
        await flow.post(an_export(b"[]\n"))
        await flow.post(an_export(), token="expired")
        seen = await picture_of(flow)
        size = sum(map(len, life.dataset.files().values()))

    assert list(seen) == FIELDS
    counts = seen["counts"]
    assert (counts["requests"], counts["refused"]) == (4, 2)
    assert (counts["accepted"], counts["replayed"], counts["committed"]) == (1, 1, 1)
    assert (counts["rows"], counts["rejected"], counts["bytes_out"]) == (2, 2, size)
    assert seen["rejects"] == {"not valid JSON": 1, "not a JSON object": 1}
    assert seen["refusals"] == {"INVALID_NDJSON": 1, "TOKEN_EXPIRED": 1}
    (commit,) = seen["commits"]
    assert commit | {"seconds": 0} == {
        "at": "2026-01-02T12:00:00.000Z",
        "transaction": "ri.foundry.main.transaction.1",
        "exports": 1,
        "rows": 2,
        "bytes": size,
        "seconds": 0,
        "trigger": "idle",
    }


async def test_the_stages_stand_in_the_order_of_the_data(life):
    async with life.running() as flow:
        await flow.post(an_export())
        seen = await picture_of(flow)

    assert [stage["name"] for stage in seen["stages"]] == [
        *("authenticate", "decode", "flatten", "journal", "upload")
    ]
    assert [stage["handled"] for stage in seen["stages"]] == [1] * 5
    assert [stage["size"] for stage in seen["stages"]] == [16, 16, 16, 16, 1_000_000]
    assert all(stage["seconds"] > 0 for stage in seen["stages"])


def fill_disk(life):
    life.free_bytes_min = 2**62


def lose_keys(life):
    life.identities.down = True


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (fill_disk, "(journal): The disk of the journal has too little free space"),
        (lose_keys, "(keys): Tokens cannot be verified"),
    ],
)
async def test_a_service_that_can_accept_nothing_is_down_and_says_why(life, cause, reason):
    cause(life)
    async with life.running() as flow:
        verdict = (await picture_of(flow))["verdict"]

    assert verdict["state"] == "down"
    assert reason in verdict["reasons"][0]


async def test_what_waits_waits_before_the_upload_and_why_is_told(life):
    life.dataset.down = True
    life.drain_seconds = 0.0
    async with life.running() as flow:
        await flow.post(an_export(), Prefer="respond-async")
        await flow.seen.wait_for(events.UploadPaused)
        away = await picture_of(flow)
        life.dataset.down = False
        await flow.seen.wait_for(events.GroupCommitted)
        back = await picture_of(flow)

    assert away["verdict"] == {
        "state": "degraded",
        "reasons": ["Uploads are paused: Foundry is down."],
    }
    assert back["verdict"] == {"state": "ok", "reasons": []}
    assert away["stages"][-1]["queue"] == away["journal"]["exports"] == 1
    assert away["foundry"] == {
        "paused_reason": "Foundry is down.",
        "paused_at": "2026-01-02T12:00:00.000Z",
        "last_commit_at": None,
    }
    assert back["stages"][-1]["queue"] == back["journal"]["exports"] == 0
    assert back["foundry"] == {
        "paused_reason": None,
        "paused_at": None,
        "last_commit_at": "2026-01-02T12:00:00.000Z",
    }


async def test_what_has_failed_is_told_with_why_and_is_no_pause_while_others_go(life):
    life.dataset.poisons[POISONED] = FoundryError(REFUSAL)
    async with life.running() as flow:
        await flow.post(an_export(b'{"uuid":"silent"}'), Prefer="respond-async")
        await flow.seen.wait_for(events.ExportFailed)
        alone = await picture_of(flow)
        await flow.post(an_export(b'{"uuid":"a"}'))
        seen = await picture_of(flow)

    assert (alone["journal"]["failed"], alone["foundry"]["paused_reason"]) == (1, None)
    assert (seen["journal"]["failed"], seen["journal"]["failed_reason"]) == (1, REFUSAL)
    assert seen["journal"]["exports"] == 1
    assert seen["foundry"]["paused_reason"] is None


async def test_a_file_that_foundry_blames_by_name_is_no_pause(life):
    life.dataset.poisons[POISONED] = FileInvalid(REFUSAL)
    async with life.running() as flow:
        await flow.post(an_export(), Prefer="respond-async")
        await flow.seen.wait_for(events.UploadPaused)
        seen = await picture_of(flow)

    assert not flow.seen.of(events.UploadPaused)[0].is_outage
    assert seen["foundry"]["paused_reason"] is None


async def test_that_foundry_refuses_all_files_is_a_pause_with_its_reason(life):
    life.dataset.poisons = {POISONED: FileRefused(REFUSAL), PROBE: FileRefused(REFUSAL)}
    life.drain_seconds = 0.0
    async with life.running() as flow:
        await flow.post(an_export(), Prefer="respond-async")
        await flow.seen.wait_for(events.UploadPaused)
        seen = await picture_of(flow)

    assert seen["foundry"]["paused_reason"] == REFUSAL
    assert seen["journal"]["failed"] == 1


async def test_a_crash_stands_beside_its_stage(life):
    class Broken:
        async def __call__(self, *_):
            raise ZeroDivisionError

    life.compute = Broken()
    async with life.running() as flow:
        await flow.post(an_export())
        seen = await picture_of(flow)

    assert [stage["crashes"] for stage in seen["stages"]] == [0, 1, 0, 0, 0]
    assert seen["counts"]["set_aside"] == seen["journal"]["set_aside"] == 1


async def test_nothing_of_a_person_is_in_it(life):
    async with life.running() as flow:
        line = b'{"uuid":"CANARY-UUID","sourceName":"CANARY-SOURCE"}'
        token = "token-of-auth0|CANARY-SUB"
        await flow.post(an_export(line, device="CANARY-DEVICE"), token=token)
        await flow.post(an_export(b"CANARY-LINE"), token=token)
        await flow.send("GET", "/CANARY-PATH", None)
        seen = await picture_of(flow)

    assert "CANARY" not in json.dumps(seen)


# viewers


def a_commit(number: int) -> events.GroupCommitted:
    return events.GroupCommitted(f"t{number}", 2, 300, 0.5, 22, "interval")


def commits(*messages: dict) -> list[str]:
    return [each["transaction"] for message in messages for each in message["commits"]]


@dataclass
class Journal:
    """A journal that answers at once or never; the committed total grows with each query."""

    commits: int = 0
    status: StatusAggregator | None = None
    numbers: Iterator[int] = field(default_factory=count)
    queries: int = 0
    is_down: bool = False
    looked: anyio.Event = field(default_factory=anyio.Event)

    async def read_totals(self) -> JournalTotals:
        self.queries += 1
        self.looked.set()
        self.looked = anyio.Event()
        for _ in range(self.commits):
            self.status.handle(a_commit(next(self.numbers)))
        if self.is_down:
            raise Unavailable
        return JournalTotals({"accepted": self.queries}, {"accepted": 9}, NOON, 7)

    async def wait_for_queries(self, more: int) -> None:
        wanted = self.queries + more
        with anyio.fail_after(20):
            while self.queries < wanted:
                await self.looked.wait()


@dataclass
class Ending:
    has_begun: bool = False


@dataclass
class Audience:
    """Admits viewers, and records those that have left."""

    app: ASGIApp
    gone: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(0))

    async def __call__(self, scope, receive, send) -> None:
        try:
            await self.app(scope, receive, send)
        finally:
            self.gone.release()


@dataclass
class Stage:
    """A status stream served over a socket, a hundred times a second."""

    status: StatusAggregator
    journal: Journal
    drain: Ending
    audience: Audience
    port: int

    @asynccontextmanager
    async def viewer(self) -> AsyncIterator["Viewer"]:
        async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
            await stream.send(b"GET /status/stream HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            yield Viewer(stream)

    async def wait_until_gone(self, viewers: int) -> None:
        with anyio.fail_after(20):
            for _ in range(viewers):
                await self.audience.gone.acquire()


@dataclass
class Viewer:
    stream: SocketStream
    read: bytes = b""

    async def next(self) -> dict:
        """Return the next message."""
        with anyio.fail_after(20):
            while (found := EVENT.search(self.read)) is None:
                self.read += await self.stream.receive()
        self.read = self.read[found.end() :]
        return json.loads(found[1])

    async def read_query_numbers(self, number: int, count: int) -> list[int]:
        """Return each message's journal query: every query finds one more waiting export."""
        shown: list[int] = []
        while len(shown) < count:
            look = (await self.next())["journal"]["exports"]
            shown += [look] if look > number else []
        return shown

    async def rest(self) -> list[dict]:
        """Return all messages until the stream ends."""
        with anyio.fail_after(20):
            while not self.read.endswith(b"0\r\n\r\n"):
                self.read += await self.stream.receive()
        return [json.loads(found) for found in EVENT.findall(self.read)]


def a_status() -> StatusAggregator:
    return StatusAggregator(About("1", "ri.dataset", "master", 100, 10), lambda: NOON)


@asynccontextmanager
async def on_stage(commits: int = 0) -> AsyncIterator[Stage]:
    status, drain = a_status(), Ending()
    journal = Journal(commits, status)
    gauges = GaugeReader(journal, lambda: {"decode": QueueLoad(3, 16)}, lambda: drain.has_begun)
    live = StatusStream(status, gauges, TICK_SECONDS)
    app = Audience(build_application(live.routes(Guard("", frozenset())), status.handle))
    with bind("127.0.0.1", 0) as bound:
        async with anyio.create_task_group() as tasks:
            listener = FastShutdownListener(app, bound)
            tasks.start_soon(listener.listen)
            async with live.run(crashed):
                yield Stage(status, journal, drain, app, bound.getsockname()[1])
            listener.end()


def crashed(_name: str, error: Exception) -> None:
    raise error


async def test_the_first_message_holds_all_and_each_other_what_is_new():
    async with on_stage() as stage:
        for number in range(3):
            stage.status.handle(a_commit(number))
        async with stage.viewer() as viewer:
            first = await viewer.next()
            second = await viewer.next()
            stage.status.handle(a_commit(3))
            while not (third := await viewer.next())["commits"]:
                pass
            fourth = await viewer.next()

    assert [list(each) for each in (first, second, third, fourth)] == [FIELDS] * 4
    told = [commits(each) for each in (first, second, third, fourth)]
    assert told == [["t0", "t1", "t2"], [], ["t3"], []]
    assert [len(each["history"]) for each in (first, second)] == [1, 0]
    assert third["stages"][1] == first["stages"][1]
    assert third["stages"][1]["queue"] == 3
    assert third["journal"]["exports"] > first["journal"]["exports"]


async def test_nothing_is_shown_twice_and_nothing_is_left_out():
    async with on_stage(commits=1) as stage, stage.viewer() as viewer:
        shown = commits(*[await viewer.next() for _ in range(20)])

    assert shown == [f"t{number}" for number in range(len(shown))]
    assert len(shown) >= 20


async def test_one_look_is_enough_for_all_who_look_on():
    async with on_stage() as stage, AsyncExitStack() as all_of_them:
        viewers = [await all_of_them.enter_async_context(stage.viewer()) for _ in range(8)]
        for viewer in viewers:
            await viewer.next()
        look = stage.journal.queries
        shown = [await viewer.read_query_numbers(look, 10) for viewer in viewers]

    assert shown == [[*range(look + 1, look + 11)]] * 8


async def test_a_viewer_who_does_not_read_holds_nobody_up_and_is_not_saved_up_for():
    many = COMMITS_MAX + 10
    async with on_stage(many) as stage, stage.viewer() as slow, stage.viewer() as quick:
        await slow.next()
        await quick.next()
        reading = stage.journal.queries
        for _ in range(400):
            await quick.next()
        ticks = stage.journal.queries - reading
        stage.drain.has_begun = True
        messages = await slow.rest()

    assert len(messages) < ticks, "what he did not read in time was never made"
    assert max(len(each["commits"]) for each in messages) == COMMITS_MAX
    assert messages[-1]["is_draining"] is True


async def test_a_seventeenth_is_told_to_wait_until_somebody_has_gone():
    async with on_stage() as stage, AsyncExitStack() as all_of_them:
        first = AsyncExitStack()
        await (await first.enter_async_context(stage.viewer())).next()
        for _ in range(VIEWERS_MAX - 1):
            await (await all_of_them.enter_async_context(stage.viewer())).next()
        async with stage.viewer() as viewer:
            refused = await viewer.stream.receive()
        await first.aclose()
        await stage.wait_until_gone(2)
        async with stage.viewer() as viewer:
            assert (await viewer.next())["version"] == "1"

    assert refused.startswith(b"HTTP/1.1 503")
    assert b"application/json" in refused
    assert b'{"error":"There are 16 viewers already' in refused


async def test_who_has_gone_costs_nothing():
    async with on_stage() as stage:
        for _ in range(3):
            async with stage.viewer() as viewer:
                await viewer.next()
        await stage.wait_until_gone(3)
        looks = stage.journal.queries
        for _ in range(10):
            await anyio.sleep(TICK_SECONDS)

    assert stage.journal.queries == looks


async def test_it_ends_when_we_do():
    async with on_stage() as stage, stage.viewer() as viewer:
        assert (await viewer.next())["is_draining"] is False
        stage.drain.has_begun = True
        messages = await viewer.rest()

    assert messages[-1]["is_draining"] is True


async def test_it_ends_when_the_flow_is_left():
    async with AsyncExitStack() as viewing, on_stage() as stage:
        viewer = await viewing.enter_async_context(stage.viewer())
        await viewer.next()
        viewing.push_async_callback(viewer.rest)


async def test_a_journal_that_is_away_stands_as_it_was():
    async with on_stage() as stage, stage.viewer() as viewer:
        assert (await viewer.next())["journal"]["exports"] > 0
        stage.journal.is_down = True
        await stage.journal.wait_for_queries(2)
        seen = [await viewer.next() for _ in range(3)]

    assert {each["journal"]["exports"] > 0 for each in seen} == {True}


async def test_the_real_service_shows_it_too(life):
    with bind("127.0.0.1", 0) as bound:
        async with life.running() as flow, anyio.create_task_group() as tasks:
            listener = FastShutdownListener(flow.service.operator, bound)
            tasks.start_soon(listener.listen)
            stage = Stage(None, None, None, None, bound.getsockname()[1])
            async with stage.viewer() as viewer:
                await flow.post(an_export())
                while not (await viewer.next())["counts"]["committed"]:
                    pass
                flow.service.drain()
                messages = await viewer.rest()
            listener.end()

    assert messages[-1]["is_draining"] is True


# history


def test_of_commits_and_moments_the_newest_are_kept():
    status = a_status()
    for number in range(COMMITS_MAX + 5):
        status.handle(a_commit(number))
    for number in range(HISTORY_MAX + 5):
        status.record_history(JournalTotals({"accepted": number}, {}))
    shown = status.take_snapshot(RuntimeGauges())

    assert [commit.transaction for commit in shown.commits] == [
        f"t{number}" for number in range(5, COMMITS_MAX + 5)
    ]
    assert [moment.exports for moment in shown.history] == [*range(5, HISTORY_MAX + 5)]


def test_a_pause_keeps_its_first_time_and_tells_its_last_reason():
    times = (NOON.replace(minute=minute) for minute in range(60))
    status = StatusAggregator(About("1", "d", "b", 1, 1), times.__next__)
    status.handle(events.UploadPaused("Foundry answers 500.", 1.0))
    status.handle(events.UploadPaused("Foundry answers 403.", 1.0))
    shown = status.take_snapshot(RuntimeGauges())

    assert shown.foundry.paused_at == "2026-01-02T12:01:00.000Z"
    assert shown.foundry.paused_reason == "Foundry answers 403."


@pytest.mark.parametrize(
    ("outcome", "goes_on", "commits"),
    [
        pytest.param(a_commit(1), True, True, id="committed"),
        pytest.param(events.GroupRecovered(2, 1), True, True, id="it had been committed"),
        pytest.param(events.GroupRecovered(2, 0), False, False, id="it had not"),
        pytest.param(events.ExportSetAside("e", "c", 5, "why"), True, False, id="set aside"),
        pytest.param(
            events.UploadPaused("Foundry answers 400.", 1.0, is_outage=False),
            *(True, False),
            id="it takes other files",
        ),
        pytest.param(
            events.ExportFailed("e", "c", 1, True, "refused", "why"), False, False, id="failed"
        ),
        pytest.param(events.OrphanAborted("t"), False, False, id="anything else"),
    ],
)
def test_an_outcome_ends_a_pause_in_the_picture_and_in_the_metrics(outcome, goes_on, commits):
    status = StatusAggregator(About("1", "d", "b", 1, 1), lambda: NOON)
    status.handle(events.UploadPaused("Foundry answers 500.", 1.0))
    status.handle(outcome)
    foundry, text = (
        status.take_snapshot(RuntimeGauges()).foundry,
        exposition(status, RuntimeGauges()),
    )

    assert (foundry.paused_reason is None) is goes_on
    assert (foundry.last_commit_at is not None) is commits
    assert (b"atlas_upload_paused 0.0" in text) is goes_on
    assert (b"atlas_last_commit_timestamp_seconds 0.0" not in text) is commits


def test_the_oldest_is_never_younger_than_nothing():
    later = NOON.replace(minute=1)

    assert JournalTotals({}, {}, NOON).oldest_seconds(later) == 60
    assert JournalTotals({}, {}, later).oldest_seconds(NOON) == 0
    assert JournalTotals({}, {}).oldest_seconds(NOON) == 0


async def test_whoever_asks_only_for_the_head_of_what_goes_on_takes_no_place(tmp_path):
    async with ServiceHarness(tmp_path / "journal").running() as flow:
        for _ in range(VIEWERS_MAX + 1):
            answer = await asgi(flow.service.operator, "HEAD", "/status/stream", {"host": HOST})
            assert answer.status == 200
