"""The computer: its clock jumps, its memory is what it is."""

from atlas.local.auth0 import TokenRequest
from atlas.local.foundry.faults import Fault
from atlas.local.foundry.state import DATASET
from tests.chaos.bench import BACKLOG_SECONDS, MEMORY_MIB, READY_SECONDS, Bench
from tests.chaos.oracle import BRANCH
from tests.chaos.standins import DOWN
from tests.chaos.subject import Memory

HOUR, DAY = 3_600, 86_400
WARM_EXPORTS = 50


async def clock_jumps(bench: Bench) -> None:
    """An hour back, then a day ahead, while exports come in and wait."""
    expired = bench.standins.tenant.issue_token(TokenRequest(expires_in=-HOUR // 2))
    await bench.atlas.start()
    await turned_away(bench, expired)
    pending = Fault(call="commit", kind="refused", count=0)
    async with bench.phones.sending(bench.scale.number(2_000, least=40), phones=32):
        for seconds in (-HOUR, DAY, 0):
            bench.standins.misbehave(pending)
            await bench.wait(30, least=0.7)
            bench.atlas.shift_clock(seconds)
            await turned_away(bench, expired)
            await bench.wait(30, least=0.7)
            bench.standins.foundry.faults.clear()
    await bench.restart()  # with the clock set right, a day behind what stands in the journal
    await bench.until_drained(BACKLOG_SECONDS)
    paths = len(bench.standins.foundry.branches.get_branch(DATASET, BRANCH).view)
    exports = (await bench.totals()).committed
    bench.findings.note(f"-1 h, +24 h, and back; {paths} paths")
    bench.findings.expect(paths == exports, f"{paths} paths for {exports} exports.")


async def turned_away(bench: Bench, token: str) -> None:
    export = bench.phones.next()
    answer = await bench.phones.post(export, Authorization=f"Bearer {token}")
    bench.oracle.sent.pop(export.name)
    bench.findings.expect(
        answer.refusal == "401 TOKEN_EXPIRED", f"An expired token was answered {answer.refusal}."
    )


async def backlog(bench: Bench) -> None:
    """Foundry is away and everything waits; the process dies and starts with all of it."""
    await bench.atlas.start()
    async with bench.phones.sending(WARM_EXPORTS):
        pass
    await bench.until_drained()
    bench.standins.misbehave(DOWN)
    memory = Memory(bench.atlas.memory_mib())
    async with bench.phones.sending(bench.scale.number(10_000), phones=32, Prefer="respond-async"):
        pass
    waiting = (await bench.totals()).accepted
    memory.look(bench.atlas.memory_mib())
    ready = await bench.restart()
    memory.look(bench.atlas.memory_mib())
    bench.standins.foundry.faults.clear()
    drained = await bench.until_drained(BACKLOG_SECONDS)
    memory.look(bench.atlas.memory_mib())
    bench.findings.note(
        f"{waiting} waited, ready again in {ready:.1f} s, drained in {drained:.1f} s, "
        f"memory {memory.grown:+.0f} MiB at most"
    )
    bench.findings.expect(ready <= READY_SECONDS, f"Ready only after {ready:.1f} s.")
    bench.findings.expect(memory.grown <= MEMORY_MIB, f"Memory grew by {memory.grown:.0f} MiB.")
