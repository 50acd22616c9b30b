"""Prometheus metrics: clients' actions move them, they are impersonal, all are documented."""

import io
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import get_args

import anyio
import msgspec
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from atlas.core import events
from atlas.core.about import About
from atlas.core.errors import FileInvalid, FoundryError, JournalFull, Unavailable
from atlas.core.identifiers import API_PREFIX
from atlas.core.records import REASONS
from atlas.core.status import DatabaseState, JournalTotals, Replica, RuntimeGauges, StreamLag
from atlas.core.status_aggregator import StatusAggregator
from atlas.core.traces import Trace
from atlas.edge.operator import GaugeReader
from atlas.outside import traces
from atlas.outside.log import EventLog, build_logger
from atlas.outside.metrics import exposition
from atlas.settings import OperatorSettings, Settings
from tests.conftest import ServiceHarness, an_export, asgi, needs
from tests.support.exports import NOON
from tests.support.fakes import Barrier, BlockingExecutor, KnownUsers
from tests.support.scrapes import HOST, SampleIndex, scrape_samples, told

POISONED = "healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson"  # the path of the first export
PAGE = (Path(__file__).parent.parent / "config/operations.md").read_text(encoding="utf-8")
UNITS = tuple(
    "_seconds _bytes _exports _rows _replicas _phones _in_flight _tasks _info _total _depth _size"
    " _paused _leads _epoch _delayed".split()
)
RECEIPT_ROUTE = f"{API_PREFIX}/exports/{{id}}"


@dataclass
class MeteredService(ServiceHarness):
    """A service whose metrics may require a token."""

    operator: OperatorSettings = field(default_factory=OperatorSettings)

    def settings(self) -> Settings:
        return msgspec.structs.replace(ServiceHarness.settings(self), operator=self.operator)


@pytest.fixture
def life(tmp_path):
    return MeteredService(tmp_path / "journal")


async def test_an_export_moves_what_it_passes(life):
    async with life.running() as flow:
        sent = an_export(b'{"uuid":"a"}\n{"uuid":"b"}\nbad\n[]\nworse\n')
        await flow.post(sent)
        seen = await told(flow)
        stages = ("authenticate", "decode", "flatten", "journal")

        assert seen["atlas_exports_total", "accepted"] == 1
        assert seen["atlas_exports_total", "committed"] == 1
        assert seen["atlas_rows_total", "accepted"] == seen["atlas_rows_total", "committed"] == 2
        assert seen["atlas_lines_rejected_total", "not valid JSON"] == 2
        assert seen["atlas_lines_rejected_total", "not a JSON object"] == 1
        assert [seen["atlas_stage_seconds_count", stage] for stage in stages] == [1, 1, 1, 1]
        assert seen["atlas_groups_total", "idle"] == 1
        assert seen[("atlas_group_exports_sum",)] == seen[("atlas_group_exports_count",)] == 1
        assert seen[("atlas_group_bytes_sum",)] == seen[("atlas_committed_bytes_total",)] > 0
        assert seen[("atlas_group_seconds_count",)] == 1
        assert seen[("atlas_last_commit_timestamp_seconds",)] == NOON.timestamp()
        assert seen[("atlas_request_bytes_total",)] == len(msgspec.json.encode(sent))
        assert seen["atlas_journal_exports", "committed"] == 1


async def test_every_rejected_line_counts_and_not_only_those_that_are_shown(life):
    async with life.running() as flow:
        accepted = await flow.post(an_export(b'{"uuid":"a"}\n' + b"bad\n" * 300))
        refused = await flow.post(an_export(b"[]\n" * 400))
        seen = await told(flow)

    assert (accepted.status, refused.status) == (200, 400)
    assert seen["atlas_lines_rejected_total", "not valid JSON"] == 300
    assert seen["atlas_lines_rejected_total", "not a JSON object"] == 400


async def test_a_replay_is_one_and_moves_no_rows(life):
    async with life.running() as flow:
        await flow.post(an_export())
        await flow.post(an_export())
        seen = await told(flow)

    assert seen["atlas_exports_total", "replayed"] == 1
    assert seen["atlas_rows_total", "accepted"] == 1


