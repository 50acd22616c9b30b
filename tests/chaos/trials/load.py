"""More than can be borne: ten times the capacity, bodies beyond the memory, one who takes all."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import msgspec

from tests.chaos.bench import PEAK_MIB, Bench
from tests.chaos.bugs import BRAKE
from tests.chaos.crowd import REFUSALS, Crowd, Tally, quantile
from tests.chaos.flood import flooded
from tests.chaos.mines import Mine
from tests.chaos.moulds import CHUNKS, Mould
from tests.chaos.oracle import Reply
from tests.chaos.phones import SAFE
from tests.chaos.sockets import BATCH, EXPORT, Sockets
from tests.chaos.vitals import PEAK, Vitals

CAPACITY, TIMES, PHONES = 30, 10, 32
WARM_SECONDS, NORMAL_SECONDS = 1.0, 4.0
SHED_SECONDS, NORMAL_AGAIN_SECONDS = 0.05, 10.0
KEPT_RATE = 0.9
CHUNK_LINES, NOISE_BYTES = 145, 900  # a chunk of 390 KB, as base64; 64 of them are 25 MB
KEPT_EVERY, AGAIN_SECONDS, LARGE_SECONDS = 5, 0.5, 600.0
QUIET, QUIET_SECONDS, FLOODING, DOUBLED = 99, 3.0, 32, 2.0
RATE_PER_MINUTE = 100
AS_BEFORE = 1.5  # times the median: two of them in one run differ by a third


async def overload(bench: Bench) -> None:
    """Ten times what it takes, whether the last was answered or not, each 50th of 5 MB.

    What it takes is capped by a brake on flattening: a sender in Python cannot send ten times what
    Atlas takes without one, not on the same computer. So this shows what becomes of too much at the
    door, and not how fast the door is.
    """
    await bench.atlas.start(Mine(BRAKE, CAPACITY))
    vitals = Vitals(bench.atlas.process.pid)
    seconds = bench.scale.seconds(60, least=10)
    async with crowd(bench, "overload") as phones:
        before = await phones.offer(CAPACITY / 2, NORMAL_SECONDS)
        began = time.perf_counter()
        alone = await phones.never_rest(PHONES, seconds / 2, patience=0.2)
        peak = alone.rate(began + WARM_SECONDS, began + seconds / 2)
        vitals.forget_peak()
        async with vitals.watched():
            began = time.perf_counter()
            under = await phones.offer(TIMES * peak, seconds)
            kept = under.rate(began + WARM_SECONDS, began + seconds)
        normal = await normal_again(phones, quantile(before.took(), 0.5))
    judge_refusals(bench, under)
    judge_memory(bench, vitals)
    late, quick = quantile(under.lags, 0.99), [quantile(under.refused, at) for at in (0.5, 0.99)]
    bench.findings.note(
        f"{peak:.0f}/s alone, {sum(under.statuses.values()) / seconds:.0f}/s offered, "
        f"{kept / peak:.0%} of it accepted; refused in {ms(quick[0])}, p99 {ms(quick[1])}, by a "
        f"sender late by {ms(late)}; normal after {normal:.0f} s"
    )
    expect = bench.findings.expect
    expect(bool(under.refused), "Nothing was refused.")
    expect(normal <= NORMAL_AGAIN_SECONDS, f"Normal only {normal:.0f} s after.")
    if bench.scale.is_full:
        expect(kept >= KEPT_RATE * peak, f"Only {kept / peak:.0%} of the peak was accepted.")
        expect(quick[1] <= SHED_SECONDS + late, f"Refused only in {ms(quick[1])}.")


@asynccontextmanager
async def crowd(bench: Bench, name: str, large_every: int = 50) -> AsyncIterator[Crowd]:
    """Of all users, with sockets of its own."""
    sockets = Sockets(bench.phones.url)
    try:
        yield Crowd(
            sockets, bench.standins.token, bench.oracle, bench.chance, name, large_every=large_every
        )
    finally:
        sockets.close()


async def normal_again(phones: Crowd, median: float) -> float:
    """The seconds until half of the capacity is answered as before."""
    began = time.perf_counter()
    while (took := time.perf_counter() - began) <= 2 * NORMAL_AGAIN_SECONDS:
        second = await phones.offer(CAPACITY / 2, 1.0)
        if not second.refused and quantile(second.took(), 0.5) <= AS_BEFORE * median:
            break
    return took


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def judge_refusals(bench: Bench, tally: Tally) -> None:
    """Each is 429 or 503, and says when to come again."""
    others, bare = tally.others(), tally.without_retry_after
    bench.findings.expect(not others, f"Answered neither yes nor later: {others}.")
    bench.findings.expect(not bare, f"{bare} of {len(tally.refused)} refusals without Retry-After.")


def judge_memory(bench: Bench, vitals: Vitals) -> None:
    alone, all_of_it = vitals.mib(PEAK), vitals.most_mib
    bench.findings.note(f"memory {alone:.0f} MiB, with workers {all_of_it:.0f}")
    bench.findings.expect(alone <= PEAK_MIB, f"{alone:.0f} MiB in memory.")


async def memory(bench: Bench) -> None:
    """200 batches of 25 MB at once that do not say how large they are, then one stream of 1 GB.

    They are made as they are sent. Every fifth of the batches is sent until it is accepted, the
    others are given up when they are turned away: a dataset of 4 GB shows nothing more.
    """
    await bench.atlas.start()
    vitals = Vitals(bench.atlas.process.pid)
    mould = Mould(bench.chance, CHUNK_LINES, NOISE_BYTES)
    batches = [
        Batch(f"auth0|batch {number}", mould, [f"batch-{number}-{each}" for each in range(CHUNKS)])
        for number in range(bench.scale.number(200, least=8))
    ]
    vitals.forget_peak()
    began = time.monotonic()
    deadline = anyio.move_on_after(bench.scale.seconds(LARGE_SECONDS, least=90))
    async with vitals.watched():
        with deadline:
            async with anyio.create_task_group() as tasks:
                for number, batch in enumerate(batches):
                    tasks.start_soon(batch.deliver, bench, number % KEPT_EVERY == 0)
    bench.findings.expect(not deadline.cancelled_caught, "Batches came to no end.")
    turned_away = sum((batch.turned_away for batch in batches), Counter[str]())
    bench.findings.note(
        f"{len(batches)} batches at once: {sum(batch.is_safe for batch in batches)} accepted in "
        f"{time.monotonic() - began:.0f} s, turned away {told(turned_away)}"
    )
    judge_memory(bench, vitals)
    vitals.forget_peak()
    async with vitals.watched():
        await streamed(bench, mould, bench.scale.number(1_000, least=64))
    judge_memory(bench, vitals)


def told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} times {what}" for what, count in counts.items()) or "never"


@dataclass(slots=True)
class Batch:
    """By a user of its own."""

    user: str
    mould: Mould
    names: list[str]
    turned_away: Counter[str] = field(default_factory=Counter)
    is_safe: bool = False

    async def deliver(self, bench: Bench, until_safe: bool) -> None:
        """Sent, and if it is turned away sent again, if it is to be; wrong is any other answer."""
        names = self.names
        token, sockets = bench.standins.token(self.user), Sockets(bench.phones.url)
        head = sockets.head(BATCH, token, ())
        for name in names:
            bench.oracle.leaves(name, self.mould.lines)
        heard = await sockets.post(head, self.mould.batch(names), LARGE_SECONDS)
        while until_safe and heard.status in {0, *REFUSALS}:
            self.turned_away[heard.answer.refusal] += 1
            await anyio.sleep(bench.chance.uniform(0.5, 1.5) * AGAIN_SECONDS)
            heard = await sockets.post(head, self.mould.batch(names), LARGE_SECONDS)
        sockets.close()
        self.is_safe = heard.status in {200, 202}
        if self.is_safe:
            replies = msgspec.json.decode(heard.body, type=Replies).upload_results
            for name, reply in zip(names, replies, strict=True):
                bench.oracle.answered(name, reply)
            return
        self.turned_away[heard.answer.refusal] += 1
        bench.oracle.given_up.update(names)
        is_later = heard.status in REFUSALS and heard.answer.retry_after.isdecimal()
        bench.findings.expect(is_later, f"A batch got {heard.answer.refusal}.")


class Replies(msgspec.Struct):
    """What is read of the answer to a batch."""

    upload_results: tuple[Reply, ...]


async def streamed(bench: Bench, mould: Mould, megabytes: int) -> None:
    """One body of so many."""
    names = [
        f"stream-{each}" for each in range(megabytes * 1_000_000 // len(mould.cast("stream-0")))
    ]
    for name in names:
        bench.oracle.leaves(name, mould.lines)
    sockets, token = Sockets(bench.phones.url), bench.standins.token("auth0|years")
    head = sockets.head(EXPORT, token, (), Content_Type="application/x-ndjson")
    began = time.monotonic()
    heard = await sockets.post(head, (mould.cast(name) for name in names), LARGE_SECONDS)
    while heard.status in {0, *REFUSALS} and time.monotonic() - began < LARGE_SECONDS:
        await anyio.sleep(AGAIN_SECONDS)
        heard = await sockets.post(head, (mould.cast(name) for name in names), LARGE_SECONDS)
    sockets.close()
    bench.findings.note(f"a stream of {megabytes} MB in {time.monotonic() - began:.0f} s")
    bench.findings.expect(heard.status in {200, 202}, f"A stream got {heard.answer.refusal}.")
    for name in names:
        bench.oracle.answered(name, SAFE)


def quiet(number: int) -> str:
    return f"auth0|quiet {number % QUIET}"


async def fairness(bench: Bench) -> None:
    """99 users send an export each three seconds; then one more floods on 32 connections.

    He is in a process of his own, knows no pause, and sends 5 MB at times.
    """
    await bench.atlas.start()
    seconds, a_second = bench.scale.seconds(60, least=6), QUIET / QUIET_SECONDS
    token = bench.standins.token("auth0|flood")
    async with crowd(bench, "quiet", large_every=0) as phones:
        phones.sub = quiet
        await phones.offer(a_second, QUIET_SECONDS)
        alone = await phones.offer(a_second, seconds)
        beside: list[Tally] = []

        async def go_on() -> None:
            beside.append(await phones.offer(a_second, seconds))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(go_on)
            flood = await flooded(bench.phones.url, token, "flood", FLOODING, seconds)
    flood.tell(bench.oracle)
    before, during = (quantile(tally.took(), 0.99) for tally in (alone, *beside))
    turned_away = sum(alone.others().values()) + len(alone.refused)
    turned_away += sum(beside[0].others().values()) + len(beside[0].refused)
    bench.findings.note(
        f"p99 of {QUIET} others {ms(before)}, beside a flood of "
        f"{sum(flood.statuses.values()) / seconds:.0f}/s {ms(during)}; it got {flood.statuses}"
    )
    expect = bench.findings.expect
    expect(not turned_away, f"{turned_away} exports of the others were turned away.")
    expect(flood.statuses.get(429, 0) > 0, "The flood was never turned away.")
    expect(not set(flood.statuses) - {200, 202, *REFUSALS}, f"The flood got {flood.statuses}.")
    expect(not flood.without_retry_after, f"{flood.without_retry_after} without Retry-After.")
    expect(not flood.without_rate, f"{flood.without_rate} times 429 without RateLimit headers.")
    if bench.scale.is_full:
        expect(during <= DOUBLED * before, f"p99 of the others rose to {ms(during)}.")
