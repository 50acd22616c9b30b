"""One trace leads from the phone through the actors to the commit."""

import secrets
from contextlib import asynccontextmanager, contextmanager

import anyio
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from atlas.core import events
from atlas.core.errors import ConfigurationError
from atlas.core.events import ExportCommitted
from atlas.core.identifiers import API_PREFIX
from atlas.core.traces import Sampler, Trace
from atlas.outside import traces
from atlas.service import build_subscribers
from atlas.service.subscribers import add_tracing
from atlas.settings import Settings, TracesSettings
from tests.conftest import ServiceHarness, an_export
from tests.support.exports import NOON
from tests.support.fakes import no_answer

PHONE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ID, SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
COMMITTED = ExportCommitted(
    "id", "c", "txn", "path", 1, 2, trace=Trace(f"{ID:032x}", f"{SPAN:016x}")
)
ACTORS = ["authenticate", "decode", "flatten", "journal"]


def sampler(share=1.0, number=0.5):
    return Sampler(share, secrets.token_hex, lambda: number)


class TracedService:
    """A service whose spans are recorded."""

    def __init__(self, folder, sample=None):
        self.kept = []
        self.life = ServiceHarness(folder / "journal")
        self.sample = sample or sampler()

    @asynccontextmanager
    async def running(self):
        exporter = InMemorySpanExporter()
        with traces.open_traces(exporter, "1.2.3", "ri.dataset") as found:
            self.life.readers = {"traces": found.handle, "sample": self.sample}
            async with self.life.running() as flow:
                yield flow
        self.kept += exporter.get_finished_spans()

    def spans(self, name):
        return [span for span in self.kept if span.name == name]

    def span(self, name):
        (found,) = self.spans(name)
        return found


@pytest.fixture
def recorded(tmp_path):
    return TracedService(tmp_path)


async def test_an_export_is_one_trace_from_the_phone_to_the_commit(recorded):
    async with recorded.running() as flow:
        answer = await flow.post(an_export(), traceparent=PHONE)

    request = recorded.span(f"POST {API_PREFIX}/export")
    assert (request.context.trace_id, request.parent.span_id) == (ID, SPAN)
    assert request.attributes["http.response.status_code"] == 200
    for name in ("decode", "flatten", "journal", "upload"):
        span = recorded.span(name)
        assert span.context.trace_id == ID
        assert span.parent.span_id == request.context.span_id
        assert span.start_time <= span.end_time
    assert recorded.span("upload").attributes["atlas.transaction"] == answer.body["transaction_rid"]


async def test_an_export_is_linked_to_the_group_that_it_went_with(recorded):
    async with recorded.running() as flow:
        await flow.post(an_export(), traceparent=PHONE)

    group = recorded.span("group")
    (link,) = recorded.span("upload").links
    assert link.context.span_id == group.context.span_id
    assert link.context.trace_id == group.context.trace_id != ID


@contextmanager
def record_spans():
    """Turn published events into spans; the list is filled at the end."""
    exporter, spans = InMemorySpanExporter(), []
    with traces.open_traces(exporter, "1.2.3", "ri.dataset") as found:
        yield found.handle, spans
    spans += exporter.get_finished_spans()


def test_a_call_to_foundry_is_a_span_of_the_group_that_is_open():
    with record_spans() as (watch, spans):
        watch(events.FoundryCalled("begin", 200, 0.1, is_retry=False))
        watch(events.GroupStarted("txn", 1, 2, "idle"))
        watch(events.FoundryCalled("put", 503, 0.1, is_retry=False))

    (call,) = spans
    assert (call.name, call.status.is_ok) == ("foundry put", False)
    assert (
        call.parent.span_id == traces.build_span_context(traces.derive_group_trace("txn")).span_id
    )


