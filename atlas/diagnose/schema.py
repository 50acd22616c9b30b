"""Step 11: does the schema of the dataset match our files, and do readers see all rows?"""

from collections.abc import Mapping, Sequence

from atlas.core.dataset_schema import SchemaColumn, list_columns
from atlas.core.diagnosis import CheckOutcome
from atlas.core.errors import FoundryError
from atlas.core.inspection import SchemaReader
from atlas.core.rows import KEYED_COLUMNS
from atlas.diagnose import row_count
from atlas.diagnose.context import Context

SHOWN_MAX = 5
FIX = "Put the schema of our rows: atlas diagnose --fix-schema"
REPLACE = "Put the schema of our rows: atlas diagnose --replace-schema"
MAKE_VISIBLE = f"{FIX}. Or read the rows in a transform (spark.read.json of these files)."
TO_ANOTHER_DATASET = "Atlas write Parquet (ATLAS_FILE_FORMAT=parquet) to another dataset"
UNREADABLE = CheckOutcome("fail", "Foundry cannot read the files with their schema.", REPLACE)
UNREADABLE_NDJSON = CheckOutcome(
    "fail",
    "The dataset has NDJSON files and a schema for Parquet: readers get Expected Parquet magic "
    "number, whatever the names of the files are.",
    f"{REPLACE}. Or let {TO_ANOTHER_DATASET}.",
)
PERHAPS_PARQUET = CheckOutcome(
    "fail",
    "Foundry cannot read the NDJSON files with their schema. If it is for Parquet, readers get "
    "Expected Parquet magic number, whatever the names of the files are.",
    f"{REPLACE}. Or let {TO_ANOTHER_DATASET}.",
)
UNREADABLE_PARQUET = CheckOutcome(
    "fail", "The dataset has Parquet files and a schema for NDJSON: no reader gets rows.", REPLACE
)
NDJSON_FAILURES: Mapping[SchemaReader, CheckOutcome] = {
    "ndjson": UNREADABLE,
    "parquet": UNREADABLE_NDJSON,
    "other": UNREADABLE,
    "unknown": PERHAPS_PARQUET,
}
MIXED = CheckOutcome(
    "fail",
    "The dataset has NDJSON and Parquet files, and a schema can be for one of them only.",
    f"Let {TO_ANOTHER_DATASET}, and keep this one for NDJSON.",
)
INTEGERS = CheckOutcome(
    "fail",
    "value_double is LONG in the schema: a value such as 72.5 reads as null. Foundry inferred the "
    "type from a file of whole numbers.",
    REPLACE,
)


async def check_schema(context: Context) -> CheckOutcome:
    file_counts, file_format = context.facts.file_counts, context.settings.foundry.file_format
    try:
        columns = await context.inspectors.schemas.get_columns()
    except FoundryError as error:
        return CheckOutcome("unknown", f"The schema is not known. {error}", error.remedy)
    context.note(
        ("schema", "none" if columns is None else f"{len(columns)} columns"),
        ("files", f"{file_counts['ndjson']:,} .ndjson, {file_counts['parquet']:,} .parquet"),
        ("format", file_format),
    )
    if columns is not None:
        return await check_columns(context, columns)
    if file_format != "parquet":
        return CheckOutcome("pass", "There is no schema, and NDJSON needs none.", MAKE_VISIBLE)
    if not file_counts:
        return CheckOutcome("unknown", "There are no files yet that need a schema.")
    return CheckOutcome("fail", "There are Parquet files, but no schema.", FIX)


async def check_columns(context: Context, columns: Sequence[SchemaColumn]) -> CheckOutcome:
    """Check the reader, the types and the columns of a schema, then the rows that it shows."""
    if any(each.name == "value_double" and each.kind == "LONG" for each in columns):
        return INTEGERS
    if unreadable := await check_reader(context):
        return unreadable
    expected = list_columns(context.settings.export.columns)
    if len(columns) == len(KEYED_COLUMNS):
        expected = list_columns(len(KEYED_COLUMNS))  # rows of 21 columns fit that schema, too
    if difference := describe_difference(columns, expected):
        reason = f"The schema does not match our rows: {difference}."
        return CheckOutcome("fail", reason, REPLACE)
    return await row_count.check_rows(context)


async def check_reader(context: Context) -> CheckOutcome | None:
    """Return a failure if Foundry cannot read the files with the schema."""
    counts = context.facts.file_counts
    if not counts["ndjson"] and not counts["parquet"]:
        return None
    reader = await find_reader(context)
    context.note(("for", reader))
    problem = await find_read_problem(context)
    expected = "ndjson" if counts["ndjson"] else "parquet"
    if not problem and reader in {"unknown", "other", expected}:
        return None
    if counts["ndjson"] and counts["parquet"]:
        return MIXED
    if counts["ndjson"]:
        return NDJSON_FAILURES[reader]
    return UNREADABLE_PARQUET if reader == "ndjson" else UNREADABLE


async def find_read_problem(context: Context) -> str:
    """Return the reason why Foundry cannot read the files; "" also if that is not known."""
    try:
        problem = await context.inspectors.schemas.find_read_problem()
    except FoundryError as error:
        context.note(("readTable", f"not known: {error}"))
        return ""
    if problem:
        context.note(("readTable", problem))
    return problem


async def find_reader(context: Context) -> SchemaReader:
    """Find the kind of files that the schema is for, as of the last committed transaction."""
    committed = [each for each in context.facts.transactions if each.status == "COMMITTED"]
    if not committed:
        return "unknown"
    return await context.inspectors.schemas.get_reader(committed[0].rid)


def describe_difference(
    columns: Sequence[SchemaColumn], expected_columns: Sequence[SchemaColumn]
) -> str:
    """Return the difference of a schema to ours in words, or "". The order does not matter."""
    actual, expected = (
        {each.name: each.kind for each in some} for some in (columns, expected_columns)
    )
    missing = [name for name in expected if name not in actual]
    unexpected = [name for name in actual if name not in expected]
    mistyped = [
        f"{name} is {kind}"
        for name, kind in actual.items()
        if name in expected and kind != expected[name]
    ]
    differences = [
        f"{label} {', '.join(names[:SHOWN_MAX])}"
        for label, names in (("without", missing), ("with", unexpected), ("and", mistyped))
        if names
    ]
    return "; ".join(differences)
