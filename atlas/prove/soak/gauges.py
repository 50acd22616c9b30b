"""What must not grow: looked at each second, and judged by how it went on."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression

import aiohttp

from atlas.prove.bench import MIB, Bench
from atlas.prove.vitals import Vitals

FLOORS = 10  # windows of the second half
SLOPE_MIB, SLOPE_SECONDS = 1.0, 600.0
JUDGED_SECONDS = 600.0  # of a second half, for that slope; of less, all that it may grow is
WARMING_MIB = 32.0
WAL_MIB = 64.0
RECEIPT_BYTES = 2_048  # kept of each export, with its indexes
SPARE_DESCRIPTORS, SPARE_TASKS = 96, 64  # Atlas keeps up to 64 connections to Foundry for a while
TASKS = re.compile(rb"^atlas_tasks ([0-9.]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Reading:
    """One look. Sizes are in MiB, `at` in seconds."""

    at: float
    memory: float
    descriptors: int
    tasks: int
    journal: float
    log: float  # of SQLite
    exports: int  # sent so far

    def told(self) -> str:
        return (
            f"memory {self.memory:.0f} MiB, {self.descriptors} descriptors, {self.tasks} tasks, "
            f"journal {self.journal:.0f} MiB, WAL {self.log:.0f} MiB, {self.exports} exports"
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
            log=size_mib(journal.with_name("journal.db-wal")),
            exports=len(self.bench.oracle.sent),
        )
        self.readings.append(found)
        return found

    async def tasks(self) -> int:
        """As the metrics tell; 0 if they do not."""
        try:
            async with self.bench.phones.session.get(
                f"{self.bench.atlas.operator}/metrics"
            ) as answer:
                found = TASKS.search(await answer.read())
        except (aiohttp.ClientError, OSError, TimeoutError):
            return 0
        return int(float(found[1])) if found else 0

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
        slope = slope_of(half, lambda each: each.memory) * SLOPE_SECONDS
        grown = slope * seconds / SLOPE_SECONDS
        expect, note = self.bench.findings.expect, self.bench.findings.note
        note(f"memory {slope:+.2f} MiB in ten minutes (second half, {seconds:.0f} s)")
        if seconds >= JUDGED_SECONDS:
            expect(slope <= SLOPE_MIB, f"Memory grows by {slope:.2f} MiB in ten minutes.")
        else:
            expect(grown <= WARMING_MIB, f"Memory grew by {grown:.0f} MiB in {seconds:.0f} s.")
        self.judge_counts(half)
        self.judge_journal(half)
        note(f"at its end: {half[-1].told()}")

    def judge_counts(self, half: Sequence[Reading]) -> None:
        for name, spare, of in (
            ("descriptors", SPARE_DESCRIPTORS, lambda each: each.descriptors),
            ("tasks", SPARE_TASKS, lambda each: each.tasks),
        ):
            first, last = floors(half, of)[0], floors(half, of)[-1]
            self.bench.findings.note(f"{name} {first[1]:.0f}, then {last[1]:.0f}")
            is_flat = last[1] <= first[1] + spare
            self.bench.findings.expect(is_flat, f"{last[1] - first[1]:.0f} {name} more.")

    def judge_journal(self, half: Sequence[Reading]) -> None:
        """The journal grows by its receipts, and by nothing else once everything is committed."""
        first, last = half[0], half[-1]
        grown = (last.journal - first.journal) * MIB
        each = grown / max(1, last.exports - first.exports)
        log = max(reading.log for reading in half)
        self.bench.findings.note(f"journal +{each:.0f} bytes an export, WAL {log:.0f} MiB at most")
        self.bench.findings.expect(log <= WAL_MIB, f"The WAL grew to {log:.0f} MiB.")
        is_kept = grown <= (last.exports - first.exports) * RECEIPT_BYTES + WARMING_MIB * MIB
        self.bench.findings.expect(is_kept, f"The journal grew by {grown / MIB:.0f} MiB.")


Of = Callable[[Reading], float]


def floors(half: Sequence[Reading], of: Of) -> list[tuple[float, float]]:
    """The least of each window, and when that window began."""
    size = len(half) // FLOORS
    windows = [half[at : at + size] for at in range(0, size * FLOORS, size)]
    return [(window[0].at, min(map(of, window))) for window in windows]


def slope_of(half: Sequence[Reading], of: Of) -> float:
    """A second, by least squares over the floors."""
    times, values = zip(*floors(half, of), strict=True)
    return linear_regression(times, values).slope


def size_mib(file: Path) -> float:
    return file.stat().st_size / MIB if file.exists() else 0.0
