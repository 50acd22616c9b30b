"""The computer: its clock jumps, its memory is what it is."""

from atlas.local.auth0 import TokenRequest
from atlas.local.foundry.faults import Fault
from atlas.local.foundry.state import DATASET
from tests.chaos.emulators import DOWN
from tests.chaos.oracle import BRANCH
from tests.chaos.service_process import MemoryGrowth
from tests.chaos.trial_environment import (
    BACKLOG_SECONDS,
    MEMORY_MIB,
    READY_SECONDS,
    TrialEnvironment,
)

HOUR, DAY = 3_600, 86_400
WARM_EXPORTS = 50


async def jump_clock(bench: TrialEnvironment) -> None:
    """An hour back, then a day ahead, while exports come in and wait."""
    expired = bench.emulators.tenant.issue_token(TokenRequest(expires_in=-HOUR // 2))
    await bench.atlas.start()
    await expect_expired_token(bench, expired)
    pending = Fault(call="commit", kind="refused", count=0)
    async with bench.clients.keep_sending(bench.scale.scale_number(2_000, least=40), phones=32):
        for seconds in (-HOUR, DAY, 0):
            bench.emulators.set_faults(pending)
            await bench.wait(30, least=0.7)
            bench.atlas.shift_clock(seconds)
            await expect_expired_token(bench, expired)
            await bench.wait(30, least=0.7)
            bench.emulators.foundry.faults.clear()
    await bench.restart()  # with the clock set right, a day behind what stands in the journal
    await bench.wait_until_drained(BACKLOG_SECONDS)
    paths = len(bench.emulators.foundry.branches.get_branch(DATASET, BRANCH).view)
    exports = (await bench.fetch_totals()).committed
    bench.findings.add_fact(f"-1 h, +24 h, and back; {paths} paths")
    bench.findings.check(paths == exports, f"{paths} paths for {exports} exports.")


async def expect_expired_token(bench: TrialEnvironment, token: str) -> None:
    export = bench.clients.next_export()
    answer = await bench.clients.post(export, Authorization=f"Bearer {token}")
    bench.oracle.sent.pop(export.name)
    bench.findings.check(
        answer.refusal == "401 TOKEN_EXPIRED", f"An expired token was answered {answer.refusal}."
    )


async def build_backlog(bench: TrialEnvironment) -> None:
    """Foundry is away and everything waits; the process dies and starts with all of it."""
    await bench.atlas.start()
    async with bench.clients.keep_sending(WARM_EXPORTS):
        pass
    await bench.wait_until_drained()
    bench.emulators.set_faults(DOWN)
    memory = MemoryGrowth(bench.atlas.measure_memory())
    async with bench.clients.keep_sending(
        bench.scale.scale_number(10_000), phones=32, Prefer="respond-async"
    ):
        pass
    waiting = (await bench.fetch_totals()).accepted
    memory.update(bench.atlas.measure_memory())
    ready = await bench.restart()
    memory.update(bench.atlas.measure_memory())
    bench.emulators.foundry.faults.clear()
    drained = await bench.wait_until_drained(BACKLOG_SECONDS)
    memory.update(bench.atlas.measure_memory())
    bench.findings.add_fact(
        f"{waiting} waited, ready again in {ready:.1f} s, drained in {drained:.1f} s, "
        f"memory {memory.grown:+.0f} MiB at most"
    )
    bench.findings.check(ready <= READY_SECONDS, f"Ready only after {ready:.1f} s.")
    bench.findings.check(memory.grown <= MEMORY_MIB, f"Memory grew by {memory.grown:.0f} MiB.")
