"""What nobody reads of a body takes no memory."""

import tracemalloc

import pytest

from atlas.core.errors import TooManyChunks
from atlas.edge import wire
from atlas.edge.batches import Batches
from atlas.edge.body_reader import parse_json


@pytest.mark.parametrize("key", ["device", "timestamp", "recordCount", "options", "unknown"])
def test_what_nobody_asks_for_is_not_made_into_objects(key):
    bomb = b'{"rawhealthkit": "", "%s": [%s[]]}' % (key.encode(), b"[]," * 300_000)
    tracemalloc.start()
    sent = parse_json(bomb, wire.ExportBody)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    said = sent.declared_fields()
    assert (said.device, said.timestamp, said.record_count) == ("", "", None)
    assert peak < len(bomb) / 10


def test_of_too_many_chunks_no_more_are_made_than_tell_that_there_are():
    batches, bomb = Batches(64), b'{"chunks": [%s{}]}' % (b"{}," * 300_000)
    tracemalloc.start()
    with pytest.raises(TooManyChunks):
        batches.chunks(parse_json(bomb, batches.kind))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < len(bomb) / 10