async def test_requests_count_by_route_and_status_and_refusals_by_their_code(life):
    async with life.running() as flow:
        receipt = (await flow.post(an_export())).body["receipt_id"]
        await flow.receipt(receipt)
        await flow.receipt("unknown")
        await flow.post(an_export(), token="expired")
        await flow.send("DELETE", f"{API_PREFIX}/export", None)
        seen = await told(flow)

    assert seen["atlas_http_requests_total", "POST", f"{API_PREFIX}/export", "200"] == 1
    assert seen["atlas_http_requests_total", "POST", f"{API_PREFIX}/export", "401"] == 1
    assert seen["atlas_http_requests_total", "DELETE", f"{API_PREFIX}/export", "405"] == 1
    assert seen["atlas_http_requests_total", "GET", RECEIPT_ROUTE, "200"] == 1
    assert seen["atlas_http_requests_total", "GET", RECEIPT_ROUTE, "404"] == 1
    assert seen["atlas_http_request_seconds_count", RECEIPT_ROUTE] == 2
    assert seen["atlas_refusals_total", "TOKEN_EXPIRED"] == 1
    assert seen["atlas_refusals_total", "NOT_FOUND"] == 1
    assert seen["atlas_refusals_total", "DRAINING"] == 0


async def test_what_somebody_makes_up_makes_no_label(life):
    async with life.running() as flow:
        before = len(await told(flow))
        for number in range(50):
            await flow.send("GET", f"/made-up/{number}", None)
            await flow.send(f"MADE{number}", f"/made-up/{number}", None)
        seen = await told(flow)

    assert seen["atlas_http_requests_total", "GET", "none", "404"] == 50
    assert seen["atlas_http_requests_total", "other", "none", "404"] == 50
    assert len(seen) - before < 50


async def test_a_wrong_count_and_a_stuck_phone_are_counted(life):
    async with life.running() as flow:
        for _ in range(10):
            await flow.post(an_export(recordCount=7))
        seen = await told(flow)

    assert seen[("atlas_record_count_mismatches_total",)] == 10
    assert seen[("atlas_stuck_clients_total",)] == 1


async def test_while_foundry_is_away_it_is_paused_and_the_oldest_gets_older(life):
    life.dataset.down = True
    life.drain_seconds = 0.0
    async with life.running() as flow:
        await flow.post(an_export(), Prefer="respond-async")
        await flow.seen.wait_for(events.UploadPaused)
        away = await told(flow)
        life.dataset.down = False
        await flow.seen.wait_for(events.GroupCommitted)
        back = await told(flow)

    assert away[("atlas_upload_paused",)] == 1
    assert away[("atlas_upload_pauses_total",)] >= 1
    assert away["atlas_journal_exports", "accepted"] == 1
    assert back[("atlas_upload_paused",)] == 0
    assert back["atlas_journal_exports", "accepted"] == 0


async def test_why_a_group_was_begun(life):
    gate = life.dataset.mishaps["before commit"] = Barrier()
    async with life.running() as flow:
        await flow.post(an_export(b'{"uuid":"first"}'), Prefer="respond-async")
        await gate.reached.wait()
        for number in range(3):
            await flow.post(an_export(b'{"uuid":"%d"}' % number), Prefer="respond-async")
        gate.opened.set()
        await flow.is_empty()
        await flow.seen.wait_for(events.GroupCommitted, 2)
        seen = await told(flow)
        started = [event.trigger for event in flow.seen.of(events.GroupStarted)]

    assert started == ["idle", "interval"]
    assert seen["atlas_groups_total", "idle"] == seen["atlas_groups_total", "interval"] == 1
    assert seen["atlas_groups_total", "full"] == 0


async def test_a_whole_group_does_not_wait_for_the_interval(life):
    life.interval_seconds = 3_600.0
    life.group = msgspec.structs.replace(life.group, exports_max=2)
    life.drain_seconds = 0.0
    async with life.running() as flow:
        await flow.post(an_export(b'{"uuid":"first"}'))
        for number in range(2):
            await flow.post(an_export(b'{"uuid":"%d"}' % number), Prefer="respond-async")
        await flow.seen.wait_for(events.GroupCommitted, 2)
        seen = await told(flow)

    assert seen["atlas_groups_total", "full"] == 1


async def test_a_crash_counts_where_it_was_and_the_export_is_quarantined(life):
    class Broken:
        async def __call__(self, *_):
            raise ZeroDivisionError

    life.compute = Broken()
    async with life.running() as flow:
        await flow.post(an_export(b'{"uuid":"a"}'))
        seen = await told(flow)

    assert seen["atlas_stage_crashes_total", "decode"] == 1
    assert seen["atlas_exports_total", "quarantined"] == 1
    assert seen["atlas_stage_seconds_count", "quarantine"] == 1


