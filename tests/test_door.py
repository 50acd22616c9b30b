"""The HTTP parser over real sockets: unambiguous framing, header limits and timely closes."""

from contextlib import suppress
from datetime import datetime
from typing import Any

import anyio
import anyio.abc
import httptools
import msgspec
import pytest

from atlas.core.errors import BadRequest
from atlas.core.events import ConnectionRejected
from atlas.server.http.header_validation import validate
from atlas.server.http.parser import ParserEvent, RequestParser
from tests.support.connections import (
    CANARY,
    HELLO,
    KIB,
    LAST,
    MIB,
    SECONDS,
    App,
    chunks,
    echoed,
    get,
    let_server_run,
    post,
    receive_response,
    receive_rest,
    running_listener,
    statuses,
)

SMUGGLED = {
    # a single Host
    "no host": b"GET /echo HTTP/1.1\r\n\r\n",
    "two hosts": get("/echo", "Host: b"),
    "two equal hosts": get("/echo", "host: a"),
    "an empty host": b"GET /echo HTTP/1.1\r\nHost: \r\n\r\n",
    "a host with a space": b"GET /echo HTTP/1.1\r\nHost: a b\r\n\r\n",
    "a host with a slash": b"GET /echo HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a host with an at": b"GET /echo HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "a host beyond ASCII": b"GET /echo HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n",
    "two hosts in HTTP/1.0": b"GET /echo HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    # unambiguous framing
    "a length and chunks": post("Content-Length: 5", "Transfer-Encoding: chunked", body=LAST),
    "chunks and a length": post("Transfer-Encoding: chunked", "Content-Length: 5", body=LAST),
    "two lengths": post("Content-Length: 5", "Content-Length: 6", body=b"hello"),
    "two equal lengths": post("Content-Length: 5", "content-length: 5", body=b"hello"),
    "a list of lengths": post("Content-Length: 5, 5", body=b"hello"),
    "a length with a sign": post("Content-Length: +5", body=b"hello"),
    "a length below zero": post("Content-Length: -5", body=b"hello"),
    "a length in hex": post("Content-Length: 0x5", body=b"hello"),
    "a length with an underscore": post("Content-Length: 0_5", body=b"hello"),
    "a length with a space": post("Content-Length: 5 5", body=b"hello"),
    "a length with a point": post("Content-Length: 5.0", body=b"hello"),
    "an empty length": post("Content-Length: ", body=b"hello"),
    "a length of 20 digits": post("Content-Length: 00000000000000000005", body=b"hello"),
    "a length beyond 64 bits": post("Content-Length: 99999999999999999999", body=b"hello"),
    "identity": post("Transfer-Encoding: identity", body=b"hello"),
    "gzip, chunked": post("Transfer-Encoding: gzip, chunked", body=LAST),
    "chunked, identity": post("Transfer-Encoding: chunked, identity", body=LAST),
    "chunked twice": post("Transfer-Encoding: chunked, chunked", body=LAST),
    "two encodings": post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=LAST),
    "an encoding hidden behind": post(
        "Transfer-Encoding: chunked", "Transfer-Encoding: x", body=LAST
    ),
    "xchunked": post("Transfer-Encoding: xchunked", body=LAST),
    "chunked with a parameter": post("Transfer-Encoding: chunked;q=1", body=LAST),
    "chunked in quotes": post('Transfer-Encoding: "chunked"', body=LAST),
    "an empty encoding": post("Transfer-Encoding: ", body=LAST),
    "a vertical tab before chunked": post("Transfer-Encoding: \x0bchunked", body=LAST),
    "chunks in HTTP/1.0": b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST,
    # lines
    "bare LF": b"GET /echo HTTP/1.1\nHost: a\n\n",
    "bare LF in one line": b"GET /echo HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "bare LF at the end": b"GET /echo HTTP/1.1\r\nHost: a\r\n\n",
    "bare CR in a value": b"GET /echo HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "CR CR LF": b"GET /echo HTTP/1.1\r\r\nHost: a\r\n\r\n",
    "a folded line": get("/echo", "X: a\r\n b"),
    "a first line that is folded": b"GET /echo HTTP/1.1\r\n Host: a\r\n\r\n",
    "a space before the colon": post("Content-Length : 5", body=b"hello"),
    "a tab before the colon": post("Transfer-Encoding\t: chunked", body=LAST),
    "no colon": get("/echo", "X"),
    "no name": get("/echo", ": a"),
    "a name with a parenthesis": get("/echo", "X(a): b"),
    "a name beyond ASCII": get("/echo", "Ä: b"),
    "NUL in a name": get("/echo", "X\x00: b"),
    "NUL in a value": get("/echo", "X: a\x00b"),
    "a control character in a value": get("/echo", "X: a\x01b"),
    "DEL in a value": get("/echo", "X: a\x7fb"),
    # the request line
    "HTTP/0.9": b"GET /echo\r\n\r\n",
    "HTTP/2.0": b"GET /echo HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/1.2": b"GET /echo HTTP/1.2\r\nHost: a\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "RTSP": b"DESCRIBE /echo RTSP/1.0\r\n\r\n",
    "ICE": b"SOURCE /echo ICE/1.0\r\n\r\n",
    "two spaces": b"GET  /echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "two spaces before the version": b"GET /echo  HTTP/1.1\r\nHost: a\r\n\r\n",
    "a space behind the version": b"GET /echo HTTP/1.1 \r\nHost: a\r\n\r\n",
    "a space in the target": b"GET /e cho HTTP/1.1\r\nHost: a\r\n\r\n",
    "a tab": b"GET\t/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "a control character in the target": b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target beyond ASCII": b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method in lower case": b"get /echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method of nobody": b"BREW /echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT": b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "line feeds before it": b"\n\n" + get(),
    # chunks
    "a size that is none": chunks(b"g\r\nhello\r\n" + LAST),
    "a size with 0x": chunks(b"0x5\r\nhello\r\n" + LAST),
    "a size with a sign": chunks(b"+5\r\nhello\r\n" + LAST),
    "a size below zero": chunks(b"-5\r\nhello\r\n" + LAST),
    "a space before a size": chunks(b" 5\r\nhello\r\n" + LAST),
    "a space behind a size": chunks(b"5 \r\nhello\r\n" + LAST),
    "no size": chunks(b"\r\nhello\r\n" + LAST),
    "a size beyond 64 bits": chunks(b"fffffffffffffffff\r\nhello\r\n" + LAST),
    "bare LF behind a size": chunks(b"5\nhello\r\n" + LAST),
    "bare LF behind a chunk": chunks(b"5\r\nhello\n" + LAST),
    "bare LF behind the last size": chunks(HELLO + b"0\n\n"),
    "a chunk longer than its size": chunks(b"4\r\nhello\r\n" + LAST),
    "a chunk shorter than its size": chunks(b"6\r\nhello\r\n" + LAST),
    "bare LF in an extension": chunks(b"5;a\nhello\r\n" + LAST),
    "a control character in an extension": chunks(b"5;a\x01\r\nhello\r\n" + LAST),
    "an extension of 20 KiB": chunks(b"5;a=" + b"x" * 20 * KIB + b"\r\nhello\r\n" + LAST),
    "extensions of 20 KiB": chunks((b"1;" + b"x" * 400 + b"\r\nh\r\n") * 50 + LAST),
    "a length as trailer": chunks(HELLO + b"0\r\nContent-Length: 5\r\n\r\n"),
    "an encoding as trailer": chunks(HELLO + b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "a folded trailer": chunks(HELLO + b"0\r\nX: a\r\n b\r\n\r\n"),
    "trailers of 20 KiB": chunks(HELLO + b"0\r\nX: " + b"x" * 20 * KIB + b"\r\n\r\n"),
    "many trailers": chunks(HELLO + b"0\r\n" + b"X: y\r\n" * 4_000 + b"\r\n"),
    # over the limits
    "a value of 20 KiB": get("/echo", "X: " + "x" * 20 * KIB),
    "a name of 20 KiB": get("/echo", "x" * 20 * KIB + ": x"),
    "a target of 20 KiB": get("/" + "x" * 20 * KIB),
    "a method of 20 KiB": b"X" * 20 * KIB,
    "many headers": get("/echo", *["X: y"] * 4_000),
    "empty lines without end": b"\r\n" * 20 * KIB,
}


