"""Foundry is unavailable, limits the rate, answers nonsense, or loses its answers."""

import time
from collections.abc import Iterable, Sequence

from atlas.local.foundry.faults import Fault
from tests.chaos.emulators import DOWN, Call
from tests.chaos.service_process import MemoryGrowth
from tests.chaos.trial_environment import BACKLOG_SECONDS, MEMORY_MIB, TrialEnvironment

CALLS_PER_SECOND = 2.0
MEASURED_SECONDS, MEASURED_CALLS = 5.0, 500  # less would not give a meaningful rate
EXTRA_CALLS = 0.10
EARLY_SECONDS = 0.1
ALL_CALLS = 64  # enough clients for 20 exports a second that take two seconds each


async def lose_answers(testbed: TrialEnvironment) -> None:
    """Let create, upload and commit happen, but lose every fifth answer."""
    await testbed.atlas.start()
    for call in ("create", "upload", "commit"):
        for how in ("cut", "504"):
            seed = testbed.rng.randrange(2**32)
            testbed.emulators.set_faults(
                Fault(call=call, kind="lost", how=how, rate=0.1, count=0, seed=seed)
            )
    exports = testbed.scale.scale_number(2_000, least=60)
    async with testbed.clients.keep_sending(exports, phones=ALL_CALLS, per_second=20):
        pass
    lost = sum(call.status in {0, 504} for call in testbed.emulators.calls)
    testbed.findings.check(lost > 0, "No answer was lost.")
    transactions = testbed.emulators.list_transactions()
    aborted = sum(each.status == "ABORTED" for each in transactions)
    testbed.findings.add_fact(
        f"{lost} answers lost; {len(transactions)} transactions, {aborted} of them aborted"
    )


async def cut_connections(testbed: TrialEnvironment) -> None:
    """Cut connections at every call, then stop listening, while 20 exports a second arrive."""
    await testbed.atlas.start()
    async with testbed.clients.keep_sending(
        testbed.scale.scale_number(500, least=40), phones=ALL_CALLS, per_second=20
    ):
        await testbed.wait_until_committed(10)
        memory = MemoryGrowth(testbed.atlas.measure_memory())
        testbed.emulators.set_faults(DOWN)
        began, calls = time.monotonic(), len(testbed.emulators.calls)
        await testbed.wait(300)
        took, calls = time.monotonic() - began, len(testbed.emulators.calls) - calls
        await testbed.emulators.close()
        await testbed.wait(300)
        memory.update(testbed.atlas.measure_memory())
        waiting = (await testbed.fetch_totals()).accepted
        await testbed.emulators.clear_faults()
        back = time.monotonic()
    await testbed.wait_until_drained(BACKLOG_SECONDS)
    drained = time.monotonic() - back
    rate = calls / took
    testbed.findings.add_fact(
        f"{waiting} waited, memory {memory.grown:+.0f} MiB, {rate:.1f} calls/s, "
        f"drained in {drained:.1f} s"
    )
    testbed.findings.check(memory.grown <= MEMORY_MIB, f"Memory grew by {memory.grown:.0f} MiB.")
    if took >= MEASURED_SECONDS:
        testbed.findings.check(
            rate <= CALLS_PER_SECOND, f"{rate:.1f} calls a second while Foundry is down."
        )


async def throttle_calls(testbed: TrialEnvironment) -> None:
    """Answer 503 to 30 % of the calls, then 429 with Retry-After to 20 %."""
    await testbed.atlas.start()
    exports = testbed.scale.scale_number(1_000, least=40)
    after = 7 if testbed.scale.is_full else 1
    for status, rate, seconds in ((503, 0.3, None), (429, 0.2, after)):
        seed = testbed.rng.randrange(2**32)
        testbed.emulators.set_faults(
            Fault(
                "any", "status", status=status, retry_after=seconds, rate=rate, count=0, seed=seed
            )
        )
        first, had = len(testbed.emulators.calls), (await testbed.fetch_totals()).committed
        async with testbed.clients.keep_sending(exports, phones=ALL_CALLS, per_second=20):
            pass
        await testbed.wait_until_drained(BACKLOG_SECONDS)
        calls = testbed.emulators.calls[first:]
        extra = count_extra_calls(
            calls, (await testbed.fetch_totals()).committed - had, refused=status
        )
        early = find_earliest(calls)
        testbed.findings.add_fact(
            f"{status}: {extra:+.0%} calls" + (f", {early}" if seconds else "")
        )
        if len(calls) >= MEASURED_CALLS:
            testbed.findings.check(extra <= EXTRA_CALLS, f"{status}: {extra:.0%} extra calls.")
        testbed.emulators.foundry.faults.clear()
    gaps = [gap for gap in measure_gaps(testbed.emulators.calls) if gap < -EARLY_SECONDS]
    testbed.findings.check(not gaps, f"{len(gaps)} calls came before Retry-After was over.")


def count_extra_calls(calls: Sequence[Call], exports: int, refused: int) -> float:
    """Return the calls beyond the necessary ones that Foundry let through, as a share of those.

    Necessary are one upload for each export, and two calls for each committed transaction.
    """
    answered_calls = [call for call in calls if call.status != refused]
    commits = sum(call.what == "commit" and call.status == 200 for call in answered_calls)
    needed = exports + 2 * commits
    return (len(answered_calls) - needed) / needed if needed else 0.0


def measure_gaps(calls: Iterable[Call]) -> list[float]:
    """Return by how much each repeated call came later than its Retry-After."""
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
    return (
        f"Retry-After obeyed {min(gaps):+.2f} to {max(gaps):+.2f} s" if gaps else "no Retry-After"
    )


async def garble_responses(testbed: TrialEnvironment) -> None:
    """Answer not at all within the deadline, with half a response, with HTML, and with 200 and
    rubbish.
    """
    await testbed.atlas.start()
    for kind in ("torn", "html", "rubbish", "latency"):
        seed = testbed.rng.randrange(2**32)
        rate = 0.02 if kind == "latency" else 0.05
        testbed.emulators.set_faults(
            Fault(call="any", kind=kind, seconds=3.0, rate=rate, count=0, seed=seed)
        )
    exports = testbed.scale.scale_number(500, least=60)
    async with testbed.clients.keep_sending(exports, phones=ALL_CALLS, per_second=20):
        pass
    aborted = sum(each.status == "ABORTED" for each in testbed.emulators.list_transactions())
    testbed.findings.add_fact(f"{aborted} transactions aborted on the way")


async def revoke_role(testbed: TrialEnvironment) -> None:
    """Answer 403 to all writing calls, and DatasetNotFound to all reading calls."""
    await testbed.atlas.start()
    async with testbed.clients.keep_sending(
        testbed.scale.scale_number(500, least=40), phones=ALL_CALLS, per_second=20
    ):
        await testbed.wait_until_committed(10)
        testbed.emulators.foundry.options.is_role_revoked = True
        await testbed.wait(600, least=2.0)
        waiting = (await testbed.fetch_totals()).accepted
        testbed.emulators.foundry.options.is_role_revoked = False
    await testbed.wait_until_drained(BACKLOG_SECONDS)
    aside = (await testbed.fetch_totals()).set_aside
    testbed.findings.add_fact(f"{waiting} waited, {aside} set aside")
    testbed.findings.check(aside == 0, f"{aside} exports were set aside because of a role.")
    testbed.findings.check(
        "give it a role" in testbed.atlas.read_log(), "The log does not name the role."
    )
