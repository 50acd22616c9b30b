"""Foundry is away, in a hurry, out of its mind, or does what it is asked and does not say so."""

import time
from collections.abc import Iterable, Sequence

from atlas.local.foundry.faults import Fault
from tests.chaos.bench import BACKLOG_SECONDS, MEMORY_MIB, Bench
from tests.chaos.standins import DOWN, Call
from tests.chaos.subject import Memory

CALLS_PER_SECOND = 2.0
MEASURED_SECONDS, MEASURED_CALLS = 5.0, 500  # in less than that, a rate is chance
EXTRA_CALLS = 0.10
EARLY_SECONDS = 0.1
ALL = 64  # phones enough for 20 exports a second that wait for two seconds each


async def answers_lost(bench: Bench) -> None:
    """Create, upload and commit happen, and of every fifth nobody hears."""
    await bench.atlas.start()
    for call in ("create", "upload", "commit"):
        for how in ("cut", "504"):
            seed = bench.chance.randrange(2**32)
            bench.standins.misbehave(
                Fault(call=call, kind="lost", how=how, rate=0.1, count=0, seed=seed)
            )
    exports = bench.scale.number(2_000, least=60)
    async with bench.phones.sending(exports, phones=ALL, per_second=20):
        pass
    lost = sum(call.status in {0, 504} for call in bench.standins.calls)
    bench.findings.expect(lost > 0, "No answer was lost.")
    found = bench.standins.transactions()
    aborted = sum(each.status == "ABORTED" for each in found)
    bench.findings.note(
        f"{lost} answers lost; {len(found)} transactions, {aborted} of them aborted"
    )


async def away(bench: Bench) -> None:
    """Connections cut at every call, then nobody listens; 20 exports a second go on coming."""
    await bench.atlas.start()
    async with bench.phones.sending(bench.scale.number(500, least=40), phones=ALL, per_second=20):
        await bench.until_committed(10)
        memory = Memory(bench.atlas.memory_mib())
        bench.standins.misbehave(DOWN)
        began, calls = time.monotonic(), len(bench.standins.calls)
        await bench.wait(300)
        took, calls = time.monotonic() - began, len(bench.standins.calls) - calls
        await bench.standins.close()
        await bench.wait(300)
        memory.look(bench.atlas.memory_mib())
        waiting = (await bench.totals()).accepted
        await bench.standins.behave()
        back = time.monotonic()
    await bench.until_drained(BACKLOG_SECONDS)
    drained = time.monotonic() - back
    rate = calls / took
    bench.findings.note(
        f"{waiting} waited, memory {memory.grown:+.0f} MiB, {rate:.1f} calls/s, "
        f"drained in {drained:.1f} s"
    )
    bench.findings.expect(memory.grown <= MEMORY_MIB, f"Memory grew by {memory.grown:.0f} MiB.")
    if took >= MEASURED_SECONDS:
        bench.findings.expect(rate <= CALLS_PER_SECOND, f"{rate:.1f} calls a second to nobody.")


async def in_a_hurry(bench: Bench) -> None:
    """503 to 30 % of the calls, then 429 to 20 % with Retry-After."""
    await bench.atlas.start()
    exports = bench.scale.number(1_000, least=40)
    after = 7 if bench.scale.is_full else 1
    for status, rate, seconds in ((503, 0.3, None), (429, 0.2, after)):
        seed = bench.chance.randrange(2**32)
        bench.standins.misbehave(
            Fault(
                "any", "status", status=status, retry_after=seconds, rate=rate, count=0, seed=seed
            )
        )
        first, had = len(bench.standins.calls), (await bench.totals()).committed
        async with bench.phones.sending(exports, phones=ALL, per_second=20):
            pass
        await bench.until_drained(BACKLOG_SECONDS)
        calls = bench.standins.calls[first:]
        extra = extra_calls(calls, (await bench.totals()).committed - had, refused=status)
        early = earliest(calls)
        bench.findings.note(f"{status}: {extra:+.0%} calls" + (f", {early}" if seconds else ""))
        if len(calls) >= MEASURED_CALLS:
            bench.findings.expect(extra <= EXTRA_CALLS, f"{status}: {extra:.0%} extra calls.")
        bench.standins.foundry.faults.clear()
    gaps = [gap for gap in gaps_of(bench.standins.calls) if gap < -EARLY_SECONDS]
    bench.findings.expect(not gaps, f"{len(gaps)} calls came before Retry-After was over.")


def extra_calls(calls: Sequence[Call], exports: int, refused: int) -> float:
    """What Foundry let through beyond what is needed, as a share of that.

    Needed are an upload for each export, and two calls for each transaction that was committed.
    """
    heard = [call for call in calls if call.status != refused]
    commits = sum(call.what == "commit" and call.status == 200 for call in heard)
    needed = exports + 2 * commits
    return (len(heard) - needed) / needed if needed else 0.0


def gaps_of(calls: Iterable[Call]) -> list[float]:
    """How much later than it was told to, each call came again that was told to."""
    told: dict[tuple[str, str], float] = {}
    gaps = []
    for call in calls:
        key = (call.what, call.path)
        if key in told:
            gaps.append(call.at - told.pop(key))
        if call.retry_after:
            told[key] = call.at + float(call.retry_after)
    return gaps


def earliest(calls: Iterable[Call]) -> str:
    gaps = gaps_of(calls)
    return f"Retry-After obeyed {min(gaps):+.2f} to {max(gaps):+.2f} s" if gaps else "none told"


async def out_of_its_mind(bench: Bench) -> None:
    """Silence beyond the deadline of a call, half an answer, HTML, and 200 with rubbish."""
    await bench.atlas.start()
    for kind in ("torn", "html", "rubbish", "latency"):
        seed = bench.chance.randrange(2**32)
        rate = 0.02 if kind == "latency" else 0.05
        bench.standins.misbehave(
            Fault(call="any", kind=kind, seconds=3.0, rate=rate, count=0, seed=seed)
        )
    exports = bench.scale.number(500, least=60)
    async with bench.phones.sending(exports, phones=ALL, per_second=20):
        pass
    aborted = sum(each.status == "ABORTED" for each in bench.standins.transactions())
    bench.findings.note(f"{aborted} transactions aborted on the way")


async def role_revoked(bench: Bench) -> None:
    """403 to whatever writes, DatasetNotFound to whatever reads."""
    await bench.atlas.start()
    async with bench.phones.sending(bench.scale.number(500, least=40), phones=ALL, per_second=20):
        await bench.until_committed(10)
        bench.standins.foundry.switches.is_role_revoked = True
        await bench.wait(600, least=2.0)
        waiting = (await bench.totals()).accepted
        bench.standins.foundry.switches.is_role_revoked = False
    await bench.until_drained(BACKLOG_SECONDS)
    aside = (await bench.totals()).set_aside
    bench.findings.note(f"{waiting} waited, {aside} set aside")
    bench.findings.expect(aside == 0, f"{aside} exports were set aside for a role.")
    bench.findings.expect("give it a role" in bench.atlas.log(), "The log does not name the role.")
