"""A row of the table of exports, and what is sealed in it.

In clear: a digest, a keyed hash of the user, counts, moments, and where it stands. Sealed: the
label, with the path that holds the sub, and the payload. Both are bound to the columns that never
change, so that nothing can be moved from one export to another.
"""

from collections import OrderedDict
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

from atlas.core import names
from atlas.core.errors import Damaged
from atlas.core.messages import Receipt, Reject, Status
from atlas.core.traces import Trace
from atlas.outside.sqlite.packing import unpack
from atlas.outside.sqlite.seal import Seal

Stands = Status | Literal["claimed"]  # the last is a word between journal and uploader only

BOUND = "id, user, at, ingested, rejected, bytes"
COLUMNS = f"{BOUND}, label, status, rid, file, file_bytes"
HAS_PAYLOAD = "EXISTS (SELECT 1 FROM payload WHERE payload.number = export.number)"
KEEP_PAYLOAD = "INSERT INTO payload (number, fixed, label, sealed) VALUES (?, ?, ?, ?)"


class Fixed(NamedTuple):
    """The columns of BOUND."""

    id: str
    user: str
    at: str
    ingested: int
    rejected: int
    size: int


class Row(NamedTuple):
    """What COLUMNS select."""

    id: str
    user: str
    at: str
    ingested: int
    rejected: int
    size: int
    label: bytes
    status: Stands
    rid: str | None
    file: str | None = None
    file_bytes: int | None = None


class Label(Struct, frozen=True, array_like=True):
    """What is told of an export, and is nobody's business on the disk."""

    sub: str
    path: str
    rejects: tuple[Reject, ...]
    correlation_id: str
    trace: Trace | None = None  # what was kept before there were any has none


LABELS_REMEMBERED = 2_048  # more than a group has exports

_encode = msgspec.msgpack.Encoder().encode
_fixed = msgspec.msgpack.Decoder(Fixed)
_label = msgspec.msgpack.Decoder(Label)


class Entries:
    """Reads and makes rows; in the one thread of the journal.

    On its way to Foundry a label is asked for half a dozen times, so the latest are remembered,
    each by all of the columns that it is sealed with: of what changes on the disk none is known.
    """

    def __init__(self, seal: Seal) -> None:
        self.seal = seal
        self._labels: OrderedDict[tuple[object, ...], Label] = OrderedDict()

    def close_label(self, row: Fixed | Row, label: Label) -> bytes:
        sealed = self.seal.close(_encode(label), bound(row))
        self._remember((*row[: len(Fixed._fields)], sealed), label)
        return sealed

    def label(self, row: Row) -> Label:
        """Raises Damaged."""
        sealed_with = row[: len(Fixed._fields) + 1]
        label = self._labels.get(sealed_with)
        if label is None:
            label = _label.decode(self.seal.open(row.label, bound(row)))
            self._remember(sealed_with, label)
        return label

    def _remember(self, sealed_with: tuple[object, ...], label: Label) -> None:
        self._labels[sealed_with] = label
        if len(self._labels) > LABELS_REMEMBERED:
            self._labels.popitem(last=False)

    def close_payload(self, row: Fixed | Row, packed: bytes) -> bytes:
        return self.seal.close(packed, bound(row))

    def payload(self, row: Row, sealed: bytes | None) -> bytes:
        """Raises Damaged."""
        return unpack(self.packed(row, sealed))

    def packed(self, row: Row, sealed: bytes | None) -> bytes:
        """The same, still compressed."""
        if sealed is None:
            raise Damaged
        return self.seal.open(sealed, bound(row))

    def receipt(self, row: Row) -> Receipt:
        """Without what the label tells when that is damaged."""
        return receipt_of(row, *self.told(row))

    def told(self, row: Row) -> tuple[Label, datetime]:
        """The label and the moment, as far as they are not damaged."""
        try:
            return self.label(row), datetime.fromisoformat(row.at)
        except Damaged:
            return Label("", "", (), ""), datetime.fromtimestamp(0, UTC)  # nobody knows


def receipt_of(row: Row, label: Label, at: datetime) -> Receipt:
    """What its sender is told of an export that stands so in the journal."""
    status: Status = "accepted" if row.status == "claimed" else row.status
    return Receipt(
        id=row.id,
        status=status,
        at=at,
        path=path_of(row, label),
        ingested=row.ingested,
        rejected=row.rejected,
        rejects=label.rejects,
        transaction=row.rid if status == "committed" else None,
    )


def path_of(row: Row, label: Label) -> str:
    """Where its rows stand, or will if nothing comes between."""
    if row.file is None or not label.path:
        return label.path
    return names.in_format(label.path, row.file) if row.file in names.FORMATS else row.file


def bound(row: Fixed | Row) -> bytes:
    """What never changes of an export."""
    return _encode(row[: len(Fixed._fields)])


def fixed_in(bound: bytes) -> Fixed:
    """Raises Damaged."""
    try:
        return _fixed.decode(bound)
    except msgspec.MsgspecError as error:
        raise Damaged from error
