"""More than can be borne: ten times the capacity, bodies beyond the memory, one who takes all."""

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
CHUNK_LINES, NOISE_BYTES = 145, 900  # a chunk of 390 KB, as base64; 64 of them are 25 MB
KEEP_EVERY, AGAIN_SECONDS, LARGE_SECONDS = 5, 0.5, 600.0
QUIET, QUIET_SECONDS, FLOODING, DOUBLED = 99, 3.0, 32, 2.0
RATE_PER_MINUTE = 100
AS_BEFORE = 1.5  # times the median: two of them in one run differ by a third


async def send_overload(bench: TrialEnvironment) -> None:
    """Ten times what it takes, whether the last was answered or not, each 50th of 5 MB.

    What it takes is capped by a brake on flattening: a sender in Python cannot send ten times what
    Atlas takes without one, not on the same computer. So this shows what becomes of too much at the
    door, and not how fast the door is.
    """
    await bench.atlas.start(Failpoint(BRAKE, CAPACITY))
    vitals = ProcessMetrics(bench.atlas.process.pid)
    seconds = bench.scale.scale_seconds(60, least=10)
    async with open_generator(bench, "overload") as generator:
        before = await generator.run_open_loop(CAPACITY / 2, NORMAL_SECONDS)
        began = time.perf_counter()
        baseline = await generator.run_closed_loop(PHONES, seconds / 2, patience=0.2)
        peak = baseline.measure_rate(began + WARM_SECONDS, began + seconds / 2)
        vitals.reset_peak()
        async with vitals.sampling():
            began = time.perf_counter()
            under = await generator.run_open_loop(TIMES * peak, seconds)
            accepted_rate = under.measure_rate(began + WARM_SECONDS, began + seconds)
        normal = await wait_for_recovery(generator, compute_quantile(before.list_latencies(), 0.5))
    check_refusals(bench, under)
    check_memory(bench, vitals)
    late, quick = (
        compute_quantile(under.lags, 0.99),
        [compute_quantile(under.refused, at) for at in (0.5, 0.99)],
    )
    bench.findings.add_fact(
        f"{peak:.0f}/s alone, {sum(under.statuses.values()) / seconds:.0f}/s offered, "
        f"{accepted_rate / peak:.0%} of it accepted; refused in {format_ms(quick[0])}, p99 {format_ms(quick[1])}, by a "
        f"sender late by {format_ms(late)}; normal after {normal:.0f} s"
    )
    expect = bench.findings.check
    expect(bool(under.refused), "Nothing was refused.")
    expect(normal <= NORMAL_AGAIN_SECONDS, f"Normal only {normal:.0f} s after.")
    if bench.scale.is_full:
        expect(
            accepted_rate >= RATE_SHARE_MIN * peak,
            f"Only {accepted_rate / peak:.0%} of the peak was accepted.",
        )
        expect(quick[1] <= SHED_SECONDS + late, f"Refused only in {format_ms(quick[1])}.")


@asynccontextmanager
async def open_generator(
    bench: TrialEnvironment, name: str, large_every: int = 50
) -> AsyncIterator[LoadGenerator]:
    """Of all users, with sockets of its own."""
    sockets = RawHttpClient(bench.clients.url)
    try:
        yield LoadGenerator(
            sockets,
            bench.emulators.issue_token,
            bench.oracle,
            bench.rng,
            name,
            large_every=large_every,
        )
    finally:
        sockets.close()


async def wait_for_recovery(generator: LoadGenerator, median: float) -> float:
    """The seconds until half of the capacity is answered as before."""
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


def check_refusals(bench: TrialEnvironment, tally: LoadStats) -> None:
    """Each is 429 or 503, and says when to come again."""
    unexpected, bare = tally.count_unexpected(), tally.without_retry_after
    bench.findings.check(not unexpected, f"Answered neither yes nor later: {unexpected}.")
    bench.findings.check(not bare, f"{bare} of {len(tally.refused)} refusals without Retry-After.")


def check_memory(bench: TrialEnvironment, vitals: ProcessMetrics) -> None:
    service_only, all_of_it = vitals.measure(PEAK_FIELD), vitals.peak_mib
    bench.findings.add_fact(f"memory {service_only:.0f} MiB, with workers {all_of_it:.0f}")
    bench.findings.check(service_only <= PEAK_MIB, f"{service_only:.0f} MiB in memory.")


async def exhaust_memory(bench: TrialEnvironment) -> None:
    """200 batches of 25 MB at once that do not say how large they are, then one stream of 1 GB.

    They are made as they are sent. Every fifth of the batches is sent until it is accepted, the
    others are given up when they are turned away: a dataset of 4 GB shows nothing more.
    """
    await bench.atlas.start()
    vitals = ProcessMetrics(bench.atlas.process.pid)
    template = ExportTemplate(bench.rng, CHUNK_LINES, NOISE_BYTES)
    batches = [
        Batch(
            f"auth0|batch {number}", template, [f"batch-{number}-{each}" for each in range(CHUNKS)]
        )
        for number in range(bench.scale.scale_number(200, least=8))
    ]
    vitals.reset_peak()
    began = time.monotonic()
    deadline = anyio.move_on_after(bench.scale.scale_seconds(LARGE_SECONDS, least=90))
    async with vitals.sampling():
        with deadline:
            async with anyio.create_task_group() as tasks:
                for number, batch in enumerate(batches):
                    tasks.start_soon(batch.deliver, bench, number % KEEP_EVERY == 0)
    bench.findings.check(not deadline.cancelled_caught, "Batches came to no end.")
    turned_away = sum((batch.turned_away for batch in batches), Counter[str]())
    bench.findings.add_fact(
        f"{len(batches)} batches at once: {sum(batch.is_safe for batch in batches)} accepted in "
        f"{time.monotonic() - began:.0f} s, turned away {format_counts(turned_away)}"
    )
    check_memory(bench, vitals)
    vitals.reset_peak()
    async with vitals.sampling():
        await stream_body(bench, template, bench.scale.scale_number(1_000, least=64))
    check_memory(bench, vitals)


