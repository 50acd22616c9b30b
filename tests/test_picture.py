"""The picture adds up, and whoever looks on is shown what is new, for as long as he reads."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from anyio.abc import SocketStream

from atlas.core import events
from atlas.core.errors import Unavailable
from atlas.core.messages import Depth
from atlas.edge.operator import About, Guard, Live, Lookout, Picture, application
from atlas.edge.operator.live import VIEWERS_MAX
from atlas.edge.operator.picture import COMMITS_KEPT, MOMENTS_KEPT
from atlas.process import bind
from atlas.runtime import Queue
from tests.conftest import Flow, Life, an_export, asgi
from tests.exports import NOON
from tests.test_contract import Prompt

HOST = "127.0.0.1:9464"
COMMIT = events.GroupCommitted("t", 2, 300, 0.5, 22, "interval")
EVENT = re.compile(rb"data: (\{.*?\})\n\n")
FIELDS = (
    "at version started dataset branch is_draining stages counts rejects refusals journal foundry "
    "commits history"
).split()


@pytest.fixture
def life(tmp_path):
    return Life(tmp_path / "journal")


async def picture_of(flow: Flow) -> dict:
    answer = await asgi(flow.service.operator, "GET", "/picture", {"host": HOST})
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
        "because": "idle",
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


# whoever looks on


@dataclass
class Journal:
    """It answers at once, or not at all; at each look something happens."""

    happens: tuple[events.Event, ...] = ()
    picture: Picture | None = None
    looks: int = 0
    is_down: bool = False
    looked: anyio.Event = field(default_factory=anyio.Event)

    async def depth(self) -> Depth:
        self.looks += 1
        self.looked.set()
        self.looked = anyio.Event()
        for event in self.happens:
            self.picture.watch(event)
        if self.is_down:
            raise Unavailable
        return Depth({"accepted": self.looks}, {"accepted": 9}, NOON, 7)

    async def looked_at(self, more: int) -> None:
        wanted = self.looks + more
        with anyio.fail_after(20):
            while self.looks < wanted:
                await self.looked.wait()


@dataclass
class Ending:
    has_begun: bool = False


@dataclass
class Stage:
    """A picture that is shown at a socket, a hundred times a second."""

    picture: Picture
    journal: Journal
    drain: Ending
    live: Live
    port: int

    @asynccontextmanager
    async def viewer(self) -> AsyncIterator["Viewer"]:
        async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
            await stream.send(b"GET /live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            yield Viewer(stream)

    async def viewers(self, count: int) -> None:
        with anyio.fail_after(20):
            while self.live.viewers != count:
                await anyio.sleep(0.001)


@dataclass
class Viewer:
    stream: SocketStream
    read: bytes = b""

    async def next(self) -> dict:
        """The next message."""
        with anyio.fail_after(20):
            while (found := EVENT.search(self.read)) is None:
                self.read += await self.stream.receive()
        self.read = self.read[found.end() :]
        return json.loads(found[1])

    async def rest(self) -> list[dict]:
        """All messages until it ends, which it does."""
        with anyio.fail_after(20):
            while not self.read.endswith(b"0\r\n\r\n"):
                self.read += await self.stream.receive()
        return [json.loads(found) for found in EVENT.findall(self.read)]


def a_picture() -> Picture:
    return Picture(About("1", "ri.dataset", "master", 100, 10), lambda: NOON)


@asynccontextmanager
async def on_stage(**given) -> AsyncIterator[Stage]:
    picture, drain = a_picture(), Ending()
    journal = Journal(picture=picture, **given)
    live = Live(picture, Lookout(journal, lambda: {"decode": Queue(3, 16)}, drain), 0.01)
    app = application(live.routes(Guard("", frozenset())))
    with bind("127.0.0.1", 0) as bound:
        async with anyio.create_task_group() as tasks:
            listener = Prompt(app, bound)
            tasks.start_soon(listener.listen)
            async with live.ticking(crashed):
                yield Stage(picture, journal, drain, live, bound.getsockname()[1])
            listener.should_exit = True


def crashed(_name: str, error: Exception) -> None:
    raise error


async def test_the_first_message_holds_all_and_each_other_what_is_new():
    async with on_stage() as stage:
        for _ in range(3):
            stage.picture.watch(COMMIT)
        async with stage.viewer() as viewer:
            first = await viewer.next()
            second = await viewer.next()
            stage.picture.watch(COMMIT)
            while not (third := await viewer.next())["commits"]:
                pass
            fourth = await viewer.next()

    assert [list(each) for each in (first, second, third, fourth)] == [FIELDS] * 4
    assert [len(each["commits"]) for each in (first, second, third, fourth)] == [3, 0, 1, 0]
    assert [len(each["history"]) for each in (first, second)] == [1, 0]
    assert third["stages"][1] == first["stages"][1]
    assert third["stages"][1]["queue"] == 3
    assert third["journal"]["exports"] > first["journal"]["exports"]


async def test_nothing_is_shown_twice_and_nothing_is_left_out():
    async with on_stage(happens=(COMMIT,)) as stage, stage.viewer() as viewer:
        shown = [await viewer.next() for _ in range(20)]
        seen = sum(len(each["commits"]) for each in shown)

    assert seen <= stage.picture.told.commits
    assert seen >= 20


async def test_one_look_is_enough_for_all_who_look_on():
    async with on_stage() as stage, AsyncExitStack() as all_of_them:
        viewers = [await all_of_them.enter_async_context(stage.viewer()) for _ in range(8)]
        for viewer in viewers:
            await viewer.next()
        before, shown = stage.journal.looks, 0
        for _ in range(10):
            for viewer in viewers:
                await viewer.next()
                shown += 1
        looks = stage.journal.looks - before

    assert shown == 80
    assert looks <= 40


async def test_a_viewer_who_does_not_read_holds_nobody_up_and_is_not_saved_up_for():
    many = (COMMIT,) * (COMMITS_KEPT + 10)
    async with on_stage(happens=many) as stage, stage.viewer() as slow, stage.viewer() as quick:
        await slow.next()
        await stage.viewers(2)
        reading = stage.journal.looks
        for _ in range(400):
            await quick.next()
        ticks = stage.journal.looks - reading
        stage.drain.has_begun = True
        messages = await slow.rest()

    assert len(messages) < ticks, "what he did not read in time was never made"
    assert max(len(each["commits"]) for each in messages) == COMMITS_KEPT
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
        await stage.viewers(VIEWERS_MAX - 1)
        async with stage.viewer() as viewer:
            assert (await viewer.next())["version"] == "1"

    assert refused.startswith(b"HTTP/1.1 503")
    assert b"application/json" in refused
    assert b'{"error":"16 look on already' in refused


async def test_who_has_gone_costs_nothing():
    async with on_stage() as stage:
        for _ in range(3):
            async with stage.viewer() as viewer:
                await viewer.next()
        await stage.viewers(0)


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
        await stage.journal.looked_at(2)
        seen = [await viewer.next() for _ in range(3)]

    assert {each["journal"]["exports"] > 0 for each in seen} == {True}


async def test_the_real_service_shows_it_too(life):
    with bind("127.0.0.1", 0) as bound:
        async with life.running() as flow, anyio.create_task_group() as tasks:
            listener = Prompt(flow.service.operator, bound)
            tasks.start_soon(listener.listen)
            stage = Stage(None, None, None, None, bound.getsockname()[1])
            async with stage.viewer() as viewer:
                await flow.post(an_export())
                while not (await viewer.next())["counts"]["committed"]:
                    pass
                flow.service.drain()
                messages = await viewer.rest()
            listener.should_exit = True

    assert messages[-1]["is_draining"] is True


# what is kept


def test_of_commits_and_moments_the_newest_are_kept():
    picture, lookout = a_picture(), Lookout(Journal(), dict, Ending())
    for number in range(COMMITS_KEPT + 5):
        picture.watch(events.GroupCommitted(f"t{number}", 1, 1, 1.0, 1, "full"))
    for number in range(MOMENTS_KEPT + 5):
        picture.remember(Depth({"accepted": number}, {}))
    shown = picture.shown(anyio.run(lookout.look))

    assert [commit.transaction for commit in shown.commits] == [
        f"t{number}" for number in range(5, COMMITS_KEPT + 5)
    ]
    assert [moment.exports for moment in shown.history] == [*range(5, MOMENTS_KEPT + 5)]


def test_a_pause_keeps_its_first_time_and_tells_its_last_reason():
    times = iter([NOON, NOON, NOON.replace(hour=13), NOON.replace(hour=14)])
    picture = Picture(About("1", "d", "b", 1, 1), times.__next__)
    picture.watch(events.UploadPaused("Foundry answers 500.", 1.0))
    picture.watch(events.UploadPaused("Foundry answers 403.", 1.0))
    shown = picture.shown(anyio.run(Lookout(Journal(is_down=True), dict, Ending()).look))

    assert shown.foundry.paused_at == "2026-01-02T12:00:00.000Z"
    assert shown.foundry.paused_reason == "Foundry answers 403."
