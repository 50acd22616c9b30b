"""A streamed body over a socket: cut off, badly framed, and from competing phones."""

import gzip
import socket
import struct

import anyio
import pytest

from atlas.core.events import ExportAccepted, ExportReplayed
from atlas.core.identifiers import API_PREFIX
from tests.conftest import ServiceHarness
from tests.support.listeners import Reply, answered, listening
from tests.support.long_lines import LINE_BYTES, MIB, THREE_PARTS, line, lines
from tests.support.zstandard import zstd

FULL_PARTS = THREE_PARTS[: 12 * LINE_BYTES]
GOES_ON = line("12")[:-9]  # an incomplete line of the third part
RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def life(tmp_path):
    return ServiceHarness(tmp_path / "journal", journal_bytes_max=256 * MIB)


def head(*more: str, token="token-of-ada") -> bytes:
    fields = [f"POST {API_PREFIX}/export HTTP/1.1", "host: atlas.test", *more]
    fields += [f"authorization: Bearer {token}", "content-type: application/x-ndjson"]
    return "\r\n".join([*fields, "", ""]).encode()


def whole(body: bytes, *more: str, **who: str) -> bytes:
    return head(f"content-length: {len(body)}", *more, **who) + body


def encode_chunks(body: bytes, chunk_bytes: int = MIB) -> bytes:
    """Encode the body in chunks, without the last one."""
    pieces = [body[at : at + chunk_bytes] for at in range(0, len(body), chunk_bytes)]
    sent = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return b"".join([head("transfer-encoding: chunked"), *sent])


def replays(answer: Reply) -> list[bool]:
    return [part["replayed"] for part in answer.body["upload_results"]]


async def send_and_drop(server, request: bytes, parts_safe: int, *, reset: bool = False) -> None:
    """Send a request and drop the connection after it, once this many parts are stored."""
    async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
        await stream.send(request)
        await server.flow.seen.wait_for(ExportAccepted, parts_safe)
        if reset:
            raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


CUT_OFF = [
    pytest.param(
        head(f"content-length: {len(THREE_PARTS)}") + FULL_PARTS + GOES_ON, id="a length too long"
    ),
    pytest.param(encode_chunks(FULL_PARTS + GOES_ON), id="no last chunk"),
    pytest.param(encode_chunks(FULL_PARTS + GOES_ON)[:-99], id="in the middle of a chunk"),
    pytest.param(
        encode_chunks(FULL_PARTS + GOES_ON) + b"0\r\n", id="before the end of the last chunk"
    ),
]


@pytest.mark.parametrize("request_", CUT_OFF)
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_of_a_body_that_is_cut_off_the_full_parts_are_safe_and_no_more(life, request_, reset):
    other = THREE_PARTS[: 6 * LINE_BYTES] + lines(*map(str, range(20, 29)))
    async with listening(life) as server:
        await send_and_drop(server, request_, 2, reset=reset)
        await server.flow.is_empty()
        kept = life.dataset.uuids()
        again = await server.raw(whole(THREE_PARTS))
        differs = await server.raw(encode_chunks(other) + b"0\r\n\r\n")

    assert kept == sorted(map(str, range(12)))
    assert (again.status, replays(again)) == (200, [True, True, False])
    assert (differs.status, replays(differs)) == (200, [True, False, False])
    assert len(life.dataset.uuids()) == 15 + 9


async def test_of_a_body_longer_than_its_length_nothing_behind_that_is_taken(life):
    surplus = b"\n" + THREE_PARTS[-LINE_BYTES:]
    request = head(f"content-length: {len(FULL_PARTS)}") + FULL_PARTS
    async with listening(life) as server:
        await send_and_drop(server, request + surplus, 2)
        again = await server.raw(whole(THREE_PARTS))

    assert (again.status, replays(again)) == (200, [True, True, False])
    assert life.dataset.uuids() == sorted(map(str, range(15)))


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(["content-length: x"], id="no number"),
        pytest.param(["content-length: -1"], id="below zero"),
        pytest.param(["content-length: 2", "content-length: 3"], id="two lengths"),
        pytest.param(["content-length: 3", "transfer-encoding: chunked"], id="both"),
    ],
)
async def test_what_two_readers_would_cut_at_two_places_is_refused(life, fields):
    async with listening(life) as server:
        answer = await server.raw(head(*fields) + b"{}\n")

    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert life.dataset.transactions == {}


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [
        pytest.param("gzip", gzip.compress(bytes(256 * MIB), 9), id="gzip"),
        pytest.param("zstd", zstd.compress(bytes(256 * MIB)), id="zstd"),
    ],
)
async def test_who_sends_a_bomb_is_answered_and_the_connection_closed(life, encoding, bomb):
    async with listening(life) as server:
        answer = await server.raw(whole(bomb + bytes(8 * MIB), f"content-encoding: {encoding}"))

    assert (answer.status, answer.code) == (413, "PAYLOAD_TOO_LARGE")
    assert answer.headers["connection"] == "close"


