"""Splitting of a body into lines."""

import base64

import pytest

from atlas.core import ndjson
from atlas.core.errors import ChunkTooLarge, Rejected
from atlas.core.messages import ExportMetadata, RawExport, User


def lines(body):
    head = ExportMetadata(User("ada"), "iPhone", "", "correlation")
    return ndjson.split_lines(
        ndjson.decode(RawExport(head, body), bytes_max=1_000, lines_max=10).text
    )


def test_one_carriage_return_before_a_line_end_belongs_to_it():
    sent = base64.b64encode(b"a\r\r\n\rb\r\n c \r")
    assert lines(sent) == (b"a\r", b"\rb", b" c \r")


@pytest.mark.parametrize(
    "body", [b"Pz8/Pj4+YQ==", b"Pz8/Pj4+YQ", b"Pz8_Pj4-YQ", b"Pz8/\r\nPj4+ YQ=="]
)
def test_every_way_to_write_base64_is_understood(body):
    assert lines(body) == (b"???>>>a",)


@pytest.mark.parametrize("text", [b"", b"a", b"a\n", b"\n\n\n", b"abc\nd\n\nefghi\nj"])
@pytest.mark.parametrize("bytes_min", [1, 2, 5, 100])
def test_a_text_is_cut_at_the_ends_of_lines(text, bytes_min):
    pieces = list(ndjson.split_blocks(text, bytes_min))
    assert b"".join(pieces) == text
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])
    assert all(len(piece) >= bytes_min for piece in pieces[:-1])


def test_a_byte_order_mark_is_skipped():
    assert lines(b"77u/e30=") == (b"{}",)


@pytest.mark.parametrize("body", [b"", b"=", b"A", b"A===", b"!AAA", b"\xc3\xa9AA", b"YQ==YQ=="])
def test_what_is_no_base64_or_empty_is_refused(body):
    with pytest.raises(Rejected) as refused:
        lines(body)
    assert refused.value.code == "INVALID_PAYLOAD"


@pytest.mark.parametrize(
    "sent",
    [pytest.param(b"{" * 1_001, id="bytes"), pytest.param(b"{}\n" * 11, id="lines")],
)
def test_what_is_too_much_for_one_file_is_refused(sent):
    with pytest.raises(ChunkTooLarge):
        lines(base64.b64encode(sent))


@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b" \t\r\r\n", b"\x0b\x0c\n"])
def test_blank_lines_are_numbered_and_are_no_lines_too_many(blank):
    assert len(lines(base64.b64encode(blank * 100 + b" {} \n" * 10))) == 111
    with pytest.raises(ChunkTooLarge):
        lines(base64.b64encode(blank * 100 + b" {} \n" * 11))
