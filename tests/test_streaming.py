"""The reference client in one streamed request: the real service and misbehaving servers."""

import errno
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio
import msgspec
import pytest
from aiohttp import web

from atlas.client import LineAccounting, open_client, stream
from atlas.client.replies import REJECTS_SHOWN
from atlas.client.sending import TRIES
from atlas.client.streaming import STREAM
from atlas.core.events import ExportAccepted, RequestRefused
from tests.conftest import ServiceHarness
from tests.support.fakes import Barrier, at_once
from tests.support.listeners import listening
from tests.support.long_lines import MIB, ROWS_BYTES, lines, noisy
from tests.support.replies import hangs_up, says

BOM = b"\xef\xbb\xbf"
LOST = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
THREE_PARTS = noisy(15).splitlines(keepends=True)  # 6, 6 and 3 lines; 3 MB compressed


async def upload_stream(
    url, texts, token="token-of-ada", device=None, told=None, sleep=anyio.sleep
) -> LineAccounting:
    """Upload a body and return the client's report; `texts` is the body, or a factory of it."""
    balance = LineAccounting()
    tell = (told if told is not None else []).append
    begin = texts if callable(texts) else lambda: texts
    async with open_client(url, token, device, sleep) as client:
        await stream(client, begin, balance, lambda why: tell(why) if why else None)
    assert balance.is_balanced
    return balance


def numbers(balance):
    return (balance.read, balance.committed, balance.rejected, balance.unsent)


# to the real service


@pytest.fixture
def life(tmp_path):
    return ServiceHarness(tmp_path / "journal", journal_bytes_max=256 * MIB)


@asynccontextmanager
async def atlas(life):
    async with listening(life) as server:
        yield f"http://127.0.0.1:{server.port}/"


async def test_every_line_of_a_stream_is_a_row_or_a_reject_of_its_own_number(life):
    body = [BOM + b"\n", b'{"uuid":"first"}\r\n', b"bad\n", b"\x0b\n", lines(*"abcdef"), b"[]\n{"]
    async with atlas(life) as url:
        balance = await upload_stream(url, body)

    assert numbers(balance) == (10, 7, 3, 0)
    assert balance.rejects == [
        (3, "not valid JSON"),
        (11, "not a JSON object"),
        (12, "not valid JSON"),
    ]
    assert balance.bytes == len(b"".join(body))
    assert life.dataset.uuids() == [*"abcdef", "first"]


async def test_the_same_stream_adds_nothing_and_that_of_another_device_does(life):
    async with atlas(life) as url:
        await upload_stream(url, THREE_PARTS)
        again = await upload_stream(url, THREE_PARTS)
        other = await upload_stream(url, [b'{"uuid":"w"}\n'], device="Zoë’s Watch")

    assert (again.committed, again.replayed) == (15, 15)
    assert (other.committed, other.replayed) == (1, 0)
    assert [row["device"] for row in life.dataset.rows() if row["uuid"] == "w"] == ["Zoë’s Watch"]
    assert len(life.dataset.rows()) == 16


async def test_a_part_without_a_good_line_is_rejected_line_by_line_and_the_others_are_not(life):
    rubbish = lines(*"uvwxyz", size=700_001).replace(b"{", b".")
    async with atlas(life) as url:
        balance = await upload_stream(url, [lines(*"abcdef"), rubbish, b"{}\n"])

    assert numbers(balance) == (13, 7, 6, 0)
    assert balance.rejects == [(line, "not valid JSON") for line in range(7, 13)]
    assert balance.last_error is None


async def test_a_part_that_is_too_large_is_told_by_its_place(life):
    async with atlas(life) as url:
        balance = await upload_stream(url, [lines(*"abcdef"), b"{}\n" * 1_400_000, b"{}\n"])

    ((line, reason),) = balance.rejects
    assert (line, reason.partition(": An export")[0]) == (0, "part 2: CHUNK_TOO_LARGE")
    assert numbers(balance) == (1_400_007, 1_905, 1_398_102, 0)


async def test_nothing_good_at_all_is_all_rejected_and_no_trouble(life):
    async with atlas(life) as url:
        balance = await upload_stream(url, [b"bad\n"] * 30)

    assert numbers(balance) == (30, 0, 30, 0)
    assert [line for line, _ in balance.rejects] == list(range(1, REJECTS_SHOWN + 1))
    assert balance.last_error is None


