"""Clients that mean harm: a thousand who take their time, and two requests that look like one."""

import asyncio
import math
import re
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import anyio

from atlas.core.names import API_PREFIX
from tests.chaos.bench import Bench
from tests.chaos.crowd import Tally, quantile
from tests.chaos.sockets import EXPORT, Socket, Sockets
from tests.chaos.trials.load import crowd, ms
from tests.chaos.vitals import Vitals

Slow = Callable[[Sockets, str, float], Awaitable[None]]

DEADLINE_SECONDS = 10.0
LATER = 5.0  # times the deadline: of a header block, or of a window and what is dropped behind it
TRICKLES = 5  # bytes within a deadline
A_SECOND, DOUBLED = 20.0, 2.0
SPARE_DESCRIPTORS = 80  # Atlas keeps the connections of up to 64 uploads for a while
UNREAD, WINDOW_BYTES = 500, 4096  # answers that nobody reads
LARGE_HEADER_BYTES = 1_000_000
PROBE_SECONDS, LEFT_SECONDS = 20.0, 5.0
STATUS = re.compile(rb"HTTP/1.1 ([0-9]{3}) ")
LINE = b"GET /openapi.json HTTP/1.1\r\nHost: atlas\r\n\r\n"


async def slow_clients(bench: Bench) -> None:
    """1,000 that say nothing, or trickle headers or a body, or read no answer; and normal ones."""
    deadline = bench.scale.seconds(DEADLINE_SECONDS, least=2)
    bench.atlas.configure("edge", header_seconds=deadline, slow_seconds=deadline)
    await bench.atlas.start()
    vitals, token = Vitals(bench.atlas.process.pid), bench.standins.token("auth0|slow")
    took: dict[str, list[float]] = {name: [] for name in SLOW}
    number = bench.scale.number(1_000, least=200)
    sockets = Sockets(bench.phones.url)
    async with crowd(bench, "normal", large_every=0) as phones:
        await phones.offer(A_SECOND, deadline)
        alone = await phones.offer(A_SECOND, LATER * deadline)
        phones.sockets.close()
        before, most = await settled(vitals, most=0), 0
        beside: list[Tally] = []

        async def go_on() -> None:
            beside.append(await phones.offer(A_SECOND, LATER * deadline))

        async def slow(name: str) -> None:
            began = time.monotonic()
            with anyio.move_on_after(LATER * deadline):
                await SLOW[name](sockets, token, deadline / TRICKLES)
                took[name].append(time.monotonic() - began)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(go_on)
            for each in range(number):
                tasks.start_soon(slow, MIXED[each % len(MIXED)])
                await anyio.sleep(deadline / 2 / number)
            most = vitals.descriptors()
        phones.sockets.close()
        left = await settled(vitals, before + SPARE_DESCRIPTORS)
    tallies = (alone, *beside)
    first, then = (quantile(tally.took(), 0.99) for tally in tallies)
    bench.findings.note(
        f"{number} at once, closed {closed(took, deadline)}; descriptors {before}, {most}, {left}; "
        f"p99 of normal ones {ms(first)}, then {ms(then)}"
    )
    expect, open_ones = bench.findings.expect, number - sum(map(len, took.values()))
    expect(not open_ones, f"{open_ones} were still open after {LATER * deadline:.0f} s.")
    expect(left <= before + SPARE_DESCRIPTORS, f"{left - before} descriptors did not return.")
    for tally in tallies:
        away = tally.statuses.total() - len(tally.accepted)
        expect(not away, f"{away} normal exports were turned away.")
    if bench.scale.is_full:
        expect(then <= DOUBLED * first, f"p99 of normal ones rose to {ms(then)}.")


async def settled(vitals: Vitals, most: int) -> int:
    """The descriptors of the service, as soon as there are so few; or those that do not go."""
    found = vitals.descriptors()
    with anyio.move_on_after(LEFT_SECONDS):
        while found > most:
            await anyio.sleep(0.1)
            found = vitals.descriptors()
    return found


def closed(took: Mapping[str, list[float]], deadline: float) -> str:
    """In deadlines, at the latest."""
    latest = {name: max(each, default=math.nan) / deadline for name, each in took.items()}
    return ", ".join(f"{name} after {each:.1f}" for name, each in latest.items()) + " deadlines"


