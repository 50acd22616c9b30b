"""The row of a HealthKit record: 21 columns, in the order of the dataset."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

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


COLUMNS = Header.__struct_fields__ + DatasetRow.__struct_fields__[1:]
NO_DEVICE = Device()

_encoder = msgspec.json.Encoder()


def flatten(
    lines: Sequence[bytes],
    header: Header,
    first: int = 1,
    read: Callable[[bytes], Record] = decode_fast,
) -> RowTable:
    """Make a row of every valid line, and a reject of every invalid one; blank lines are skipped.

    `first` is the number of the first line. Each row is encoded before the next one is made, so
    that there is never a list of them.
    """
    log = RejectLog(first)
    ndjson = encode_rows(iterate_rows(lines, header, read, log))
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
) -> Iterator[DatasetRow]:
    """Yield the rows: the hot loop of Atlas, in one piece, without an unnecessary call.

    A line that `read` rejects goes to `decode_slow`. `or` falls through to the next name for values
    that are absent, null or "". A cache of devices is not worth it: a lookup costs as much as
    encoding five short texts.
    """
    head = encode_header(header)
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
        yield DatasetRow(
            head,
            record.sample_type or record.type or "",
            record.source_name or record.source or "",
            record.sample_class or "",
            record.quantity_type or "",
            record.source_version or "",
            record.data_type or "",
            record.uuid or "",
            record.start_date or record.start or "",
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


def encode_header(header: Header) -> Raw:
    """Encode the columns of a header, once for all rows of an export.

    msgspec copies a Raw as it is, so it can hold the value of the first column, followed by the
    names and values of the others.
    """
    _, _, values = _encoder.encode(header).partition(b":")
    return Raw(values[:-1])