def is_refused(text: bytes, app: App) -> bool:
    """Check for one error response in the shape of the contract; nothing after it was served."""
    head, _, body = text.partition(b"\r\n\r\n")
    (status,) = statuses(text)
    headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    error = msgspec.json.decode(body)["error"]
    codes = {400: "BAD_REQUEST", 431: "HEADERS_TOO_LARGE"}
    assert error["code"] == codes[status]
    assert error["message"]
    assert error["retryable"] is False
    assert error["correlationId"] == headers[b"x-correlation-id"].decode()
    assert datetime.fromisoformat(error["timestamp"])
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"connection"] == b"close"
    return "/canary" not in app.requests


smuggled = pytest.mark.parametrize("request_", SMUGGLED.values(), ids=SMUGGLED)


@smuggled
async def test_what_could_be_read_in_two_ways_is_answered_once_and_nothing_behind_it(request_):
    async with running_listener() as server:
        text = await server.exchange(request_ + CANARY)

        assert is_refused(text, server.app)
        assert server.seen.count_of(ConnectionRejected) == 1


@pytest.mark.slow
@smuggled
@pytest.mark.parametrize("size", [3, 7])
async def test_it_does_not_matter_in_which_pieces_it_comes(request_, size):
    some = 40 * size
    pieces = [request_[at : at + size] for at in range(0, min(len(request_), some), size)]
    async with running_listener() as server:
        text = await server.exchange(*pieces, request_[some:] + CANARY)

        assert is_refused(text, server.app)


