"""Quantities that must not grow: read each second, and checked at the end."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression
from typing import TypeVar

import aiohttp

from tests.chaos.process_metrics import ProcessMetrics
from tests.chaos.trial_environment import MIB, TrialEnvironment

FLOORS = 10  # windows of the second half
# for memory: longer ones, because floods raise it, and it goes back only once a minute
MEMORY_FLOORS = 4
SLOPE_MIB, SLOPE_SECONDS = 1.0, 600.0
JUDGED_SECONDS = (
    600.0  # shortest second half judged by its slope; a shorter one is judged by its total growth:
)
# of memory: a flood leaves its bodies (up to 96 MiB) in the heap, which is trimmed once a minute
WARMING_MIB = 128.0
JOURNAL_SPARE_MIB = 32.0
WAL_MIB = 64.0
RECEIPT_BYTES = 2_048  # stored for each export, with its indexes
SPARE_DESCRIPTORS, SPARE_TASKS = 96, 64  # Atlas keeps up to 64 connections to Foundry for a while
TASKS = re.compile(rb"^atlas_tasks ([0-9.]+)", re.MULTILINE)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading. Sizes are in MiB, `at` in seconds."""

    at: float
    memory: float
    descriptors: int
    tasks: int | None  # None if the metrics did not answer
    journal: float
    wal: float
    exports: int  # sent so far

    def describe(self) -> str:
        tasks = "unknown" if self.tasks is None else self.tasks
        return (
            f"memory {self.memory:.0f} MiB, {self.descriptors} descriptors, {tasks} tasks, "
            f"journal {self.journal:.0f} MiB, WAL {self.wal:.0f} MiB, {self.exports} exports"
        )


@dataclass(slots=True)
class Gauges:
    """All readings taken so far, and the checks on them."""

    testbed: TrialEnvironment
    metrics: ProcessMetrics
    began: float = field(default_factory=time.monotonic)
    readings: list[Reading] = field(default_factory=list)

    async def read(self) -> Reading:
        journal = self.testbed.folder / "journal" / "journal.db"
        reading = Reading(
            at=time.monotonic() - self.began,
            memory=self.metrics.measure(),
            descriptors=self.metrics.count_descriptors(),
            tasks=await self.count_tasks(),
            journal=get_size_mib(journal),
            wal=get_size_mib(journal.with_name("journal.db-wal")),
            exports=len(self.testbed.oracle.sent),
        )
        self.readings.append(reading)
        return reading

    async def count_tasks(self) -> int | None:
        """Return the number of tasks from the metrics; None if they do not answer."""
        try:
            async with self.testbed.clients.session.get(
                f"{self.testbed.atlas.operator}/metrics"
            ) as answer:
                match_ = TASKS.search(await answer.read())
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None
        return int(float(match_[1])) if match_ else None

    def check_growth(self) -> None:
        """Check the second half of the readings; by then, everything that is allocated once is
        allocated.

        For memory, descriptors and tasks the minimum of each window counts, because ongoing work
        comes and goes.
        """
        half = [each for each in self.readings if each.at >= self.readings[-1].at / 2]
        if len(half) < 2 * FLOORS:
            self.testbed.findings.add_fact("too short to see what grows")
            return
        seconds = half[-1].at - half[0].at
        slope = compute_slope(half) * SLOPE_SECONDS
        grown = slope * seconds / SLOPE_SECONDS
        expect, note = self.testbed.findings.check, self.testbed.findings.add_fact
        note(f"memory {slope:+.2f} MiB in ten minutes (second half, {seconds:.0f} s)")
        if seconds >= JUDGED_SECONDS:
            expect(slope <= SLOPE_MIB, f"Memory grows by {slope:.2f} MiB in ten minutes.")
        else:
            expect(grown <= WARMING_MIB, f"Memory grew by {grown:.0f} MiB in {seconds:.0f} s.")
        self.check_count("descriptors", SPARE_DESCRIPTORS, [each.descriptors for each in half])
        self.check_tasks(half)
        self.check_journal(half)
        note(f"at its end: {half[-1].describe()}")

    def check_tasks(self, half: Sequence[Reading]) -> None:
        """Check the task counts; the metrics may fail to answer now and then, but not more."""
        counts = [each.tasks for each in half if each.tasks is not None]
        is_most = 2 * len(counts) > len(half)
        message = f"The metrics answered {len(counts)} of {len(half)} times."
        self.testbed.findings.check(is_most, message)
        if is_most:
            self.check_count("tasks", SPARE_TASKS, counts)

    def check_count(self, name: str, spare: int, counts: Sequence[int]) -> None:
        first, *_, last = (min(window) for window in split_windows(counts))
        self.testbed.findings.add_fact(f"{name} {first}, then {last}")
        self.testbed.findings.check(last <= first + spare, f"{last - first} {name} more.")

    def check_journal(self, half: Sequence[Reading]) -> None:
        """Check that the journal grows only by its receipts once everything is committed."""
        first, last = half[0], half[-1]
        grown = (last.journal - first.journal) * MIB
        each = grown / max(1, last.exports - first.exports)
        wal = max(reading.wal for reading in half)
        self.testbed.findings.add_fact(
            f"journal +{each:.0f} bytes an export, WAL {wal:.0f} MiB at most"
        )
        self.testbed.findings.check(wal <= WAL_MIB, f"The WAL grew to {wal:.0f} MiB.")
        is_kept = grown <= (last.exports - first.exports) * RECEIPT_BYTES + JOURNAL_SPARE_MIB * MIB
        self.testbed.findings.check(is_kept, f"The journal grew by {grown / MIB:.0f} MiB.")


def split_windows(readings: Sequence[T], count: int = FLOORS) -> list[Sequence[T]]:
    """Split into windows of equal length; the rest is dropped."""
    size = len(readings) // count
    return [readings[at : at + size] for at in range(0, size * count, size)]


def compute_slope(half: Sequence[Reading]) -> float:
    """Return the memory growth in MiB a second, by least squares over the window minima."""
    windows = split_windows(half, MEMORY_FLOORS)
    floors = [min(each.memory for each in window) for window in windows]
    return linear_regression([window[0].at for window in windows], floors).slope


def get_size_mib(file: Path) -> float:
    return file.stat().st_size / MIB if file.exists() else 0.0
