"""Foundry is away, in a hurry, out of its mind, or does what it is asked and does not say so."""

import time
from collections.abc import Iterable, Sequence

from atlas.local.foundry.faults import Fault
from tests.chaos.emulators import DOWN, Call
from tests.chaos.service_process import MemoryGrowth
from tests.chaos.trial_environment import BACKLOG_SECONDS, MEMORY_MIB, TrialEnvironment

CALLS_PER_SECOND = 2.0
MEASURED_SECONDS, MEASURED_CALLS = 5.0, 500  # in less than that, a rate is chance
EXTRA_CALLS = 0.10
EARLY_SECONDS = 0.1
ALL_CALLS = 64  # phones enough for 20 exports a second that wait for two seconds each


async def lose_answers(bench: TrialEnvironment) -> None:
    """Create, upload and commit happen, and of every fifth nobody hears."""
    await bench.atlas.start()
    for call in ("create", "upload", "commit"):
        for how in ("cut", "504"):
            seed = bench.rng.randrange(2**32)
            bench.emulators.set_faults(
                Fault(call=call, kind="lost", how=how, rate=0.1, count=0, seed=seed)
            )
    exports = bench.scale.scale_number(2_000, least=60)
    async with bench.clients.keep_sending(exports, phones=ALL_CALLS, per_second=20):
        pass
    lost = sum(call.status in {0, 504} for call in bench.emulators.calls)
    bench.findings.check(lost > 0, "No answer was lost.")
    transactions = bench.emulators.list_transactions()
    aborted = sum(each.status == "ABORTED" for each in transactions)
    bench.findings.add_fact(
        f"{lost} answers lost; {len(transactions)} transactions, {aborted} of them aborted"
    )


async def cut_connections(bench: TrialEnvironment) -> None:
    """Connections cut at every call, then nobody listens; 20 exports a second go on coming."""
    await bench.atlas.start()
    async with bench.clients.keep_sending(
        bench.scale.scale_number(500, least=40), phones=ALL_CALLS, per_second=20
    ):
        await bench.wait_until_committed(10)
        memory = MemoryGrowth(bench.atlas.measure_memory())
        bench.emulators.set_faults(DOWN)
        began, calls = time.monotonic(), len(bench.emulators.calls)
        await bench.wait(300)
        took, calls = time.monotonic() - began, len(bench.emulators.calls) - calls
        await bench.emulators.close()
        await bench.wait(300)
        memory.update(bench.atlas.measure_memory())
        waiting = (await bench.fetch_totals()).accepted
        await bench.emulators.clear_faults()
        back = time.monotonic()
    await bench.wait_until_drained(BACKLOG_SECONDS)
    drained = time.monotonic() - back
    rate = calls / took
    bench.findings.add_fact(
        f"{waiting} waited, memory {memory.grown:+.0f} MiB, {rate:.1f} calls/s, "
        f"drained in {drained:.1f} s"
    )
    bench.findings.check(memory.grown <= MEMORY_MIB, f"Memory grew by {memory.grown:.0f} MiB.")
    if took >= MEASURED_SECONDS:
        bench.findings.check(rate <= CALLS_PER_SECOND, f"{rate:.1f} calls a second to nobody.")


async def throttle_calls(bench: TrialEnvironment) -> None:
    """503 to 30 % of the calls, then 429 to 20 % with Retry-After."""
    await bench.atlas.start()
    exports = bench.scale.scale_number(1_000, least=40)
    after = 7 if bench.scale.is_full else 1
    for status, rate, seconds in ((503, 0.3, None), (429, 0.2, after)):
        seed = bench.rng.randrange(2**32)
        bench.emulators.set_faults(
            Fault(
                "any", "status", status=status, retry_after=seconds, rate=rate, count=0, seed=seed
            )
        )
        first, had = len(bench.emulators.calls), (await bench.fetch_totals()).committed
        async with bench.clients.keep_sending(exports, phones=ALL_CALLS, per_second=20):
            pass
        await bench.wait_until_drained(BACKLOG_SECONDS)
        calls = bench.emulators.calls[first:]
        extra = count_extra_calls(
            calls, (await bench.fetch_totals()).committed - had, refused=status
        )
        early = find_earliest(calls)
        bench.findings.add_fact(f"{status}: {extra:+.0%} calls" + (f", {early}" if seconds else ""))
        if len(calls) >= MEASURED_CALLS:
            bench.findings.check(extra <= EXTRA_CALLS, f"{status}: {extra:.0%} extra calls.")
        bench.emulators.foundry.faults.clear()
    gaps = [gap for gap in measure_gaps(bench.emulators.calls) if gap < -EARLY_SECONDS]
    bench.findings.check(not gaps, f"{len(gaps)} calls came before Retry-After was over.")


def count_extra_calls(calls: Sequence[Call], exports: int, refused: int) -> float:
    """What Foundry let through beyond what is needed, as a share of that.

    Needed are an upload for each export, and two calls for each transaction that was committed.
    """
    answered_calls = [call for call in calls if call.status != refused]
    commits = sum(call.what == "commit" and call.status == 200 for call in answered_calls)
    needed = exports + 2 * commits
    return (len(answered_calls) - needed) / needed if needed else 0.0


def measure_gaps(calls: Iterable[Call]) -> list[float]:
    """How much later than it was told to, each call came again that was told to."""
    retry_at: dict[tuple[str, str], float] = {}
    gaps = []
    for call in calls:
        key = (call.what, call.path)
        if key in retry_at:
            gaps.append(call.at - retry_at.pop(key))
        if call.retry_after:
            retry_at[key] = call.at + float(call.retry_after)
    return gaps


def find_earliest(calls: Iterable[Call]) -> str:
    gaps = measure_gaps(calls)
    return f"Retry-After obeyed {min(gaps):+.2f} to {max(gaps):+.2f} s" if gaps else "none told"


async def garble_responses(bench: TrialEnvironment) -> None:
    """Silence beyond the deadline of a call, half an answer, HTML, and 200 with rubbish."""
    await bench.atlas.start()
    for kind in ("torn", "html", "rubbish", "latency"):
        seed = bench.rng.randrange(2**32)
        rate = 0.02 if kind == "latency" else 0.05
        bench.emulators.set_faults(
            Fault(call="any", kind=kind, seconds=3.0, rate=rate, count=0, seed=seed)
        )
    exports = bench.scale.scale_number(500, least=60)
    async with bench.clients.keep_sending(exports, phones=ALL_CALLS, per_second=20):
        pass
    aborted = sum(each.status == "ABORTED" for each in bench.emulators.list_transactions())
    bench.findings.add_fact(f"{aborted} transactions aborted on the way")


async def revoke_role(bench: TrialEnvironment) -> None:
    """403 to whatever writes, DatasetNotFound to whatever reads."""
    await bench.atlas.start()
    async with bench.clients.keep_sending(
        bench.scale.scale_number(500, least=40), phones=ALL_CALLS, per_second=20
    ):
        await bench.wait_until_committed(10)
        bench.emulators.foundry.options.is_role_revoked = True
        await bench.wait(600, least=2.0)
        waiting = (await bench.fetch_totals()).accepted
        bench.emulators.foundry.options.is_role_revoked = False
    await bench.wait_until_drained(BACKLOG_SECONDS)
    aside = (await bench.fetch_totals()).set_aside
    bench.findings.add_fact(f"{waiting} waited, {aside} set aside")
    bench.findings.check(aside == 0, f"{aside} exports were set aside for a role.")
    bench.findings.check(
        "give it a role" in bench.atlas.read_log(), "The log does not name the role."
    )