@smuggled
async def test_behind_a_good_request_it_is_answered_in_its_turn(request_):
    async with running_listener() as server:
        text = await server.exchange(get("/first") + request_ + CANARY)

        first, _, second = text.partition(b"HTTP/1.1 4")
        assert statuses(first) == [200]
        assert is_refused(b"HTTP/1.1 4" + second, server.app)


TWO = {
    "lengths": [(b"content-length", b"5")] * 2,
    "encodings": [(b"transfer-encoding", b"chunked")] * 2,
    "framings": [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")],
    "hosts": [(b"host", b"a")],
}


@pytest.mark.parametrize("fields", TWO.values(), ids=TWO)
def test_two_are_too_many_whatever_the_parser_says_to_them(fields):
    with pytest.raises(BadRequest):
        validate(post(), b"POST", [(b"host", b"a"), *fields])


BROKEN = chunks(HELLO)


async def test_an_application_that_reads_a_body_sees_it_break():
    async with running_listener() as server, server.connected() as stream:
        await stream.send(BROKEN)
        await let_server_run()
        await stream.send(b"zz\r\n" + CANARY)
        text = await receive_rest(stream)
        await server.app.is_cut_off()

        assert server.connections()  # did not wait for the end of the request
        assert is_refused(text, server.app)
        assert server.app.gone == ["/echo"]


async def test_in_the_middle_of_an_answer_no_other_is_begun():
    async with running_listener() as server, server.connected() as stream:
        await stream.send(post("Transfer-Encoding: chunked", body=HELLO, path="/half"))
        begun = await stream.receive()
        await stream.send(b"zz\r\n" + CANARY)
        text = begun + await receive_rest(stream)

        assert statuses(text) == [200]
        assert text.endswith(b"half")
        assert server.app.requests == ["/half"]


# valid requests


GOOD = {
    "a length": (post("Content-Length: 5", body=b"hello"), "hello"),
    "a length of 19 digits": (post(f"Content-Length: {5:019}", body=b"hello"), "hello"),
    "no body": (post("Content-Length: 0"), ""),
    "no framing": (post(), ""),
    "chunks": (chunks(HELLO + HELLO + LAST), "hellohello"),
    "chunks, written large": (post("transfer-encoding: CHUNKED", body=HELLO + LAST), "hello"),
    "chunks with extensions": (chunks(b'5;a=b;c="d"\r\nhello\r\n' + LAST), "hello"),
    "chunks with zeros": (chunks(b"0000005\r\nhello\r\n" + LAST), "hello"),
    "a chunk of 40 KiB": (chunks(b"a000\r\n" + b"x" * 40 * KIB + b"\r\n" + LAST), "x" * 40 * KIB),
    "chunks of a byte": (chunks(b"1\r\nx\r\n" * 9_000 + LAST), "x" * 9_000),
    "chunks of empty lines": (chunks(b"8\r\n\r\n\r\n\r\n\r\n\r\n" * 99 + LAST), "\r\n\r\n" * 198),
    "trailers": (chunks(HELLO + b"0\r\nX: y\r\nZ: w\r\n\r\n"), "hello"),
    "trailers of 15 KiB": (chunks(HELLO + b"0\r\nX: " + b"x" * 15 * KIB + b"\r\n\r\n"), "hello"),
    "an upgrade to HTTP/2": (
        post(
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c",
            "Content-Length: 5",
            body=b"hello",
        ),
        "hello",
    ),
    "an upgrade to a web socket": (
        post("upgrade: websocket", "connection: upgrade", "Content-Length: 5", body=b"hello"),
        "hello",
    ),
    "an upgrade of chunks": (
        post("Connection: upgrade", "Upgrade: x", "Transfer-Encoding: chunked", body=HELLO + LAST),
        "hello",
    ),
    "a body that looks like a request": (
        post(f"Content-Length: {len(CANARY)}", body=CANARY),
        CANARY.decode(),
    ),
    "a header block of 15.9 KiB": (get("/echo", "X: " + "x" * (16 * KIB - 100)), ""),
    "an absolute target": (b"GET http://b.test/echo HTTP/1.1\r\nHost: a\r\n\r\n", ""),
    "a host with a port": (b"GET /echo HTTP/1.1\r\nHost: atlas.test:8080\r\n\r\n", ""),
    "a host of IPv6": (b"GET /echo HTTP/1.1\r\nHOST: [::1]:8080\r\n\r\n", ""),
    "an empty line before it": (b"\r\n" + get(), ""),
    "three empty lines before it": (b"\r\n\r\n\r\n" + get(), ""),
}

good = pytest.mark.parametrize(("request_", "body"), GOOD.values(), ids=GOOD)


@good
async def test_a_good_request_is_served_and_so_is_the_next_on_its_connection(request_, body):
    async with running_listener() as server, server.connected() as stream:
        await stream.send(request_)
        first = echoed(await receive_response(stream))
        await stream.send(get("/next"))
        await receive_response(stream)

        assert first[0] == body
        assert server.app.requests == ["/echo", "/next"]
        assert server.seen == []


@good
async def test_a_good_request_may_come_byte_by_byte_and_with_others_behind_it(request_, body):
    async with running_listener() as server, server.connected() as stream:
        for at in range(min(len(request_), 250)):
            await stream.send(request_[at : at + 1])
            await let_server_run()
        await stream.send(request_[250:] + get("/next") + get("/last", "Connection: close"))
        text = await receive_rest(stream)

        assert statuses(text) == [200, 200, 200]
        assert server.app.requests == ["/echo", "/next", "/last"]


async def test_what_is_behind_a_request_is_served_in_its_order_however_much_it_is():
    many = b"".join(get(f"/{number}") for number in range(2_000)) + get("/", "Connection: close")
    async with running_listener() as server:
        text = await server.exchange(many)

        assert statuses(text) == [200] * 2_001
        assert server.app.requests == [*(f"/{number}" for number in range(2_000)), "/"]


# chunks


READ = 256 * KIB  # bytes that a loop reads from a socket at once


class CountingParser:
    """The underlying parser, with a count of its calls."""

    def __init__(self, listener: object) -> None:
        self.parser = httptools.HttpRequestParser(listener)
        self.feeds = 0

    def feed_data(self, data: bytes) -> None:
        self.feeds += 1
        self.parser.feed_data(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.parser, name)


def parse_request(request: bytes) -> tuple[list[ParserEvent], int]:
    """Return the events of a request and the number of calls to the underlying parser."""
    made: list[CountingParser] = []

    def new(listener: object) -> CountingParser:
        made.append(CountingParser(listener))
        return made[-1]

    parser, events = RequestParser(16 * KIB, new), list[ParserEvent]()
    for at in range(0, len(request), READ):
        events += parser.receive(request[at : at + READ])
    return events, sum(each.feeds for each in made)


ONE = b"1\r\nx\r\n"


def encode_chunks(body: bytes, size: int) -> bytes:
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


@pytest.mark.parametrize("inside", [b"\r\n\r\n", b"\n", LAST], ids=["empty lines", "LF", "ends"])
async def test_what_is_in_a_chunk_is_not_looked_into(inside):
    body = inside * (MIB // len(inside))
    request = chunks(encode_chunks(body, MIB) + LAST)
    events, feeds = parse_request(request)
    async with running_listener() as server, server.connected() as stream:
        await stream.send(request)
        text, _ = echoed(await receive_response(stream))

    assert text == body.decode()
    assert b"".join(event for event in events if isinstance(event, bytes)) == body
    assert feeds < 500  # one read from a socket


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000, 4096])
async def test_it_does_not_matter_where_chunks_are_cut(size):
    body = LAST * 999
    request = chunks(encode_chunks(body, size) + LAST) + get("/next", "Connection: close")
    async with running_listener() as server, server.connected() as stream:
        for at in range(0, 999, 3):
            await stream.send(request[at : at + 3])
            await let_server_run()
        await stream.send(request[999:])
        text = await receive_rest(stream)

        assert statuses(text) == [200, 200]
        assert msgspec.json.encode(body.decode())[1:-1] in text
        assert server.app.requests == ["/echo", "/next"]


