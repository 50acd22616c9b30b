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

from atlas.core import identifiers
from atlas.core.errors import CorruptEntry
from atlas.core.messages import Receipt, Reject, Status
from atlas.core.traces import Trace
from atlas.outside.sqlite.cipher import Cipher
from atlas.outside.sqlite.compression import decompress

StoredStatus = Status | Literal["claimed"]  # the last is a word between journal and uploader only

DESTINATION_AAD = "id, user, at, ingested, rejected, bytes"
COLUMNS = f"{DESTINATION_AAD}, label, status, rid, file, file_bytes"
HAS_PAYLOAD = "EXISTS (SELECT 1 FROM payload WHERE payload.number = export.number)"
KEEP_PAYLOAD = "INSERT INTO payload (number, fixed, label, sealed) VALUES (?, ?, ?, ?)"


class ImmutableColumns(NamedTuple):
    """The columns of BOUND."""

    id: str
    user: str
    at: str
    ingested: int
    rejected: int
    size: int


class ExportRow(NamedTuple):
    """What COLUMNS select."""

    id: str
    user: str
    at: str
    ingested: int
    rejected: int
    size: int
    label: bytes
    status: StoredStatus
    rid: str | None
    file: str | None = None
    file_bytes: int | None = None


class PrivateFields(Struct, frozen=True, array_like=True):
    """What is told of an export, and is nobody's business on the disk."""

    sub: str
    path: str
    rejects: tuple[Reject, ...]
    correlation_id: str
    trace: Trace | None = None  # what was kept before there were any has none


FIELDS_CACHED_MAX = 2_048  # more than a group has exports

_encode = msgspec.msgpack.Encoder().encode
_fixed = msgspec.msgpack.Decoder(ImmutableColumns)
_label = msgspec.msgpack.Decoder(PrivateFields)


class RowCodec:
    """Reads and makes rows; in the one thread of the journal.

    On its way to Foundry a label is asked for half a dozen times, so the latest are remembered,
    each by all of the columns that it is sealed with: of what changes on the disk none is known.
    """

    def __init__(self, seal: Cipher) -> None:
        self.seal = seal
        self._labels: OrderedDict[tuple[object, ...], PrivateFields] = OrderedDict()

    def encrypt_fields(self, row: ImmutableColumns | ExportRow, label: PrivateFields) -> bytes:
        sealed = self.seal.encrypt(_encode(label), build_row_aad(row))
        self._remember((*row[: len(ImmutableColumns._fields)], sealed), label)
        return sealed

    def decrypt_fields(self, row: ExportRow) -> PrivateFields:
        """Raises Damaged."""
        sealed_with = row[: len(ImmutableColumns._fields) + 1]
        label = self._labels.get(sealed_with)
        if label is None:
            label = _label.decode(self.seal.decrypt(row.label, build_row_aad(row)))
            self._remember(sealed_with, label)
        return label

    def _remember(self, sealed_with: tuple[object, ...], label: PrivateFields) -> None:
        self._labels[sealed_with] = label
        if len(self._labels) > FIELDS_CACHED_MAX:
            self._labels.popitem(last=False)

    def encrypt_payload(self, row: ImmutableColumns | ExportRow, packed: bytes) -> bytes:
        return self.seal.encrypt(packed, build_row_aad(row))

    def decrypt_payload(self, row: ExportRow, sealed: bytes | None) -> bytes:
        """Raises Damaged."""
        return decompress(self.decrypt_packed(row, sealed))

    def decrypt_packed(self, row: ExportRow, sealed: bytes | None) -> bytes:
        """The same, still compressed."""
        if sealed is None:
            raise CorruptEntry
        return self.seal.decrypt(sealed, build_row_aad(row))

    def build_receipt(self, row: ExportRow) -> Receipt:
        """Without what the label tells when that is damaged."""
        return build_receipt(row, *self.fields_or_default(row))

    def fields_or_default(self, row: ExportRow) -> tuple[PrivateFields, datetime]:
        """The label and the moment, as far as they are not damaged."""
        try:
            return self.decrypt_fields(row), datetime.fromisoformat(row.at)
        except CorruptEntry:
            return PrivateFields("", "", (), ""), datetime.fromtimestamp(0, UTC)  # nobody knows


def build_receipt(row: ExportRow, label: PrivateFields, at: datetime) -> Receipt:
    """What its sender is told of an export that stands so in the journal."""
    status: Status = "accepted" if row.status == "claimed" else row.status
    return Receipt(
        id=row.id,
        status=status,
        at=at,
        path=find_path(row, label),
        ingested=row.ingested,
        rejected=row.rejected,
        rejects=label.rejects,
        transaction=row.rid if status == "committed" else None,
    )


def find_path(row: ExportRow, label: PrivateFields) -> str:
    """Where its rows stand, or will if nothing comes between."""
    if row.file is None or not label.path:
        return label.path
    return (
        identifiers.change_format(label.path, row.file)
        if row.file in identifiers.FORMATS
        else row.file
    )


def build_row_aad(row: ImmutableColumns | ExportRow) -> bytes:
    """What never changes of an export."""
    return _encode(row[: len(ImmutableColumns._fields)])


def parse_row_aad(bound: bytes) -> ImmutableColumns:
    """Raises Damaged."""
    try:
        return _fixed.decode(bound)
    except msgspec.MsgspecError as error:
        raise CorruptEntry from error
