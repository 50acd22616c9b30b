"""The publisher of the stream: what it sends, what it skips, and what it waits for."""

import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import anyio
import msgspec
import pytest

from atlas.actors.publish import PublishPolicy, PublishTiming, PublishWindow, StreamPublisher
from atlas.computing import WorkerExecutor
from atlas.core import rows
from atlas.core.errors import Unavailable
from atlas.core.events import (
    RowsPublished,
    StreamPaused,
    StreamRequestFailed,
    StreamResumed,
    StreamRowsDropped,
    StreamRowsSkipped,
)
from atlas.core.messages import CompressedRows, ExportMetadata, FlattenedExport, User
from atlas.core.rows import KEYED_COLUMNS, Header, RowForm, flatten
from atlas.core.stream import StreamLimits, build_records, divide_records
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.journal.compression import compress, decompress_parts
from atlas.outside.sqlite.journal import open_journal
from atlas.runtime import RestartBudget, supervise
from atlas.service.streams import publish_in_background
from tests.support.exports import NOON, SHELF, packed
from tests.support.streams import MemoryStream, no_stream

HEADER = Header("auth0|ada", "phone", "2026-01-02T12:00:00.000Z", "")
SAMPLE = b'{"uuid":"%s","sampleType":"HeartRate","startDate":"2026-01-01","value":60}'


def samples(*uuids: str) -> list[bytes]:
    return [SAMPLE.replace(b"%s", uuid.encode()) for uuid in uuids]


@dataclass
class Life:
    """A publisher with its journal; everything else is in memory."""

    journal: object
    stream: MemoryStream
    policy: PublishPolicy
    seen: list = field(default_factory=list)
    now: timedelta = timedelta()
    leads: bool = True

    def __post_init__(self):
        timing = PublishTiming(lambda: NOON + self.now, anyio.current_time, random.Random(1).random)
        self.publisher = StreamPublisher(
            self.journal.stream,
            self.stream,
            self.policy,
            WorkerExecutor(),
            timing,
            self.seen.append,
            lambda: self.leads,
        )

    async def accept(self, id, lines, form=rows.DEFAULT_FORM):
        table = flatten(lines, HEADER, form=form)
        head = ExportMetadata(User("auth0|ada"), "phone", "", "")
        await self.journal.intake.append(
            FlattenedExport(id, head, NOON, packed(table.ndjson, table.ingested))
        )

    async def left(self):
        exports = await self.journal.stream.read_unpublished(1_000, 10**9)
        return [each.id for each in exports]

    def published(self):
        return [msgspec.json.decode(each)["sample_key"] for each in self.stream.records]

    def of(self, kind):
        return [event for event in self.seen if isinstance(event, kind)]


@asynccontextmanager
async def living(stream=None, path=None, **policy):
    limits = StreamLimits(policy.pop("records_max", 500), policy.pop("bytes_max", 1_000_000))
    bounds = CapacityLimits(free_bytes=0)
    with open_journal(path, bounds, retention=SHELF, is_streamed=True) as journal:
        chosen = PublishPolicy(decompress_parts, limits, **policy)
        yield Life(journal, stream or MemoryStream(), chosen)


@pytest.mark.parametrize("form", [RowForm(), RowForm(23), RowForm(21, "integer")], ids=str)
async def test_a_record_has_the_23_columns_whatever_the_files_have(form):
    async with living() as life:
        await life.accept("a", [*samples("s1"), b'{"sampleType":"x","value":1}'], form)
        await life.accept("b", [b'{"uuid":"gone"}'], form)
        await life.publisher.take_turn()
        records = [msgspec.json.decode(each) for each in life.stream.records]
    assert [tuple(record) for record in records] == [KEYED_COLUMNS] * 3
    as_23 = flatten([b'{"sampleType":"x","value":1}'], HEADER, form=RowForm(23)).ndjson
    digest = msgspec.json.decode(as_23)["sample_key"]
    assert [each["sample_key"] for each in records] == ["s1", digest, "gone"]
    assert [each["is_deleted"] for each in records] == [False, False, True]