async def test_what_is_set_aside_is_counted(life):
    life.dataset.refuses.add("healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson")
    async with life.running() as flow:
        await flow.post(an_export())
        seen = await told(flow)

    assert seen["atlas_exports_total", "set_aside"] == 1
    assert seen["atlas_journal_exports", "set_aside"] == 1


async def test_what_failed_is_counted_by_what_failed_and_while_it_waits(life):
    life.dataset.poisons[POISONED] = FoundryError("No answer.")
    async with life.running() as flow:
        await flow.post(an_export(b'{"uuid":"silent"}'), Prefer="respond-async")
        await flow.post(an_export(b'{"uuid":"a"}'))
        await flow.seen.wait_for(events.ExportFailed)
        seen = await told(flow)

    assert seen["atlas_exports_failed_total", "unanswered"] >= 1
    assert seen["atlas_exports_failed_total", "refused"] == 0
    assert seen[("atlas_journal_failed_exports",)] == 1


async def test_what_has_failed_counts_also_while_it_is_tried(life):
    life.dataset.poisons[POISONED] = FileInvalid("Foundry answers 400.")
    async with life.running() as flow:
        await flow.post(an_export(), Prefer="respond-async")
        await flow.seen.wait_for(events.ExportFailed)
        gate = life.dataset.mishaps["before begin"] = Barrier()
        await gate.reached.wait()
        seen = await told(flow)
        gate.opened.set()

    assert seen[("atlas_journal_failed_exports",)] == 1
    assert seen["atlas_exports_failed_total", "refused"] == 1


async def test_a_queue_tells_how_full_it_is(life):
    async with life.running() as flow:
        seen = await told(flow)

    for stage in ("authenticate", "decode", "flatten", "journal", "quarantine"):
        assert seen["atlas_stage_queue_depth", stage] == 0
        assert seen["atlas_stage_queue_size", stage] == 16


async def test_the_edge_tells_how_full_it_is(life):
    life.compute = BlockingExecutor()
    async with life.running() as flow, anyio.create_task_group() as tasks:
        for number in range(3):
            sent = an_export(b'{"uuid":"%d"}' % number)
            size = len(msgspec.json.encode(sent))
            tasks.start_soon(partial(flow.post, sent, content_length=str(size)))
        await anyio.wait_all_tasks_blocked()
        full = await told(flow)
        life.compute.released.set()

    assert full[("atlas_edge_exports_in_flight",)] == 3
    assert full[("atlas_edge_inflight_bytes",)] == 3 * 4 * size
    assert full[("atlas_edge_queue_depth",)] == 0


async def test_nothing_of_a_person_is_in_it(life):
    async with life.running() as flow:
        line = b'{"uuid":"CANARY-UUID","sourceName":"CANARY-SOURCE","device":{"name":"CANARY-HW"}}'
        token = "token-of-auth0|CANARY-SUB"
        answer = await flow.post(an_export(line, device="CANARY-DEVICE"), token=token)
        await flow.receipt(answer.body["receipt_id"], token=token)
        await flow.receipt("CANARY-ID", token=token)
        await flow.send("GET", "/CANARY-PATH", None)
        await flow.post(an_export(b"CANARY-LINE"), token=token)
        text = (await scrape_samples(flow)).body

    assert b"CANARY" not in text
    assert answer.body["receipt_id"].encode() not in text


@pytest.mark.parametrize("error", [Unavailable(), JournalFull()])
async def test_a_journal_that_does_not_answer_is_left_out_and_the_rest_is_told(error):
    class Silent:
        async def read_totals(self):
            raise error

    text = exposition(a_status(), await GaugeReader(Silent(), dict, lambda: False).read())

    assert b"atlas_journal_exports" not in text
    assert b"atlas_exports_total" in text


async def test_the_journal_tells_its_disk_and_its_balance(life):
    async with life.running() as flow:
        seen = await told(flow)

    assert seen[("atlas_journal_disk_free_bytes",)] > 0
    assert seen[("atlas_journal_imbalance_exports",)] == 0
    assert seen[("atlas_is_draining",)] == 0


async def test_who_waits_for_an_answer_is_a_task_of_the_loop(life):
    async with life.running() as flow:
        before = await told(flow)
        async with anyio.create_task_group() as waiting:
            for _ in range(100):
                waiting.start_soon(anyio.sleep_forever)
            seen = await told(flow)
            waiting.cancel_scope.cancel()

    grown = seen[("atlas_tasks",)] - before[("atlas_tasks",)]
    assert 90 <= grown <= 110


