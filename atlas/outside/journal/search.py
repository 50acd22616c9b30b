"""Queries for entries of a journal, and their results."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from atlas.core.messages import ListedStatus
from atlas.outside.journal.row_codec import ExportRow, RowCodec

# each row is decrypted: other operations wait for one slice, not for the whole search
SLICE, LOOKED_AT_MAX = 500, 10_000
HEX_PREFIX = re.compile(r"[0-9a-f]{4,64}")
PREFIX_END = "\U0010ffff"  # a prefix is a range of the index; with GLOB, a * would be a wildcard


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """Selects the entries with this text and status that are older than the number `before`."""

    text: str
    status: ListedStatus | None
    before: int
    limit: int


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The numbers of exports, newest first.

    `before` is the number to continue from, if there are more. `looked_at` is the number of rows
    read, if the search stopped before the oldest.
    """

    numbers: list[int]
    before: int | None = None
    looked_at: int | None = None


def build_page(numbers: list[int], limit: int) -> SearchResult:
    """Cut to the limit; a longer list means that there are more."""
    page = numbers[:limit]
    return SearchResult(page, page[-1] if len(numbers) > limit else None)


async def scan(query: SearchQuery, scan_slice: "ScanSlice") -> SearchResult:
    """Search by correlation id, slice by slice.

    `scan_slice` reads up to SLICE rows before a number; it returns the numbers that it read, and
    those that match.
    """
    numbers: list[int] = []
    before, looked_at = query.before, 0
    while looked_at < LOOKED_AT_MAX:
        scanned, matching = await scan_slice(query, before)
        numbers += matching
        looked_at += len(scanned)
        if len(numbers) > query.limit or len(scanned) < SLICE:
            return build_page(numbers, query.limit)
        before = scanned[-1]
    return SearchResult(numbers, before, looked_at)


ScanSlice = Callable[[SearchQuery, int], Awaitable[tuple[list[int], list[int]]]]


def has_status(query: SearchQuery, status: str, failed: str | None) -> bool:
    """True if the status matches. `failed` is "failed" for a waiting export that has failed."""
    return query.status in {None, status, failed}


def has_correlation_id(query: SearchQuery, codec: RowCodec, row: ExportRow) -> bool:
    fields, _ = codec.fields_or_default(row)
    return fields.correlation_id == query.text
