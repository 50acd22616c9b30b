"""A streamed body: parts are stored one after another, whatever happens to the rest."""

import gzip
import json
import zlib

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.actors.flatten import tabulate
from atlas.computing import WorkerExecutor
from atlas.core import ndjson
from atlas.core.events import ExportAccepted, RecordCountMismatch
from atlas.core.identifiers import API_PREFIX
from atlas.core.records import LINE_BYTES_MAX
from atlas.core.stream_splitter import PART_BYTES, StreamSplitter
from tests.conftest import GONE, ServiceHarness, an_export
from tests.support.fakes import Barrier
from tests.support.long_lines import LINE_BYTES, MIB, ROWS_BYTES, THREE_PARTS, line, lines, noisy
from tests.support.zstandard import zstd

CHUNK_BYTES = 64 * 1024


@pytest.fixture
def life(tmp_path):
    return ServiceHarness(tmp_path / "journal", journal_bytes_max=256 * MIB)


def pieces(body, end=()):
    return [*(body[at : at + CHUNK_BYTES] for at in range(0, len(body), CHUNK_BYTES)), *end]


async def stream(flow, body, token="token-of-ada", path="/export", **headers):
    headers.setdefault("content_type", "application/x-ndjson")
    sent = pieces(body) if isinstance(body, bytes) else body
    return await flow.send("POST", API_PREFIX + path, token, sent, **headers)


async def test_each_part_is_an_export_and_the_whole_has_a_receipt(life):
    async with life.running() as flow:
        answer = await stream(flow, THREE_PARTS, Atlas_Device="Ada%E2%80%99s iPhone")
        whole = await flow.receipt(answer.body["receipt_id"])
        strangers = await flow.receipt(answer.body["receipt_id"], token="token-of-eve")

    assert answer.status == 200
    assert answer.body["chunks_successful"] == 3
    assert answer.body["total_records"] == 15
    assert answer.body["safe_bytes"] == len(THREE_PARTS)
    assert [part["records_received"] for part in answer.body["upload_results"]] == [6, 6, 3]
    assert life.dataset.uuids() == sorted(map(str, range(15)), key=str)
    assert b"Ada\xe2\x80\x99s iPhone" in next(iter(life.dataset.files().values()))
    assert (whole.body["chunks_successful"], whole.body["total_records"]) == (3, 15)
    assert strangers.status == 404


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", lambda text: gzip.compress(text, 1)),
        ("deflate", lambda text: zlib.compress(text, 1)),
        ("zstd", zstd.compress),
        ("zstd", lambda text: zstd.compress(text[:9]) + zstd.compress(text[9:])),
    ],
    ids=["gzip", "deflate", "zstd", "zstd in two frames"],
)
async def test_however_it_is_packed_it_is_the_same(life, encoding, pack):
    async with life.running() as flow:
        first = await stream(flow, noisy(15))
        again = await stream(flow, pack(noisy(15)), Content_Encoding=encoding)

    assert again.status == 200
    assert again.headers["idempotency-replayed"] == "true"
    assert again.body["receipt_id"] == first.body["receipt_id"]
    assert len(life.dataset.uuids()) == 15


async def test_what_was_full_when_the_connection_was_lost_is_passed_over_the_next_time(life):
    flattened = []

    async def watched(size, work, /, *args):
        if work is tabulate:
            flattened.append(args[2])
        return await WorkerExecutor()(size, work, *args)

    life.compute = watched
    lost = pieces(THREE_PARTS[: 13 * LINE_BYTES], end=[GONE])
    async with life.running() as flow:
        await stream(flow, lost)
        await flow.is_empty()
        kept = life.dataset.uuids()
        answer = await stream(flow, THREE_PARTS)

    assert kept == sorted(map(str, range(12)))
    assert answer.status == 200
    assert [part["replayed"] for part in answer.body["upload_results"]] == [True, True, False]
    assert len(life.dataset.uuids()) == 15
    assert sorted(flattened) == list(range(1, 16))  # each line once; longer than a read


async def test_a_body_that_differs_behind_its_first_part_adds_what_differs(life):
    other = THREE_PARTS[: 6 * LINE_BYTES] + lines(*map(str, range(20, 29)))
    async with life.running() as flow:
        await stream(flow, THREE_PARTS)
        answer = await stream(flow, other)

    assert answer.status == 200
    assert [part["replayed"] for part in answer.body["upload_results"]] == [True, False, False]
    assert len(life.dataset.uuids()) == 15 + 9


