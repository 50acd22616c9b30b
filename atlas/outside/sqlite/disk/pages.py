"""Rows out of the pages of a database whose tree is broken: each leaf by itself.

What nobody can reach any more is found, too, as long as no other page has taken its place. So a row
counts only if its seal is whole.

The format: https://www.sqlite.org/fileformat2.html#b_tree_pages
"""

import struct
from collections.abc import Iterator
from contextlib import suppress
from mmap import mmap
from typing import Any

PAGE_SIZE = 4096  # SQLite's default, and ours
FILE_HEADER, LEAF_HEADER = 100, 8  # bytes
TABLE_LEAF = 0x0D
INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # serial type: bytes
TEXT, BLOB = 13, 12  # and every second number behind them, for every further byte

Raw = bytes | mmap
Broken = (IndexError, ValueError, struct.error)


def rows(raw: Raw, columns: int) -> Iterator[list[Any]]:
    """Each row of so many columns in a leaf of a table; the first is its INTEGER PRIMARY KEY.

    What was written before the last of them were added to the table lacks those: they are None.
    """
    for start in range(0, len(raw), PAGE_SIZE):
        head = start + (FILE_HEADER if start == 0 else 0)
        if raw[head] != TABLE_LEAF:
            continue
        (count,) = struct.unpack_from(">H", raw, head + 3)
        for cell in range(min(count, PAGE_SIZE // 4)):
            with suppress(*Broken):
                (offset,) = struct.unpack_from(">H", raw, head + LEAF_HEADER + 2 * cell)
                number, record = cell_at(raw, start + offset)
                row = columns_of(record)
                if 0 < len(row) <= columns:
                    yield [number, *row[1:], *[None] * (columns - len(row))]


def cell_at(raw: Raw, at: int) -> tuple[int, bytes]:
    """The row's number and its record, of which what does not fit stands in further pages.

    Raises one of Broken when a size or a page in it cannot be.
    """
    size, at = varint(raw, at)
    number, at = varint(raw, at)
    here_max, here_min = PAGE_SIZE - 35, (PAGE_SIZE - 12) * 32 // 255 - 23
    here = size
    if size > len(raw):
        raise ValueError
    if size > here_max:
        here = here_min + (size - here_min) % (PAGE_SIZE - 4)
        here = here if here <= here_max else here_min
    record, at = bytearray(raw[at : at + here]), at + here
    while len(record) < size:
        (page,) = struct.unpack_from(">I", raw, at)
        at = (page - 1) * PAGE_SIZE
        if page == 0 or at >= len(raw):
            raise ValueError
        record += raw[at + 4 : at + min(PAGE_SIZE, 4 + size - len(record))]
    return number, bytes(record)


def columns_of(record: bytes) -> list[Any]:
    """All of them, the first of a table with an INTEGER PRIMARY KEY being None.

    Raises IndexError or ValueError when the record is too short for what it says of itself.
    """
    end, at = varint(record, 0)
    kinds = []
    while at < end:
        kind, at = varint(record, at)
        kinds.append(kind)
    row = []
    for kind in kinds:
        size = INTEGERS.get(kind, max((kind - BLOB) // 2, 0))
        text, at = record[at : at + size], at + size
        if len(text) != size:
            raise ValueError
        row.append(value(kind, text))
    return row


def value(kind: int, text: bytes) -> Any:
    """Of a serial type. Raises ValueError for what is no text, and for what we never write."""
    if kind in {0, 8, 9}:
        return {0: None, 8: 0, 9: 1}[kind]
    if kind in INTEGERS:
        return int.from_bytes(text, "big", signed=True)
    if kind < BLOB:
        raise ValueError  # a float, which no table of ours has
    return text.decode() if kind % 2 else bytes(text)


def varint(raw: Raw, at: int) -> tuple[int, int]:
    """The number, and where it ends. Raises IndexError where nothing more is.

    Seven bits of each byte, and the highest says that more follow; all eight of the ninth.
    """
    found = 0
    for place in range(8):
        byte = raw[at + place]
        found = found << 7 | byte & 0x7F
        if byte < 0x80:
            return found, at + place + 1
    return found << 8 | raw[at + 8], at + 9