TINY = {
    "of a byte": ONE * 40_000,
    "of 63 bytes": encode_chunks(b"x" * 63 * 20_000, 63),
    "behind a large one": encode_chunks(bytes(MIB), MIB) + ONE * 40_000,
}


@pytest.mark.parametrize("body", TINY.values(), ids=TINY)
async def test_a_body_in_very_many_tiny_chunks_is_refused(body):
    events, feeds = parse_request(chunks(body + LAST) + CANARY)
    async with running_listener() as server, server.connected() as stream:
        with suppress(anyio.BrokenResourceError):
            await stream.send(chunks(body + LAST) + CANARY)
        text = await receive_rest(stream)

        assert is_refused(text, server.app)
        assert b"too many small chunks" in text
    assert isinstance(events[-1], BadRequest)
    assert feeds < 40_000


SMALL = {
    "a thousand": ONE * 1_000,
    "as many as may be": ONE * 16_384,
    "many of 64 bytes": encode_chunks(b"x" * 64 * 20_000, 64),
    "many behind a large one": encode_chunks(b"x" * MIB, MIB) + ONE * 16_384,
}


@pytest.mark.parametrize("body", SMALL.values(), ids=SMALL)
async def test_small_chunks_are_good_as_long_as_they_are_few_or_carry_something(body):
    async with running_listener() as server:
        text = await server.exchange_and_close(chunks(body + LAST))

        assert statuses(text) == [200]


