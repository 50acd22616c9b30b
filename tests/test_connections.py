"""Every connection ends: silent, slow and non-reading ones, and those over the limit.

Tested on uvloop and on asyncio, because their transports close differently.
"""

import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial, wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from atlas.core.events import ConnectionAborted, ConnectionRejected
from tests.support.connections import (
    CANARY,
    HELLO,
    HOST,
    KIB,
    MIB,
    SECONDS,
    RunningListener,
    Stream,
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

MANY = 300
SOON = 0.2  # a deadline of these tests
QUICK = {"header_seconds": SOON, "write_timeout_seconds": SOON, "idle_seconds": SOON}


def on_both_loops(scenario: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @wraps(scenario)
    def test(use_uvloop: bool, **case: Any) -> None:
        anyio.run(partial(scenario, **case), backend_options={"use_uvloop": use_uvloop})

    del test.__wrapped__
    loop = Parameter("use_uvloop", Parameter.KEYWORD_ONLY)
    asked = signature(scenario).parameters.values()
    test.__signature__ = Signature([*asked, loop])
    return pytest.mark.parametrize("use_uvloop", [False, True], ids=["asyncio", "uvloop"])(test)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0


async def is_closed(stream: Stream) -> bytes:
    """True once the peer has closed, cleanly or with a reset."""
    found = b""
    with anyio.fail_after(SECONDS), suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            found += await stream.receive(MIB)
    return found


async def trickle(stream: Stream, text: bytes) -> None:
    """Send one byte at a time, forever."""
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        while True:
            await stream.send(text)
            await anyio.sleep(SOON / 10)


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(SECONDS):
        while not true():
            await anyio.sleep(0.01)


# deadlines


@on_both_loops
async def test_who_says_nothing_is_closed_without_a_word():
    async with running_listener(**QUICK) as server:
        assert await server.exchange() == b""
        (cut,) = server.seen.of(ConnectionAborted)
        assert cut.reason == "silent"


@on_both_loops
async def test_a_header_block_has_its_deadline_however_often_a_byte_of_it_comes():
    async with (
        running_listener(**QUICK) as server,
        server.connected() as stream,
        anyio.create_task_group() as tasks,
    ):
        await stream.send(b"GET /echo HTTP/1.1\r\nHost: a\r\nX: ")
        tasks.start_soon(trickle, stream, b"x")
        text = await is_closed(stream)
        tasks.cancel_scope.cancel()

        assert statuses(text) == [408]


@on_both_loops
async def test_who_does_not_end_a_header_block_is_told_so():
    async with running_listener(**QUICK) as server:
        text = await server.exchange(b"GET /echo HTTP/1.1\r\nHost: a\r\n")

        assert statuses(text) == [408]
        error = msgspec.json.decode(text.partition(b"\r\n\r\n")[2])["error"]
        assert (error["code"], error["retryable"]) == ("REQUEST_TIMEOUT", True)


@on_both_loops
async def test_the_second_header_block_of_a_connection_has_a_deadline_of_its_own():
    async with running_listener(header_seconds=SOON) as server:
        text = await server.exchange(get(), b"GET /canary HTTP/1.1\r\n")
        behind = await server.exchange(get() + b"GET /canary HTTP/1.1\r\n")

        assert statuses(text) == statuses(behind) == [200, 408]
        assert server.app.requests == ["/echo", "/echo"]


@on_both_loops
async def test_an_idle_connection_is_closed_and_that_is_nobodys_fault():
    async with running_listener(idle_seconds=SOON) as server:
        text = await server.exchange(get())

        assert statuses(text) == [200]
        assert server.seen == []


@on_both_loops
async def test_a_request_that_takes_longer_than_a_header_block_may_is_left_alone():
    async with running_listener(**QUICK) as server, server.connected() as stream:
        await stream.send(post("Content-Length: 5"))
        await anyio.sleep(3 * SOON)
        await stream.send(b"hello")

        assert echoed(await receive_response(stream))[0] == "hello"


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@on_both_loops
async def test_who_reads_no_answer_is_cut_off(connection):
    async with running_listener(write_timeout_seconds=SOON) as server, server.connected() as stream:
        await stream.send(get("/large", f"Connection: {connection}"))
        await server.seen.wait_for(ConnectionAborted)

        assert server.seen.of(ConnectionAborted)[0].reason == "not_read"


@on_both_loops
async def test_a_body_stays_in_the_socket_until_it_is_asked_for():
    async with running_listener() as server, server.connected() as stream:
        await stream.send(post("Content-Length: 1000", path="/waits"))
        await until(lambda: server.app.requests == ["/waits"])
        await stream.send(b"a" * 1_000)
        await let_server_run()
        (connection,) = server.connections()
        assert connection.exchange.buffered_bytes == 0
        server.app.has_room.set()

        assert echoed(await receive_response(stream))[0] == "a" * 1_000


@on_both_loops
async def test_who_reads_slowly_is_left_alone():
    async with running_listener(write_timeout_seconds=SOON) as server, server.connected() as stream:
        await stream.send(get("/large", "Connection: close"))
        found = 0
        with suppress(anyio.EndOfStream):
            while True:
                found += len(await stream.receive(MIB))
                await anyio.sleep(SOON / 20)

        assert found > 16 * MIB
        assert server.seen == []


# closing


@on_both_loops
async def test_who_is_answered_early_reads_that_while_sending_at_full_speed():
    """However much the client sends: a bounded amount is discarded, then the connection closes."""
    sent = 0
    async with (
        running_listener() as server,
        server.connected() as stream,
        anyio.create_task_group() as tasks,
    ):

        async def flood() -> None:
            nonlocal sent
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await stream.send(post(f"Content-Length: {4096 * MIB}", path="/early"))
                while True:
                    await stream.send(bytes(64 * KIB))
                    sent += 64 * KIB

        tasks.start_soon(flood)
        answer = await receive_response(stream)
        await is_closed(stream)
        await until(lambda: not server.connections())

        assert answer == b"no"
        assert sent < 64 * MIB  # mostly the socket buffers of two kernels


@on_both_loops
async def test_who_is_answered_early_and_trickles_is_closed():
    """The other deadlines do not apply."""
    async with (
        running_listener(write_timeout_seconds=600, idle_seconds=600) as server,
        server.connected() as stream,
        anyio.create_task_group() as tasks,
    ):
        await stream.send(post("Content-Length: 9999", path="/early"))
        answer = await receive_response(stream)
        tasks.start_soon(trickle, stream, b"x")
        await until(lambda: not server.connections())
        tasks.cancel_scope.cancel()

        assert answer == b"no"


@on_both_loops
async def test_who_is_answered_early_sees_the_end_at_once_and_may_still_send():
    async with running_listener() as server, server.connected() as stream:
        await stream.send(post("Content-Length: 9999", path="/early"))
        text = await receive_rest(stream)
        await stream.send(b"x" * 99)
        await let_server_run()

        assert statuses(text) == [401]
        assert server.connections()


@on_both_loops
async def test_a_request_that_is_answered_before_it_was_read_is_the_last():
    """Even if the application does not close the connection."""
    async with running_listener() as server:
        text = await server.exchange(post("Content-Length: 99", path="/unread") + b"x" + CANARY)

        assert statuses(text) == [200]
        assert server.app.requests == ["/unread"]


@on_both_loops
async def test_who_asks_before_he_sends_and_is_refused_is_closed_at_once():
    async with running_listener() as server:
        text = await server.exchange(
            post("Expect: 100-continue", "Content-Length: 5", path="/early")
        )

        assert statuses(text) == [401]
        await until(lambda: not server.connections())


@on_both_loops
async def test_a_bad_request_is_answered_while_megabytes_come_behind_it():
    async with (
        running_listener() as server,
        server.connected() as stream,
        anyio.create_task_group() as tasks,
    ):

        async def flood() -> None:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await stream.send(chunks(HELLO + b"zz\r\n"))
                while True:
                    await stream.send(CANARY * 999)

        tasks.start_soon(flood)
        text = await is_closed(stream)

        assert statuses(text) == [400]
        assert server.app.requests in ([], ["/echo"])


# half-closed connections


@on_both_loops
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_who_says_that_he_will_say_no_more_is_answered(version):
    request = f"POST /echo HTTP/{version}\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".encode()
    async with running_listener() as server:
        text = await server.exchange_and_close(request)
        await until(lambda: not server.connections())

        assert statuses(text) == [200]
        assert echoed(text.partition(b"\r\n\r\n")[2])[0] == "hello"
        assert server.seen == server.app.gone == []


@on_both_loops
async def test_who_has_asked_for_more_than_he_then_waits_for_is_answered_all_of_it():
    many = [f"/{number}" for number in range(99)]
    async with running_listener() as server:
        five = await server.exchange_and_close(b"".join(map(get, many[:5])))
        most = await server.exchange_and_close(b"".join(map(get, many)))
        last = await server.exchange_and_close(get() + chunks(HELLO + b"0\r\n\r\n"))
        await until(lambda: not server.connections())

        assert statuses(five) == [200] * 5
        assert statuses(most) == [200] * 99
        assert statuses(last) == [200] * 2
        assert server.app.requests == [*many[:5], *many, "/echo", "/echo"]


@on_both_loops
async def test_what_is_wrong_behind_a_request_is_said_also_to_who_says_no_more():
    async with running_listener() as server:
        text = await server.exchange_and_close(get() + b"GARBAGE\r\n\r\n" + CANARY)

        assert statuses(text) == [200, 400]
        assert server.app.requests == ["/echo"]


@on_both_loops
async def test_a_large_answer_reaches_who_says_no_more():
    async with running_listener(write_timeout_seconds=SOON) as server:
        text = await server.exchange_and_close(get("/large") + get())

        assert len(text) > 16 * MIB
        assert statuses(text) == [200, 200]


PARTS = {
    "a length": post("Content-Length: 9", body=b"hello"),
    "chunks": chunks(HELLO),
    "trailers": chunks(HELLO + b"0\r\nX: y\r\n"),
}


@on_both_loops
@pytest.mark.parametrize("ahead", [b"", get("/first")], ids=["alone", "behind another"])
@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
async def test_a_body_that_ends_too_early_is_a_caller_that_has_gone(part, ahead):
    async with running_listener() as server:
        text = await server.exchange_and_close(ahead + part)
        await server.app.is_cut_off()
        await until(lambda: not server.connections())

        assert statuses(text) == ([200] if ahead else [])
        assert server.app.gone == ["/echo"]


@on_both_loops
@pytest.mark.parametrize("text", [b"", b"GET /echo HTTP/1.1\r\n"], ids=["nothing", "a line"])
async def test_who_says_no_more_before_he_has_asked_is_closed(text):
    async with running_listener() as server:
        assert await server.exchange_and_close(text) == b""
        assert await server.exchange_and_close(get(), text) != b""
        await until(lambda: not server.connections())

        assert server.app.requests == ["/echo"]


# many connections


async def nothing(_stream: Stream) -> None: ...


async def part_of_a_header_block(stream: Stream) -> None:
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await stream.send(b"GET /echo HTTP/1.1\r\nHost: a\r\n")


async def trickled_header_block(stream: Stream) -> None:
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        for byte in b"GET /echo HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 999:
            await stream.send(bytes([byte]))
            await anyio.sleep(SOON / 4)


async def a_request(stream: Stream) -> None:
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await stream.send(get())


async def a_large_request(stream: Stream) -> None:
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await stream.send(get("/large"))


@pytest.mark.slow
@pytest.mark.parametrize("use_uvloop", [False, True], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize(
    "does",
    [nothing, part_of_a_header_block, trickled_header_block, a_request, a_large_request],
)
def test_three_hundred_slow_ones_are_closed_and_their_descriptors_come_back(use_uvloop, does):
    async def scenario() -> None:
        async with running_listener(**QUICK) as server:
            # The first request opens the descriptors that the loop keeps.
            await server.exchange(get("/echo", "Connection: close"))
            before = descriptors()
            streams = [await anyio.connect_tcp(HOST, server.port) for _ in range(MANY)]
            async with anyio.create_task_group() as tasks:
                for stream in streams:
                    tasks.start_soon(does, stream)
                await anyio.wait_all_tasks_blocked()
                await until(lambda: not server.connections())
                tasks.cancel_scope.cancel()
            for stream in streams:
                await stream.aclose()
            await until(lambda: descriptors() <= before)

    anyio.run(scenario, backend_options={"use_uvloop": use_uvloop})


# over the limit


async def open_connections(
    server: RunningListener, stack: AsyncExitStack, count: int
) -> list[Stream]:
    return [await stack.enter_async_context(server.connected()) for _ in range(count)]


@on_both_loops
async def test_of_too_many_the_one_that_is_idle_for_longest_makes_room():
    async with running_listener(connections_max=3) as server, AsyncExitStack() as stack:
        streams = await open_connections(server, stack, 3)
        for stream in streams:
            await stream.send(get())
            await receive_response(stream)
        await streams[0].send(get())  # makes the second the one that is idle for longest
        await receive_response(streams[0])
        text = await server.exchange(get("/new", "Connection: close"))
        await is_closed(streams[1])
        await streams[0].send(get())
        await receive_response(streams[0])

        assert statuses(text) == [200]
        assert [cut.reason for cut in server.seen.of(ConnectionAborted)] == ["made_room"]


@on_both_loops
async def test_ten_times_too_many_silent_ones_lock_nobody_out():
    async with running_listener(connections_max=30) as server, AsyncExitStack() as stack:
        await open_connections(server, stack, MANY)
        text = await server.exchange(get("/new", "Connection: close"))

        assert statuses(text) == [200]
        assert len(server.connections()) <= 30


@on_both_loops
async def test_when_all_are_at_work_the_next_is_told_to_come_again():
    async with running_listener(connections_max=3) as server, AsyncExitStack() as stack:
        streams = await open_connections(server, stack, 3)
        for stream in streams:
            await stream.send(post("Content-Length: 5"))
        await until(lambda: len(server.app.requests) == 3)
        text = await server.exchange(get("/canary"))
        for stream in streams:
            await stream.send(b"hello")
            await receive_response(stream)
        again = await server.exchange(get("/again", "Connection: close"))

        assert statuses(text) == [503]
        head, _, body = text.partition(b"\r\n\r\n")
        error = msgspec.json.decode(body)["error"]
        assert (error["code"], error["retryable"]) == ("OVERLOADED", True)
        assert f"retry-after: {error['retryAfter']}\r\n".encode() in head
        assert [each.status for each in server.seen.of(ConnectionRejected)] == [503]
        assert statuses(again) == [200]
        assert "/canary" not in server.app.requests


@on_both_loops
async def test_whoever_has_gone_leaves_a_place():
    async with running_listener(connections_max=2) as server:
        texts = [await server.exchange(get("/echo", "Connection: close")) for _ in range(6)]

        assert [statuses(text) for text in texts] == [[200]] * 6


@on_both_loops
async def test_of_very_many_too_many_most_see_only_the_end():
    async with running_listener(connections_max=1) as server, AsyncExitStack() as stack:
        (stream,) = await open_connections(server, stack, 1)
        await stream.send(post("Content-Length: 5"))
        await until(lambda: len(server.app.requests) == 1)
        others = await open_connections(server, stack, MANY)
        texts = [await is_closed(other) for other in others]

        assert {text[:12] for text in texts} <= {b"", b"HTTP/1.1 503"}
        assert 1 <= sum(map(bool, texts)) < MANY
        await stream.send(b"hello")
        assert echoed(await receive_response(stream))[0] == "hello"


# shutdown


@on_both_loops
async def test_who_resets_while_the_listener_ends_keeps_no_other_from_being_closed():
    async with running_listener() as server, server.connected() as other:
        sender = socket.create_connection((HOST, server.port))
        await until(lambda: len(server.connections()) == 2)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sender.close()
        server.listener.end()

        assert await is_closed(other) == b""