async def test_what_is_published_is_forgotten_and_counted_with_its_delay():
    async with living() as life:
        await life.accept("a", samples("1", "2"))
        await life.accept("b", samples("3"))
        life.now = timedelta(seconds=1.5)
        await life.publisher.take_turn()
        assert (life.published(), await life.left()) == (["1", "2", "3"], [])
        assert life.of(RowsPublished) == [RowsPublished(2, 3, (1.5, 1.5))]
        assert await life.publisher.take_turn() > 0
        assert life.stream.requests == [3]


async def test_nothing_is_published_by_a_replica_that_does_not_lead():
    async with living() as life:
        await life.accept("a", samples("1"))
        life.leads = False
        await life.publisher.take_turn()
        await life.publisher.measure_backlog()
        assert life.stream.requests == []
        assert life.publisher.measure_lag() is None
        life.leads = True
        await life.publisher.take_turn()
        assert life.published() == ["1"]


@pytest.mark.parametrize("bad", [0, 1, 17, 39])
async def test_a_record_that_is_refused_alone_is_skipped_and_the_others_are_published(bad):
    stream = MemoryStream(refuses=(b'"uuid":"%d"' % bad,))
    async with living(stream) as life:
        await life.accept("a", samples(*map(str, range(20))))
        await life.accept("b", samples(*map(str, range(20, 40))))
        await life.publisher.take_turn()
        assert sorted(life.published(), key=int) == [str(n) for n in range(40) if n != bad]
        assert await life.left() == []
        (skipped,) = life.of(StreamRowsSkipped)
    assert skipped == StreamRowsSkipped("a" if bad < 20 else "b", 1, "refused")
    assert sum(each.rows for each in life.of(RowsPublished)) == 39
    assert len(stream.requests) <= 13  # one of 40 is found by halves
    assert life.of(StreamPaused) == []


async def test_many_bad_records_at_the_beginning_do_not_hold_up_the_others():
    """The search for them must not give up before it has come to the good ones."""
    stream = MemoryStream(refuses=(b'"sample_type":"bad"',))
    async with living(stream, calls_at_once=1) as life:
        bad = [each.replace(b"HeartRate", b"bad") for each in samples(*map(str, range(20)))]
        await life.accept("a", bad)
        await life.accept("b", samples(*map(str, range(20, 60))))
        await life.publisher.take_turn()
        assert sorted(life.published(), key=int) == [str(n) for n in range(20, 60)]
        assert life.of(StreamRowsSkipped) == [StreamRowsSkipped("a", 20, "refused")]
        assert await life.left() == []


async def test_a_stream_that_refuses_everything_costs_no_row():
    """Somebody has made it with another schema: that is to be mended, and then all is published."""
    stream = MemoryStream(refuses=(b"uuid",))
    async with living(stream) as life:
        await life.accept("a", samples(*map(str, range(40))))
        for _ in range(3):
            await life.publisher.take_turn()
        assert await life.left() == ["a"]
        assert life.of(StreamRowsSkipped) == []
        assert len(life.of(StreamPaused)) == 1
        assert len(stream.requests) == 3 * 31  # the search is given up
        stream.refuses = ()
        await life.publisher.take_turn()
        assert (len(life.published()), await life.left()) == (40, [])


async def test_a_single_refused_record_waits_for_another_one_that_is_accepted():
    stream = MemoryStream(refuses=(b'"uuid":"bad"',))
    async with living(stream) as life:
        await life.accept("a", samples("bad"))
        await life.publisher.take_turn()
        assert await life.left() == ["a"]
        await life.accept("b", samples("good"))
        await life.publisher.take_turn()
        assert (life.published(), await life.left()) == (["good"], [])
        assert life.of(StreamRowsSkipped) == [StreamRowsSkipped("a", 1, "refused")]