def format_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} times {what}" for what, count in counts.items()) or "never"


@dataclass(slots=True)
class Batch:
    """By a user of its own."""

    user: str
    template: ExportTemplate
    names: list[str]
    turned_away: Counter[str] = field(default_factory=Counter)
    is_safe: bool = False

    async def deliver(self, bench: TrialEnvironment, until_safe: bool) -> None:
        """Sent, and if it is turned away sent again, if it is to be; wrong is any other answer."""
        names = self.names
        token, sockets = bench.emulators.issue_token(self.user), RawHttpClient(bench.clients.url)
        head = sockets.build_head(BATCH, token, ())
        for name in names:
            bench.oracle.record_sent(name, self.template.lines)
        response = await sockets.post(head, self.template.render_batch(names), LARGE_SECONDS)
        while until_safe and response.status in {0, *REFUSALS}:
            self.turned_away[response.to_answer.refusal] += 1
            await anyio.sleep(bench.rng.uniform(0.5, 1.5) * AGAIN_SECONDS)
            response = await sockets.post(head, self.template.render_batch(names), LARGE_SECONDS)
        sockets.close()
        self.is_safe = response.status in {200, 202}
        if self.is_safe:
            replies = msgspec.json.decode(response.body, type=Replies).upload_results
            for name, reply in zip(names, replies, strict=True):
                bench.oracle.record_answer(name, reply)
            return
        self.turned_away[response.to_answer.refusal] += 1
        bench.oracle.given_up.update(names)
        is_later = response.status in REFUSALS and response.to_answer.retry_after.isdecimal()
        bench.findings.check(is_later, f"A batch got {response.to_answer.refusal}.")


class Replies(msgspec.Struct):
    """What is read of the answer to a batch."""

    upload_results: tuple[Reply, ...]


async def stream_body(bench: TrialEnvironment, template: ExportTemplate, megabytes: int) -> None:
    """One body of so many."""
    names = [
        f"stream-{each}"
        for each in range(megabytes * 1_000_000 // len(template.render("stream-0")))
    ]
    for name in names:
        bench.oracle.record_sent(name, template.lines)
    sockets, token = RawHttpClient(bench.clients.url), bench.emulators.issue_token("auth0|years")
    head = sockets.build_head(EXPORT, token, (), Content_Type="application/x-ndjson")
    began = time.monotonic()
    response = await sockets.post(head, (template.render(name) for name in names), LARGE_SECONDS)
    while response.status in {0, *REFUSALS} and time.monotonic() - began < LARGE_SECONDS:
        await anyio.sleep(AGAIN_SECONDS)
        response = await sockets.post(
            head, (template.render(name) for name in names), LARGE_SECONDS
        )
    sockets.close()
    bench.findings.add_fact(f"a stream of {megabytes} MB in {time.monotonic() - began:.0f} s")
    bench.findings.check(
        response.status in {200, 202}, f"A stream got {response.to_answer.refusal}."
    )
    for name in names:
        bench.oracle.record_answer(name, SAFE)


def choose_quiet_user(number: int) -> str:
    return f"auth0|quiet {number % QUIET}"


async def flood_by_one_user(bench: TrialEnvironment) -> None:
    """99 users send an export each three seconds; then one more floods on 32 connections.

    He is in a process of his own, knows no pause, and sends 5 MB at times.
    """
    await bench.atlas.start()
    seconds, a_second = bench.scale.scale_seconds(60, least=6), QUIET / QUIET_SECONDS
    token = bench.emulators.issue_token("auth0|flood")
    async with open_generator(bench, "quiet", large_every=0) as generator:
        generator.sub = choose_quiet_user
        await generator.run_open_loop(a_second, QUIET_SECONDS)
        baseline = await generator.run_open_loop(a_second, seconds)
        concurrent: list[LoadStats] = []

        async def run_generator() -> None:
            concurrent.append(await generator.run_open_loop(a_second, seconds))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_generator)
            flood = await run_load_worker(bench.clients.url, token, "flood", FLOODING, seconds)
    flood.record_in(bench.oracle)
    before, during = (
        compute_quantile(tally.list_latencies(), 0.99) for tally in (baseline, *concurrent)
    )
    turned_away = sum(baseline.count_unexpected().values()) + len(baseline.refused)
    turned_away += sum(concurrent[0].count_unexpected().values()) + len(concurrent[0].refused)
    bench.findings.add_fact(
        f"p99 of {QUIET} others {format_ms(before)}, beside a flood of "
        f"{sum(flood.statuses.values()) / seconds:.0f}/s {format_ms(during)}; it got {flood.statuses}"
    )
    expect = bench.findings.check
    expect(not turned_away, f"{turned_away} exports of the others were turned away.")
    expect(flood.statuses.get(429, 0) > 0, "The flood was never turned away.")
    expect(not set(flood.statuses) - {200, 202, *REFUSALS}, f"The flood got {flood.statuses}.")
    expect(not flood.without_retry_after, f"{flood.without_retry_after} without Retry-After.")
    expect(not flood.without_rate, f"{flood.without_rate} times 429 without RateLimit headers.")
    if bench.scale.is_full:
        expect(during <= DOUBLED * before, f"p99 of the others rose to {format_ms(during)}.")
