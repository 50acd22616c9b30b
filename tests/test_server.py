"""The HTTP server below the application: bytes, bugs, and very many concurrent requests."""

import asyncio
import socket
import struct

import anyio
import pytest
from anyio.lowlevel import checkpoint

from atlas.core.errors import BadRequest
from atlas.core.events import ConnectionRejected, StageCrashed
from atlas.server import bind
from atlas.server.http import ConnectionLimits
from atlas.server.http.parser import END, RequestHead, RequestParser
from atlas.server.http.turnstile import STARTS_MAX, Turnstile
from tests.conftest import EventRecorder
from tests.support.connections import (
    HELLO,
    HOST,
    KIB,
    LAST,
    chunks,
    get,
    post,
    receive_rest,
    start,
    statuses,
)
from tests.support.listeners import FastShutdownListener

# bytes in, events out


def parse_pieces(*pieces, header_bytes_max=16 * KIB):
    """Return the events, with a string for each head, as if each request were answered at once."""
    parser, found = RequestParser(header_bytes_max), []

    def add(events):
        for event in events:
            if isinstance(event, RequestHead):
                found.append(f"{event.method} {event.path.decode()}")
            else:
                found.append("end" if event is END else event)
            if event is END:
                add(parser.next_request())

    for piece in pieces:
        add(parser.receive(piece))
    return found


@pytest.mark.parametrize(
    ("pieces", "events"),
    [
        pytest.param([get("/a")], ["GET /a", "end"], id="no body"),
        pytest.param(
            [b"GET /a HT", b"TP/1.1\r\nHost: a\r\n\r", b"\n"], ["GET /a", "end"], id="cut"
        ),
        pytest.param(
            [post("Content-Length: 5", body=b"hello")], ["POST /echo", b"hello", "end"], id="length"
        ),
        pytest.param(
            [post("Content-Length: 5", body=b"he"), b"llo"],
            ["POST /echo", b"he", b"llo", "end"],
            id="length, cut",
        ),
        pytest.param([chunks(HELLO + LAST)], ["POST /echo", b"hello", "end"], id="chunks"),
        pytest.param(
            [get("/a") + get("/b")], ["GET /a", "end", "GET /b", "end"], id="one behind another"
        ),
        pytest.param([get("/a%20b?c=d")], ["GET /a%20b", "end"], id="query"),
        pytest.param([b"\r\n" + get("/a")], ["GET /a", "end"], id="an empty line before it"),
    ],
)
def test_bytes_become_events(pieces, events):
    assert parse_pieces(*pieces) == events


def test_spaces_around_a_value_are_not_part_of_it():
    request = b"GET / HTTP/1.1\r\nHost: a \r\nDPoP: \t x y \t \r\nEmpty: \t\r\n\r\n"
    head = RequestParser(16 * KIB).receive(request)[0]

    assert isinstance(head, RequestHead)
    assert head.headers == [(b"host", b"a"), (b"dpop", b"x y"), (b"empty", b"")]


def test_a_fault_is_said_behind_what_was_good_and_ends_it_all():
    *good, fault = parse_pieces(chunks(HELLO + b"zz\r\n") + get("/never"))

    assert good == ["POST /echo", b"hello"]
    assert isinstance(fault, BadRequest)


def test_nothing_is_taken_of_a_request_before_the_last_is_answered():
    parser = RequestParser(16 * KIB)
    first = parser.receive(get("/a") + b"GARBAGE")

    assert len(first) == 2
    assert parser.pipelined == b"GARBAGE"
    assert isinstance(parser.next_request()[-1], BadRequest)


# bugs of an application


async def crash(_scope, _receive, _send):
    raise ZeroDivisionError


async def say_nothing(_scope, _receive, _send):
    pass


async def begin_only(_scope, _receive, send):
    await send(start(200, (b"content-length", b"5")))


