"""A simulated disk that keeps only synced data, and any part of the rest.

Of a write without a later sync, each sector is on the disk or not, in any order; a sector is never
half written. After a failed sync the disk has as much as after a power cut, and the rest is never
written: the next sync succeeds and does not report it. Names are kept from the next sync of their
folder on: POSIX promises no more, although ext4 and XFS keep more.
"""

import random
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from atlas.outside.sqlite.disk.wal import WalDamage, find_damage
from tests.reliability.recording import (
    JOURNAL,
    Created,
    Operation,
    Output,
    Recording,
    Removed,
    Renamed,
    Synced,
    Truncated,
    Written,
)
from tests.reliability.victim import list_intact_ids

SECTOR = 512


@dataclass
class File:
    """A file's synced content, and its writes since."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Written | Truncated] = field(default_factory=list)

    def sync(self) -> None:
        for each in self.pending:
            apply_change(self.durable, each)
        self.pending.clear()

    def fail_to_sync(self, rng: random.Random) -> None:
        self.durable = bytearray(self.read_after_cut(rng))
        self.pending.clear()

    def read_after_cut(self, rng: random.Random) -> bytes:
        """Return the content after a power cut."""
        found, lost = bytearray(self.durable), set[int]()
        likely = rng.random()
        for each in self.pending:
            if isinstance(each, Truncated):
                if rng.random() < likely:
                    apply_change(found, each)
                continue
            for sector in split_sectors(each):
                number = sector.offset // SECTOR
                if number in lost or rng.random() >= likely:
                    lost.add(number)  # later writes to this sector are lost as well
                else:
                    apply_change(found, sector)
        return bytes(found)


def apply_change(content: bytearray, change: Written | Truncated) -> None:
    if isinstance(change, Truncated):
        del content[change.size :]
        end = change.size
    else:
        end = change.offset + len(change.text)
    content.extend(bytes(max(0, end - len(content))))
    if isinstance(change, Written):
        content[change.offset : end] = change.text


def split_sectors(write: Written) -> list[Written]:
    start, end = write.offset, write.offset + len(write.text)
    cuts = [start, *range((start // SECTOR + 1) * SECTOR, end, SECTOR), end]
    return [Written(write.path, a, write.text[a - start : b - start]) for a, b in pairwise(cuts)]


@dataclass
class Disk:
    """One folder: its names as the process sees them, and as they are on the disk."""

    rng: random.Random
    names: dict[Path, File] = field(default_factory=dict)
    durable: dict[Path, File] = field(default_factory=dict)
    output: str = ""

    def apply(self, operation: Operation) -> None:
        match operation:
            case Created(path):
                self.names.setdefault(path, File())
            case Written(path) | Truncated(path):
                self.names[path].pending.append(operation)
            case Synced(path, succeeded):
                self._apply_sync(path, succeeded)
            case Removed(path):
                del self.names[path]
            case Renamed(path, to):
                self.names[to] = self.names.pop(path)
            case Output(text):
                self.output += text

    def _apply_sync(self, path: Path, succeeded: bool) -> None:
        file = self.names.get(path)
        if file is None:  # the path is the folder
            self.durable = dict(self.names) if succeeded else self.durable
        elif succeeded:
            file.sync()
        else:
            file.fail_to_sync(self.rng)

    def write_remains(self, folder: Path) -> set[str]:
        """Write the state after a power cut to this new folder; return the acknowledged exports."""
        folder.mkdir()
        for path in self.names.keys() | self.durable.keys():
            file = self.rng.choice([self.names, self.durable]).get(path)
            if file is not None:
                (folder / path.name).write_bytes(file.read_after_cut(self.rng))
        return set(self.output.split())


@dataclass(frozen=True, slots=True)
class PowerCut:
    """Result of a power cut: lost acknowledged exports, and reported damage."""

    moment: int
    lost: set[str]
    damage: WalDamage | None


async def cut_power(recording: Recording, folder: Path, cuts: int, seed: int) -> list[PowerCut]:
    """Cut the power at `cuts` random moments of the recording, and at its end."""
    rng = random.Random(seed)
    end = len(recording.operations)
    moments = {*rng.sample(range(end), min(cuts, end)), end - 1}
    disk, found = Disk(rng), []
    for moment, each in enumerate(recording.operations):
        disk.apply(each)
        if moment in moments:
            found.append(await inspect_cut(disk, moment, folder / f"cut-{moment}"))
    return found


async def inspect_cut(disk: Disk, moment: int, folder: Path) -> PowerCut:
    acknowledged = disk.write_remains(folder)
    reported = find_damage(folder / f"{JOURNAL}-wal")
    durable = await list_intact_ids(folder / JOURNAL)
    return PowerCut(moment, acknowledged - durable, reported)
