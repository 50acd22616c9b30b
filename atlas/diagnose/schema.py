"""Step 11: can whoever opens the dataset read the rows?"""

from collections.abc import Sequence

from atlas.core.diagnosis import Evidence, Finding, failed, passed, unknown
from atlas.core.rows import COLUMNS as NAMES
from atlas.core.sights import Column
from atlas.diagnose.asking import Asking

COLUMNS = tuple(Column(name, "DOUBLE" if name == "value_double" else "STRING") for name in NAMES)
SHOWN_MAX = 5
HOW = (
    "Read the rows in a transform (spark.read.json of these files), or press Apply a schema in "
    "Foundry once."
)
FIX = "atlas diagnose --fix-schema gives it the schema of 21 columns."


async def schema(asking: Asking) -> Finding:
    schemas, files = asking.sources.schemas, asking.learned.files
    found = await schemas.schema()
    endings = files.endings if files is not None else {}
    ndjson, parquet = endings.get("ndjson", 0), endings.get("parquet", 0)
    evidence: Evidence = (
        ("schema", "none" if found is None else f"{len(found)} columns"),
        ("files", f"{ndjson:,} .ndjson, {parquet:,} .parquet"),
        ("format", asking.settings.foundry.file_format),
    )
    wants_parquet = asking.settings.foundry.file_format == "parquet"
    if found is None and wants_parquet and not endings:
        return unknown("There are no files yet to give a schema to.", evidence=evidence)
    if found is None and wants_parquet:
        return failed("Parquet files stand there, and no schema.", FIX, evidence)
    if found is None:
        return passed("There is no schema, as NDJSON wants it.", evidence, HOW)
    if (ndjson or parquet) and not await schemas.is_readable():
        return unreadable(ndjson, evidence)
    if differences := unlike(found):
        to_do = FIX if wants_parquet else f"The schema needs the columns {', '.join(NAMES)}."
        return failed(f"The schema is not that of our rows: {differences}.", to_do, evidence)
    return passed("The schema is that of our rows.", evidence)


def unreadable(ndjson: int, evidence: Evidence) -> Finding:
    if ndjson:
        return failed(
            "A schema for Parquet stands over NDJSON files: whoever reads them gets Expected "
            "Parquet magic number, and no other name of the files mends that.",
            f"Take the schema away (the dataset, Details, Schema). {HOW} Or let Atlas write "
            "Parquet (ATLAS_FILE_FORMAT=parquet), into a dataset of its own.",
            evidence,
        )
    return failed("Foundry cannot read the files by their schema.", FIX, evidence)


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
