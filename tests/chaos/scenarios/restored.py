"""An older copy of the journal is restored, from a snapshot or a disk image."""

import shutil
from importlib.util import find_spec
from pathlib import Path

from tests.chaos.failpoints import POINTS, POINTS_OF_SHARED_FILES, Failpoint
from tests.chaos.scenarios.kills import POINT_SECONDS
from tests.chaos.service_process import Broken, Skipped
from tests.chaos.trial_environment import TrialEnvironment

WARM_EXPORTS, AFTER_THE_COPY = 8, 8
HITS_MAX = 4
POINTS_OF_CI = 3
PER_SECOND = 50.0  # what is found again is read again, file by file, at the rate of the API


async def restore_at_points(bench: TrialEnvironment) -> None:
    """Kill Atlas between two effects, copy its journal, restart it, and restore the copy later.

    A copy of the files of a killed process is equivalent to a snapshot of its disk.
    """
    has_shared = bench.atlas.settings["foundry"]["file_layout"] == "per-group"
    has_files = has_shared or bench.atlas.settings["foundry"].get("file_format") == "parquet"
    known = list(POINTS_OF_SHARED_FILES if has_files else POINTS)
    points = known
    if bench.scale.name == "ci":
        points = bench.rng.sample(known, POINTS_OF_CI)
    exports = bench.scale.scale_number(100, least=WARM_EXPORTS)
    await bench.atlas.start()
    async with bench.clients.keep_sending(exports):
        pass
    await bench.wait_until_drained()
    for point in points:
        hits = bench.rng.randint(1, HITS_MAX if "put" in point else 2)
        await restore_copy(bench, Failpoint(point, 1 if has_shared else hits), exports)
    bench.findings.add_fact(f"copied at {len(points)} of {len(known)} points")


async def restore_parquet_at_points(bench: TrialEnvironment) -> None:
    if find_spec("pyarrow") is None:
        raise Skipped("needs pyarrow for Parquet")
    await restore_at_points(bench)


async def restore_copy(bench: TrialEnvironment, failpoint: Failpoint, exports: int) -> None:
    """Copy the journal, commit exports, restore the copy, and check the balance."""
    described = f"{failpoint.point}, passage {failpoint.hits}"
    journal, copy = bench.folder / "journal", bench.folder / "copy"
    await bench.restart_with_failpoint(failpoint)
    async with bench.clients.keep_sending(exports, per_second=PER_SECOND, Prefer="respond-async"):
        if not await bench.atlas.exits_within(POINT_SECONDS):
            raise Broken(f"The mine {described} never went off.")
        replace_folder(journal, copy)
        await bench.atlas.start()
    await bench.wait_until_drained()
    async with bench.clients.keep_sending(AFTER_THE_COPY):
        pass
    await bench.wait_until_drained()
    transactions = len(bench.emulators.list_transactions())
    await bench.atlas.kill()
    replace_folder(copy, journal)
    await bench.atlas.start()
    await bench.wait_until_drained()
    again = len(bench.emulators.list_transactions()) - transactions
    aside = (await bench.fetch_totals()).set_aside
    bench.findings.check(aside == 0, f"{described}: {aside} set aside.")
    if left := bench.emulators.list_open():
        bench.findings.failures.append(f"{described}: {len(left)} transactions of ours left open")
    for wrong in (await bench.draw_balance()).list_failures():
        bench.findings.failures.append(f"{described} ({again} transactions again): {wrong}")


def replace_folder(source: Path, target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target)