async def test_a_file_without_records_is_told_to_have_none(life):
    async with atlas(life) as url:
        balance = await upload_stream(url, [b"\n", b" \r\n"])

    assert numbers(balance) == (0, 0, 0, 0)
    assert balance.last_error == "400 INVALID_PAYLOAD: The body is empty."


@asynccontextmanager
async def a_line_that_breaks(server, after_bytes, parts_safe=0):
    """Run a proxy whose first connection is lost after so many bytes and stored parts."""
    breaks = [after_bytes]

    async def carry(source, sink):
        with suppress(*LOST):
            async for piece in source:
                await sink.send(piece)

    async def serve(phone):
        async with phone, await anyio.connect_tcp("127.0.0.1", server.port) as there:
            if breaks:
                left = breaks.pop()
                while left > 0:
                    piece = await phone.receive()
                    await there.send(piece)
                    left -= len(piece)
                await server.flow.seen.wait_for(ExportAccepted, parts_safe)
                return
            async with anyio.create_task_group() as both:
                both.start_soon(carry, phone, there)
                await carry(there, phone)
                both.cancel_scope.cancel()

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, serve)
        port = listener.listeners[0].extra(anyio.abc.SocketAttribute.local_port)
        yield f"http://127.0.0.1:{port}"
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("after_bytes", "parts_safe"),
    [
        pytest.param(1, 0, id="before anything"),
        pytest.param(2_700_000, 2, id="behind two parts"),
    ],
)
async def test_when_the_connection_is_lost_the_same_is_sent_again_and_stands_once(
    life, after_bytes, parts_safe
):
    told = []
    async with (
        listening(life) as server,
        a_line_that_breaks(server, after_bytes, parts_safe) as url,
    ):
        balance = await upload_stream(url, THREE_PARTS, told=told, sleep=at_once)

    assert numbers(balance) == (15, 15, 0, 0)
    assert balance.replayed == 6 * parts_safe
    assert len(told) == 1
    assert life.dataset.uuids() == sorted(map(str, range(15)))


async def test_while_the_journal_is_full_it_comes_back_and_the_safe_parts_are_passed_over(life):
    life.journal_bytes_max, life.reply_seconds = 10 * ROWS_BYTES, 0.5
    life.dataset.mishaps["before commit"] = gate = Barrier()
    three_full, told = [lines(*map(str, range(18)))], []

    async with listening(life) as server, anyio.create_task_group() as tasks:

        async def mend():
            await server.flow.seen.wait_for(RequestRefused)
            gate.opened.set()

        tasks.start_soon(mend)
        balance = await upload_stream(
            f"http://127.0.0.1:{server.port}", three_full, told=told, sleep=at_once
        )

    assert "503 JOURNAL_FULL" in told
    assert (balance.read, balance.committed + balance.accepted, balance.unsent) == (18, 18, 0)
    assert balance.replayed >= 6
    assert life.dataset.uuids() == sorted(map(str, range(18)))


async def test_a_stream_that_is_refused_for_its_size_says_so_and_what_is_safe_all_the_same(life):
    life.stream_bytes_max = 13 * 700_000
    async with atlas(life) as url:
        balance = await upload_stream(url, THREE_PARTS)

    assert numbers(balance) == (15, 12, 0, 3)
    assert balance.last_error.startswith("PAYLOAD_TOO_LARGE: The body has more than 9100000 bytes")


async def test_a_stranger_is_told_before_he_has_sent_it_all(life):
    sent = []

    def texts():
        for text in THREE_PARTS * 20:
            sent.append(len(text))
            yield text

    async with atlas(life) as url:
        balance = await upload_stream(url, texts, token="stolen")

    assert balance.last_error == "401 INVALID_TOKEN: The bearer token is not valid here."
    assert balance.unsent == balance.read == len(sent) < 300


# from a defective file


async def test_a_file_that_cannot_be_read_to_its_end_is_not_read_again(life):
    times = []

    def texts():
        times.append(1)
        yield from THREE_PARTS[:13]
        raise OSError(errno.EIO, "Input/output error")

    async with atlas(life) as url:
        balance = await upload_stream(url, texts, sleep=at_once)

    assert len(times) == 1
    assert numbers(balance) == (13, 0, 0, 13)
    assert balance.last_error == "Cannot read all of the lines: Input/output error."


@pytest.mark.parametrize("then", [9, 21], ids=["shorter", "longer"])
async def test_the_balance_is_that_of_the_file_as_it_was_read_last(life, then):
    readings = [THREE_PARTS, noisy(then).splitlines(keepends=True)]
    async with (
        listening(life) as server,
        a_line_that_breaks(server, 2_700_000, parts_safe=2) as url,
    ):
        balance = await upload_stream(url, lambda: readings.pop(0), sleep=at_once)

    assert numbers(balance) == (then, then, 0, 0)


