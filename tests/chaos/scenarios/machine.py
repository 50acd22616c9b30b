"""The machine: its clock jumps, its memory is limited."""

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


async def jump_clock(testbed: TrialEnvironment) -> None:
    """Set the clock an hour back, then a day ahead, while exports arrive and wait."""
    expired = testbed.emulators.tenant.issue_token(TokenRequest(expires_in=-HOUR // 2))
    await testbed.atlas.start()
    await expect_expired_token(testbed, expired)
    pending = Fault(call="commit", kind="refused", count=0)
    async with testbed.clients.keep_sending(testbed.scale.scale_number(2_000, least=40), phones=32):
        for seconds in (-HOUR, DAY, 0):
            testbed.emulators.set_faults(pending)
            await testbed.wait(30, least=0.7)
            testbed.atlas.shift_clock(seconds)
            await expect_expired_token(testbed, expired)
            await testbed.wait(30, least=0.7)
            testbed.emulators.foundry.faults.clear()
    await testbed.restart()  # the clock is right again, a day behind the timestamps in the journal
    await testbed.wait_until_drained(BACKLOG_SECONDS)
    paths = len(testbed.emulators.foundry.branches.get_branch(DATASET, BRANCH).view)
    exports = (await testbed.fetch_totals()).committed
    testbed.findings.add_fact(f"-1 h, +24 h, and back; {paths} paths")
    testbed.findings.check(paths == exports, f"{paths} paths for {exports} exports.")


async def expect_expired_token(testbed: TrialEnvironment, token: str) -> None:
    export = testbed.clients.next_export()
    answer = await testbed.clients.post(export, Authorization=f"Bearer {token}")
    testbed.oracle.sent.pop(export.name)
    testbed.findings.check(
        answer.refusal == "401 TOKEN_EXPIRED", f"An expired token was answered {answer.refusal}."
    )


async def build_backlog(testbed: TrialEnvironment) -> None:
    """Build a backlog while Foundry is unavailable; then kill the process and start it with all of
    it.
    """
    await testbed.atlas.start()
    async with testbed.clients.keep_sending(WARM_EXPORTS):
        pass
    await testbed.wait_until_drained()
    testbed.emulators.set_faults(DOWN)
    memory = MemoryGrowth(testbed.atlas.measure_memory())
    async with testbed.clients.keep_sending(
        testbed.scale.scale_number(10_000), phones=32, Prefer="respond-async"
    ):
        pass
    waiting = (await testbed.fetch_totals()).accepted
    memory.update(testbed.atlas.measure_memory())
    ready = await testbed.restart()
    memory.update(testbed.atlas.measure_memory())
    testbed.emulators.foundry.faults.clear()
    drained = await testbed.wait_until_drained(BACKLOG_SECONDS)
    memory.update(testbed.atlas.measure_memory())
    testbed.findings.add_fact(
        f"{waiting} waited, ready again in {ready:.1f} s, drained in {drained:.1f} s, "
        f"memory {memory.grown:+.0f} MiB at most"
    )
    allowed = testbed.scale.allow_seconds(READY_SECONDS)
    testbed.findings.check(ready <= allowed, f"Ready only after {ready:.1f} s.")
    testbed.findings.check(memory.grown <= MEMORY_MIB, f"Memory grew by {memory.grown:.0f} MiB.")