async def test_under_a_key_another_body_is_refused_and_a_longer_one_goes_on(life):
    longer = THREE_PARTS[: 12 * LINE_BYTES] + lines(*map(str, range(12, 24)))
    other = lines("x") + THREE_PARTS[LINE_BYTES:]
    async with life.running() as flow:
        await stream(flow, THREE_PARTS[: 12 * LINE_BYTES], Idempotency_Key="first sync")
        bad_key = await stream(flow, b"{}\n", Idempotency_Key="first sync")
        await stream(flow, THREE_PARTS[: 12 * LINE_BYTES], Idempotency_Key="first-sync")
        answer = await stream(flow, longer, Idempotency_Key="first-sync")
        refused = await stream(flow, other, Idempotency_Key="first-sync")
        single = await flow.post(an_export(), Idempotency_Key="first-sync")
        page = await flow.send("GET", f"{API_PREFIX}/exports?key=first-sync", "token-of-ada")

    assert bad_key.status == 400
    assert answer.status == 200
    assert answer.body["chunks_successful"] == 4
    assert refused.status == single.status == 422
    assert refused.body["safe_bytes"] == 0, "under another key it is another stream"
    assert "x" not in life.dataset.uuids()
    assert page.body["receipt_id"] == answer.body["receipt_id"]
    assert len(page.body["receipts"]) == 4


async def test_a_stream_under_the_key_of_an_export_is_refused(life):
    async with life.running() as flow:
        await flow.post(an_export(), Idempotency_Key="k")
        answer = await stream(flow, b'{"uuid":"a"}\n', Idempotency_Key="k")

    assert answer.status == 422


async def test_two_equal_parts_of_one_body_both_stand(life):
    twice = lines(*"abcdef") * 2
    async with life.running() as flow:
        answer = await stream(flow, twice)

    assert answer.body["chunks_successful"] == 2
    assert life.dataset.uuids() == sorted("abcdef" * 2)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