async def says_nothing(sockets: Sockets, _token: str, _pause: float) -> None:
    """Until it is closed, as all of them."""
    async with sockets.one() as slow:
        await slow.is_closed()


async def trickles_headers(sockets: Sockets, _token: str, pause: float) -> None:
    async with sockets.one() as slow:
        slow.writer.write(b"GET /health HTTP/1.1\r\nHost: atlas\r\nX-Slow: ")
        await trickle(slow, pause)


async def trickles_a_body(sockets: Sockets, token: str, pause: float) -> None:
    async with sockets.one() as slow:
        slow.writer.write(sockets.head(EXPORT, token, bytes(LARGE_HEADER_BYTES)))
        await trickle(slow, pause)


async def trickle(slow: Socket, pause: float) -> None:
    async def write() -> None:
        while True:
            await anyio.sleep(pause)
            slow.writer.write(b" ")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await slow.is_closed()
        tasks.cancel_scope.cancel()


async def reads_nothing(sockets: Sockets, _token: str, pause: float) -> None:
    """It asks for answers of megabytes, and takes what fits into a small window."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
    plain.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(plain, (sockets.host, sockets.port))
        with suppress(ConnectionError):
            for _ in range(UNREAD):
                await loop.sock_sendall(plain, LINE)
            while True:
                await anyio.sleep(pause)
                await loop.sock_sendall(plain, LINE)
    finally:
        plain.close()


SLOW: Mapping[str, Slow] = {
    "silent": says_nothing,
    "headers": trickles_headers,
    "body": trickles_a_body,
    "unread": reads_nothing,
}

MIXED = ("silent", "headers", "body") * 6 + ("unread",)  # each of the last fills 4 MB of the kernel

START = f"POST {API_PREFIX}/export HTTP/1.1\r\n".encode()
HOST, SECOND = b"Host: atlas\r\n", b"GET /health HTTP/1.1\r\nHost: atlas\r\n\r\n"
PROBES: Mapping[str, tuple[bytes, frozenset[int]]] = {
    name: (request, frozenset(statuses))
    for name, request, statuses in (
        (
            "both lengths",
            START + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            {400},
        ),
        ("two lengths", START + HOST + b"Content-Length: 0\r\nContent-Length: 40\r\n\r\n", {400}),
        ("bare LF", (START + HOST + b"X-One: 1\r\n\r\n").replace(b"\r\n", b"\n"), {400}),
        ("obs-fold", START + HOST + b"X-One: 1\r\n two\r\n\r\n", {400}),
        ("two hosts", START + HOST + b"Host: other\r\n\r\n", {400}),
        ("no host", START + b"X-One: 1\r\n\r\n", {400}),
        ("1 MB header", START + HOST + b"X-One: " + b"1" * LARGE_HEADER_BYTES + b"\r\n\r\n", {431}),
    )
}


async def smuggling(bench: Bench) -> None:
    """What two servers could read in two ways, with a second request behind it, cut anywhere."""
    await bench.atlas.start()
    sockets, rounds = Sockets(bench.phones.url), bench.scale.number(100, least=3)
    for name, (request, statuses) in PROBES.items():
        for _ in range(rounds):
            cut = bench.chance.randrange(1, min(len(request), 200))
            answers = await probed(sockets, request + SECOND, cut)
            is_one = len(answers) == 1 and answers[0] in statuses
            bench.findings.expect(is_one, f"{name}: answered {answers or 'nothing'}.")
    bench.findings.note(f"{len(PROBES)} probes, {rounds} times each, cut in two anywhere")


async def probed(sockets: Sockets, request: bytes, cut: int) -> list[int]:
    """The statuses of all that is answered until the connection is closed; none if it is not."""
    heard = b""
    try:
        async with asyncio.timeout(PROBE_SECONDS), sockets.one() as probe:
            with suppress(OSError):
                for piece in (request[:cut], request[cut:]):
                    probe.writer.write(piece)
                    await probe.writer.drain()
                while more := await probe.reader.read(65_536):
                    heard += more
    except TimeoutError:
        return []
    return [int(status) for status in STATUS.findall(heard)]
