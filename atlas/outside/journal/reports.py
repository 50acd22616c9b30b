"""The table of the reports that phones send about themselves, the same in both engines.

In plaintext: keyed hashes of the user and the device, and the time of arrival.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
from msgspec import Struct

from atlas.core import identifiers
from atlas.core.errors import CorruptEntry
from atlas.core.messages import User
from atlas.core.phones import PhoneReport, ReportPage, StoredReport
from atlas.outside.journal.cipher import Cipher
from atlas.outside.journal.compression import compress, decompress
from atlas.outside.journal.phones import PhoneCodec

REPORT_DAYS = 30
REPORTS_MAX_OF_USER = 500  # the oldest are dropped
REPORTS_MAX = 1_000_000


class ReportRow(NamedTuple):
    """A row of the table. `at` is in milliseconds."""

    user: str
    device: str
    at: int
    sealed: bytes


class ReportFields(Struct, array_like=True):
    """The fields of a report that are encrypted, compressed before."""

    sub: str
    report: PhoneReport


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(ReportFields)


@dataclass(frozen=True, slots=True)
class ReportCodec:
    """Encrypts and decrypts reports."""

    cipher: Cipher

    def seal(self, user: User, report: PhoneReport, received_at: datetime) -> ReportRow:
        key = PhoneCodec(self.cipher).build_key(user.sub, report.device)
        at = identifiers.count_milliseconds(received_at)
        content = compress(_encode(ReportFields(user.sub, report)))
        return ReportRow(*key, at, self.cipher.encrypt(content, build_aad(*key, at)))

    def open(self, row: ReportRow) -> StoredReport | None:
        """Decrypt a report; None if it is corrupt."""
        try:
            content = self.cipher.decrypt(row.sealed, build_aad(*row[:3]))
            fields = _decoder.decode(decompress(content))
        except (CorruptEntry, msgspec.MsgspecError):
            return None
        pseudonym = row.user[: identifiers.PSEUDONYM_CHARACTERS]
        at = datetime.fromtimestamp(row.at / 1_000, UTC)
        return StoredReport(pseudonym, fields.sub, at, fields.report)

    def build_page(
        self, rows: Sequence[ReportRow], waiting_rows: int, *, has_next: bool
    ) -> ReportPage:
        """Decrypt the reports that have counts; corrupt ones are left out."""
        reports = [self.open(row) for row in rows]
        counts = tuple(each for each in reports if each is not None and each.report.counts)
        return ReportPage(counts, rows[0].user if rows and has_next else "", waiting_rows)


def build_aad(user: str, device: str, at: int) -> bytes:
    return f"report {user} {device} {at}".encode()


def find_oldest(now: datetime) -> int:
    """Return the time in ms before which reports are deleted."""
    return identifiers.count_milliseconds(now - timedelta(days=REPORT_DAYS))