async def test_it_says_that_it_drains(life):
    async with life.running() as flow:
        flow.service.drain()
        seen = await told(flow)

    assert seen[("atlas_is_draining",)] == 1


VALUES = {
    str: "x",
    int: 2,
    float: 0.5,
    bool: True,
    tuple[str, ...]: ("x",),
    tuple[float, ...]: (0.5,),
    Mapping[str, int]: {"not UTF-8": 2},
    Trace | None: Trace("a" * 32, "b" * 16),
}


def example_event(kind: type) -> object:
    """Return an event with a value in each field."""
    return kind(*(example_value(each.type) for each in msgspec.structs.fields(kind)))


def example_value(kind: object) -> object:
    """Return a value of a type, or of the first member of a union."""
    if kind in VALUES:
        return VALUES[kind]
    first = get_args(kind)[0]
    return VALUES.get(first, first)


@pytest.mark.parametrize("kind", events.Event.__subclasses__(), ids=lambda kind: kind.__name__)
async def test_whatever_happens_no_reader_minds(life, kind):
    """An exception in a subscriber would stop the flow that it observes."""
    stream = io.StringIO()
    log = EventLog(build_logger(stream, "debug"), b"k")
    with traces.open_traces(InMemorySpanExporter(), "1", "ri.dataset") as spans:
        life.readers = {"log": log, "traces": spans.handle}
        async with life.running() as flow:
            flow.readers.publish(example_event(events.GroupStarted))  # or no call has a trace
            flow.readers.publish(example_event(kind))
            assert (await scrape_samples(flow)).status == 200
            picture = await asgi(flow.service.operator, "GET", "/status", {"host": HOST})
            assert picture.status == 200
    assert stream.getvalue()


def a_status(*, is_shared: bool = False, is_streamed: bool = False) -> StatusAggregator:
    about = About(
        "1", "ri.dataset", "master", 100, 10, is_shared=is_shared, is_streamed=is_streamed
    )
    return StatusAggregator(about, lambda: NOON)


MOVED = [
    (events.JournalDamaged("an export"), "atlas_journal_damaged_total", ()),
    (events.TotalsMismatch("accepted", 1, 2), "atlas_ledger_unbalanced_total", ()),
    *(
        (
            events.ExportFailed("e", "c", 1, True, cause, "why"),
            "atlas_exports_failed_total",
            (cause,),
        )
        for cause in get_args(events.FailureCause)
    ),
    (events.ForeignWriterDetected(3), "atlas_foreign_writers_total", ()),
    (events.OrphanAborted("t"), "atlas_orphans_total", ("aborted",)),
    (events.OrphanSuspected("t"), "atlas_orphans_total", ("suspected",)),
    (events.KeysFetched(2), "atlas_jwks_fetches_total", ("ok",)),
    (events.KeysUnavailable("why", 0, "a.test"), "atlas_jwks_fetches_total", ("failed",)),
    (events.FoundryTokenFetched(60), "atlas_foundry_token_fetches_total", ("ok",)),
    (events.FoundryTokenRefused("why"), "atlas_foundry_token_fetches_total", ("failed",)),
    (events.FoundryCalled("put", 200, 0.1, False), "atlas_foundry_calls_total", ("put", "200")),
    (events.FoundryCalled("put", 0, 0.1, True), "atlas_foundry_retries_total", ("put",)),
    (events.FoundryCalled("put", 200, 0.1, False), "atlas_foundry_call_seconds_count", ("put",)),
    (events.LeadershipTaken(3), "atlas_leadership_taken_total", ()),
    (events.LeadershipTaken(3), "atlas_uploader_leads", ()),
    *(
        (events.LeadershipLost(3, reason), "atlas_leadership_lost_total", (reason,))
        for reason in get_args(events.EndOfLead)
    ),
    (events.JournalFailedOver("1", "2"), "atlas_journal_failovers_total", ()),
    (events.ExportsOfferedAgain(2, 1), "atlas_journal_offered_again_total", ("lost",)),
    (events.ExportsOfferedAgain(2, 1), "atlas_journal_offered_again_total", ("present",)),
    (events.DatabaseConnectionLost(), "atlas_journal_reconnects_total", ()),
    (events.ExportsStored(7, 0.1), "atlas_journal_commit_seconds_count", ()),
    (events.ExportsStored(1, 0.1), "atlas_journal_batch_exports_sum", ()),
    (events.RowsPublished(1, 1), "atlas_stream_rows_total", ("published",)),
    (events.RowsPublished(1, 2, (1.0,)), "atlas_stream_delay_seconds_count", ()),
    (events.StreamRowsDropped(1), "atlas_stream_rows_total", ("dropped",)),
    *(
        (events.StreamRowsSkipped("e", 1, reason), "atlas_stream_rows_total", (reason,))
        for reason in get_args(events.SkipReason)
    ),
    (events.StreamRequestFailed("why"), "atlas_stream_failures_total", ()),
]