@pytest.mark.parametrize(
    "end",
    [
        events.UploadPaused("Foundry is away.", 1.0),
        events.GroupRecovered(1, 0, "txn"),
        events.GroupCommitted("txn", 1, 2, 0.1, 1, "idle"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_is_asked_of_foundry_after_a_group_is_none_of_it(end):
    with record_spans() as (watch, spans):
        watch(events.GroupStarted("txn", 1, 2, "idle"))
        watch(end)
        watch(events.FoundryCalled("look", 200, 0.1, is_retry=False))

    assert [span.name for span in spans if span.name.startswith("foundry")] == []


async def test_an_export_that_is_committed_by_a_later_life_stays_in_its_trace(recorded):
    recorded.life.dataset.down = True
    recorded.life.drain_seconds = 0.0
    async with recorded.running() as flow:
        await flow.post(an_export(), traceparent=PHONE, Prefer="respond-async")
    recorded.life.dataset.down = False
    async with recorded.running() as flow:
        await flow.seen.wait_for(ExportCommitted)

    request = recorded.span(f"POST {API_PREFIX}/export")
    assert recorded.span("upload").context.trace_id == ID
    assert recorded.span("upload").parent.span_id == request.context.span_id


async def test_what_was_recovered_names_the_group_that_nobody_saw_the_end_of(recorded):
    """The commit happened, but its response and the span of the group were lost."""
    recorded.life.dataset.mishaps["after commit"] = no_answer
    async with recorded.running() as flow:
        answer = await flow.post(an_export(), traceparent=PHONE)

    (link,) = recorded.span("upload").links
    expected = traces.build_span_context(traces.derive_group_trace(answer.body["transaction_rid"]))
    assert (link.context.trace_id, link.context.span_id) == (expected.trace_id, expected.span_id)


async def test_a_refused_request_is_no_error_and_a_failure_of_ours_is(recorded):
    async with recorded.running() as flow:
        await flow.post({"rawhealthkit": "%"}, traceparent=PHONE)
        flow.service.drain()
        await flow.post(an_export(), traceparent=PHONE)

    refused, failed = recorded.spans(f"POST {API_PREFIX}/export")
    assert (refused.attributes["http.response.status_code"], refused.status.is_ok) == (400, True)
    assert (failed.attributes["http.response.status_code"], failed.status.is_ok) == (503, False)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        pytest.param("0" * 10_000, id="very long"),
        "{}",
    ],
)
async def test_what_is_no_traceparent_begins_a_trace_of_our_own(recorded, header):
    async with recorded.running() as flow:
        assert (await flow.post(an_export(), traceparent=header)).status == 200

    request = recorded.span(f"POST {API_PREFIX}/export")
    assert request.parent is None
    assert request.context.trace_id not in {0, ID}


async def test_a_later_version_of_the_header_is_read_as_far_as_we_know_it(recorded):
    async with recorded.running() as flow:
        await flow.post(an_export(), traceparent=PHONE.replace("00-", "cc-", 1) + "-what-ever")

    assert recorded.span("upload").context.trace_id == ID


@pytest.mark.parametrize(
    ("header", "sample"),
    [
        pytest.param(PHONE[:-2] + "00", sampler(), id="its sender records none"),
        pytest.param("", sampler(share=0.5, number=0.5), id="not of the share"),
    ],
)
async def test_what_is_not_to_be_recorded_makes_no_span(tmp_path, header, sample):
    recorded = TracedService(tmp_path, sample)
    async with recorded.running() as flow:
        await flow.post(an_export(), traceparent=header)

    names = {span.name for span in recorded.kept}
    assert not names & {f"POST {API_PREFIX}/export", "upload", *ACTORS}


async def test_a_streamed_body_is_in_the_trace_of_its_request(recorded):
    async with recorded.running() as flow:
        headers = {"traceparent": PHONE, "content-type": "application/x-ndjson"}
        path = f"{API_PREFIX}/export"
        await flow.send("POST", path, "token-of-ada", b'{"uuid":"a"}\n', **headers)

    assert recorded.span("upload").context.trace_id == ID


async def test_nothing_of_the_person_is_in_a_span(recorded):
    async with recorded.running() as flow:
        record = b'{"uuid":"canary-1","sourceName":"canary-2","device":{"name":"canary-3"}}\n'
        sent = an_export(record, device="canary-4")
        await flow.post(sent, token="token-of-canary-5", traceparent=PHONE)

    assert recorded.spans("upload")
    assert "canary" not in "".join(span.to_json() for span in recorded.kept)


async def test_spans_reach_a_collector_over_http():
    got = []

    async def take(request):
        got.append(ExportTraceServiceRequest.FromString(await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    async with TestServer(app) as server:

        def end():
            with traces.open_otlp_traces(str(server.make_url("/v1/traces")), "1", "ri.1") as found:
                found.handle(COMMITTED)

        await anyio.to_thread.run_sync(end)

    (sent,) = got
    (span,) = sent.resource_spans[0].scope_spans[0].spans
    assert (span.name, span.trace_id.hex()) == ("upload", f"{ID:032x}")


def test_a_variable_of_opentelemetry_that_is_wrong_is_a_bad_setting(monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "-1")
    settings = Settings(traces=TracesSettings(endpoint="http://127.0.0.1:9/v1/traces"))
    readers = build_subscribers(settings, None, lambda: NOON)

    with pytest.raises(ConfigurationError, match="OTEL_"), add_tracing(readers, settings):
        pass


async def test_a_collector_that_never_answers_holds_up_no_end():
    """It is abandoned, with thousands of pending spans."""
    asked, over = anyio.Event(), anyio.Event()

    async def hang(_request):
        asked.set()
        await over.wait()
        return web.Response()

    def end():
        with traces.open_otlp_traces(str(server.make_url("/v1/traces")), "1", "ri.1") as found:
            for _ in range(5_000):
                found.handle(COMMITTED)

    app = web.Application()
    app.router.add_post("/v1/traces", hang)
    async with TestServer(app) as server:
        with anyio.fail_after(20):  # the library would take over 30 s
            await anyio.to_thread.run_sync(end)
        assert asked.is_set()
        over.set()
