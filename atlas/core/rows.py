"""The row of a HealthKit record: 21 columns, in the order of the dataset, or 23."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from atlas.core.errors import JSON_ERRORS
from atlas.core.messages import Reject, RowTable
from atlas.core.records import (
    LINE_BYTES_MAX,
    Device,
    LineRejected,
    Record,
    decode_fast,
    decode_slow,
    to_number,
)
from atlas.core.summaries import SummaryBuilder

REJECTS_SHOWN = 20


class Header(Struct, frozen=True):
    """The columns that are the same in every row of an export: they come first."""

    auth0_user_id: str
    device: str
    ingested_at: str
    export_timestamp: str


class RejectLog(Struct):
    """The rejected lines and the number of blank ones. `first` is the number of the first line."""

    first: int = 1
    blank: int = 0
    rejects: list[Reject] = []


class RowForm(Struct, frozen=True):
    """The form of the rows.

    23 columns are the 21 and two that make a sample's rows easy to deduplicate: see `KeyedRow`.
    `whole_numbers` are written as "double" (60.0) or as "integer" (60), as the old service did: a
    reader that infers types takes a file of integers for LONG, and then cannot read 72.5.
    """

    columns: Literal[21, 23] = 21
    whole_numbers: Literal["double", "integer"] = "double"


class DatasetRow(Struct, gc=False):
    """One line of a file in the dataset. `value_double` is a finite number.

    The first value holds all four columns of `Header`: see `encode_header`.
    """

    auth0_user_id: Raw
    sample_type: str
    source_name: str
    sample_class: str
    quantity_type: str
    source_version: str
    data_type: str
    uuid: str
    start_date: str
    end_date: str
    value_double: float | None
    unit: str
    device_hardware_version: str
    device_model: str
    device_name: str
    device_manufacturer: str
    device_software_version: str
    raw_healthkit_record: str


class KeyedRow(DatasetRow, gc=False):
    """A row that says which sample it is about, and if the sample was deleted.

    `sample_key` is the uuid, or else the SHA-256 of the line in hexadecimal.
    """

    sample_key: str
    is_deleted: bool


ColumnType = Literal["string", "double", "boolean"]
TYPES: Mapping[object, ColumnType] = {float | None: "double", bool: "boolean"}  # else "string"
KEYED_COLUMN_TYPES: Mapping[str, ColumnType] = {
    field.name: TYPES.get(field.type, "string")
    for field in (*msgspec.structs.fields(Header), *msgspec.structs.fields(KeyedRow)[1:])
}
KEYED_COLUMNS = tuple(KEYED_COLUMN_TYPES)
COLUMNS = KEYED_COLUMNS[: -len(KeyedRow.__annotations__)]
DEFAULT_FORM = RowForm()
NO_DEVICE = Device()

_encoder = msgspec.json.Encoder()


def flatten(
    lines: Sequence[bytes],
    header: Header,
    first: int = 1,
    read: Callable[[bytes], Record] = decode_fast,
    form: RowForm = DEFAULT_FORM,
    summary: SummaryBuilder | None = None,
) -> RowTable:
    """Make a row of every valid line, and a reject of every invalid one; blank lines are skipped.

    `first` is the number of the first line. Each row is encoded before the next one is made, so
    that there is never a list of them. `summary` records facts about the phone.
    """
    log = RejectLog(first)
    table = iterate_rows(lines, header, read, log, SummaryBuilder() if summary is None else summary)
    if form != DEFAULT_FORM:
        table = (convert_row(row, form) for row in table)
    ndjson = encode_rows(table)
    rejected = len(log.rejects)
    ingested = len(lines) - log.blank - rejected
    shown = tuple(log.rejects[:REJECTS_SHOWN])
    return RowTable(ndjson, ingested, rejected, shown, count_reasons(log.rejects))


class ReusableIterator:
    """An iterator whose source can be replaced any number of times."""

    __slots__ = ("next",)

    def __init__(self) -> None:
        self.next: Callable[[], DatasetRow] = stop_iteration

    def __iter__(self) -> "ReusableIterator":
        return self

    def __next__(self) -> DatasetRow:
        return self.next()


def stop_iteration() -> DatasetRow:
    raise StopIteration


_iterator_pool: list[ReusableIterator] = []  # at most one for each thread that encodes


def encode_rows(rows: Iterator[DatasetRow]) -> bytes:
    """Encode rows as NDJSON.

    msgspec never releases an iterator that it has been given, which would leak half a KiB for each
    export. So it is given a reusable one, which holds nothing in between.
    """
    iterator = _iterator_pool.pop() if _iterator_pool else ReusableIterator()
    iterator.next = rows.__next__
    try:
        return _encoder.encode_lines(iterator)
    finally:
        iterator.next = stop_iteration
        _iterator_pool.append(iterator)


def count_reasons(rejects: Sequence[Reject]) -> Mapping[str, int]:
    """Return the number of rejects by reason."""
    return dict(Counter(reject.reason for reject in rejects)) if rejects else {}


def iterate_rows(
    lines: Sequence[bytes],
    header: Header,
    read: Callable[[bytes], Record],
    log: RejectLog,
    summary: SummaryBuilder,
) -> Iterator[DatasetRow]:
    """Yield the rows: the hot loop of Atlas, in one piece, without an unnecessary call.

    A line that `read` rejects goes to `decode_slow`. `or` falls through to the next name for values
    that are absent, null or "". A cache of devices is not worth it: a lookup costs as much as
    encoding five short texts.
    """
    head, samples, horizon = encode_header(header), summary.samples, summary.horizon
    find_latest = samples.get
    for line_number, line in enumerate(lines, log.first):
        if line.isspace() or not line:  # checked first: there may be four million of them
            log.blank += 1
            continue
        try:
            if len(line) > LINE_BYTES_MAX:
                raise msgspec.DecodeError
            record = read(line)
        except JSON_ERRORS:
            try:
                record = decode_slow(line)
            except LineRejected as error:
                log.rejects.append(Reject(line_number, str(error)))
                continue
        device = record.device or NO_DEVICE
        value = record.value_double
        type = record.sample_type or record.type or ""
        start = record.start_date or record.start or ""
        latest = find_latest(type)
        if latest is None:
            summary.add_type(type, start, record)
        elif latest < start < horizon:
            samples[type] = start
        yield DatasetRow(
            head,
            type,
            record.source_name or record.source or "",
            record.sample_class or "",
            record.quantity_type or "",
            record.source_version or "",
            record.data_type or "",
            record.uuid or "",
            start,
            record.end_date or record.end or "",
            to_number(record.value, record.value_integer) if value is None else value,
            record.unit or "",
            device.hardware_version or "",
            device.model or "",
            device.name or "",
            device.manufacturer or "",
            device.software_version or "",
            line.decode(),  # faster than str(line, "utf-8")
        )


def convert_row(row: DatasetRow, form: RowForm) -> DatasetRow:
    """Convert a row to another form than the default one."""
    value = row.value_double
    if form.whole_numbers == "integer" and value is not None and value.is_integer():
        row.value_double = int(value)
    if form.columns == len(COLUMNS):
        return row
    fields = msgspec.structs.asdict(row)
    return KeyedRow(
        **fields,
        sample_key=build_sample_key(row.uuid, row.raw_healthkit_record),
        is_deleted=is_deletion(row.uuid, row.sample_type, row.start_date),
    )


def build_sample_key(uuid: str, line: str) -> str:
    """Return the uuid of the sample, or else the SHA-256 of the line in hexadecimal."""
    return uuid or hashlib.sha256(line.encode()).hexdigest()


def is_deletion(uuid: str, sample_type: str, start_date: str) -> bool:
    """True if a row says nothing of a sample but its uuid: the sample was deleted."""
    return bool(uuid) and not sample_type and not start_date


def encode_header(header: Header) -> Raw:
    """Encode the columns of a header, once for all rows of an export.

    msgspec copies a Raw as it is, so it can hold the value of the first column, followed by the
    names and values of the others.
    """
    _, _, values = _encoder.encode(header).partition(b":")
    return Raw(values[:-1])