async def test_each_body_may_have_as_many_chunks():
    async with running_listener() as server:
        text = await server.exchange_and_close(chunks(ONE * 9_999 + LAST) * 3)

        assert statuses(text) == [200] * 3


async def test_a_trailer_is_no_header():
    request = chunks(HELLO + b"0\r\nAuthorization: Bearer x\r\nHost: b\r\n\r\n")
    async with running_listener() as server, server.connected() as stream:
        await stream.send(request)
        _, headers = echoed(await receive_response(stream))

        assert headers == [["host", "a"], ["transfer-encoding", "chunked"]]


async def test_an_upgrade_is_not_for_the_application():
    async with running_listener() as server, server.connected() as stream:
        await stream.send(get("/echo", "Upgrade: h2c", "Connection: upgrade", "X: y"))
        _, headers = echoed(await receive_response(stream))

        assert headers == [["host", "a"], ["connection", "upgrade"], ["x", "y"]]


async def test_names_come_in_any_case_and_values_beyond_ascii():
    async with running_listener() as server, server.connected() as stream:
        await stream.send("GET /echo HTTP/1.1\r\nhOsT: a\r\nAtlas-Device: Zoë\r\n\r\n".encode())
        _, headers = echoed(await receive_response(stream))

        assert headers[1] == ["atlas-device", "Zoë".encode().decode("latin-1")]


