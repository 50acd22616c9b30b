"""An older copy of the journal is restored, from a snapshot or a disk image."""

import shutil
from importlib.util import find_spec
from pathlib import Path

from tests.chaos.bench import Bench
from tests.chaos.mines import POINTS, POINTS_OF_SHARED_FILES, Mine
from tests.chaos.subject import Broken, Skipped
from tests.chaos.trials.death import POINT_SECONDS

WARM_EXPORTS, AFTER_THE_COPY = 8, 8
PASSAGES_MAX = 4
POINTS_OF_CI = 3
PER_SECOND = 50.0  # what is found again is read again, file by file, at the rate of the API


async def put_back(bench: Bench) -> None:
    """Kill Atlas between two effects, copy its journal, restart it, and restore the copy later.

    A copy of the files of a killed process is equivalent to a snapshot of its disk.
    """
    has_shared = bench.atlas.settings["foundry"]["file_layout"] == "per-group"
    has_files = has_shared or bench.atlas.settings["foundry"].get("file_format") == "parquet"
    known = list(POINTS_OF_SHARED_FILES if has_files else POINTS)
    points = known
    if bench.scale.name == "ci":
        points = bench.chance.sample(known, POINTS_OF_CI)
    exports = bench.scale.number(100, least=WARM_EXPORTS)
    await bench.atlas.start()
    async with bench.phones.sending(exports):
        pass
    await bench.until_drained()
    for point in points:
        passages = bench.chance.randint(1, PASSAGES_MAX if "put" in point else 2)
        await restore_copy(bench, Mine(point, 1 if has_shared else passages), exports)
    bench.findings.note(f"copied at {len(points)} of {len(known)} points")


async def put_back_parquet(bench: Bench) -> None:
    if find_spec("pyarrow") is None:
        raise Skipped("needs pyarrow for Parquet")
    await put_back(bench)


async def restore_copy(bench: Bench, mine: Mine, exports: int) -> None:
    """Copy the journal, commit exports, restore the copy, and check the balance."""
    described = f"{mine.point}, passage {mine.passages}"
    journal, copy = bench.folder / "journal", bench.folder / "copy"
    await bench.restart_with(mine)
    async with bench.phones.sending(exports, per_second=PER_SECOND, Prefer="respond-async"):
        if not await bench.atlas.has_died(POINT_SECONDS):
            raise Broken(f"The mine {described} never went off.")
        replace_folder(journal, copy)
        await bench.atlas.start()
    await bench.until_drained()
    async with bench.phones.sending(AFTER_THE_COPY):
        pass
    await bench.until_drained()
    transactions = len(bench.standins.transactions())
    await bench.atlas.kill()
    replace_folder(copy, journal)
    await bench.atlas.start()
    await bench.until_drained()
    again = len(bench.standins.transactions()) - transactions
    aside = (await bench.totals()).set_aside
    bench.findings.expect(aside == 0, f"{described}: {aside} set aside.")
    if left := bench.standins.open_of_ours():
        bench.findings.wrongs.append(f"{described}: {len(left)} transactions of ours left open")
    for wrong in (await bench.balance()).wrongs():
        bench.findings.wrongs.append(f"{described} ({again} transactions again): {wrong}")


def replace_folder(source: Path, target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target)
