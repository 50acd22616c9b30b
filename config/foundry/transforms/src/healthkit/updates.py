"""Updates: the changes that new raw rows make to the tables.

All tables are cut by month, the month of `day`. An update rewrites the months that it touches, and
nothing else; a full one rewrites all.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from healthkit.daily import DAILY_SCHEMA, summarize_days
from healthkit.samples import (
    DELETIONS_SCHEMA,
    KEY,
    SAMPLES_SCHEMA,
    pick_latest,
    type_rows,
)
from healthkit.sleep import SLEEP_SCHEMA, summarize_nights
from healthkit.workouts import WORKOUTS_SCHEMA, list_workouts

SCHEMAS: dict[str, StructType] = {
    "samples": SAMPLES_SCHEMA,
    "daily": DAILY_SCHEMA,
    "sleep": SLEEP_SCHEMA,
    "workouts": WORKOUTS_SCHEMA,
    "deletions": DELETIONS_SCHEMA,
}
SUMMARIES: dict[str, Callable[[DataFrame], DataFrame]] = {
    "daily": summarize_days,
    "sleep": summarize_nights,
    "workouts": list_workouts,
}
MOMENTS = ("ingested_at", "export_timestamp")


@dataclass(frozen=True)
class Update:
    """The new content of the touched months (None: of all), and the deletions to append."""

    months: list[str] | None
    samples: DataFrame
    deletions: DataFrame

    def tables(self) -> dict[str, DataFrame]:
        """Return the new content of the touched months, by table."""
        summaries = {name: summarize(self.samples) for name, summarize in SUMMARIES.items()}
        return {"samples": self.samples, **summaries}


def read_latest(raw: DataFrame, zone: str) -> DataFrame:
    """Return the latest row of each key, with `is_deleted`. It is kept: all tables use it."""
    return pick_latest(type_rows(raw, zone)).persist(StorageLevel.DISK_ONLY)


def build_all(latest: DataFrame) -> Update:
    """Build all tables from all raw rows."""
    return Update(
        months=None,
        samples=latest.filter("NOT is_deleted").select(*SAMPLES_SCHEMA.names),
        deletions=latest.filter("is_deleted").select(*DELETIONS_SCHEMA.names),
    )


def add_rows(latest: DataFrame, samples: DataFrame, deletions: DataFrame) -> Update:
    """Add new rows to the samples and deletions so far.

    A late sample goes to its own month, and one that replaces another to both of theirs. A deletion
    is remembered, also if its sample has not arrived yet.
    """
    deleted = latest.filter("is_deleted").join(deletions.select(*KEY), list(KEY), "left_anti")
    alive = latest.filter("NOT is_deleted").join(deletions.select(*KEY), list(KEY), "left_anti")
    before = samples.select(*KEY, *MOMENTS, "month").join(
        latest.select(*KEY), list(KEY), "left_semi"
    )
    before = before.persist()
    new = keep_newer(alive, before).persist()
    changed = new.select(*KEY).union(deleted.select(*KEY))
    replaced = before.join(changed, list(KEY), "left_semi")
    touched = new.select("month").union(replaced.select("month")).distinct()
    months = sorted(row.month for row in touched.collect())
    kept = samples.filter(F.col("month").isin(months)).join(changed, list(KEY), "left_anti")
    return Update(
        months=months,
        samples=kept.unionByName(new.select(*SAMPLES_SCHEMA.names)),
        deletions=deleted.select(*DELETIONS_SCHEMA.names),
    )


def keep_newer(alive: DataFrame, before: DataFrame) -> DataFrame:
    """Leave out rows that are not later than the sample that there is."""
    known = before.select(*KEY, *(F.col(name).alias(f"known_{name}") for name in MOMENTS))
    known = known.withColumn("is_known", F.expr("true"))
    never = F.lit("0001-01-01").cast("timestamp")
    now, then = (
        F.struct(*(F.coalesce(prefix + name, never).alias(name) for name in MOMENTS))
        for prefix in ("", "known_")
    )
    joined = alive.join(known, list(KEY), "left")
    return joined.filter(F.col("is_known").isNull() | (now > then)).select(*alive.columns)
