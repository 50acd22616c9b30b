"""The schema of the dataset, for a command: compared with the one for our rows, and put."""

from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from atlas.core.dataset_schema import SchemaColumn, build_ndjson_schema, list_columns
from atlas.core.errors import CommandError, FoundryError
from atlas.core.identifiers import FORMATS
from atlas.diagnose import describe_difference
from atlas.outside.foundry import FoundryInspection
from atlas.service.diagnosis import open_authorized_inspection
from atlas.settings import Settings

ROOT = "healthkit/"  # of all files of rows
READ_BACK_DELAYS = (0.0, 0.5, 1.5)  # seconds, because a schema may be in force only a moment later


@dataclass(frozen=True, slots=True)
class SchemaComparison:
    """The schema that a dataset has, compared with ours. `difference` is "" if it is the same."""

    has_schema: bool
    difference: str = ""


async def compare_schema(settings: Settings) -> SchemaComparison:
    """Compare the schema of the dataset. Raises FoundryError, and CommandError with a remedy."""
    async with open_authorized_inspection(settings) as inspection:
        transaction = await find_committed_transaction(inspection)
        await check_format(inspection, settings, transaction)
        return await compare_present(inspection, settings, transaction)


async def put_schema(settings: Settings, expected: SchemaComparison) -> None:
    """Put the schema of our rows, and read it back. `expected` is the comparison before.

    Raises CommandError if the schema has changed since, FoundryError if ours is not in force.
    """
    columns = settings.export.columns
    async with open_authorized_inspection(settings) as inspection:
        transaction, schemas = await find_committed_transaction(inspection), inspection.schemas
        if await compare_present(inspection, settings, transaction) != expected:
            raise CommandError("Somebody has changed the schema meanwhile: run the command again.")
        if settings.foundry.file_format == "parquet":
            await schemas.put_parquet(list_columns(columns))
        else:
            await schemas.put_ndjson(build_ndjson_schema(columns), transaction)
        for seconds in READ_BACK_DELAYS:
            await anyio.sleep(seconds)
            stored = await compare_present(inspection, settings, transaction)
            if stored.has_schema and not stored.difference:
                await check_readable(inspection)
                return
        fault = (
            f"has another one: {stored.difference}" if stored.has_schema else "the dataset has none"
        )
        raise FoundryError(f"Foundry accepted the schema, but {fault}.", remedy="")


async def compare_present(
    inspection: FoundryInspection, settings: Settings, transaction: str
) -> SchemaComparison:
    columns = await inspection.schemas.get_columns()
    if columns is None:
        return SchemaComparison(has_schema=False)
    difference = await compare_columns(inspection, settings, columns, transaction)
    return SchemaComparison(has_schema=True, difference=difference)


async def compare_columns(
    inspection: FoundryInspection,
    settings: Settings,
    columns: Sequence[SchemaColumn],
    transaction: str,
) -> str:
    """Return the difference in columns, types or reader, or ""."""
    expected = settings.foundry.file_format
    reader = await inspection.schemas.get_reader(transaction)
    difference = describe_difference(columns, list_columns(settings.export.columns))
    if reader not in {"unknown", expected}:
        return "; ".join(filter(None, [difference, f"it is not for {expected}, but for {reader}"]))
    if not difference and reader == "unknown" and await is_unreadable(inspection):
        return f"it has our columns, but is not for {expected}"
    return difference


async def check_format(inspection: FoundryInspection, settings: Settings, transaction: str) -> None:
    """Raise CommandError if the files of a transaction are known to have another format."""
    expected = settings.foundry.file_format
    try:
        files = await inspection.list_files(transaction, ROOT)
    except FoundryError:
        return
    suffixes = {file.path.rpartition(".")[2] for file in files}
    others = suffixes.intersection(FORMATS) - {expected}
    if others and expected not in suffixes:
        raise CommandError(
            f"The newest files of the dataset are .{others.pop()}, and ATLAS_FILE_FORMAT is "
            f"{expected}: set it here as for the service."
        )


async def check_readable(inspection: FoundryInspection) -> None:
    """Raise FoundryError unless Foundry can read the files with the schema."""
    try:
        problem = await inspection.schemas.find_read_problem()
    except FoundryError as error:
        reason = f"The schema is set, but Foundry does not say if it can read the files. {error}"
        raise FoundryError(reason, remedy="") from error
    if problem:
        reason = f"The schema is set, but Foundry cannot read the files with it. {problem}"
        raise FoundryError(reason, remedy="")


async def is_unreadable(inspection: FoundryInspection) -> bool:
    """True if Foundry cannot read the files with their schema; False also if that is not known."""
    try:
        return bool(await inspection.schemas.find_read_problem())
    except FoundryError:
        return False


async def find_committed_transaction(inspection: FoundryInspection) -> str:
    """Return the last committed transaction of the branch. Raises CommandError if there is none."""
    head = (await inspection.dataset.take_snapshot()).head
    if head and (await inspection.transaction(head)).status == "COMMITTED":
        return head
    transactions = await inspection.transactions() if head else []
    for each in transactions:
        if each.status == "COMMITTED":
            return each.rid
    raise CommandError("The dataset has no files yet, and a schema is for files: send an export.")