async def test_chunks_of_a_byte_are_a_body_like_any_other(life):
    body = b'\xef\xbb\xbf{"uuid":"a"}\r\n\r\n{"uuid":"b"}\r\n' + lines("c", size=9_000)
    async with listening(life) as server:
        answer = await server.raw(encode_chunks(body, 1) + b"0\r\n\r\n")

    assert (answer.status, answer.body["safe_bytes"]) == (200, len(body))
    assert life.dataset.uuids() == ["a", "b", "c"]
    assert life.dataset.rows()[0]["raw_healthkit_record"] == '{"uuid":"a"}'


@pytest.mark.parametrize(("token", "status"), [("token-of-ada", 200), ("stolen", 401)])
async def test_who_asks_before_he_sends_is_told_to_only_if_he_may(life, token, status):
    body = lines("a", size=9_000)
    asking = head(f"content-length: {len(body)}", "expect: 100-continue", token=token)
    async with (
        listening(life) as server,
        await anyio.connect_tcp("127.0.0.1", server.port) as stream,
    ):
        await stream.send(asking)
        if status == 200:
            assert await stream.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
            await stream.send(body)
        assert (await answered(stream)).status == status


async def test_two_streams_behind_each_other_on_one_connection_are_two(life):
    async with (
        listening(life) as server,
        await anyio.connect_tcp("127.0.0.1", server.port) as stream,
    ):
        await stream.send(whole(b'{"uuid":"a"}\n') + whole(b'{"uuid":"b"}\n'))
        first, second = await answered(stream), await answered(stream)

    assert (first.status, second.status) == (200, 200)
    assert life.dataset.uuids() == ["a", "b"]


async def all_at_once(server, *requests: bytes) -> list[Reply]:
    answers: list[Reply] = []

    async def send(request):
        answers.append(await server.raw(request))

    async with anyio.create_task_group() as tasks:
        for request in requests:
            tasks.start_soon(send, request)
    return answers


async def test_the_same_stream_four_times_at_once_stands_once(life):
    ways = whole(THREE_PARTS), whole(gzip.compress(THREE_PARTS, 1), "content-encoding: gzip")
    async with listening(life) as server:
        answers = await all_at_once(server, *ways, *ways)
        seen = server.flow.seen

    assert [answer.status for answer in answers] == [200] * 4
    assert len({answer.body["receipt_id"] for answer in answers}) == 1
    assert {answer.body["total_records"] for answer in answers} == {15}
    assert life.dataset.uuids() == sorted(map(str, range(15)))
    assert (seen.count_of(ExportAccepted), seen.count_of(ExportReplayed)) == (3, 9)


async def test_of_two_streams_at_once_under_one_key_one_is_refused(life):
    one, other = (
        whole(lines(*("abcdefgh" if which else "ijklmnop")), "idempotency-key: k")
        for which in (True, False)
    )
    async with listening(life) as server:
        answers = await all_at_once(server, one, other)

    assert sorted(answer.status for answer in answers) == [200, 422]
    assert "".join(life.dataset.uuids()) in {"abcdefgh", "ijklmnop"}


async def test_the_bad_lines_of_a_part_without_a_good_one_are_told_by_their_numbers(life):
    body = lines(*"abcdef") + (b"." * LINE_BYTES + b"\n") * 6 + b"[]\n{}\n"
    async with listening(life) as server:
        answer = await server.raw(whole(body))

    (error,) = answer.body["errors"]
    assert (answer.status, error["code"], error["chunkIndex"]) == (207, "INVALID_NDJSON", 1)
    assert error["details"] == [{"line": n, "reason": "not valid JSON"} for n in range(7, 13)]
    assert answer.body["upload_results"][1]["rejects"] == [
        {"line": 13, "reason": "not a JSON object"}
    ]
    assert answer.body["safe_bytes"] == len(body)
