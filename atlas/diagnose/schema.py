"""Step 11: can whoever opens the dataset read the rows?"""

from collections.abc import Sequence

from atlas.core.diagnosis import Finding
from atlas.core.rows import COLUMNS as NAMES
from atlas.core.sights import Column
from atlas.diagnose.context import Context

COLUMNS = tuple(Column(name, "DOUBLE" if name == "value_double" else "STRING") for name in NAMES)
SHOWN_MAX = 5
HOW = (
    "Read the rows in a transform (spark.read.json of these files), or press Apply a schema in "
    "Foundry once."
)
FIX = "atlas diagnose --fix-schema gives it the schema of 21 columns."
UNREADABLE = Finding("fail", "Foundry cannot read the files by their schema.", FIX)
UNREADABLE_NDJSON = Finding(
    "fail",
    "A schema for Parquet stands over NDJSON files: whoever reads them gets Expected "
    "Parquet magic number, and no other name of the files mends that.",
    f"Take the schema away (the dataset, Details, Schema). {HOW} Or let Atlas write "
    "Parquet (ATLAS_FILE_FORMAT=parquet), into a dataset of its own.",
)


async def check_schema(context: Context) -> Finding:
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
        return Finding("unknown", "There are no files yet to give a schema to.")
    if found is None and wants_parquet:
        return Finding("fail", "Parquet files stand there, and no schema.", FIX)
    if found is None:
        return Finding("pass", "There is no schema, as NDJSON wants it.", HOW)
    if (ndjson or parquet) and not await inspection.is_readable():
        return UNREADABLE_NDJSON if ndjson else UNREADABLE
    if differences := unlike(found):
        to_do = FIX if wants_parquet else f"The schema needs the columns {', '.join(NAMES)}."
        return Finding("fail", f"The schema is not that of our rows: {differences}.", to_do)
    return Finding("pass", "The schema is that of our rows.")


def unlike(found: Sequence[Column]) -> str:
    """How columns differ from ours; "" if they do not. Their order does not matter."""
    there, ours = ({each.name: each.kind for each in some} for some in (found, COLUMNS))
    missing = [name for name in ours if name not in there]
    others = [name for name in there if name not in ours]
    kinds = [
        f"{name} is {kind}" for name, kind in there.items() if name in ours and kind != ours[name]
    ]
    told = [
        f"{what} {', '.join(some[:SHOWN_MAX])}"
        for what, some in (("without", missing), ("with", others), ("and", kinds))
        if some
    ]
    return "; ".join(told)
