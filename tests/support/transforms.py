"""The transforms in config/foundry/transforms: their raw files, and their tables.

Spark and DuckDB are imported late: most machines that run the other tests have neither.
"""

import json
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import cannot_run, needs

SOURCE = Path(__file__).parents[2] / "config" / "foundry" / "transforms" / "src"
TEXTS = """
    auth0_user_id device ingested_at export_timestamp sample_type source_name sample_class
    quantity_type source_version data_type uuid start_date end_date unit device_hardware_version
    device_model device_name device_manufacturer device_software_version raw_healthkit_record
""".split()
EMPTY = dict.fromkeys(TEXTS, "") | {"value_double": None, "auth0_user_id": "auth0|ada"}
QUANTITY = "HKQuantityTypeIdentifier"
EARLY, LATE = "2026-01-02T10:00:00.000Z", "2026-01-02T11:00:00.000Z"
TABLES = ("samples", "daily", "sleep", "workouts", "deletions")
Rows = list[tuple[Any, ...]]


def require_spark() -> None:
    """Skip the test where Spark, DuckDB or Java is missing, and find the transforms."""
    if find_spec("pyspark") is None or find_spec("duckdb") is None:
        if later := os.environ.get("TESTS_SKIP_SPARK"):
            pytest.skip(later)
        cannot_run("needs pip install --require-hashes -r config/requirements-spark.txt")
    needs("java", "-version")
    if str(SOURCE) not in sys.path:
        sys.path.insert(0, str(SOURCE))


@dataclass
class TransformsRun:
    """A folder of raw files, the tables that Spark makes of them, and those of DuckDB."""

    spark: Any
    folder: Path
    zone: str = "UTC"

    def __post_init__(self):
        self.raw.mkdir(parents=True)

    @property
    def raw(self) -> Path:
        return self.folder / "raw"

    @property
    def out(self) -> Path:
        return self.folder / "tables"

    def put(self, name: str, content: bytes) -> None:
        path = self.raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def put_rows(self, name: str, *rows: dict[str, object]) -> None:
        """Put a file of rows as Atlas writes them, with the columns that are not named empty."""
        self.put(name, b"".join(json.dumps(EMPTY | row).encode() + b"\n" for row in rows))

    def update(self) -> str:
        local = import_module("healthkit.local")
        return local.update_folder(self.spark, self.raw, self.out, self.zone)

    def query(self, sql: str) -> Rows:
        """Query the tables that Spark has made. Timestamps have to be cast to text."""
        return open_tables(self.out).execute(sql).fetchall()

    def violations(self) -> dict[str, dict[str, int]]:
        expectations = import_module("healthkit.expectations")
        read = import_module("healthkit.local").read
        return {
            name: found
            for name, each in expectations.EXPECTATIONS.items()
            if (found := expectations.find_violations(read(self.spark, self.out, name), each))
        }

    def differences(self) -> dict[str, Rows]:
        """Return rows that only Spark or only DuckDB has made, by table."""
        return find_differences(build_in_duckdb(self.raw, self.zone), self.out)


def open_tables(out: Path) -> Any:
    """Open the tables in a folder: `spark.samples` and so on."""
    connection = import_module("duckdb").connect(config={"threads": "2"})
    add_tables(connection, out)
    connection.execute("USE spark")
    return connection


def add_tables(connection: Any, out: Path) -> None:
    """Add those that have files."""
    connection.execute("SET TimeZone = 'UTC'; CREATE SCHEMA spark")
    for name in find_tables(out):
        hive = ", hive_types = {month: VARCHAR}" if any((out / name).glob("month=*")) else ""
        files = f"read_parquet('{out / name}/**/*.parquet'{hive})"
        connection.execute(f"CREATE VIEW spark.{name} AS SELECT * FROM {files}")


def find_tables(out: Path) -> list[str]:
    return [name for name in TABLES if any((out / name).rglob("*.parquet"))]


def build_in_duckdb(raw: Path, zone: str) -> Any:
    """Build the tables of all raw files with tables.sql, as its first lines say."""
    connection = import_module("duckdb").connect(config={"threads": "2"})
    connection.execute(f"SET TimeZone = 'UTC'; SET VARIABLE zone = '{zone}'")
    columns = ", ".join(f"{name}: 'VARCHAR'" for name in [*TEXTS, "value_double"])
    readers = {
        "ndjson": "read_json('FILES', format = 'newline_delimited', maximum_object_size = 67108864,"
        f" columns = {{{columns}}})",
        "parquet": "read_parquet('FILES', union_by_name = true)",
    }
    names = ", ".join([*TEXTS, "value_double::VARCHAR AS value_double"])
    parts = [
        f"SELECT {names} FROM {reader.replace('FILES', f'{raw}/**/*.{suffix}')}"
        for suffix, reader in readers.items()
        if any(raw.rglob(f"*.{suffix}"))
    ]
    connection.execute(f"CREATE VIEW raw AS {' UNION ALL '.join(parts)}")
    connection.execute((SOURCE / "healthkit" / "tables.sql").read_text(encoding="utf-8"))
    return connection


def find_differences(duck: Any, out: Path) -> dict[str, Rows]:
    """Compare the tables in a folder with DuckDB's. Sums of doubles may differ by an ulp."""
    add_tables(duck, out)
    for name in TABLES:
        if name not in find_tables(out):
            duck.execute(f"CREATE VIEW spark.{name} AS SELECT * FROM main.{name} LIMIT 0")
    found = {}
    for name in TABLES:
        columns = [row[0] for row in duck.execute(f"DESCRIBE spark.{name}").fetchall()]
        shown = ", ".join(map(round_values, columns))
        spark, sql = f"SELECT {shown} FROM spark.{name}", f"SELECT {shown} FROM main.{name}"
        either = f"({spark} EXCEPT ALL {sql}) UNION ALL ({sql} EXCEPT ALL {spark})"
        if rows := duck.execute(f"SELECT COLUMNS(*)::VARCHAR FROM ({either}) LIMIT 9").fetchall():
            found[name] = rows
    return found


def round_values(column: str) -> str:
    return f"CAST({column} AS FLOAT) AS {column}" if column.startswith("value_") else column


def sample(uuid, kind="StepCount", start="2026-01-01T08:00:00Z", value=1.0, **more):
    """Return the columns of a row. Another value makes another line."""
    kind = kind if kind.startswith("HK") else QUANTITY + kind
    line = json.dumps({"uuid": uuid, "value": value} | more.pop("record", {}))
    return {
        "uuid": uuid,
        "sample_type": kind,
        "start_date": start,
        "end_date": more.pop("end", start),
        "value_double": value,
        "source_name": "iPhone",
        "ingested_at": EARLY,
        "raw_healthkit_record": line,
    } | more


def deletion(uuid, **more):
    return {
        "uuid": uuid,
        "ingested_at": EARLY,
        "raw_healthkit_record": f'{{"uuid":"{uuid}"}}',
    } | more