@pytest.mark.parametrize(("event", "name", "labels"), MOVED)
def test_what_seldom_happens_is_counted(event, name, labels):
    status = a_status(is_shared=True, is_streamed=True)
    before = SampleIndex(exposition(status, RuntimeGauges()))
    status.handle(event)
    after = SampleIndex(exposition(status, RuntimeGauges()))

    assert after[(name, *labels)] - before[(name, *labels)] == 1


def test_what_stands_at_zero_is_told_so_that_its_first_step_is_seen():
    seen = SampleIndex(exposition(a_status(), RuntimeGauges()))

    for reason in REASONS:
        assert ("atlas_lines_rejected_total", reason) in seen
    for outcome in ("accepted", "replayed", "committed", "set_aside", "quarantined"):
        assert ("atlas_exports_total", outcome) in seen
    for cause in ("refused", "group_failed", "unanswered"):
        assert ("atlas_exports_failed_total", cause) in seen
    for because in ("idle", "interval", "full"):
        assert ("atlas_groups_total", because) in seen
    assert ("atlas_refusals_total", "JOURNAL_FULL") in seen
    assert ("atlas_foundry_token_fetches_total", "failed") in seen


def every_family():
    database = DatabaseState(3, (Replica("one", "1", NOON),), False, 1, 2, 3.5, 4)
    depth = JournalTotals({"accepted": 1}, {"accepted": 1}, NOON, 5, 0, database=database)
    gauges = RuntimeGauges(depth, {"decode": (0, 16)}, stream=StreamLag(1, 2.0))
    text = exposition(a_status(is_shared=True, is_streamed=True), gauges)
    return [each for each in SampleIndex(text).families if each.name.startswith("atlas")]


def full_name(family) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


@pytest.mark.parametrize("family", every_family(), ids=full_name)
def test_a_metric_is_named_as_prometheus_wants_it(family):
    name = full_name(family)
    assert re.fullmatch(r"atlas(_[a-z]+)+", name)
    assert name.endswith(UNITS) or name in {"atlas_is_draining", "atlas_phones_quiet"}
    assert (family.type == "counter") is name.endswith("_total")
    assert family.documentation.endswith(".")
    assert not re.search(r"_(milliseconds|ms|kb|mb|count|sum)$", name)


