"""Step 11: does the schema of the dataset match our files?"""

from collections.abc import Sequence

from atlas.core.diagnosis import CheckOutcome
from atlas.core.inspection import SchemaColumn
from atlas.core.rows import COLUMNS as NAMES
from atlas.diagnose.context import Context

COLUMNS = tuple(
    SchemaColumn(name, "DOUBLE" if name == "value_double" else "STRING") for name in NAMES
)
SHOWN_MAX = 5
READ_NDJSON = (
    "Read the rows in a transform (spark.read.json of these files), or press Apply a schema in "
    "Foundry once."
)
FIX = "Set the schema of the 21 columns: atlas diagnose --fix-schema"
UNREADABLE = CheckOutcome("fail", "Foundry cannot read the files with their schema.", FIX)
UNREADABLE_NDJSON = CheckOutcome(
    "fail",
    "The dataset has NDJSON files and a schema for Parquet: readers get Expected Parquet magic "
    "number, whatever the names of the files are.",
    f"Remove the schema (the dataset, Details, Schema). {READ_NDJSON} Or let Atlas write Parquet "
    "(ATLAS_FILE_FORMAT=parquet) to another dataset.",
)


async def check_schema(context: Context) -> CheckOutcome:
    inspection, file_counts = context.inspectors.foundry, context.facts.file_counts
    file_format = context.settings.foundry.file_format
    schema = await inspection.schema()
    ndjson, parquet = file_counts["ndjson"], file_counts["parquet"]
    context.note(
        ("schema", "none" if schema is None else f"{len(schema)} columns"),
        ("files", f"{ndjson:,} .ndjson, {parquet:,} .parquet"),
        ("format", file_format),
    )
    if schema is None and file_format != "parquet":
        return CheckOutcome("pass", "There is no schema, and NDJSON needs none.", READ_NDJSON)
    if schema is None and not file_counts:
        return CheckOutcome("unknown", "There are no files yet that need a schema.")
    if schema is None:
        return CheckOutcome("fail", "There are Parquet files, but no schema.", FIX)
    if (ndjson or parquet) and not await inspection.is_readable():
        return UNREADABLE_NDJSON if ndjson else UNREADABLE
    if difference := describe_difference(schema):
        columns = f"The schema needs the columns {', '.join(NAMES)}."
        remedy = FIX if file_format == "parquet" else columns
        return CheckOutcome("fail", f"The schema does not match our rows: {difference}.", remedy)
    return CheckOutcome("pass", "The schema matches our rows.")


def describe_difference(columns: Sequence[SchemaColumn]) -> str:
    """Return the difference of a schema to ours in words, or "". The order does not matter."""
    actual, expected = ({each.name: each.kind for each in some} for some in (columns, COLUMNS))
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
