"""Expectations of the tables. Foundry's checks and the check outside of it are made from these."""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


@dataclass(frozen=True)
class Expectation:
    """The primary key, whose columns are never null, and other columns that never are."""

    key: tuple[str, ...]
    filled: tuple[str, ...] = ()
    order: tuple[str, str] | None = None  # the first is never later than the second


EXPECTATIONS = {
    "samples": Expectation(("auth0_user_id", "sample_key"), ("sample_type", "month")),
    "daily": Expectation(("auth0_user_id", "sample_type", "unit", "day"), ("samples",)),
    "sleep": Expectation(
        ("auth0_user_id", "night"), ("asleep_minutes",), ("asleep_from", "asleep_until")
    ),
    "workouts": Expectation(("auth0_user_id", "sample_key"), ("month",)),
    "deletions": Expectation(("auth0_user_id", "sample_key")),
}


def find_violations(table: DataFrame, expectation: Expectation) -> dict[str, int]:
    """Return the number of rows that violate each expectation; none that is met is listed."""
    filled = expectation.key + expectation.filled
    nulls = [F.count(F.when(F.col(name).isNull(), 1)).alias(f"{name} is null") for name in filled]
    (row,) = table.agg(*nulls).collect()
    checks = row.asDict()
    repeated = table.groupBy(*expectation.key).count().filter("count > 1").count()
    checks[f"{', '.join(expectation.key)} is not unique"] = repeated
    if expectation.order:
        first, second = map(F.col, expectation.order)
        checks[" is later than ".join(expectation.order)] = table.filter(first > second).count()
    return {text: count for text, count in checks.items() if count}
