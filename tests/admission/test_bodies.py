"""Parsing of bodies: unused fields take no memory, and errors name the field."""

import tracemalloc

import pytest

from atlas.core.errors import Rejected, TooManyChunks
from atlas.edge import api_types
from atlas.edge.batches import BatchParser
from atlas.edge.body_reader import parse_export, parse_json


@pytest.mark.parametrize("key", ["device", "timestamp", "recordCount", "options", "unknown"])
def test_what_nobody_asks_for_is_not_made_into_objects(key):
    bomb = b'{"rawhealthkit": "", "%s": [%s[]]}' % (key.encode(), b"[]," * 300_000)
    tracemalloc.start()
    sent = parse_json(bomb, api_types.ExportBody)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    said = sent.get_declared_fields()
    assert (said.device, said.timestamp, said.record_count) == ("", "", None)
    assert peak < len(bomb) / 10


def test_of_too_many_chunks_no_more_are_made_than_tell_that_there_are():
    batches, bomb = BatchParser(64), b'{"chunks": [%s{}]}' % (b"{}," * 300_000)
    tracemalloc.start()
    with pytest.raises(TooManyChunks):
        batches.split_chunks(parse_json(bomb, batches.kind))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < len(bomb) / 10


@pytest.mark.parametrize(
    ("parse", "body", "named"),
    [
        (parse_export, b"{}", "rawhealthkit is missing"),
        (parse_export, b"[]", "it is not an object"),
        (parse_export, b'{"rawhealthkit": 5}', "rawhealthkit has the wrong type"),
        (parse_export, b'{"rawhealthkit": "", "manifest": "\xff"}', "manifest is not UTF-8"),
        (parse_export, b'{"rawhealthkit": 5, "rawhealthkit": "\\n"}', "given twice"),
        (BatchParser(64).parse, b"{}", "chunks is missing"),
        (BatchParser(64).parse, b'{"chunks": {}}', "chunks has the wrong type"),
    ],
)
def test_a_body_of_another_shape_is_refused_with_the_name_of_the_field(parse, body, named):
    with pytest.raises(Rejected, match=f"does not match the schema: .*{named}"):
        parse(body)


@pytest.mark.parametrize("wrong", [b'"rawhealthkit": 5, ', b""], ids=["wrong type", "missing"])
def test_to_find_the_wrong_field_the_others_are_not_made_into_objects(wrong):
    bomb = b'{%s"device": [%s[]], %s"z": 1}' % (wrong, b"[]," * 300_000, b'"k": 1,' * 300_000)
    tracemalloc.start()
    with pytest.raises(Rejected, match="rawhealthkit"):
        parse_export(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < len(bomb) / 10