def read_documented_metrics(section: str) -> dict[str, frozenset[str]]:
    """Parse a table in config/operations.md: metric names with the labels of each."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(atlas_\w+)(?:\{([\w,]*)\})?` \|", text, re.MULTILINE)
    return {name: frozenset(filter(None, labels.split(","))) for name, labels in rows}


def find_labels(families) -> dict[str, frozenset[str]]:
    """Return our metrics with the labels of each."""
    return {
        full_name(family): frozenset(
            {name for sample in family.samples for name in sample.labels} - {"le"}
        )
        for family in families
        if family.name.startswith("atlas")
    }


async def test_the_page_lists_them_all_and_no_other(life):
    async with life.running() as flow:
        await flow.post(an_export())
        flow.readers.publish(events.FoundryCalled("put", 200, 0.1, True))
        flow.readers.publish(events.StageCrashed("edge", "ZeroDivisionError", ()))
        families = (await told(flow)).families
    own, all_labels = find_labels(families), find_labels(every_family())
    shared = {name: labels for name, labels in all_labels.items() if name not in own}
    assert read_documented_metrics("Metrics") == own
    streamed = {name: shared.pop(name) for name in list(shared) if name.startswith("atlas_stream_")}
    assert read_documented_metrics("Metrics of a stream") == streamed
    assert read_documented_metrics("Metrics of replicas") == shared


async def test_a_service_without_other_replicas_says_nothing_of_them(life):
    async with life.running() as flow:
        flow.readers.publish(events.LeadershipTaken(1))
        families = (await told(flow)).families

    assert not {full_name(each) for each in families} & set(
        read_documented_metrics("Metrics of replicas")
    )


def test_a_number_that_our_role_may_not_read_is_left_out():
    totals = JournalTotals({}, {}, database=DatabaseState(3, bytes=None, dead_rows=0))
    seen = SampleIndex(exposition(a_status(is_shared=True), RuntimeGauges(totals)))

    assert ("atlas_journal_dead_rows",) in seen
    assert ("atlas_journal_database_bytes",) not in seen
    assert ("atlas_journal_oldest_transaction_seconds",) not in seen


def test_a_replica_that_stops_uploading_leads_no_more_and_has_no_pause():
    status = a_status(is_shared=True)
    status.handle(events.LeadershipTaken(3))
    status.handle(events.UploadPaused("Foundry is down.", 1.0))
    status.handle(events.LeadershipLost(3, "deposed"))
    seen = SampleIndex(exposition(status, RuntimeGauges()))

    assert seen[("atlas_uploader_leads",)] == seen[("atlas_upload_paused",)] == 0


TOKEN = OperatorSettings(token="a-secret")
OPEN = OperatorSettings(token="a-secret", metrics_open=True)


@pytest.mark.parametrize(
    ("operator", "headers", "status"),
    [
        pytest.param(OperatorSettings(), {}, 200, id="no token is set"),
        pytest.param(TOKEN, {}, 401, id="no token is brought"),
        pytest.param(TOKEN, {"authorization": "Bearer wrong"}, 401, id="a wrong token"),
        pytest.param(TOKEN, {"authorization": "Bearer a-secret"}, 200, id="the token"),
        pytest.param(OPEN, {}, 200, id="open"),
        pytest.param(OPEN, {"host": "evil.test"}, 421, id="open, and by another name"),
        pytest.param(OperatorSettings(), {"host": "evil.test"}, 421, id="by another name"),
    ],
)
async def test_who_may_scrape(life, operator, headers, status):
    life.operator = operator
    async with life.running() as flow:
        assert (await scrape_samples(flow, **headers)).status == status


async def test_only_the_metrics_are_open(life):
    life.operator = OPEN
    async with life.running() as flow:
        answer = await asgi(flow.service.operator, "GET", "/exports", {"host": HOST})

    assert answer.status == 401


async def test_a_scrape_is_of_the_format_that_prometheus_reads(life):
    async with life.running() as flow:
        answer = await scrape_samples(flow)

    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_nothing_of_it_is_public(life):
    async with life.running() as flow:
        for path in ("/metrics", "/status", "/status/stream"):
            assert (await flow.send("GET", path, "token-of-ada", Host=HOST)).status == 404


async def test_keys_that_cannot_be_had_refuse_by_their_code(life):
    life.identities = KnownUsers(down=True)
    async with life.running() as flow:
        assert (await flow.post(an_export())).status == 503
        assert (await told(flow))["atlas_refusals_total", "AUTH_UNAVAILABLE"] == 1


# conventions of Prometheus


def find_complaints(text: bytes) -> str:
    """Let promtool check names, types, units and help texts; return its complaints, or ""."""
    command = ["promtool", "check", "metrics"]
    run = subprocess.run(command, input=text, check=False, capture_output=True)
    complaints = (run.stdout + run.stderr).decode()
    return complaints if complaints or run.returncode == 0 else f"exit code {run.returncode}"


async def test_promtool_finds_nothing_wrong_with_the_metrics_of_a_service(life):
    needs("promtool", "--version")
    async with life.running() as flow:
        await flow.post(an_export())
        scraped = (await scrape_samples(flow)).body

    assert b"atlas_rows_total" in scraped
    assert find_complaints(scraped) == ""


def test_promtool_finds_nothing_wrong_with_the_metrics_of_replicas():
    needs("promtool", "--version")
    database = DatabaseState(1, (Replica("one", "1", NOON),), False, 1, 1, 1.0, 1)
    totals = JournalTotals({"accepted": 1}, {"accepted": 1}, NOON, 1, 0, database=database)
    scraped = exposition(a_status(is_shared=True), RuntimeGauges(totals))

    assert b"atlas_journal_replication_lag_bytes" in scraped
    assert find_complaints(scraped) == ""


@pytest.mark.parametrize(
    "metric",
    [
        pytest.param(b"# HELP a_total A.\n# TYPE a_total gauge\na_total 1\n", id="type"),
        pytest.param(b"# TYPE a_seconds gauge\na_seconds 1\n", id="help"),
        pytest.param(b"a_seconds{label=unquoted} 1\n", id="format"),
    ],
)
def test_promtool_complains_of_a_metric_that_is_wrong(metric):
    needs("promtool", "--version")
    assert find_complaints(metric)
