"""Statistics of a journal, for operators."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from atlas.core.inspection import ExportTotals


class JournalStatistics(Struct, frozen=True):
    """The contents and the size of a journal. `exports` are by status.

    `version` is that of the tables. `users` have an export or a digest. `oldest` is the time at
    which the export was accepted that has waited longest. `free_bytes` are pages that a file keeps
    for new data, and `wal_bytes` its write-ahead log; None in PostgreSQL. `bytes` is None if our
    role may not read it.
    """

    journal: str
    version: int
    exports: Mapping[str, ExportTotals]
    users: int
    digests: int
    oldest: datetime | None
    bytes: int | None
    free_bytes: int | None = None
    wal_bytes: int | None = None
