"""A disk that keeps only what was synced, and of the rest whatever it happens to have.

Of a write that no sync followed, each sector is on the disk or is not, in any order; a sector is
never half. A sync that fails has written as much as a power cut would have, and nobody will write
the rest: the next sync succeeds and says nothing of it. Names are kept from the next sync of their
folder on, and not before: POSIX promises no more, although ext4 and XFS keep more.
"""

import random
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from atlas.outside.sqlite.disk.wal import WalDamage, find_damage
from tests.reliability.recording import (
    JOURNAL,
    Happening,
    Made,
    Recording,
    Removed,
    Renamed,
    Said,
    Shortened,
    Synced,
    Wrote,
)
from tests.reliability.victim import kept_in

SECTOR = 512


@dataclass
class File:
    """What of it is on the disk for certain, and what was asked since."""

    kept: bytearray = field(default_factory=bytearray)
    since: list[Wrote | Shortened] = field(default_factory=list)

    def sync(self) -> None:
        for each in self.since:
            put(self.kept, each)
        self.since.clear()

    def fail_to_sync(self, chance: random.Random) -> None:
        self.kept = bytearray(self.found(chance))
        self.since.clear()

    def found(self, chance: random.Random) -> bytes:
        """What somebody finds there after the power was cut."""
        found, lost = bytearray(self.kept), set[int]()
        likely = chance.random()
        for each in self.since:
            if isinstance(each, Shortened):
                if chance.random() < likely:
                    put(found, each)
                continue
            for sector in sectors(each):
                where = sector.offset // SECTOR
                if where in lost or chance.random() >= likely:
                    lost.add(where)  # and with it whatever is written there afterwards
                else:
                    put(found, sector)
        return bytes(found)


def put(content: bytearray, change: Wrote | Shortened) -> None:
    if isinstance(change, Shortened):
        del content[change.size :]
        end = change.size
    else:
        end = change.offset + len(change.text)
    content.extend(bytes(max(0, end - len(content))))
    if isinstance(change, Wrote):
        content[change.offset : end] = change.text


def sectors(wrote: Wrote) -> list[Wrote]:
    start, end = wrote.offset, wrote.offset + len(wrote.text)
    cuts = [start, *range((start // SECTOR + 1) * SECTOR, end, SECTOR), end]
    return [Wrote(wrote.path, a, wrote.text[a - start : b - start]) for a, b in pairwise(cuts)]


@dataclass
class Disk:
    """One folder: its names as the process sees them, and as they are kept."""

    chance: random.Random
    names: dict[Path, File] = field(default_factory=dict)
    kept: dict[Path, File] = field(default_factory=dict)
    said: str = ""

    def happens(self, happening: Happening) -> None:
        match happening:
            case Made(path):
                self.names.setdefault(path, File())
            case Wrote(path) | Shortened(path):
                self.names[path].since.append(happening)
            case Synced(path, succeeded):
                self._synced(path, succeeded)
            case Removed(path):
                del self.names[path]
            case Renamed(path, to):
                self.names[to] = self.names.pop(path)
            case Said(text):
                self.said += text

    def _synced(self, path: Path, succeeded: bool) -> None:
        file = self.names.get(path)
        if file is None:  # it is the folder
            self.kept = dict(self.names) if succeeded else self.kept
        elif succeeded:
            file.sync()
        else:
            file.fail_to_sync(self.chance)

    def leave(self, folder: Path) -> set[str]:
        """Write what a power cut leaves into this new folder; what was acknowledged before."""
        folder.mkdir()
        for path in self.names.keys() | self.kept.keys():
            file = self.chance.choice([self.names, self.kept]).get(path)
            if file is not None:
                (folder / path.name).write_bytes(file.found(self.chance))
        return set(self.said.split())


@dataclass(frozen=True, slots=True)
class Cut:
    """What a power cut did: acknowledged exports that are gone, and damage that is reported."""

    moment: int
    lost: set[str]
    damage: WalDamage | None


async def cut_off(recording: Recording, folder: Path, cuts: int, seed: int) -> list[Cut]:
    """The same process cut off at so many moments, and at its end."""
    chance = random.Random(seed)
    end = len(recording.happenings)
    moments = {*chance.sample(range(end), min(cuts, end)), end - 1}
    disk, found = Disk(chance), []
    for moment, each in enumerate(recording.happenings):
        disk.happens(each)
        if moment in moments:
            found.append(await found_after(disk, moment, folder / f"cut-{moment}"))
    return found


async def found_after(disk: Disk, moment: int, folder: Path) -> Cut:
    acknowledged = disk.leave(folder)
    reported = find_damage(folder / f"{JOURNAL}-wal")
    kept = await kept_in(folder / JOURNAL)
    return Cut(moment, acknowledged - kept, reported)