@pytest.mark.parametrize("calls_at_once", [1, 2])
async def test_all_requests_are_tried_before_the_search_for_bad_records_is_given_up(calls_at_once):
    stream = MemoryStream(refuses=(b'"sample_type":"bad"',))
    async with living(stream, records_max=100, calls_at_once=calls_at_once) as life:
        bad = [each.replace(b"HeartRate", b"bad") for each in samples(*map(str, range(300)))]
        await life.accept("a", bad)
        await life.accept("b", samples("good"))
        await life.publisher.take_turn()
        assert (life.published(), await life.left()) == (["good"], [])
        assert life.of(StreamRowsSkipped) == [StreamRowsSkipped("a", 300, "refused")]


LONG = b'{"uuid":"long","sampleType":"HeartRate","note":"%s"}'


@pytest.mark.parametrize(
    ("size", "stream"),
    [
        (2_000, MemoryStream(record_bytes_max=1_000)),
        (1_000_100, MemoryStream(refuses=(b'"uuid":"long"',))),  # Foundry does not say why
        (1_000_100, MemoryStream(bytes_max=1_000_000)),  # or a proxy does
        (5_000_000, MemoryStream(record_bytes_max=1_000_000)),  # larger than what is read at once
    ],
    ids=["named", "larger than documented", "by a proxy", "an export of its own"],
)
async def test_a_record_that_is_too_large_holds_up_nothing_even_if_it_is_the_only_one(size, stream):
    stream.records.clear()
    async with living(stream) as life:
        await life.accept("a", [LONG % (b"x" * size)])
        await life.publisher.take_turn()
        assert (life.published(), await life.left()) == ([], [])
        assert life.of(StreamRowsSkipped) == [StreamRowsSkipped("a", 1, "refused")]
        assert life.of(StreamPaused) == []


async def test_a_part_of_bad_records_after_good_ones_does_not_hold_up_a_large_export():
    stream = MemoryStream(refuses=(b'"uuid":"7"',))
    async with living(stream, window_bytes=500) as life:
        tables = [flatten(samples(uuid), HEADER) for uuid in ("1", "7")]  # a part each
        frames = b"".join(compress(table.ndjson) for table in tables)
        size = sum(len(table.ndjson) for table in tables)
        head = ExportMetadata(User("auth0|ada"), "phone", "", "")
        await life.journal.intake.append(
            FlattenedExport("large", head, NOON, CompressedRows(frames, size, 2, 0))
        )
        await life.publisher.take_turn()
        assert (life.published(), await life.left()) == (["1"], [])
        assert life.of(StreamRowsSkipped) == [StreamRowsSkipped("large", 1, "refused")]


async def test_requests_become_smaller_if_foundry_finds_them_too_large():
    stream = MemoryStream(bytes_max=50_000)
    async with living(stream) as life:
        await life.accept("a", samples(*map(str, range(400))))
        await life.publisher.take_turn()
        assert await life.left() == []
        await life.accept("b", samples(*map(str, range(400, 800))))
        before = len(stream.requests)
        await life.publisher.take_turn()
        assert sorted(map(int, life.published())) == list(range(800))
        assert life.of(StreamRowsSkipped) == []
        tried = stream.requests[before:]
        assert sum(tried) == 400, "the second time none was refused"


async def test_requests_do_not_stay_small_because_a_proxy_refused_everything_for_a_while():
    stream = MemoryStream(bytes_max=0)
    async with living(stream) as life:
        await life.accept("a", samples(*map(str, range(100))))
        await life.publisher.take_turn()
        assert len(life.of(StreamPaused)) == 1
        stream.bytes_max, before = 10**9, len(stream.requests)
        await life.publisher.take_turn()
        assert stream.requests[before:] == [100]


