"""The computer: its disk is full or forgets, its clock jumps, its memory is what it is."""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import anyio

from atlas.local.auth0 import Wish
from atlas.local.foundry.faults import Fault
from atlas.prove.bench import MIB, Bench
from atlas.prove.subject import Broken, Skipped

DISK_MIB, FILLER_MIB = 6, 3
FULL = "503 JOURNAL_FULL"
FULL_SECONDS, AGAIN_SECONDS = 60.0, 5.0
HOUR, DAY = 3_600, 86_400
READY_SECONDS, MEMORY_MIB = 2.0, 32.0
WARM_EXPORTS = 50
DOWN = Fault(call="any", kind="refused", count=0)


async def disk_full(bench: Bench) -> None:
    """The journal on a small disk while Foundry is away; it comes back before the space does."""
    journal = bench.folder / "journal"
    await mounted(bench, journal)
    filler = journal / "filler"
    filler.write_bytes(bytes(FILLER_MIB * MIB))
    bench.standins.misbehave(DOWN)
    await bench.atlas.start()
    process = bench.atlas.process
    kept = await fill(bench)
    async with bench.phones.session.get(f"{bench.phones.url}/health") as answer:
        bench.findings.expect(answer.status == 200, f"/health answers {answer.status}.")
    await bench.totals()
    bench.standins.foundry.faults.clear()
    await bench.wait(60, least=1.0)
    filler.unlink()
    took = await seconds_until_accepted(bench)
    bench.findings.note(f"full after {kept} exports, accepts {took:.1f} s after space returned")
    bench.findings.expect(took <= AGAIN_SECONDS, f"It took {took:.1f} s to accept again.")
    bench.findings.expect(bench.atlas.process is process, "It had to be restarted.")
    bench.findings.expect(bench.atlas.is_running, "It has ended.")


async def mounted(bench: Bench, folder: Path) -> None:
    """A small disk in this folder, until the bench is cleared away. Raises Skipped."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "atlas-prove", str(folder)]
    try:
        made = await anyio.run_process(command, check=False)
    except OSError as error:
        raise Skipped("needs the command mount to make a small disk") from error
    if made.returncode != 0:
        raise Skipped("needs the right to mount a small disk (root)")

    async def unmount() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.run_process(["umount", str(folder)], stderr=subprocess.DEVNULL)

    bench.ends.push_async_callback(unmount)


async def fill(bench: Bench) -> int:
    """Send until there is no room; how many there was room for."""
    kept, began = 0, time.monotonic()
    while time.monotonic() - began < FULL_SECONDS:
        answer = await bench.phones.post(bench.phones.next(), Prefer="respond-async")
        if answer.reply is None:
            forget_the_last(bench)
            if answer.told != FULL:
                raise Broken(f"A full disk was answered {answer.told}, not {FULL}.")
            return kept
        kept += 1
    raise Broken(f"The disk is not full after {kept} exports.")


def forget_the_last(bench: Bench) -> None:
    """An export that was refused and is not sent again."""
    bench.oracle.sent.popitem()


async def seconds_until_accepted(bench: Bench) -> float:
    began = time.monotonic()
    await bench.phones.deliver(bench.phones.next(), Prefer="respond-async")
    return time.monotonic() - began


async def clock_jumps(bench: Bench) -> None:
    """An hour back, then a day ahead, while exports come in and wait."""
    expired = bench.standins.tenant.token(Wish(expires_in=-HOUR // 2))
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
    paths = [path for each in bench.standins.transactions() for path in each.files]
    bench.findings.note(f"-1 h, +24 h, and back; {len(set(paths))} paths")


async def turned_away(bench: Bench, token: str) -> None:
    export = bench.phones.next()
    answer = await bench.phones.post(export, Authorization=f"Bearer {token}")
    bench.oracle.sent.pop(export.name)
    bench.findings.expect(
        answer.told == "401 TOKEN_EXPIRED", f"An expired token was answered {answer.told}."
    )


async def backlog(bench: Bench) -> None:
    """Foundry is away and everything waits; the process dies and starts with all of it."""
    await bench.atlas.start()
    async with bench.phones.sending(WARM_EXPORTS):
        pass
    await bench.drained()
    bench.standins.misbehave(DOWN)
    memory = Memory(bench.atlas.memory_mib())
    async with bench.phones.sending(bench.scale.number(10_000), phones=32, Prefer="respond-async"):
        pass
    waiting = (await bench.totals()).accepted
    memory.look(bench.atlas.memory_mib())
    ready = await bench.restart()
    memory.look(bench.atlas.memory_mib())
    bench.standins.foundry.faults.clear()
    drained = await bench.drained(180.0)
    memory.look(bench.atlas.memory_mib())
    bench.findings.note(
        f"{waiting} waited, ready again in {ready:.1f} s, drained in {drained:.1f} s, "
        f"memory {memory.grown:+.0f} MiB at most"
    )
    bench.findings.expect(ready <= READY_SECONDS, f"Ready only after {ready:.1f} s.")
    bench.findings.expect(memory.grown <= MEMORY_MIB, f"Memory grew by {memory.grown:.0f} MiB.")


@dataclass(slots=True)
class Memory:
    """What it held before, in MiB, and by how much that has grown at most."""

    before: float | None
    grown: float = 0.0

    def look(self, now: float | None) -> None:
        if now is not None and self.before is not None:
            self.grown = max(self.grown, now - self.before)


async def bits_flipped(_bench: Bench) -> None:
    """Single bits of what waits in the journal, its tail torn off, a page of zeros."""
    raise Skipped("waits for the sealed journal")