async def test_a_body_that_ends_in_the_middle_says_how_far_it_came(life, encoding):
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress}[encoding]
    packed = pack(noisy(15))
    async with life.running() as flow:
        answer = await stream(flow, packed[: len(packed) * 9 // 10], Content_Encoding=encoding)
        again = await stream(flow, packed, Content_Encoding=encoding)

    assert answer.status == 400
    assert answer.body["error"]["code"] == "INVALID_PAYLOAD"
    assert answer.body["success"] is False
    assert answer.body["chunks_successful"] == 2
    assert answer.body["safe_bytes"] == 12 * LINE_BYTES
    assert [part["replayed"] for part in again.body["upload_results"]] == [True, True, False]


DOTS = b"." * 300_000


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [
        ("gzip", gzip.compress(bytes(64 * MIB), 9)),
        ("zstd", zstd.compress(bytes(64 * MIB))),
        ("gzip", gzip.compress(b'{"uuid":"a","metadata":{"HKNote":"%s"}}\n' % DOTS * 200, 9)),
    ],
    ids=["gzip", "zstd", "lines"],
)
async def test_a_bomb_is_refused_before_it_has_gone_off(life, encoding, bomb):
    async with life.running() as flow:
        answer = await stream(flow, bomb, Content_Encoding=encoding)

    assert answer.status == 413
    told = answer.body["error"]
    assert told["code"] == "PAYLOAD_TOO_LARGE"


async def test_a_longer_body_than_may_be_is_refused_and_its_full_parts_stay(life):
    life.stream_bytes_max = 12 * LINE_BYTES
    async with life.running() as flow:
        declared = await stream(flow, THREE_PARTS, Content_Length=str(len(THREE_PARTS)))
        answer = await stream(flow, THREE_PARTS)

    assert declared.status == answer.status == 413
    assert not declared.body_was_read
    assert answer.body["chunks_successful"] == 1, "the line end that follows is not here yet"


async def test_a_line_that_is_too_long_is_rejected_alone_and_the_numbers_go_on(life):
    body = lines("a") + line("long", LINE_BYTES_MAX + 2 * MIB) + lines("b") + b"rubbish\n"
    async with life.running() as flow:
        answer = await stream(flow, body)

    rejects = [each for part in answer.body["upload_results"] for each in part["rejects"]]
    assert answer.status == 200
    assert [each["line"] for each in rejects] == [2, 4]
    assert f"longer than {LINE_BYTES_MAX}" in rejects[0]["reason"]
    assert life.dataset.uuids() == ["a", "b"]
    assert answer.body["safe_bytes"] == len(body)


async def test_a_stream_without_a_line_end_is_one_line_and_too_long(life):
    async with life.running() as flow:
        answer = await stream(flow, b"." * (LINE_BYTES_MAX + MIB))

    assert answer.status == 400
    assert answer.body["errors"][0]["code"] == "INVALID_NDJSON"


@pytest.mark.parametrize(
    "body", [b"", b"\n \r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n", b" \n" * PART_BYTES]
)
async def test_a_stream_with_nothing_in_it_is_refused(life, body):
    async with life.running() as flow:
        answer = await stream(flow, body)

    assert answer.status == 400
    assert answer.body["error"]["code"] == "INVALID_PAYLOAD"
    assert answer.body["error"]["message"] == "The body is empty."


async def test_a_byte_order_mark_counts_only_at_the_start(life):
    body = b"\xef\xbb\xbf" + lines(*"abcdef") + b"\xef\xbb\xbf" + lines("g", "h")
    async with life.running() as flow:
        answer = await stream(flow, body)

    assert life.dataset.uuids() == list("abcdefh")
    assert answer.body["upload_results"][1]["rejects"] == [{"line": 7, "reason": "not valid JSON"}]


async def test_a_part_with_too_many_lines_fails_alone(life):
    many = b"{}\n" * 200_000
    body = lines(*"abcdef") + many + lines(*"ghijkl")
    async with life.running() as flow:
        answer = await stream(flow, body)

    assert answer.status == 207
    assert [each["code"] for each in answer.body["errors"]] == ["CHUNK_TOO_LARGE"]
    assert "a" in life.dataset.uuids()
    assert answer.body["safe_bytes"] == len(body), "sending it again would be of no use"


async def test_blank_lines_without_number_are_counted_beside_the_loop_and_are_none(life):
    elsewhere = []

    async def watched(size, work, /, *args):
        elsewhere.append(work)
        return await WorkerExecutor()(size, work, *args)

    life.compute = watched
    async with life.running() as flow:
        answer = await stream(flow, b"\n" * 200_000 + b'{"uuid":"a"}\n')

    assert answer.body["total_records"] == 1
    assert elsewhere[:2] == [ndjson.decode_part, tabulate]


async def test_while_the_journal_is_full_the_sender_waits_at_the_socket(life):
    life.journal_bytes_max = 10 * ROWS_BYTES
    life.dataset.mishaps["before commit"] = gate = Barrier()
    answers = []
    async with life.running() as flow, anyio.create_task_group() as tasks:

        async def send():
            answers.append(await stream(flow, THREE_PARTS))

        tasks.start_soon(send)
        await flow.seen.wait_for(ExportAccepted)
        await anyio.sleep(0.3)
        assert not answers
        gate.opened.set()

    assert answers[0].status == 200
    assert len(life.dataset.uuids()) == 15


async def test_when_the_journal_stays_full_the_sender_is_told_what_is_safe(life):
    one_by_one = anyio.Lock()  # the second part would sometimes overtake the first

    async def compute(size, work, /, *args):
        async with one_by_one:
            return await WorkerExecutor()(size, work, *args)

    life.compute = compute
    life.journal_bytes_max, life.reply_seconds = 10 * ROWS_BYTES, 0.5
    life.dataset.mishaps["before commit"] = gate = Barrier()
    three_full = lines(*map(str, range(18)))
    async with life.running() as flow:
        full = await stream(flow, three_full)
        gate.opened.set()
        await flow.is_empty()
        again = await stream(flow, three_full)

    assert full.status == 503
    assert full.body["error"]["code"] == "JOURNAL_FULL"
    assert full.body["chunks_successful"] == 1
    assert full.body["safe_bytes"] == 6 * LINE_BYTES
    assert again.status in {200, 202}
    assert again.body["upload_results"][0]["replayed"]
    assert life.dataset.uuids() == sorted(map(str, range(18)))


async def test_the_count_that_the_sender_said_is_compared_with_the_whole(life):
    async with life.running() as flow:
        right = await stream(flow, THREE_PARTS, Atlas_Record_Count="15")
        wrong = await stream(flow, THREE_PARTS, Atlas_Record_Count="16")

    assert "warnings" not in right.body
    assert wrong.body["warnings"] == ["recordCount is 16, lines received: 15"]
    assert flow.seen.count_of(RecordCountMismatch) == 1


@pytest.mark.parametrize("device", ["Ada\u2019s iPhone", "Ada%E2%80%99s%20iPhone"])
async def test_the_device_is_utf_8_as_it_is_or_percent_encoded(life, device):
    raw = device.encode().decode("latin-1")
    async with life.running() as flow:
        answer = await stream(flow, b'{"uuid":"a"}\n', Atlas_Device=raw, Atlas_Timestamp="then")

    (file,) = life.dataset.files().values()
    row = json.loads(file)
    assert answer.status == 200
    assert (row["device"], row["export_timestamp"]) == ("Ada\u2019s iPhone", "then")


async def test_a_device_that_is_no_text_is_refused(life):
    async with life.running() as flow:
        answer = await stream(flow, b"{}\n", Atlas_Device="\xff")

    assert answer.status == 400
    assert "Atlas-Device" in answer.body["error"]["message"]


async def test_a_part_that_crashes_a_stage_is_set_aside_and_the_others_go_on(life):
    async def breaks(size, work, /, *args):
        if work is tabulate and b'"poison"' in args[0]:
            raise ValueError
        return await WorkerExecutor()(size, work, *args)

    life.compute = breaks
    async with life.running() as flow:
        answer = await stream(flow, lines("poison") + THREE_PARTS)

    assert answer.status == 202
    statuses = [part["status"] for part in answer.body["upload_results"]]
    assert sorted(statuses) == ["committed", "committed", "set_aside"]


async def test_an_end_in_the_middle_lists_what_is_safe(life):
    async with life.running() as flow:

        def ends_behind_the_first_part():
            for number, piece in enumerate(pieces(THREE_PARTS)):
                if number == 8 * LINE_BYTES // CHUNK_BYTES:
                    flow.service.drain()
                yield piece

        answer = await stream(flow, ends_behind_the_first_part())

    assert answer.status == 503
    assert answer.body["error"]["code"] == "DRAINING"
    assert answer.body["chunks_successful"] == 1
    assert answer.body["safe_bytes"] == 6 * LINE_BYTES


@given(
    body=st.lists(st.sampled_from([b"\n", b"a", b"bc", b"\r\n", b"dddddddd"])).map(b"".join),
    cuts=st.lists(st.integers(0, 200)),
    part_bytes=st.integers(1, 40),
)
def test_where_it_is_cut_depends_on_the_bytes_alone(body, cuts, part_bytes):
    ends = sorted({min(cut, len(body)) for cut in cuts} | {len(body)})
    fed = [body[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    parts = cut(fed, part_bytes)

    assert parts == cut([body], part_bytes)
    assert b"".join(part.text for part in parts) == body
    for number, part in enumerate(parts):
        assert part.text == body[part.offset : part.end]
        assert part.first == body[: part.offset].count(b"\n") + 1
        if number < len(parts) - 1:
            assert part.text.endswith(b"\n")
            assert b"\n" not in part.text[part_bytes - 1 : -1]
            assert len(part.text) >= part_bytes


def cut(fed, part_bytes, line_bytes_max=1_000):
    cutter = StreamSplitter(part_bytes, line_bytes_max)
    parts = [part for piece in fed for part in cutter.feed(piece)]
    last = cutter.flush()
    return [*parts, last] if last else parts


@given(sizes=st.lists(st.integers(0, 60)), step=st.integers(1, 25), part_bytes=st.integers(1, 40))
def test_of_a_line_that_is_too_long_only_so_much_is_held_that_it_is_seen(sizes, step, part_bytes):
    body = b"".join(b"x" * size + b"\n" for size in sizes)
    cutter, parts, longest = StreamSplitter(part_bytes, 20), [], max(part_bytes, 0) + 22 + step
    for at in range(0, len(body), step):
        parts += cutter.feed(body[at : at + step])
        assert len(cutter._text) <= longest + part_bytes
    last = cutter.flush()
    parts += [last] if last else []

    kept = b"".join(part.text for part in parts).split(b"\n")[:-1]
    assert [min(len(line), 21) for line in kept] == [min(size, 21) for size in sizes]
    assert [part.offset for part in parts[1:]] == [part.end for part in parts[:-1]]
    assert not parts or parts[-1].end == len(body)


def test_the_size_of_a_part_is_part_of_its_name_and_never_changes():
    assert PART_BYTES == 4 * 1024 * 1024
