"""Encodes the rows of the `export` table, and encrypts their private parts.

In plaintext: the content digest, a keyed hash of the user, counts, times and the status. Encrypted:
`label` (the PrivateFields: user id, path, ...) and the payload. The immutable columns are the
additional authenticated data (AAD) of both, so that neither can be moved to another export.
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
from atlas.outside.journal.cipher import Cipher
from atlas.outside.journal.compression import decompress

StoredStatus = Status | Literal["claimed"]  # "claimed" is internal to the journal and the uploader

FIELDS_CACHED_MAX = 2_048  # more than the exports of a group


class ImmutableColumns(NamedTuple):
    """The columns of an export that never change."""

    id: str
    user: str
    at: str
    ingested: int
    rejected: int
    size: int


class ExportRow(NamedTuple):
    """The columns of an export from which receipts are built."""

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
    """The fields of an export that are encrypted on disk."""

    sub: str
    path: str
    rejects: tuple[Reject, ...]
    correlation_id: str
    trace: Trace | None = None  # absent in rows of earlier versions


IMMUTABLE_COUNT = len(ImmutableColumns._fields)
NO_FIELDS = PrivateFields("", "", (), "")

_encode = msgspec.msgpack.Encoder().encode
_immutable_decoder = msgspec.msgpack.Decoder(ImmutableColumns)
_fields_decoder = msgspec.msgpack.Decoder(PrivateFields)


class RowCodec:
    """Encrypts and decrypts rows. Used only in one thread.

    The latest private fields are cached, because the uploader needs them several times. The key of
    the cache is everything that decryption depends on, so that a change on disk is not missed.
    """

    def __init__(self, cipher: Cipher) -> None:
        self.cipher = cipher
        self._cache: OrderedDict[tuple[object, ...], PrivateFields] = OrderedDict()

    def encrypt_fields(self, row: ImmutableColumns | ExportRow, fields: PrivateFields) -> bytes:
        label = self.cipher.encrypt(_encode(fields), build_row_aad(row))
        self._remember((*row[:IMMUTABLE_COUNT], label), fields)
        return label

    def decrypt_fields(self, row: ExportRow) -> PrivateFields:
        """Decrypt the private fields. Raises CorruptEntry."""
        key = row[: IMMUTABLE_COUNT + 1]
        fields = self._cache.get(key)
        if fields is None:
            fields = _fields_decoder.decode(self.cipher.decrypt(row.label, build_row_aad(row)))
            self._remember(key, fields)
        return fields

    def _remember(self, key: tuple[object, ...], fields: PrivateFields) -> None:
        self._cache[key] = fields
        if len(self._cache) > FIELDS_CACHED_MAX:
            self._cache.popitem(last=False)

    def encrypt_payload(self, row: ImmutableColumns | ExportRow, compressed: bytes) -> bytes:
        return self.cipher.encrypt(compressed, build_row_aad(row))

    def decrypt_payload(self, row: ExportRow, payload: bytes | None) -> bytes:
        """Decrypt and decompress. Raises CorruptEntry."""
        return decompress(self.decrypt_compressed(row, payload))

    def decrypt_compressed(self, row: ExportRow, payload: bytes | None) -> bytes:
        """Decrypt without decompressing. Raises CorruptEntry."""
        if payload is None:
            raise CorruptEntry
        return self.cipher.decrypt(payload, build_row_aad(row))

    def build_receipt(self, row: ExportRow) -> Receipt:
        """Build the receipt; without the private fields if they are corrupt."""
        return build_receipt(row, *self.fields_or_default(row))

    def fields_or_default(self, row: ExportRow) -> tuple[PrivateFields, datetime]:
        """Return the private fields and the time of acceptance, or empty ones if corrupt."""
        try:
            return self.decrypt_fields(row), datetime.fromisoformat(row.at)
        except CorruptEntry:
            return NO_FIELDS, datetime.fromtimestamp(0, UTC)


def build_receipt(row: ExportRow, fields: PrivateFields, at: datetime) -> Receipt:
    status: Status = "accepted" if row.status == "claimed" else row.status
    return Receipt(
        id=row.id,
        status=status,
        at=at,
        path=find_path(row, fields),
        ingested=row.ingested,
        rejected=row.rejected,
        rejects=fields.rejects,
        transaction=row.rid if status == "committed" else None,
    )


def find_path(row: ExportRow, fields: PrivateFields) -> str:
    """Return the path of the file with the rows; of one not uploaded yet, the planned path."""
    if row.file is None or not fields.path:
        return fields.path
    if row.file in identifiers.FORMATS:
        return identifiers.change_format(fields.path, row.file)
    return row.file


def build_row_aad(row: ImmutableColumns | ExportRow) -> bytes:
    """Encode the immutable columns."""
    return _encode(row[:IMMUTABLE_COUNT])


def parse_row_aad(aad: bytes) -> ImmutableColumns:
    """Decode the immutable columns. Raises CorruptEntry."""
    try:
        return _immutable_decoder.decode(aad)
    except msgspec.MsgspecError as error:
        raise CorruptEntry from error