async def split_a_header(_scope, _receive, send):
    await send(start(200, (b"x", b"a\r\nset-cookie: b"), (b"content-length", b"0")))
    await send({"type": "http.response.body"})


async def promise_too_much(_scope, _receive, send):
    await send(start(200, (b"content-length", b"5")))
    await send({"type": "http.response.body", "body": b"four"})


async def answered(app, request):
    seen = EventRecorder()
    with bind(HOST, 0) as bound:
        async with anyio.create_task_group() as tasks:
            listener = FastShutdownListener(app, bound, ConnectionLimits(), seen.watch)
            tasks.start_soon(listener.listen)
            async with await anyio.connect_tcp(*bound.getsockname()[:2]) as stream:
                await stream.send(request)
                text = await receive_rest(stream)
            listener.end()
    return text, seen


@pytest.mark.parametrize("app", [crash, say_nothing, begin_only, split_a_header, promise_too_much])
async def test_a_bug_of_an_application_is_a_500_that_may_be_tried_again_and_an_event(app):
    text, seen = await answered(app, get())

    assert statuses(text) == [500]
    assert b'"code":"INTERNAL_ERROR"' in text
    assert b'"retryable":true' in text
    assert b"set-cookie" not in text
    assert seen.count_of(StageCrashed) == seen.count_of(ConnectionRejected) == 1


async def test_a_bug_in_the_middle_of_an_answer_cuts_it_off():
    async def break_off(_scope, _receive, send):
        await send(start(200, (b"content-length", b"9")))
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ZeroDivisionError

    text, seen = await answered(break_off, get() + get())

    assert statuses(text) == [200]
    assert text.endswith(b"half")
    assert seen.count_of(StageCrashed) == 1


@pytest.mark.parametrize("request_", [get("/", "Connection: close"), post("Connection: close")])
async def test_an_answer_without_a_length_comes_in_chunks(request_):
    async def stream(_scope, _receive, send):
        await send(start(200))
        await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        await send({"type": "http.response.body"})

    text, _ = await answered(stream, request_)

    assert b"transfer-encoding: chunked" in text
    assert text.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")


async def test_an_answer_to_head_has_no_body():
    async def answer(_scope, _receive, send):
        await send(start(200, (b"content-length", b"5")))
        await send({"type": "http.response.body", "body": b"hello"})

    text, _ = await answered(answer, b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    assert b"content-length: 5" in text
    assert text.endswith(b"\r\n\r\n")


async def test_a_request_whose_client_has_reset_before_it_was_read_gives_up_its_turn():
    waits, ended = anyio.Event(), anyio.Event()

    async def wait_for_a_turn(_scope, _receive, _send):
        waits.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    with bind(HOST, 0) as bound:
        async with anyio.create_task_group() as tasks:
            listener = FastShutdownListener(wait_for_a_turn, bound)
            tasks.start_soon(listener.listen)
            async with await anyio.connect_tcp(*bound.getsockname()[:2]) as stream:
                await stream.send(get())
                await waits.wait()
                raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with anyio.fail_after(5):
                await ended.wait()
            listener.end()


# very many at once


async def test_of_very_many_requests_a_few_begin_in_each_turn_of_the_loop_in_their_order():
    turnstile, begun, turns = Turnstile(asyncio.get_running_loop()), [], []
    for number in range(100):
        turnstile.enter(lambda number=number: begun.append(number))
    while len(begun) < 100:
        turns.append(len(begun))
        await checkpoint()

    assert begun == [*range(100)]
    assert turns[0] == STARTS_MAX
    assert len(turns) >= 100 / STARTS_MAX / 2


async def test_one_who_comes_alone_begins_at_once_however_many_were_there_before():
    turnstile, begun = Turnstile(asyncio.get_running_loop()), []
    for number in range(100):
        turnstile.enter(lambda number=number: begun.append(number))
    for _ in range(100):
        await checkpoint()
    turnstile.enter(lambda: begun.append("last"))

    assert begun[-1] == "last"
