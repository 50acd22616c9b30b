"""Overload: ten times the capacity, bodies larger than the memory, one user who floods."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import msgspec

from tests.chaos.clients import SAFE
from tests.chaos.export_templates import CHUNKS, ExportTemplate
from tests.chaos.failpoints import Failpoint
from tests.chaos.injected_faults import BRAKE
from tests.chaos.load_generator import REFUSALS, LoadGenerator, LoadStats, compute_quantile
from tests.chaos.load_process import run_load_worker
from tests.chaos.oracle import Reply
from tests.chaos.process_metrics import PEAK_FIELD, ProcessMetrics
from tests.chaos.raw_http import BATCH, EXPORT, RawHttpClient
from tests.chaos.trial_environment import PEAK_MIB, TrialEnvironment

CAPACITY, TIMES, PHONES = 30, 10, 32
WARM_SECONDS, NORMAL_SECONDS = 1.0, 4.0
SHED_SECONDS, NORMAL_AGAIN_SECONDS = 0.05, 10.0
RATE_SHARE_MIN = 0.9
CHUNK_LINES, NOISE_BYTES = 145, 900  # a chunk of 390 KB as base64; 64 make 25 MB
KEEP_EVERY, AGAIN_SECONDS, LARGE_SECONDS = 5, 0.5, 600.0
QUIET, QUIET_SECONDS, FLOODING, DOUBLED = 99, 3.0, 32, 2.0
RATE_PER_MINUTE = 100
AS_BEFORE = 1.5  # times the median: two medians in one run differ by a third


async def send_overload(testbed: TrialEnvironment) -> None:
    """Offer ten times the capacity, without waiting for answers, with every 50th export of 5 MB.

    The capacity is limited by a brake on flattening, because without it a sender in Python on the
    same machine could not reach ten times the rate of Atlas. So this trial shows the behaviour of
    the admission under overload, not its speed.
    """
    await testbed.atlas.start(Failpoint(BRAKE, CAPACITY))
    metrics = ProcessMetrics(testbed.atlas.process.pid)
    seconds = testbed.scale.scale_seconds(60, least=10)
    async with open_generator(testbed, "overload") as generator:
        before = await generator.run_open_loop(CAPACITY / 2, NORMAL_SECONDS)
        began = time.perf_counter()
        baseline = await generator.run_closed_loop(PHONES, seconds / 2, patience=0.2)
        peak = baseline.measure_rate(began + WARM_SECONDS, began + seconds / 2)
        metrics.reset_peak()
        async with metrics.sampling():
            began = time.perf_counter()
            under = await generator.run_open_loop(TIMES * peak, seconds)
            accepted_rate = under.measure_rate(began + WARM_SECONDS, began + seconds)
        normal = await wait_for_recovery(generator, compute_quantile(before.list_latencies(), 0.5))
    check_refusals(testbed, under)
    check_memory(testbed, metrics)
    late, quick = (
        compute_quantile(under.lags, 0.99),
        [compute_quantile(under.refused, at) for at in (0.5, 0.99)],
    )
    testbed.findings.add_fact(
        f"{peak:.0f}/s alone, {sum(under.statuses.values()) / seconds:.0f}/s offered, "
        f"{accepted_rate / peak:.0%} of it accepted; "
        f"refused in {format_ms(quick[0])}, p99 {format_ms(quick[1])}, "
        f"by a sender late by {format_ms(late)}; normal after {normal:.0f} s"
    )
    expect = testbed.findings.check
    expect(bool(under.refused), "Nothing was refused.")
    expect(normal <= NORMAL_AGAIN_SECONDS, f"Normal only {normal:.0f} s after.")
    if testbed.scale.is_full:
        expect(
            accepted_rate >= RATE_SHARE_MIN * peak,
            f"Only {accepted_rate / peak:.0%} of the peak was accepted.",
        )
        expect(quick[1] <= SHED_SECONDS + late, f"Refused only in {format_ms(quick[1])}.")


@asynccontextmanager
async def open_generator(
    testbed: TrialEnvironment, name: str, large_every: int = 50
) -> AsyncIterator[LoadGenerator]:
    """Open a generator of exports of all users, with its own connections."""
    sockets = RawHttpClient(testbed.clients.url)
    try:
        yield LoadGenerator(
            sockets,
            testbed.emulators.issue_token,
            testbed.oracle,
            testbed.rng,
            name,
            large_every=large_every,
        )
    finally:
        sockets.close()


async def wait_for_recovery(generator: LoadGenerator, median: float) -> float:
    """Return the seconds until half of the capacity is served with normal latency."""
    began = time.perf_counter()
    while (took := time.perf_counter() - began) <= 2 * NORMAL_AGAIN_SECONDS:
        second = await generator.run_open_loop(CAPACITY / 2, 1.0)
        if (
            not second.refused
            and compute_quantile(second.list_latencies(), 0.5) <= AS_BEFORE * median
        ):
            break
    return took


def format_ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def check_refusals(testbed: TrialEnvironment, stats: LoadStats) -> None:
    """Check that each refusal is a 429 or 503 with Retry-After."""
    unexpected, bare = stats.count_unexpected(), stats.without_retry_after
    testbed.findings.check(not unexpected, f"Unexpected answers: {unexpected}.")
    testbed.findings.check(
        not bare, f"{bare} of {len(stats.refused)} refusals without Retry-After."
    )


def check_memory(testbed: TrialEnvironment, metrics: ProcessMetrics) -> None:
    service_only, all_of_it = metrics.measure(PEAK_FIELD), metrics.peak_mib
    testbed.findings.add_fact(f"memory {service_only:.0f} MiB, with workers {all_of_it:.0f}")
    testbed.findings.check(service_only <= PEAK_MIB, f"{service_only:.0f} MiB in memory.")


async def exhaust_memory(testbed: TrialEnvironment) -> None:
    """Send 200 batches of 25 MB at once without a Content-Length, then one stream of 1 GB.

    The bodies are generated while they are sent. Every fifth batch is retried until it is accepted;
    the others are given up when refused, because a dataset of 4 GB would show nothing more.
    """
    await testbed.atlas.start()
    metrics = ProcessMetrics(testbed.atlas.process.pid)
    template = ExportTemplate(testbed.rng, CHUNK_LINES, NOISE_BYTES)
    batches = [
        Batch(
            f"auth0|batch {number}", template, [f"batch-{number}-{each}" for each in range(CHUNKS)]
        )
        for number in range(testbed.scale.scale_number(200, least=8))
    ]
    metrics.reset_peak()
    began = time.monotonic()
    deadline = anyio.move_on_after(testbed.scale.scale_seconds(LARGE_SECONDS, least=90))
    async with metrics.sampling():
        with deadline:
            async with anyio.create_task_group() as tasks:
                for number, batch in enumerate(batches):
                    tasks.start_soon(batch.deliver, testbed, number % KEEP_EVERY == 0)
    testbed.findings.check(not deadline.cancelled_caught, "Batches did not end.")
    refusals = sum((batch.refusals for batch in batches), Counter[str]())
    testbed.findings.add_fact(
        f"{len(batches)} batches at once: {sum(batch.is_safe for batch in batches)} accepted in "
        f"{time.monotonic() - began:.0f} s, refused {format_counts(refusals)}"
    )
    check_memory(testbed, metrics)
    metrics.reset_peak()
    async with metrics.sampling():
        await stream_body(testbed, template, testbed.scale.scale_number(1_000, least=64))
    check_memory(testbed, metrics)


def format_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} times {what}" for what, count in counts.items()) or "never"


@dataclass(slots=True)
class Batch:
    """A batch of a user of its own."""

    user: str
    template: ExportTemplate
    names: list[str]
    refusals: Counter[str] = field(default_factory=Counter)
    is_safe: bool = False

    async def deliver(self, testbed: TrialEnvironment, until_safe: bool) -> None:
        """Send the batch; retry a refusal if `until_safe`. Any other answer is a failure."""
        names = self.names
        token, sockets = (
            testbed.emulators.issue_token(self.user),
            RawHttpClient(testbed.clients.url),
        )
        head = sockets.build_head(BATCH, token, ())
        for name in names:
            testbed.oracle.record_sent(name, self.template.lines)
        response = await sockets.post(head, self.template.render_batch(names), LARGE_SECONDS)
        while until_safe and response.status in {0, *REFUSALS}:
            self.refusals[response.to_answer.refusal] += 1
            await anyio.sleep(testbed.rng.uniform(0.5, 1.5) * AGAIN_SECONDS)
            response = await sockets.post(head, self.template.render_batch(names), LARGE_SECONDS)
        sockets.close()
        self.is_safe = response.status in {200, 202}
        if self.is_safe:
            replies = msgspec.json.decode(response.body, type=Replies).upload_results
            for name, reply in zip(names, replies, strict=True):
                testbed.oracle.record_answer(name, reply)
            return
        self.refusals[response.to_answer.refusal] += 1
        testbed.oracle.given_up.update(names)
        is_later = response.status in REFUSALS and response.to_answer.retry_after.isdecimal()
        testbed.findings.check(is_later, f"A batch got {response.to_answer.refusal}.")


class Replies(msgspec.Struct):
    """The fields that matter in the answer to a batch."""

    upload_results: tuple[Reply, ...]


async def stream_body(testbed: TrialEnvironment, template: ExportTemplate, megabytes: int) -> None:
    """Stream one body of `megabytes`."""
    names = [
        f"stream-{each}"
        for each in range(megabytes * 1_000_000 // len(template.render("stream-0")))
    ]
    for name in names:
        testbed.oracle.record_sent(name, template.lines)
    sockets, token = (
        RawHttpClient(testbed.clients.url),
        testbed.emulators.issue_token("auth0|years"),
    )
    head = sockets.build_head(EXPORT, token, (), Content_Type="application/x-ndjson")
    began = time.monotonic()
    response = await sockets.post(head, (template.render(name) for name in names), LARGE_SECONDS)
    while response.status in {0, *REFUSALS} and time.monotonic() - began < LARGE_SECONDS:
        await anyio.sleep(AGAIN_SECONDS)
        response = await sockets.post(
            head, (template.render(name) for name in names), LARGE_SECONDS
        )
    sockets.close()
    testbed.findings.add_fact(f"a stream of {megabytes} MB in {time.monotonic() - began:.0f} s")
    testbed.findings.check(
        response.status in {200, 202}, f"A stream got {response.to_answer.refusal}."
    )
    for name in names:
        testbed.oracle.record_answer(name, SAFE)


def choose_quiet_user(number: int) -> str:
    return f"auth0|quiet {number % QUIET}"


async def flood_by_one_user(testbed: TrialEnvironment) -> None:
    """99 users send an export every three seconds; then one more user floods on 32 connections.

    The flood runs in a separate process, without pauses, and sends 5 MB now and then.
    """
    await testbed.atlas.start()
    seconds, a_second = testbed.scale.scale_seconds(60, least=6), QUIET / QUIET_SECONDS
    token = testbed.emulators.issue_token("auth0|flood")
    async with open_generator(testbed, "quiet", large_every=0) as generator:
        generator.sub = choose_quiet_user
        await generator.run_open_loop(a_second, QUIET_SECONDS)
        baseline = await generator.run_open_loop(a_second, seconds)
        concurrent: list[LoadStats] = []

        async def run_generator() -> None:
            concurrent.append(await generator.run_open_loop(a_second, seconds))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_generator)
            flood = await run_load_worker(testbed.clients.url, token, "flood", FLOODING, seconds)
    flood.record_in(testbed.oracle)
    before, during = (
        compute_quantile(stats.list_latencies(), 0.99) for stats in (baseline, *concurrent)
    )
    refusals = sum(baseline.count_unexpected().values()) + len(baseline.refused)
    refusals += sum(concurrent[0].count_unexpected().values()) + len(concurrent[0].refused)
    testbed.findings.add_fact(
        f"p99 of {QUIET} others {format_ms(before)}, during a flood of "
        f"{sum(flood.statuses.values()) / seconds:.0f}/s {format_ms(during)}; "
        f"it got {flood.statuses}"
    )
    expect = testbed.findings.check
    expect(not refusals, f"{refusals} exports of the other users were refused.")
    expect(flood.statuses.get(429, 0) > 0, "The flood was never refused.")
    expect(not set(flood.statuses) - {200, 202, *REFUSALS}, f"The flood got {flood.statuses}.")
    expect(not flood.without_retry_after, f"{flood.without_retry_after} without Retry-After.")
    expect(not flood.without_rate, f"{flood.without_rate} times 429 without RateLimit headers.")
    if testbed.scale.is_full:
        expect(during <= DOUBLED * before, f"p99 of the others rose to {format_ms(during)}.")