@pytest.mark.parametrize("seconds", [None, 7.0, 500.0])
async def test_while_the_stream_is_away_it_is_tried_ever_more_seldom_and_said_once(seconds):
    stream = MemoryStream(down=no_stream(retry_seconds=seconds))
    async with living(stream) as life:
        await life.accept("a", samples("1"))
        pauses = [await life.publisher.take_turn() for _ in range(12)]
        assert len(life.of(StreamPaused)) == 1
        assert len(life.of(StreamRequestFailed)) == 12
        assert pauses[0] < 1 or seconds
        assert max(pauses) <= max(60, seconds or 0)
        assert min(pauses[8:]) >= 30
        assert all(each >= (seconds or 0) for each in pauses)
        stream.down = no_stream("Foundry answers 403.")
        await life.publisher.take_turn()
        assert len(life.of(StreamPaused)) == 2
        stream.down = None
        assert await life.publisher.take_turn() < 1
        assert len(life.of(StreamResumed)) == 1
        assert life.published() == ["1"]


async def test_what_was_published_before_the_stream_went_away_is_not_published_again():
    stream = MemoryStream()
    async with living(stream, records_max=10, calls_at_once=1) as life:
        await life.accept("a", samples(*map(str, range(10))))
        await life.accept("b", samples(*map(str, range(10, 30))))
        publish = stream.publish

        async def fail_at_the_third(records):
            stream.down = no_stream() if len(stream.requests) == 2 else None
            await publish(records)

        stream.publish = fail_at_the_third
        await life.publisher.take_turn()
        assert await life.left() == ["b"]
        stream.publish, stream.down = publish, None
        await life.publisher.take_turn()
        assert await life.left() == []
        assert set(map(int, life.published())) == set(range(30))
        assert life.published().count("0") == 1


async def test_a_journal_that_fails_is_waited_for():
    async with living() as life:
        await life.accept("a", samples("1"))
        read = life.journal.stream.read_unpublished

        async def fail(*_):
            raise Unavailable

        life.journal.stream.read_unpublished = fail
        assert await life.publisher.take_turn() == 1.0
        life.journal.stream.read_unpublished = read
        await life.publisher.take_turn()
        assert life.published() == ["1"]
    assert life.of(StreamPaused) == []


async def test_rows_that_the_journal_has_lost_are_skipped_and_said(tmp_path):
    async with living(path=tmp_path / "journal") as life:
        await life.accept("a", samples("1", "2"))
        await life.accept("b", samples("3"))
        await life.journal.stream._commits.run(
            lambda db: db.execute("UPDATE payload SET sealed = x'00' WHERE number = 1").rowcount
        )
        await life.publisher.take_turn()
        assert (life.published(), await life.left()) == (["3"], [])
        assert life.of(StreamRowsSkipped) == [StreamRowsSkipped("a", 2, "unreadable")]


async def test_a_large_export_is_published_part_by_part():
    stream = MemoryStream(refuses=(b'"uuid":"7"',))
    async with living(stream, window_bytes=20_000) as life:
        tables = [flatten(samples(*map(str, range(n, n + 50))), HEADER) for n in (0, 50, 100, 150)]
        frames = b"".join(compress(table.ndjson) for table in tables)
        size = sum(len(table.ndjson) for table in tables)
        head = ExportMetadata(User("auth0|ada"), "phone", "", "")
        rows = CompressedRows(frames, size, 200, 0)
        await life.journal.intake.append(FlattenedExport("large", head, NOON, rows))
        await life.accept("small", samples("last"))
        await life.publisher.take_turn()
        assert await life.left() == ["small"]
        assert max(stream.requests) <= 50
        assert life.of(RowsPublished) == [RowsPublished(1, 199, (0.0,))]
        assert life.of(StreamRowsSkipped) == [StreamRowsSkipped("large", 1, "refused")]
        await life.publisher.take_turn()
        *large, last = life.published()
        assert sorted(map(int, large)) == [n for n in range(200) if n != 7]
        assert last == "last"


