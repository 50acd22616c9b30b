"""Exports as they are stored: encrypted, each with the path of its own file."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from msgspec import structs

from atlas.core import identifiers
from atlas.core.messages import FlattenedExport, Receipt, User
from atlas.outside.journal.path_times import PathTimes
from atlas.outside.journal.row_codec import (
    ExportRow,
    ImmutableColumns,
    PrivateFields,
    RowCodec,
    build_receipt,
)


@dataclass(frozen=True, slots=True)
class SealedExport:
    """An export as it is stored. `payload` is compressed and encrypted."""

    export: FlattenedExport
    fixed: ImmutableColumns
    payload: bytes
    path_at: datetime
    fields: PrivateFields
    label: bytes

    @property
    def size(self) -> int:
        """The number of bytes that are sent to the database."""
        return len(self.payload) + len(self.label)

    @property
    def moment(self) -> int:
        return identifiers.count_milliseconds(self.path_at)

    def list_columns(self) -> "SealedColumns":
        fixed = self.fixed
        return SealedColumns(
            fixed.id,
            fixed.user,
            self.export.at,
            fixed.ingested,
            fixed.rejected,
            fixed.size,
            self.moment,
            self.label,
            self.payload,
        )

    def build_receipt(self) -> Receipt:
        row = ExportRow(*self.fixed, self.label, "accepted", None)
        return build_receipt(row, self.fields, self.export.at)


SealedBytes = bytes  # `bytes` is a column


class SealedColumns(NamedTuple):
    """The columns of an export as they are stored; `sealed` is the payload."""

    id: str
    sender: str
    at: datetime
    ingested: int
    rejected: int
    bytes: int
    moment: int
    label: SealedBytes
    sealed: SealedBytes


@dataclass(frozen=True, slots=True)
class Sealer:
    """Encrypts exports, each with a path that is probably free."""

    codec: RowCodec
    path_times: PathTimes = field(default_factory=PathTimes)

    def seal(self, export: FlattenedExport) -> SealedExport:
        table, sub = export.table, export.head.user.sub
        fixed = ImmutableColumns(
            export.id,
            self.codec.cipher.hash_user(sub),
            export.at.isoformat(),
            table.ingested,
            table.rejected,
            table.size,
        )
        payload = self.codec.encrypt_payload(fixed, table.data)
        at = self.path_times.suggest(sub, export.at)
        return self._build(export, fixed, payload, at)

    def move(self, sealed: SealedExport, at: datetime) -> SealedExport:
        """Give the export another path, because its own is taken."""
        return self._build(sealed.export, sealed.fixed, sealed.payload, at)

    def move_columns(self, columns: SealedColumns, at: datetime) -> SealedColumns:
        """Do the same with an export of which only the columns are left. Raises CorruptEntry."""
        fixed = ImmutableColumns(
            columns.id,
            columns.sender,
            columns.at.isoformat(),
            columns.ingested,
            columns.rejected,
            columns.bytes,
        )
        row = ExportRow(*fixed, columns.label, "accepted", None)
        fields = self.codec.decrypt_fields(row)
        path = identifiers.build_path(User(fields.sub), at)
        label = self.codec.encrypt_fields(fixed, structs.replace(fields, path=path))
        self.path_times.remember(fields.sub, at)
        return columns._replace(moment=identifiers.count_milliseconds(at), label=label)

    def _build(
        self, export: FlattenedExport, fixed: ImmutableColumns, payload: bytes, at: datetime
    ) -> SealedExport:
        head = export.head
        self.path_times.remember(head.user.sub, at)
        path = identifiers.build_path(head.user, at)
        fields = PrivateFields(
            head.user.sub, path, export.table.rejects, head.correlation_id, head.trace
        )
        label = self.codec.encrypt_fields(fixed, fields)
        return SealedExport(export, fixed, payload, at, fields, label)
