"""The disk under the journal is full or damaged, or the journal is opened with another key."""

import base64
import subprocess
import time
from pathlib import Path

import anyio

from tests.chaos.emulators import DOWN
from tests.chaos.service_process import Broken, Skipped
from tests.chaos.trial_environment import MIB, TrialEnvironment

DISK_MIB, FILLER_MIB = 6, 3
FREE_BYTES = MIB // 2  # to leave free on the small disk
FULL = "503 JOURNAL_FULL"
FULL_SECONDS, AGAIN_SECONDS = 60.0, 5.0
PENDING, PAGE_BYTES = 20, 4096
LOST_AT_ONCE = 8  # the number of the smallest exports in one page
BAD_SETTING = 78


async def fill_disk(testbed: TrialEnvironment) -> None:
    """Fill a small disk while Foundry is unavailable; Foundry returns before the space."""
    journal = testbed.folder / "journal"
    await mount(testbed, journal)
    filler = journal / "filler"
    filler.write_bytes(bytes(FILLER_MIB * MIB))
    testbed.emulators.set_faults(DOWN)
    await testbed.atlas.start()
    process = testbed.atlas.process
    stored = await fill(testbed)
    async with testbed.clients.session.get(f"{testbed.clients.url}/health") as answer:
        testbed.findings.check(answer.status == 200, f"/health answers {answer.status}.")
    await testbed.fetch_totals()
    testbed.emulators.foundry.faults.clear()
    await testbed.wait(60, least=1.0)
    filler.unlink()
    took = await wait_until_accepted(testbed)
    testbed.findings.add_fact(
        f"full after {stored} exports, accepts {took:.1f} s after space returned"
    )
    testbed.findings.check(took <= AGAIN_SECONDS, f"It took {took:.1f} s to accept again.")
    testbed.findings.check(testbed.atlas.process is process, "The service had to be restarted.")
    testbed.findings.check(testbed.atlas.is_running, "The service has ended.")


async def mount(testbed: TrialEnvironment, folder: Path) -> None:
    """Mount a small disk at this folder until the testbed is closed. Raises Skipped."""
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

    testbed.exit_stack.push_async_callback(unmount)


async def fill(testbed: TrialEnvironment) -> int:
    """Send until there is no room; return the number of stored exports."""
    stored, began = 0, time.monotonic()
    while time.monotonic() - began < FULL_SECONDS:
        answer = await testbed.clients.post(testbed.clients.next_export(), Prefer="respond-async")
        if answer.reply is None:
            excuse_last(testbed)
            if answer.refusal != FULL:
                raise Broken(f"The answer to a full disk was {answer.refusal}, not {FULL}.")
            return stored
        stored += 1
    raise Broken(f"The disk is not full after {stored} exports.")


def excuse_last(testbed: TrialEnvironment) -> None:
    """Excuse the last export, which was refused and is not sent again."""
    testbed.oracle.sent.popitem()


async def wait_until_accepted(testbed: TrialEnvironment) -> float:
    began = time.monotonic()
    with anyio.move_on_after(4 * AGAIN_SECONDS):
        await testbed.clients.deliver(testbed.clients.next_export(), Prefer="respond-async")
    return time.monotonic() - began


async def flip_bits(testbed: TrialEnvironment) -> None:
    """Flip a bit of the waiting data in the journal or its log, repeatedly; twice zero a whole
    page.
    """
    rounds = testbed.scale.scale_number(150, least=8)
    lost_for_good = 0
    await testbed.atlas.start()
    for number in range(rounds):
        await send_pending(testbed, PENDING)
        await testbed.atlas.kill()
        told_before = count_reports(testbed)
        corrupt(testbed, is_page=number >= rounds - 2)
        testbed.emulators.foundry.faults.clear()
        await testbed.atlas.start()
        await testbed.wait_until_drained()
        lost = set((await testbed.draw_balance()).lost)
        testbed.oracle.excused |= lost
        lost_for_good += len(lost)
        testbed.findings.check(len(lost) <= LOST_AT_ONCE, f"{len(lost)} exports lost at once.")
        is_told = not lost or count_reports(testbed) > told_before
        testbed.findings.check(is_told, "An export is lost, and the log says nothing.")
    testbed.findings.add_fact(
        f"{rounds} times damaged, {count_reports(testbed)} times reported, {lost_for_good} of "
        f"{rounds * PENDING} exports unreadable and reported"
    )


def count_reports(testbed: TrialEnvironment) -> int:
    return testbed.atlas.read_log().count('"Journal damaged"')


async def send_pending(testbed: TrialEnvironment, exports: int) -> None:
    testbed.emulators.set_faults(DOWN)
    async with testbed.clients.keep_sending(exports, Prefer="respond-async"):
        pass


def corrupt(testbed: TrialEnvironment, *, is_page: bool) -> None:
    """Damage a bit or a page of live data. SQLite's header is spared, because nothing works without
    it.
    """
    journal, log = (testbed.folder / "journal" / name for name in ("journal.db", "journal.db-wal"))
    sizes = journal.stat().st_size, log.stat().st_size
    file = journal if is_page else testbed.rng.choices([journal, log], weights=sizes)[0]
    text = bytearray(file.read_bytes())
    first = PAGE_BYTES if file == journal else 0
    if is_page and file == journal and len(text) > 2 * PAGE_BYTES:
        start = testbed.rng.randrange(1, len(text) // PAGE_BYTES) * PAGE_BYTES
        text[start : start + PAGE_BYTES] = bytes(PAGE_BYTES)
    elif len(text) > first:
        text[testbed.rng.randrange(first, len(text))] ^= 1 << testbed.rng.randrange(8)
    file.write_bytes(text)


async def change_keys(testbed: TrialEnvironment) -> None:
    """Open the journal with another key, without a key, and with a list of a new key and the old
    one.
    """
    old, new = (base64.b64encode(testbed.rng.randbytes(32)).decode() for _ in range(2))
    testbed.atlas.configure("journal", keys=[old])
    await testbed.atlas.start()
    exports = testbed.scale.scale_number(100, least=10)
    await send_pending(testbed, exports)
    await testbed.atlas.kill()
    before = read_files(testbed.folder / "journal")
    for keys in ([new], []):
        testbed.atlas.configure("journal", keys=keys)
        code = await testbed.atlas.run_to_exit()
        testbed.findings.check(
            code == BAD_SETTING, f"With a wrong key the service ends with {code}."
        )
        untouched = read_files(testbed.folder / "journal") == before
        testbed.findings.check(untouched, "A start with a wrong key changed the journal.")
    testbed.atlas.configure("journal", keys=[new, old])
    await testbed.atlas.start()
    waiting = (await testbed.fetch_totals()).accepted
    testbed.findings.add_fact(
        f"wrong and none: exit {BAD_SETTING}, untouched; rotated: {waiting} opened"
    )
    testbed.findings.check(waiting == exports, f"{waiting} of {exports} wait.")


def read_files(folder: Path) -> dict[str, bytes]:
    return {
        file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith(".lock")
    }
