"""Leaves of a table whose cells are broken: none of them is a row, and none takes memory."""

import sqlite3
import struct
from contextlib import closing

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


ROWS = 40


@pytest.fixture
def table(tmp_path):
    """A database with one leaf of rows, as bytes, and the position of the third row's text."""
    path = tmp_path / "table"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE export (number INTEGER PRIMARY KEY, id TEXT)")
        db.executemany("INSERT INTO export (id) VALUES (?)", [[f"id{n:02}"] for n in range(ROWS)])
        db.commit()
    content = bytearray(path.read_bytes())
    return content, content.index(b"id02")


def read_ids(tmp_path, content):
    journal = tmp_path / "journal"
    journal.write_bytes(content)
    with pages.leaves(journal, 2, tmp_path / "scratch") as rows:
        return [row[1] for row in rows() if str(row[1]).startswith("id")]


def test_a_text_that_is_not_utf_8_costs_no_other_row(tmp_path, table):
    content, position = table
    content[position] = 0xFF

    assert len(read_ids(tmp_path, content)) == ROWS - 1


@pytest.mark.parametrize("offset", range(-5, 0), ids=str)
@pytest.mark.parametrize("byte", [0x00, 0x7F, 0x81, 0xFF], ids=hex)
def test_a_corrupt_cell_costs_no_other_row(tmp_path, table, offset, byte):
    """The five bytes before the text: sizes of the payload and its header, number, and types."""
    content, position = table
    content[position + offset] = byte

    assert len(set(read_ids(tmp_path, content))) >= ROWS - 1
