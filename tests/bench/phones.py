"""Phones: `atlas phones` and `atlas phones reconcile`, from the command to its last line.

`python -m tests.bench.phones FOLDER PORT` serves the Foundry emulator, in a process of its own.
"""

import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path

import anyio
import msgspec
from aiohttp import web
from msgspec.structs import replace

from atlas.core import identifiers
from atlas.core.commits import Conclusion, Verdict
from atlas.core.messages import BranchSnapshot, GroupLimits, User
from atlas.core.phones import PhoneReport, RowSummary, SampleCount
from atlas.core.rows import Header, flatten
from atlas.local import foundry
from atlas.outside.sqlite.journal import open_journal
from tests.bench.journal import BOUNDS, journal_folder
from tests.bench.processes import start_process
from tests.support.exports import ADA, export
from tests.support.generator import QUANTITIES, lines
from tests.support.processes import HOST, four_free_ports
from tests.support.served_foundry import commit

PHONES, SENDERS, ROUNDS = 100_000, 256, 5
ROWS, FILES, FILES_AT_ONCE = 1_000_000, 730, 50
COUNTS = 600  # in a report, which has 64 KiB at most
GAPS = 3
GROUP = GroupLimits(exports_max=1_000)
TYPES = [f"HKQuantityTypeIdentifier{name}" for _, name, *_ in QUANTITIES]
NOW = datetime.now(UTC)
BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}  # an installed package has it


@dataclass(frozen=True)
class Run:
    """A command that has ended: its time, its CPU time, and its output."""

    seconds: float
    cpu: float
    out: str

    @property
    def figure(self) -> str:
        return f"{self.seconds:.2f} s; {self.cpu:.2f} s of CPU"


def measure() -> Iterator[tuple[str, str, str]]:
    yield from measure_lists(PHONES, ROUNDS)
    yield from measure_reconciliation(ROWS, FILES, ROUNDS)


def measure_quickly() -> Iterator[tuple[str, str, str]]:
    yield from measure_lists(PHONES // 10, 2)
    yield from measure_reconciliation(ROWS // 10, FILES // 10, 2)


def measure_lists(phones: int, rounds: int) -> Iterator[tuple[str, str, str]]:
    with journal_folder() as path:
        anyio.run(fill, path, phones)
        table = run_best(rounds, "phones", "--journal", path)
        assert f"{phones:,} phones in 30 days" in table.out
        yield f"`atlas phones`, {phones:,} users in the journal", table.figure, "1 s or less"
        quiet = run_best(rounds, "phones", "--quiet", "3d", "--journal", path)
        yield "... `--quiet 3d`", quiet.figure, "1 s or less"
        everything = run_best(1, "phones", "--csv", "--journal", path)
        assert everything.out.count("\n") == phones + 1
        yield "... `--csv`, all of them", everything.figure, ""


async def fill(path: Path, phones: int) -> None:
    """Store and commit an export of each user, in the last 25 days."""
    numbers = iter(range(phones))
    summary = RowSummary(dict.fromkeys(TYPES, "2026-01-02T11:00:00Z"), "2.0", "18.1")

    async def send() -> None:
        for number in numbers:
            made = export(number)
            head = replace(made.head, user=User(f"auth0|{number:024x}"))
            at = NOW - number / phones * timedelta(days=25)
            table = replace(made.table, summary=summary)
            await journal.intake.append(replace(made, head=head, at=at, table=table))

    with open_journal(path, BOUNDS) as journal:
        async with anyio.create_task_group() as tasks:
            for _ in range(SENDERS):
                tasks.start_soon(send)
        await journal.leadership.acquire()
        for number in range(0, phones, GROUP.exports_max):
            transaction = f"ri.foundry.main.transaction.{number}"
            await journal.outbox.claim(GROUP, BranchSnapshot("", NOW), "normal")
            await journal.outbox.record_open(transaction, GROUP)
            verdict = Verdict("committed", transaction=transaction)
            await journal.outbox.conclude(Conclusion(transaction, default_verdict=verdict))


def measure_reconciliation(rows: int, files: int, rounds: int) -> Iterator[tuple[str, str, str]]:
    with journal_folder() as path:
        folder = path.parent / "foundry"
        counts = store_rows(foundry.FoundryEmulator(folder), rows, files)
        anyio.run(report, path, counts)
        port = four_free_ports()
        command = [sys.executable, "-m", "tests.bench.phones", folder, str(port + 1)]
        with start_process(command, folder=Path.cwd()):
            source = "--from", f"http://{HOST}:{port}", "--journal", path
            found = run_best(rounds, "phones", "reconcile", *source, code=1)
        assert found.out.endswith(f"{len(counts):,} counts of 1 user compared: {GAPS} gaps.\n")
        gigabytes = sum(file.stat().st_size for file in folder.rglob("*.ndjson")) / 1e9
        label = f"`atlas phones reconcile`, {rows:,} rows of a phone in {files} files of "
        yield f"{label}{gigabytes:.1f} GB", found.figure, "5 s or less"
        yield "... gaps that were made; found", f"{GAPS}; {GAPS}", "the same"


def store_rows(
    emulator: foundry.FoundryEmulator, rows: int, files: int
) -> Counter[tuple[str, str]]:
    """Commit the rows, and count their samples by type and day, one by one."""
    left, header = lines(rows), Header(ADA.sub, "iPhone", "T", "T")
    group, days, deleted = dict[str, bytes](), dict[str, tuple[str, str]](), set[str]()
    for number in range(files):
        table = flatten(list(islice(left, -(-rows // files))), header)
        at = NOW + timedelta(minutes=number)
        group[identifiers.build_path(ADA, at)] = table.ndjson
        for line in table.ndjson.splitlines():
            row = msgspec.json.decode(line)
            days[row["uuid"]] = row["sample_type"], row["start_date"][:10]
            if not row["start_date"]:
                deleted.add(row["uuid"])
        if len(group) == FILES_AT_ONCE or number == files - 1:
            commit(emulator, group)
            group = {}
    return Counter(each for uuid, each in days.items() if uuid not in deleted)


async def report(path: Path, counts: Counter[tuple[str, str]]) -> None:
    """Report the counts; of some days, there is a sample more on the phone."""
    gaps = sorted(counts)[:: len(counts) // GAPS][:GAPS]
    found = [
        SampleCount(type, date.fromisoformat(day), samples + ((type, day) in gaps))
        for (type, day), samples in counts.items()
    ]
    with open_journal(path, BOUNDS) as journal:
        for start in range(0, len(found), COUNTS):
            part = PhoneReport("sync_ended", NOW, "iPhone", tuple(found[start : start + COUNTS]))
            await journal.phones.store_report(ADA, part, NOW)


def run_best(rounds: int, *arguments: str | Path, code: int = 0) -> Run:
    """Run a command of Atlas, and return the fastest of some rounds."""
    return min((run(arguments, code) for _ in range(rounds)), key=lambda each: each.seconds)


def run(arguments: tuple[str | Path, ...], code: int) -> Run:
    before, began = measure_children(), time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-m", "atlas", *arguments],
        env=os.environ | BYTECODE,
        stdout=subprocess.PIPE,
        check=False,
    )
    seconds = time.perf_counter() - began
    assert ended.returncode == code
    return Run(seconds, measure_children() - before, ended.stdout.decode())


def measure_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def serve(folder: Path, port: int) -> None:
    application = foundry.build_application(foundry.FoundryEmulator(folder))
    web.run_app(application, host=HOST, port=port, print=lambda _: print("ready", flush=True))


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
