"""The row that a HealthKit record becomes: 21 columns, in the order of the dataset."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
from msgspec import Raw, Struct

from atlas.core.errors import NOT_JSON
from atlas.core.messages import Reject, Table
from atlas.core.records import LINE_BYTES_MAX, Bad, Device, Record, number, unusual, usual

REJECTS_SHOWN = 20


class Header(Struct, frozen=True):
    """The columns that are the same in every row of an export: they come first."""

    auth0_user_id: str
    device: str
    ingested_at: str
    export_timestamp: str


class Leftover(Struct):
    """The lines that become no row, of those from this number on."""

    first: int = 1
    blank: int = 0
    rejects: list[Reject] = []


class Row(Struct, gc=False):
    """One line of a file in the dataset. `value_double` is a finite number.

    The first value holds the columns of `Header`, all four: see `opening`.
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


COLUMNS = Header.__struct_fields__ + Row.__struct_fields__[1:]
NO_DEVICE = Device()

_encoder = msgspec.json.Encoder()


def flatten(
    lines: Sequence[bytes],
    header: Header,
    first: int = 1,
    read: Callable[[bytes], Record] = usual,
) -> Table:
    """A row for every good line, a reject for every bad one; blank lines are nothing.

    `first` is the number of the first line. `encode_lines` asks for a row when it has written the
    last: no list of them is ever there.
    """
    left = Leftover(first)
    ndjson = encoded(rows(lines, header, read, left))
    rejected = len(left.rejects)
    ingested = len(lines) - left.blank - rejected
    shown = tuple(left.rejects[:REJECTS_SHOWN])
    return Table(ndjson, ingested, rejected, shown, reasons_of(left.rejects))


class Again:
    """Iterates over one thing, and then over the next."""

    __slots__ = ("next",)

    def __init__(self) -> None:
        self.next: Callable[[], Row] = nothing

    def __iter__(self) -> "Again":
        return self

    def __next__(self) -> Row:
        return self.next()


def nothing() -> Row:
    raise StopIteration


_spare: list[Again] = []  # one for each thread that ever flattened beside another


def encoded(rows: Iterator[Row]) -> bytes:
    """Their lines.

    msgspec never lets go of what it iterates over, unless it is a list: half a KiB of each export
    would stay for good. What it holds on to here is the same each time, and holds nothing.
    """
    again = _spare.pop() if _spare else Again()
    again.next = rows.__next__
    try:
        return _encoder.encode_lines(again)
    finally:
        again.next = nothing
        _spare.append(again)


def reasons_of(rejects: Sequence[Reject]) -> Mapping[str, int]:
    """How many there are of each."""
    return dict(Counter(reject.reason for reject in rejects)) if rejects else {}


def rows(
    lines: Sequence[bytes],
    header: Header,
    read: Callable[[bytes], Record],
    left: Leftover,
) -> Iterator[Row]:
    """The loop that is the work of Atlas: in one piece, without a call that is not needed.

    What `read` cannot read goes the long way. Of texts, absent, null and "" fall through to the
    next name: that is what `or` does here. A device is not worth a cache: to look up what was
    encoded before costs what encoding five short texts does.
    """
    head = opening(header)
    for line_number, line in enumerate(lines, left.first):
        if line.isspace() or not line:  # not the long way: there may be four million of them
            left.blank += 1
            continue
        try:
            if len(line) > LINE_BYTES_MAX:
                raise msgspec.DecodeError
            record = read(line)
        except NOT_JSON:
            try:
                record = unusual(line)
            except Bad as error:
                left.rejects.append(Reject(line_number, str(error)))
                continue
        device = record.device or NO_DEVICE
        value = record.value_double
        yield Row(
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
            number(record.value, record.value_integer) if value is None else value,
            record.unit or "",
            device.hardware_version or "",
            device.model or "",
            device.name or "",
            device.manufacturer or "",
            device.software_version or "",
            line.decode(),  # quicker than str(line, "utf-8")
        )


def opening(header: Header) -> Raw:
    """The columns of a header, encoded once for all rows of an export.

    msgspec copies a Raw as it is, so it can be the value of the first column and, behind that, the
    names and values of the others.
    """
    _, _, values = _encoder.encode(header).partition(b":")
    return Raw(values[:-1])
