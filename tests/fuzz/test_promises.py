"""Properties of all inputs that a sender controls besides the export itself."""

import gzip
import random
import time
import zlib
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.core.errors import Rejected
from atlas.core.traces import Sampler, never_sample
from atlas.edge.content_encoding import STEP_BYTES, build_decoder
from atlas.edge.context import CORRELATION_ID, WAIT_SECONDS_MAX, read_context
from tests.fuzz.mutations import raw_deflate
from tests.support.zstandard import zstd

LONG = 64 * 1024


PACKED = {
    "gzip": ("gzip", gzip.compress),
    "gzip of two members": ("gzip", lambda text: gzip.compress(text[:9]) + gzip.compress(text[9:])),
    "gzip that is padded": ("gzip", lambda text: gzip.compress(text) + bytes(600)),
    "deflate": ("deflate", zlib.compress),
    "deflate without a header": ("deflate", raw_deflate),
    "zstd": ("zstd", zstd.compress),
    "zstd of two frames": (
        "zstd",
        lambda text: zstd.compress(text[:9]) + zstd.compress(text[9:]),
    ),
}
units = st.binary(min_size=1, max_size=9)
around = [n * STEP_BYTES for n in (1, 2)]
sizes = st.integers(0, 900) | st.builds(int.__add__, st.sampled_from(around), st.integers(-9, 300))
cuts = st.lists(st.integers(0, 1_000), max_size=9)
some_bytes = st.binary(max_size=60).map(lambda raw: raw.decode("latin-1"))
alike = st.text('wait=respond-async, ;"0123456789', max_size=60)
values = some_bytes | alike


def split(text, at):
    places = sorted({0, len(text), *(min(each, len(text)) for each in at)})
    return [text[start:end] for start, end in pairwise(places)]


def inflate(encoding, given):
    decoder = build_decoder(encoding)
    output = [step for piece in given for step in decoder.decode(piece)]
    decoder.end()
    return b"".join(output)


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
@given(unit=units, size=sizes, cuts=cuts)
def test_what_was_packed_is_there_again_wherever_the_body_was_cut(packed, unit, size, cuts):
    encoding, compress = packed
    text = (unit * size)[:size]
    assert inflate(encoding, split(compress(text), cuts)) == text


@given(size=st.integers(STEP_BYTES - 9, STEP_BYTES + 600), cuts=cuts)
def test_the_end_that_zlib_holds_back_is_asked_for(size, cuts):
    """Found by the fuzzer: a body of slightly more than 64 KiB was reported as truncated."""
    assert inflate("deflate", split(raw_deflate(bytes(size)), cuts)) == bytes(size)


@given(
    members=st.lists(st.integers(0, 4), min_size=2, max_size=5),
    off=st.integers(-1, 1),
    noise=st.booleans(),
    cuts=cuts,
)
def test_members_of_gzip_follow_each_other_wherever_they_end(members, off, noise, cuts):
    """Data after a member that ended at a step were duplicated, again for each such member."""
    rng = random.Random(len(cuts))
    texts = [
        rng.randbytes(size) if noise else bytes(size)
        for size in (max(0, each * STEP_BYTES + off) for each in members)
    ]
    packed = b"".join(gzip.compress(text, 1) for text in texts)
    assert inflate("gzip", split(packed, cuts)) == b"".join(texts)


@pytest.mark.parametrize("at", [1, 5, 9])
def test_the_padding_of_gzip_may_come_later(at):
    """Found by the fuzzer: padding at the beginning of a piece was taken for trailing data."""
    packed = gzip.compress(b"{}") + bytes(9)
    assert inflate("gzip", [packed[:-at], packed[-at:]]) == b"{}"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
@given(noise=st.binary(max_size=200), cuts=cuts)
def test_any_bytes_inflate_or_are_refused(encoding, noise, cuts):
    with suppress(Rejected):
        inflate(encoding, split(noise, cuts))


def read_headers(**headers):
    names = {name.replace("_", "-").encode(): text for name, text in headers.items()}
    listed = [(name, text.encode("latin-1")) for name, text in names.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b""}
    return read_context(scope | {"headers": listed}, "none", never_sample)


@given(values)
def test_nobody_waits_longer_than_may_be_waited(prefer):
    wait = read_headers(prefer=prefer).wait_seconds
    assert wait is None or 0 <= wait <= WAIT_SECONDS_MAX


@pytest.mark.parametrize(
    "prefer",
    [
        pytest.param("," + " " * LONG + ",", id="spaces"),
        pytest.param("a" * LONG, id="letters"),
        pytest.param("a =" * (LONG // 3), id="no values"),
        pytest.param('a="' + "a " * (LONG // 2), id="a text without end"),
    ],
)
def test_what_somebody_prefers_is_read_once(prefer):
    """16 KiB of spaces blocked the service for four seconds; these would take a minute."""
    began = time.monotonic()
    assert read_headers(prefer=prefer).wait_seconds is None
    assert time.monotonic() - began < 20


@given(values)
def test_a_key_is_printable_or_refused(text):
    with suppress(Rejected):
        key = read_headers(idempotency_key=text).parse_idempotency_key()
        assert key is None or (key == text and key.isascii() and key.isprintable())


@given(values | st.text(max_size=20).map(lambda text: text.encode().decode("latin-1")))
def test_what_comes_with_a_stream_is_text_or_refused(raw):
    with suppress(Rejected):
        read_headers(atlas_device=raw).parse_device().encode()


@given(values | st.integers().map(str))
def test_a_count_is_a_number_or_none(raw):
    count = read_headers(atlas_record_count=raw).parse_record_count()
    assert count is None or count == int(raw)


@given(values)
def test_a_correlation_id_can_stand_in_a_header_again(raw):
    if CORRELATION_ID.fullmatch(raw):
        assert raw.isascii()
        assert raw.isprintable()


@given(st.text("0123456789abcdefg-", max_size=60) | values)
def test_a_trace_begins_or_goes_on_whatever_the_sender_calls_it(raw):
    trace = Sampler(1.0, lambda size: "a" * 2 * size, lambda: 0.5)(raw)
    if trace is not None:
        assert (len(trace.id), len(trace.span)) == (32, 16)
        assert trace.parent is None or f"-{trace.id}-{trace.parent}-" in raw
