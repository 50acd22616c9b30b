"""The disk under the journal: it is full, it forgets bits, it is read with another key."""

import base64
import subprocess
import time
from pathlib import Path

import anyio

from tests.chaos.emulators import DOWN
from tests.chaos.service_process import Broken, Skipped
from tests.chaos.trial_environment import MIB, TrialEnvironment

DISK_MIB, FILLER_MIB = 6, 3
FREE_BYTES = MIB // 2  # to be left free on the small disk
FULL = "503 JOURNAL_FULL"
FULL_SECONDS, AGAIN_SECONDS = 60.0, 5.0
PENDING, PAGE_BYTES = 20, 4096
LOST_AT_ONCE = 8  # the smallest exports, of which so many fit into a page
BAD_SETTING = 78


async def fill_disk(bench: TrialEnvironment) -> None:
    """The journal on a small disk while Foundry is away; it comes back before the space does."""
    journal = bench.folder / "journal"
    await mount(bench, journal)
    filler = journal / "filler"
    filler.write_bytes(bytes(FILLER_MIB * MIB))
    bench.emulators.set_faults(DOWN)
    await bench.atlas.start()
    process = bench.atlas.process
    stored = await fill(bench)
    async with bench.clients.session.get(f"{bench.clients.url}/health") as answer:
        bench.findings.check(answer.status == 200, f"/health answers {answer.status}.")
    await bench.fetch_totals()
    bench.emulators.foundry.faults.clear()
    await bench.wait(60, least=1.0)
    filler.unlink()
    took = await wait_until_accepted(bench)
    bench.findings.add_fact(
        f"full after {stored} exports, accepts {took:.1f} s after space returned"
    )
    bench.findings.check(took <= AGAIN_SECONDS, f"It took {took:.1f} s to accept again.")
    bench.findings.check(bench.atlas.process is process, "It had to be restarted.")
    bench.findings.check(bench.atlas.is_running, "It has ended.")


async def mount(bench: TrialEnvironment, folder: Path) -> None:
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

    bench.exit_stack.push_async_callback(unmount)


async def fill(bench: TrialEnvironment) -> int:
    """Send until there is no room; how many there was room for."""
    stored, began = 0, time.monotonic()
    while time.monotonic() - began < FULL_SECONDS:
        answer = await bench.clients.post(bench.clients.next_export(), Prefer="respond-async")
        if answer.reply is None:
            excuse_last(bench)
            if answer.refusal != FULL:
                raise Broken(f"A full disk was answered {answer.refusal}, not {FULL}.")
            return stored
        stored += 1
    raise Broken(f"The disk is not full after {stored} exports.")


def excuse_last(bench: TrialEnvironment) -> None:
    """An export that was refused and is not sent again."""
    bench.oracle.sent.popitem()


async def wait_until_accepted(bench: TrialEnvironment) -> float:
    began = time.monotonic()
    with anyio.move_on_after(4 * AGAIN_SECONDS):
        await bench.clients.deliver(bench.clients.next_export(), Prefer="respond-async")
    return time.monotonic() - began


async def flip_bits(bench: TrialEnvironment) -> None:
    """One bit of what waits in the journal or its log, again and again; a page of zeros, twice."""
    rounds = bench.scale.scale_number(150, least=8)
    lost_for_good = 0
    await bench.atlas.start()
    for number in range(rounds):
        await send_pending(bench, PENDING)
        await bench.atlas.kill()
        told_before = count_reports(bench)
        corrupt(bench, is_page=number >= rounds - 2)
        bench.emulators.foundry.faults.clear()
        await bench.atlas.start()
        await bench.wait_until_drained()
        lost = set((await bench.draw_balance()).lost)
        bench.oracle.excused |= lost
        lost_for_good += len(lost)
        bench.findings.check(len(lost) <= LOST_AT_ONCE, f"{len(lost)} exports lost at once.")
        is_told = not lost or count_reports(bench) > told_before
        bench.findings.check(is_told, "An export is lost, and the log says nothing.")
    bench.findings.add_fact(
        f"{rounds} times damaged, {count_reports(bench)} times told, {lost_for_good} of "
        f"{rounds * PENDING} exports unreadable and told of"
    )


def count_reports(bench: TrialEnvironment) -> int:
    return bench.atlas.read_log().count('"Journal damaged"')


async def send_pending(bench: TrialEnvironment, exports: int) -> None:
    bench.emulators.set_faults(DOWN)
    async with bench.clients.keep_sending(exports, Prefer="respond-async"):
        pass


def corrupt(bench: TrialEnvironment, *, is_page: bool) -> None:
    """A bit or a page of what is live: SQLite's own header, without which nothing is, is spared."""
    journal, log = (bench.folder / "journal" / name for name in ("journal.db", "journal.db-wal"))
    sizes = journal.stat().st_size, log.stat().st_size
    file = journal if is_page else bench.rng.choices([journal, log], weights=sizes)[0]
    text = bytearray(file.read_bytes())
    first = PAGE_BYTES if file == journal else 0
    if is_page and file == journal and len(text) > 2 * PAGE_BYTES:
        start = bench.rng.randrange(1, len(text) // PAGE_BYTES) * PAGE_BYTES
        text[start : start + PAGE_BYTES] = bytes(PAGE_BYTES)
    elif len(text) > first:
        text[bench.rng.randrange(first, len(text))] ^= 1 << bench.rng.randrange(8)
    file.write_bytes(text)


async def change_keys(bench: TrialEnvironment) -> None:
    """Another key, none, and a list in which the old one stands behind a new one."""
    old, new = (base64.b64encode(bench.rng.randbytes(32)).decode() for _ in range(2))
    bench.atlas.configure("journal", keys=[old])
    await bench.atlas.start()
    exports = bench.scale.scale_number(100, least=10)
    await send_pending(bench, exports)
    await bench.atlas.kill()
    before = read_files(bench.folder / "journal")
    for keys in ([new], []):
        bench.atlas.configure("journal", keys=keys)
        code = await bench.atlas.run_to_exit()
        bench.findings.check(code == BAD_SETTING, f"With a wrong key it ends with {code}.")
        untouched = read_files(bench.folder / "journal") == before
        bench.findings.check(untouched, "A start with a wrong key has touched the journal.")
    bench.atlas.configure("journal", keys=[new, old])
    await bench.atlas.start()
    waiting = (await bench.fetch_totals()).accepted
    bench.findings.add_fact(
        f"wrong and none: exit {BAD_SETTING}, untouched; rotated: {waiting} opened"
    )
    bench.findings.check(waiting == exports, f"{waiting} of {exports} wait.")


def read_files(folder: Path) -> dict[str, bytes]:
    return {
        file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith(".lock")
    }
