"""Functions that inject the faults which `atlas diagnose` should find."""

from contextlib import asynccontextmanager

from atlas.core.messages import DecodedExport, ExportMetadata
from atlas.core.rows import Header, flatten
from atlas.outside import parquet
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.sqlite.journal import open_journal
from tests.support.exports import ADA, NOON, export
from tests.support.running_system import first_failing, step

RAW = "healthkit/raw/auth0|ada/2025-01-01T00-00-00-000Z"
NOBODY = "http://nowhere.invalid"
ROW = flatten([b'{"uuid":"a"}'], Header("ada", "", "", "")).ndjson  # a row as Atlas writes it


def with_settings(**changes):
    """Change settings of the system."""

    async def change(system):
        for name, value in changes.items():
            setattr(system, name, value)

    return change


def with_options(**options):
    """Change options of the Foundry emulator."""

    async def change(system):
        for name, value in options.items():
            setattr(system.foundry.options, name, value)

    return change


def with_fault(call, fault="status", **more):
    async def change(system):
        system.fault(call, fault, count=0, **more)

    return change


def with_file(path, content):
    async def change(system):
        system.committed(path, content)

    return change


async def with_foreign_transaction(system):
    system.foundry.branches.begin(system.dataset, "master", "UPDATE", owner="foreign")


async def with_parquet(system):
    system.format = "parquet"
    system.committed("healthkit/groups/a.parquet", bytes(parquet.to_parquet(ROW)))


async def assert_first_failure(system, number, reason):
    """Assert that step `number` is the first to fail and gives a reason and a remedy."""
    found = await system.diagnosed()
    assert first_failing(found) == number, found
    assert reason in step(found, number).reason
    assert step(found, number).to_do


@asynccontextmanager
async def fill_journal(system, count=1, aside=0):
    with open_journal(system.journal, CapacityLimits(free_bytes=0)) as journal:
        for number in range(count):
            await journal.intake.append(export(number))
        for number in range(aside):
            original = DecodedExport(str(number), ExportMetadata(ADA, "", "", ""), b"{}")
            await journal.dead_letters.store(original, str(number), NOON)
        yield journal
