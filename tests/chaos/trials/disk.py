"""The disk under the journal: it is full, it forgets bits, it is read with another key."""

import base64
import subprocess
import time
from pathlib import Path

import anyio

from tests.chaos.bench import MIB, Bench
from tests.chaos.standins import DOWN
from tests.chaos.subject import Broken, Skipped

DISK_MIB, FILLER_MIB = 6, 3
FREE_BYTES = MIB // 2  # to be left free on the small disk
FULL = "503 JOURNAL_FULL"
FULL_SECONDS, AGAIN_SECONDS = 60.0, 5.0
PENDING, PAGE_BYTES = 20, 4096
LOST_AT_ONCE = 8  # the smallest exports, of which so many fit into a page
BAD_SETTING = 78


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
            if answer.refusal != FULL:
                raise Broken(f"A full disk was answered {answer.refusal}, not {FULL}.")
            return kept
        kept += 1
    raise Broken(f"The disk is not full after {kept} exports.")


def forget_the_last(bench: Bench) -> None:
    """An export that was refused and is not sent again."""
    bench.oracle.sent.popitem()


async def seconds_until_accepted(bench: Bench) -> float:
    began = time.monotonic()
    with anyio.move_on_after(4 * AGAIN_SECONDS):
        await bench.phones.deliver(bench.phones.next(), Prefer="respond-async")
    return time.monotonic() - began


async def bits_flipped(bench: Bench) -> None:
    """One bit of what waits in the journal or its log, again and again; a page of zeros, twice."""
    rounds = bench.scale.number(150, least=8)
    lost_for_good = 0
    await bench.atlas.start()
    for number in range(rounds):
        await pending(bench, PENDING)
        await bench.atlas.kill()
        told_before = times_told(bench)
        spoil(bench, is_page=number >= rounds - 2)
        bench.standins.foundry.faults.clear()
        await bench.atlas.start()
        await bench.until_drained()
        lost = set((await bench.balance()).lost)
        bench.oracle.excused |= lost
        lost_for_good += len(lost)
        bench.findings.expect(len(lost) <= LOST_AT_ONCE, f"{len(lost)} exports lost at once.")
        is_told = not lost or times_told(bench) > told_before
        bench.findings.expect(is_told, "An export is lost, and the log says nothing.")
    bench.findings.note(
        f"{rounds} times damaged, {times_told(bench)} times told, {lost_for_good} of "
        f"{rounds * PENDING} exports unreadable and told of"
    )


def times_told(bench: Bench) -> int:
    return bench.atlas.log().count('"Journal damaged"')


async def pending(bench: Bench, exports: int) -> None:
    bench.standins.misbehave(DOWN)
    async with bench.phones.sending(exports, Prefer="respond-async"):
        pass


def spoil(bench: Bench, *, is_page: bool) -> None:
    """A bit or a page of what is live: SQLite's own header, without which nothing is, is spared."""
    journal, log = (bench.folder / "journal" / name for name in ("journal.db", "journal.db-wal"))
    sizes = journal.stat().st_size, log.stat().st_size
    file = journal if is_page else bench.chance.choices([journal, log], weights=sizes)[0]
    text = bytearray(file.read_bytes())
    first = PAGE_BYTES if file == journal else 0
    if is_page and file == journal and len(text) > 2 * PAGE_BYTES:
        start = bench.chance.randrange(1, len(text) // PAGE_BYTES) * PAGE_BYTES
        text[start : start + PAGE_BYTES] = bytes(PAGE_BYTES)
    elif len(text) > first:
        text[bench.chance.randrange(first, len(text))] ^= 1 << bench.chance.randrange(8)
    file.write_bytes(text)


async def other_keys(bench: Bench) -> None:
    """Another key, none, and a list in which the old one stands behind a new one."""
    old, new = (base64.b64encode(bench.chance.randbytes(32)).decode() for _ in range(2))
    bench.atlas.configure("journal", keys=[old])
    await bench.atlas.start()
    exports = bench.scale.number(100, least=10)
    await pending(bench, exports)
    await bench.atlas.kill()
    before = content(bench.folder / "journal")
    for keys in ([new], []):
        bench.atlas.configure("journal", keys=keys)
        code = await bench.atlas.ends_by_itself()
        bench.findings.expect(code == BAD_SETTING, f"With a wrong key it ends with {code}.")
        untouched = content(bench.folder / "journal") == before
        bench.findings.expect(untouched, "A start with a wrong key has touched the journal.")
    bench.atlas.configure("journal", keys=[new, old])
    await bench.atlas.start()
    waiting = (await bench.totals()).accepted
    bench.findings.note(f"wrong and none: exit {BAD_SETTING}, untouched; rotated: {waiting} opened")
    bench.findings.expect(waiting == exports, f"{waiting} of {exports} wait.")


def content(folder: Path) -> dict[str, bytes]:
    return {
        file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith(".lock")
    }