@pytest.mark.parametrize("host", ["", "Host: a\r\n"], ids=["without", "with"])
async def test_http_1_0_needs_no_host_and_is_closed(host):
    async with running_listener() as server:
        text = await server.exchange(f"GET /echo HTTP/1.0\r\n{host}\r\n".encode())

        assert statuses(text) == [200]


@pytest.mark.parametrize("query", ["", "?x=y"], ids=["without", "with a query"])
async def test_an_absolute_target_without_a_path_asks_for_the_root(query):
    request = f"GET http://b.test{query} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    async with running_listener() as server:
        text = await server.exchange(request.encode())

        assert statuses(text) == [200]
        assert server.app.requests == ["/"]


async def test_who_asks_before_he_sends_is_told_to():
    async with running_listener() as server, server.connected() as stream:
        await stream.send(post("Expect: 100-continue", "Content-Length: 5"))
        assert await stream.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await stream.send(b"hello")

        assert echoed(await receive_response(stream))[0] == "hello"


# header blocks


@pytest.mark.parametrize("surplus", [0, 1])
async def test_a_header_block_is_counted_to_the_byte(surplus):
    at_first = get("/echo", "X: ")
    exact = get("/echo", "X: " + "x" * (2 * KIB - len(at_first) + surplus))
    garbage = exact + b"GARBAGE\r\n\r\n"
    async with running_listener(header_bytes_max=2 * KIB, idle_seconds=0.2) as server:
        alone = await server.exchange(exact)
        first = await server.exchange(garbage)
        behind = await server.exchange(post("Content-Length: 5", body=b"hello") + garbage)
        chunked = await server.exchange(chunks(HELLO + LAST) + garbage)

        expected = 431 if surplus else 200
        assert statuses(alone) == [expected]
        assert statuses(first)[0] == expected
        assert statuses(behind)[:2] == [200, expected]
        assert statuses(chunked)[:2] == [200, expected]


async def test_a_header_block_of_many_megabytes_is_not_taken():
    sent = 0
    async with running_listener() as server, server.connected() as stream:
        await stream.send(b"GET /echo HTTP/1.1\r\nHost: a\r\nX: ")
        try:
            with anyio.fail_after(SECONDS):
                while sent < 64 * MIB:
                    await stream.send(b"x" * 64 * KIB)
                    sent += 64 * KIB
        except anyio.BrokenResourceError:
            pass

        assert sent < 64 * MIB
        assert server.app.requests == []
        (refused,) = server.seen.of(ConnectionRejected)
        assert (refused.status, refused.code) == (431, "HEADERS_TOO_LARGE")