async def test_a_backlog_beyond_its_bounds_is_dropped_and_said():
    async with living(backlog_age=timedelta(hours=24)) as life:
        await life.accept("a", samples("1", "2"))
        life.now = timedelta(hours=23)
        await life.publisher.measure_backlog()
        lag = life.publisher.measure_lag()
        assert (lag.rows, lag.oldest_seconds, lag.is_paused) == (2, 23 * 3600, False)
        life.now = timedelta(hours=25)
        await life.publisher.measure_backlog()
        assert life.publisher.measure_lag().rows == 0
        assert life.of(StreamRowsDropped) == [StreamRowsDropped(2)]
        assert (await life.journal.ledger.read_totals()).exports["accepted"] == 1


async def test_a_replica_that_does_not_lead_keeps_the_backlog_within_its_bounds_too():
    """The leader may have no stream by mistake: then nobody else would."""
    async with living() as life:
        await life.accept("a", samples("1"))
        life.leads, life.now = False, timedelta(hours=25)
        await life.publisher.measure_backlog()
        assert await life.left() == []
        assert life.publisher.measure_lag() is None


async def test_a_backlog_stays_within_its_bounds_after_the_publisher_has_crashed():
    crashes = []
    async with living(MemoryStream(down=ZeroDivisionError()), watch_seconds=0.01) as life:
        queue = life.journal.stream
        async with publish_in_background(life.publisher, queue, lambda *_: crashes.append(1)):
            await life.accept("a", samples("1"))
            with anyio.fail_after(10):
                while len(crashes) < 6:
                    await anyio.sleep(0.01)
                assert await life.left() == ["a"]
                life.now = timedelta(hours=25)
                while not life.of(StreamRowsDropped):
                    await anyio.sleep(0.01)
            assert await life.left() == []


async def test_it_publishes_by_itself_while_it_runs():
    async with living() as life, anyio.create_task_group() as tasks:
        tasks.start_soon(life.publisher.run)
        await life.accept("a", samples("1"))
        with anyio.fail_after(2):
            while await life.left():
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert life.published() == ["1"]


# The pure parts


@pytest.mark.parametrize(
    ("sizes", "requests"),
    [
        ([], []),
        ([1, 1, 1], [3]),
        ([1] * 7, [3, 3, 1]),
        ([6, 6, 6], [1, 1, 1]),
        ([99], [1]),
        ([1, 99, 1], [1, 1, 1]),
        ([4, 4, 4], [2, 1]),
    ],
)
def test_records_are_divided_by_their_number_and_size(sizes, requests):
    divided = list(divide_records(sizes, StreamLimits(records_max=3, bytes_max=10)))
    assert [len(each) for each in divided] == requests
    assert [position for each in divided for position in each] == list(range(len(sizes)))


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_refused_every_record_is_published_or_skipped(seed):
    rng = random.Random(seed)
    exports = [[b"%d" % rng.randrange(10) for _ in range(rng.randrange(6))] for _ in range(9)]
    limits = StreamLimits(rng.randrange(1, 8))
    window, published, asked = PublishWindow(exports, limits), [], 0
    pending = list(window.requests)
    while pending and not window.is_hopeless:
        request, asked = pending.pop(0), asked + 1
        if b"7" in window.get(request):
            pending[:0] = window.refuse(request)
        else:
            published += window.get(request)
            window.accept(request)
    everything = [record for each in exports for record in each]
    if published:
        assert sorted(published) == sorted(each for each in everything if each != b"7")
        finished = dict(window.list_finished())
        assert finished == {n: each.count(b"7") for n, each in enumerate(exports)}
    assert asked <= 4 * len(everything) + len(window.requests)


def test_records_are_built_in_steps():
    text = flatten(samples(*map(str, range(2_500))), HEADER).ndjson
    steps = build_records(text)
    assert sum(1 for _ in steps) == 2


async def test_a_publisher_that_crashes_again_and_again_stops_and_ends_nothing_else():
    crashes = []

    async def crash():
        raise ZeroDivisionError

    def record(stage, error):
        crashes.append((stage, type(error)))

    with anyio.fail_after(2):
        await supervise("publish", crash, RestartBudget(), record, is_vital=False)
    assert crashes == [("publish", ZeroDivisionError)] * 6
