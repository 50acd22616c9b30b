"""Leaves of a table whose cells are broken: none of them is a row, and none takes memory."""

import struct

import pytest

from atlas.outside.sqlite.disk import pages

FIRST = b"\x00\x00\x00\x01"  # where a record goes on behind the first page: there, again
SIZE, RECORD = b"\xa0\x80\x80\x00", b"\x03\x00\x01\x09"  # 64 MiB
HERE = 489  # bytes of those in a leaf
LARGER_THAN_THE_FILE = SIZE + b"\x07" + RECORD.ljust(HERE, b"\0") + FIRST


def leaf(cell):
    """A page with that one cell at its end."""
    at = pages.PAGE_SIZE - len(cell)
    head = struct.pack(">BHHHB", pages.TABLE_LEAF, 0, 1, at, 0) + struct.pack(">H", at)
    first = FIRST.ljust(pages.PAGE_SIZE, b"\0")
    return first + head.ljust(at, b"\0") + cell


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        pytest.param(b"\x04\x07\x03\x00\x01\x09", [(7, 9, None)], id="a row that lacks a column"),
        pytest.param(LARGER_THAN_THE_FILE, [], id="pages in a circle"),
    ],
)
def test_what_stands_in_a_leaf_is_a_row_or_nothing(tmp_path, cell, expected):
    journal, scratch = tmp_path / "journal", tmp_path / "scratch"
    journal.write_bytes(leaf(cell))
    with pages.leaves(journal, 3, scratch) as rows:
        assert list(rows()) == expected
        assert list(rows()) == expected
    assert not scratch.exists()
