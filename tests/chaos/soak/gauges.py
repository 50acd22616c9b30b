"""What must not grow: looked at each second, and judged by how it went on."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression
from typing import TypeVar

import aiohttp

from tests.chaos.bench import MIB, Bench
from tests.chaos.vitals import Vitals

FLOORS = 10  # windows of the second half
SLOPE_MIB, SLOPE_SECONDS = 1.0, 600.0
JUDGED_SECONDS = 600.0  # of a second half, for that slope; of less, all that it may grow is
WARMING_MIB = 32.0
WAL_MIB = 64.0
RECEIPT_BYTES = 2_048  # kept of each export, with its indexes
SPARE_DESCRIPTORS, SPARE_TASKS = 96, 64  # Atlas keeps up to 64 connections to Foundry for a while
TASKS = re.compile(rb"^atlas_tasks ([0-9.]+)", re.MULTILINE)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading:
    """One look. Sizes are in MiB, `at` in seconds."""

    at: float
    memory: float
    descriptors: int
    tasks: int | None  # None: the metrics did not answer
    journal: float
    wal: float
    exports: int  # sent so far

    def told(self) -> str:
        tasks = "unknown" if self.tasks is None else self.tasks
        return (
            f"memory {self.memory:.0f} MiB, {self.descriptors} descriptors, {tasks} tasks, "
            f"journal {self.journal:.0f} MiB, WAL {self.wal:.0f} MiB, {self.exports} exports"
        )


@dataclass(slots=True)
class Gauges:
    """`readings` are all that were taken."""

    bench: Bench
    vitals: Vitals
    began: float = field(default_factory=time.monotonic)
    readings: list[Reading] = field(default_factory=list)

    async def read(self) -> Reading:
        journal = self.bench.folder / "journal" / "journal.db"
        found = Reading(
            at=time.monotonic() - self.began,
            memory=self.vitals.mib(),
            descriptors=self.vitals.descriptors(),
            tasks=await self.tasks(),
            journal=size_mib(journal),
            wal=size_mib(journal.with_name("journal.db-wal")),
            exports=len(self.bench.oracle.sent),
        )
        self.readings.append(found)
        return found

    async def tasks(self) -> int | None:
        """As the metrics tell; None if they do not answer."""
        try:
            async with self.bench.phones.session.get(
                f"{self.bench.atlas.operator}/metrics"
            ) as answer:
                found = TASKS.search(await answer.read())
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None
        return int(float(found[1])) if found else None

    def judge(self) -> None:
        """By the second half: what is taken into memory once, has been by then.

        Of memory, descriptors and tasks it is the floor of each window that counts: what is under
        way comes and goes.
        """
        half = [each for each in self.readings if each.at >= self.readings[-1].at / 2]
        if len(half) < 2 * FLOORS:
            self.bench.findings.note("too short to see what grows")
            return
        seconds = half[-1].at - half[0].at
        slope = slope_of(half) * SLOPE_SECONDS
        grown = slope * seconds / SLOPE_SECONDS
        expect, note = self.bench.findings.expect, self.bench.findings.note
        note(f"memory {slope:+.2f} MiB in ten minutes (second half, {seconds:.0f} s)")
        if seconds >= JUDGED_SECONDS:
            expect(slope <= SLOPE_MIB, f"Memory grows by {slope:.2f} MiB in ten minutes.")
        else:
            expect(grown <= WARMING_MIB, f"Memory grew by {grown:.0f} MiB in {seconds:.0f} s.")
        self.judge_count("descriptors", SPARE_DESCRIPTORS, [each.descriptors for each in half])
        self.judge_tasks(half)
        self.judge_journal(half)
        note(f"at its end: {half[-1].told()}")

    def judge_tasks(self, half: Sequence[Reading]) -> None:
        """By those that were seen: now and then the metrics may not answer, and no more."""
        seen = [each.tasks for each in half if each.tasks is not None]
        is_most = 2 * len(seen) > len(half)
        told = f"The metrics answered {len(seen)} of {len(half)} times."
        self.bench.findings.expect(is_most, told)
        if is_most:
            self.judge_count("tasks", SPARE_TASKS, seen)

    def judge_count(self, name: str, spare: int, seen: Sequence[int]) -> None:
        first, *_, last = (min(window) for window in windows(seen))
        self.bench.findings.note(f"{name} {first}, then {last}")
        self.bench.findings.expect(last <= first + spare, f"{last - first} {name} more.")

    def judge_journal(self, half: Sequence[Reading]) -> None:
        """The journal grows by its receipts, and by nothing else once everything is committed."""
        first, last = half[0], half[-1]
        grown = (last.journal - first.journal) * MIB
        each = grown / max(1, last.exports - first.exports)
        wal = max(reading.wal for reading in half)
        self.bench.findings.note(f"journal +{each:.0f} bytes an export, WAL {wal:.0f} MiB at most")
        self.bench.findings.expect(wal <= WAL_MIB, f"The WAL grew to {wal:.0f} MiB.")
        is_kept = grown <= (last.exports - first.exports) * RECEIPT_BYTES + WARMING_MIB * MIB
        self.bench.findings.expect(is_kept, f"The journal grew by {grown / MIB:.0f} MiB.")


def windows(seen: Sequence[T]) -> list[Sequence[T]]:
    """As many as there are floors; what is left over is not looked at."""
    size = len(seen) // FLOORS
    return [seen[at : at + size] for at in range(0, size * FLOORS, size)]


def slope_of(half: Sequence[Reading]) -> float:
    """Of memory: MiB a second, by least squares over the floors."""
    found = windows(half)
    floors = [min(each.memory for each in window) for window in found]
    return linear_regression([window[0].at for window in found], floors).slope


def size_mib(file: Path) -> float:
    return file.stat().st_size / MIB if file.exists() else 0.0
