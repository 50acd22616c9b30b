"""Step 11: can whoever opens the dataset read the rows?"""

from collections.abc import Sequence

from atlas.core.diagnosis import CheckOutcome
from atlas.core.inspection import SchemaColumn
from atlas.core.rows import COLUMNS as NAMES
from atlas.diagnose.context import Context

COLUMNS = tuple(
    SchemaColumn(name, "DOUBLE" if name == "value_double" else "STRING") for name in NAMES
)
SHOWN_MAX = 5
HOW = (
    "Read the rows in a transform (spark.read.json of these files), or press Apply a schema in "
    "Foundry once."
)
FIX = "atlas diagnose --fix-schema gives it the schema of 21 columns."
UNREADABLE = CheckOutcome("fail", "Foundry cannot read the files by their schema.", FIX)
UNREADABLE_NDJSON = CheckOutcome(
    "fail",
    "A schema for Parquet stands over NDJSON files: whoever reads them gets Expected "
    "Parquet magic number, and no other name of the files mends that.",
    f"Take the schema away (the dataset, Details, Schema). {HOW} Or let Atlas write "
    "Parquet (ATLAS_FILE_FORMAT=parquet), into a dataset of its own.",
)


async def check_schema(context: Context) -> CheckOutcome:
    inspection, endings = context.sources.foundry, context.learned.endings
    found = await inspection.schema()
    ndjson, parquet = endings["ndjson"], endings["parquet"]
    context.note(
        ("schema", "none" if found is None else f"{len(found)} columns"),
        ("files", f"{ndjson:,} .ndjson, {parquet:,} .parquet"),
        ("format", context.settings.foundry.file_format),
    )
    wants_parquet = context.settings.foundry.file_format == "parquet"
    if found is None and wants_parquet and not endings:
        return CheckOutcome("unknown", "There are no files yet to give a schema to.")
    if found is None and wants_parquet:
        return CheckOutcome("fail", "Parquet files stand there, and no schema.", FIX)
    if found is None:
        return CheckOutcome("pass", "There is no schema, as NDJSON wants it.", HOW)
    if (ndjson or parquet) and not await inspection.is_readable():
        return UNREADABLE_NDJSON if ndjson else UNREADABLE
    if differences := find_schema_difference(found):
        to_do = FIX if wants_parquet else f"The schema needs the columns {', '.join(NAMES)}."
        return CheckOutcome("fail", f"The schema is not that of our rows: {differences}.", to_do)
    return CheckOutcome("pass", "The schema is that of our rows.")


def find_schema_difference(columns: Sequence[SchemaColumn]) -> str:
    """How columns differ from ours; "" if they do not. Their order does not matter."""
    actual, expected = ({each.name: each.kind for each in some} for some in (columns, COLUMNS))
    missing = [name for name in expected if name not in actual]
    unexpected = [name for name in actual if name not in expected]
    kinds = [
        f"{name} is {kind}"
        for name, kind in actual.items()
        if name in expected and kind != expected[name]
    ]
    differences = [
        f"{what} {', '.join(some[:SHOWN_MAX])}"
        for what, some in (("without", missing), ("with", unexpected), ("and", kinds))
        if some
    ]
    return "; ".join(differences)