# to misbehaving servers


@dataclass
class ScriptedServer:
    """A server with scripted behavior for each request; the last one reads all further requests."""

    behaviors: list
    bytes_max: float = float("inf")
    sent: list[bytes] = field(default_factory=list)

    async def take(self, request):
        body = b""
        async for piece in request.content.iter_any():
            body += piece
            if len(body) >= self.bytes_max and len(self.behaviors) > 1:
                break
        self.sent.append(body)
        mood = self.behaviors.pop(0) if len(self.behaviors) > 1 else self.behaviors[0]
        return await mood(request, body)

    async def at_socket(self, aiohttp_server):
        app = web.Application(client_max_size=100 * MIB)
        app.router.add_post(STREAM, self.take)
        return str((await aiohttp_server(app)).make_url("/"))


def part(index, ingested, rejected=0, status="committed"):
    return {
        "chunkIndex": index,
        "status": status,
        "records_ingested": ingested,
        "records_rejected": rejected,
        "rejects": [],
        "replayed": False,
    }


def answers(*parts, status=200, **more):
    return says(status, msgspec.json.encode({"upload_results": parts, **more}).decode())


def busy(safe_bytes):
    error = {"code": "OVERLOADED", "message": ""}
    return answers(status=503, error=error, safe_bytes=safe_bytes)


FIVE = [b"{}\n"] * 5


@pytest.mark.parametrize(
    "mood", [pytest.param(says(503, Retry_After="1"), id="busy"), pytest.param(hangs_up, id="lost")]
)
async def test_an_answer_in_the_middle_of_the_body_is_heard_and_all_is_sent_again(
    aiohttp_server, mood
):
    moody = ScriptedServer([mood, mood, answers(part(0, 15))], bytes_max=MIB)
    balance = await upload_stream(await moody.at_socket(aiohttp_server), THREE_PARTS, sleep=at_once)

    assert len(moody.sent) == 3
    assert numbers(balance) == (15, 15, 0, 0)


async def test_as_long_as_it_gets_on_it_does_not_give_up(aiohttp_server):
    gets_on = [busy(n) for n in range(1, TRIES * 2) for _ in range(2)]
    moody = ScriptedServer([*gets_on, answers(part(0, 5))])
    balance = await upload_stream(await moody.at_socket(aiohttp_server), FIVE, sleep=at_once)

    assert numbers(balance) == (5, 5, 0, 0)
    assert len(moody.sent) > TRIES


async def test_when_it_gets_on_no_more_it_gives_up_and_says_why(aiohttp_server):
    moody = ScriptedServer([busy(3)])
    url = await moody.at_socket(aiohttp_server)
    balance = await upload_stream(url, FIVE, sleep=at_once)

    assert len(moody.sent) == 2 * TRIES, "the first dozen came as far as to byte 3"
    assert numbers(balance) == (5, 0, 0, 5)
    assert balance.last_error == f"{url.rstrip('/')} did not accept it: 503 OVERLOADED."


NOT_ALL = "The answer does not account for every line: is this Atlas?"


@pytest.mark.parametrize(
    ("mood", "trouble"),
    [
        pytest.param(answers(), NOT_ALL, id="no parts"),
        pytest.param(answers(part(0, 4)), NOT_ALL, id="a line less"),
        pytest.param(answers(part(0, 5), part(1, 1)), NOT_ALL, id="a line more"),
        pytest.param(answers(part(0, 5, 1)), NOT_ALL, id="a reject more"),
        pytest.param(says(200, "<html>"), "200: This is not Atlas.", id="a login page"),
        pytest.param(says(413, "<html>"), "413: This is not Atlas.", id="a proxy's limit"),
        pytest.param(
            says(308, Location="/elsewhere"),
            "308: Atlas is not at this address; it may be at /elsewhere.",
            id="moved",
        ),
    ],
)
async def test_an_answer_that_is_of_no_use_leaves_all_unsent(aiohttp_server, mood, trouble):
    moody = ScriptedServer([mood])
    balance = await upload_stream(await moody.at_socket(aiohttp_server), FIVE, sleep=at_once)

    assert len(moody.sent) == 1
    assert numbers(balance) == (5, 0, 0, 5)
    assert balance.last_error == trouble
