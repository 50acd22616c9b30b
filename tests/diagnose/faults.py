"""What can be wrong, each by a function that makes it so."""

from contextlib import asynccontextmanager

from atlas.core.messages import DecodedExport, ExportMetadata
from atlas.core.rows import Header, flatten
from atlas.outside.sqlite.capacity import CapacityLimits
from atlas.outside.sqlite.journal import open_journal
from tests.support.exports import ADA, NOON, export
from tests.support.running_system import first_failing, step

RAW = "healthkit/raw/auth0|ada/2025-01-01T00-00-00-000Z"
NOBODY = "http://nowhere.invalid"
ROW = flatten([b'{"uuid":"a"}'], Header("ada", "", "", "")).ndjson  # as Atlas writes it


def given(**changes):
    """Settings."""

    async def change(system):
        for name, value in changes.items():
            setattr(system, name, value)

    return change


def switched(**switches):
    """The stand-in of Foundry."""

    async def change(system):
        for name, value in switches.items():
            setattr(system.foundry.options, name, value)

    return change


def faulty(call, fault="status", **more):
    async def change(system):
        system.fault(call, fault, count=0, **more)

    return change


def committed(path, content):
    async def change(system):
        system.committed(path, content)

    return change


async def foreign(system):
    system.foundry.branches.begin(system.dataset, "master", "UPDATE", owner="foreign")


async def parquet(system):
    system.format = "parquet"
    system.committed("healthkit/groups/a.parquet", b"PAR1")


async def named(system, number, reason):
    """The first step that fails is this, and it says so."""
    found = await system.diagnosed()
    assert first_failing(found) == number, found
    assert reason in step(found, number).reason
    assert step(found, number).to_do


@asynccontextmanager
async def kept(system, count=1, aside=0):
    with open_journal(system.journal, CapacityLimits(free_bytes=0)) as journal:
        for number in range(count):
            await journal.intake.append(export(number))
        for number in range(aside):
            original = DecodedExport(str(number), ExportMetadata(ADA, "", "", ""), b"{}")
            await journal.dead_letters.store(original, str(number), NOON)
        yield journal
