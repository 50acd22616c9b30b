"""The rows of datasets and Views as their readers see them: by a schema, and deduplicated.

A schema belongs to a branch, and is not enforced at an upload.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import msgspec

from atlas.local.foundry.branches import BranchStore, FoundryApiError

Row = dict[str, Any]

READER_CLASSES = {
    "AVRO": "com.palantir.foundry.spark.input.AvroDataFrameReader",
    "CSV": "com.palantir.foundry.spark.input.TextDataFrameReader",
    "PARQUET": "com.palantir.foundry.spark.input.ParquetDataFrameReader",
    "DATASOURCE": "com.palantir.foundry.spark.input.DataSourceDataFrameReader",
}
PYTHON_TYPES: Mapping[str, tuple[type, ...]] = {
    "STRING": (str,),
    "DOUBLE": (int, float),
    "LONG": (int,),
    "BOOLEAN": (bool,),
}


@dataclass(frozen=True, slots=True)
class StoredSchema:
    """A schema in the form of Foundry's schema service."""

    content: Mapping[str, Any]
    version: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def fields(self) -> Sequence[Mapping[str, Any]]:
        fields: Sequence[Mapping[str, Any]] = self.content.get("fieldSchemaList", ())
        return fields

    @property
    def kinds(self) -> dict[str, str]:
        """The type of each column by its name."""
        return {each["name"]: each["type"] for each in self.fields}

    @property
    def is_for_parquet(self) -> bool:
        return self.content.get("dataFrameReaderClass") == READER_CLASSES["PARQUET"]


@dataclass(frozen=True, slots=True)
class StoredView:
    """A View: the latest row of each key, of all backing datasets. Without a key, all rows."""

    name: str
    folder: str
    branch: str
    backing: Sequence[Mapping[str, Any]]
    key: Mapping[str, Any] | None

    def resolve(self, rows: Iterable[Row]) -> list[Row]:
        """Keep the latest row of each key, unless it is deleted."""
        if self.key is None or self.key["resolution"]["type"] == "unique":
            return list(rows)
        resolution = self.key["resolution"]
        order = resolution["resolutionStrategy"]["columns"]
        latest: dict[tuple[Any, ...], Row] = {}
        for row in sorted(rows, key=lambda row: [str(row[name] or "") for name in order]):
            latest[tuple(row[name] for name in self.key["columns"])] = row
        deletion = resolution.get("deletionColumn")
        return [row for row in latest.values() if not (deletion and row[deletion])]


class Tables:
    """The schemas and the Views of an emulator, and the rows that they show."""

    def __init__(self, branches: BranchStore) -> None:
        self._branches = branches
        self.schemas: dict[tuple[str, str], StoredSchema] = {}
        self.views: dict[str, StoredView] = {}

    def get_schema(self, rid: str, branch: str) -> StoredSchema:
        self._branches.get_branch(rid, branch)
        if (rid, branch) not in self.schemas:
            raise FoundryApiError(404, "SchemaNotFound", datasetRid=rid, branchName=branch)
        return self.schemas[rid, branch]

    def get_table(self, rid: str, branch: str) -> tuple[dict[str, str], list[Row]]:
        """Return the columns and the rows of a dataset or a View. Raises FoundryApiError."""
        if rid not in self.views:
            schema = self.get_schema(rid, branch)
            return schema.kinds, list(self._read_files(rid, branch, schema))
        view = self.views[rid]
        kinds, rows = dict[str, str](), list[Row]()
        for each in view.backing:
            more_kinds, more_rows = self.get_table(
                each["datasetRid"], each.get("branch") or view.branch
            )
            kinds |= more_kinds
            rows += more_rows
        return kinds, view.resolve(rows)

    def _read_files(self, rid: str, branch: str, schema: StoredSchema) -> Iterator[Row]:
        view, kinds = self._branches.get_branch(rid, branch).view, schema.kinds
        for path, transaction in view.items():
            if path.endswith(".parquet") != schema.is_for_parquet:
                why = "Expected Parquet magic number"
                raise FoundryApiError(500, "ReadTableError", datasetRid=rid, message=why)
            content = self._branches.read_content(transaction, path)
            for row in read_parquet(content) if schema.is_for_parquet else read_ndjson(content):
                yield {name: convert(row.get(name), kind) for name, kind in kinds.items()}


def read_ndjson(content: bytes) -> Iterator[Row]:
    """Read JSON lines as Spark does: a line that it cannot read is a row of nulls."""
    for line in content.splitlines():
        try:
            yield msgspec.json.decode(line, type=Row)
        except msgspec.DecodeError:
            yield {}


def read_parquet(content: bytes) -> list[Row]:
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
        rows: list[Row] = parquet.read_table(arrow.BufferReader(content)).to_pylist()
    except (ImportError, ValueError) as error:
        raise FoundryApiError(500, "ReadTableError", message=str(error)) from error
    return rows


def convert(value: object, kind: str) -> object:
    """Return a value of a column, or None if it is not of the column's type."""
    types = PYTHON_TYPES.get(kind)
    if types is None:
        return value
    is_valid = isinstance(value, types) and isinstance(value, bool) == (kind == "BOOLEAN")
    return value if is_valid else None
