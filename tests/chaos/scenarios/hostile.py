"""Clients that mean harm: a thousand who take their time, and two requests that look like one."""

import asyncio
import math
import re
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import anyio

from atlas.core.identifiers import API_PREFIX
from tests.chaos.load_generator import LoadStats, compute_quantile
from tests.chaos.process_metrics import ProcessMetrics
from tests.chaos.raw_http import EXPORT, RawConnection, RawHttpClient
from tests.chaos.scenarios.load import format_ms, open_generator
from tests.chaos.trial_environment import TrialEnvironment

Slow = Callable[[RawHttpClient, str, float], Awaitable[None]]

DEADLINE_SECONDS = 10.0
NORMAL_AFTER_DEADLINES = (
    5.0  # times the deadline: of a header block, or of a window and what is dropped behind it
)
TRICKLES = 5  # bytes within a deadline
A_SECOND, DOUBLED = 20.0, 2.0
SPARE_DESCRIPTORS = 80  # Atlas keeps the connections of up to 64 uploads for a while
UNREAD, WINDOW_BYTES = 500, 4096  # answers that nobody reads
LARGE_HEADER_BYTES = 1_000_000
PROBE_SECONDS, LEFT_SECONDS = 20.0, 5.0
STATUS = re.compile(rb"HTTP/1.1 ([0-9]{3}) ")
LINE = b"GET /openapi.json HTTP/1.1\r\nHost: atlas\r\n\r\n"


async def send_slowly(bench: TrialEnvironment) -> None:
    """1,000 that say nothing, or trickle headers or a body, or read no answer; and normal ones."""
    deadline = bench.scale.scale_seconds(DEADLINE_SECONDS, least=2)
    bench.atlas.configure("edge", header_seconds=deadline, slow_seconds=deadline)
    await bench.atlas.start()
    vitals, token = (
        ProcessMetrics(bench.atlas.process.pid),
        bench.emulators.issue_token("auth0|slow"),
    )
    took: dict[str, list[float]] = {name: [] for name in SLOW}
    number = bench.scale.scale_number(1_000, least=200)
    sockets = RawHttpClient(bench.clients.url)
    async with open_generator(bench, "normal", large_every=0) as generator:
        await generator.run_open_loop(A_SECOND, deadline)
        baseline = await generator.run_open_loop(A_SECOND, NORMAL_AFTER_DEADLINES * deadline)
        generator.sockets.close()
        before, most = await wait_for_descriptors(vitals, most=0), 0
        concurrent: list[LoadStats] = []

        async def send_until_done() -> None:
            concurrent.append(
                await generator.run_open_loop(A_SECOND, NORMAL_AFTER_DEADLINES * deadline)
            )

        async def run_slow_client(name: str) -> None:
            began = time.monotonic()
            with anyio.move_on_after(NORMAL_AFTER_DEADLINES * deadline):
                await SLOW[name](sockets, token, deadline / TRICKLES)
                took[name].append(time.monotonic() - began)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send_until_done)
            for each in range(number):
                tasks.start_soon(run_slow_client, MIXED[each % len(MIXED)])
                await anyio.sleep(deadline / 2 / number)
            most = vitals.count_descriptors()
        generator.sockets.close()
        left = await wait_for_descriptors(vitals, before + SPARE_DESCRIPTORS)
    tallies = (baseline, *concurrent)
    first, then = (compute_quantile(tally.list_latencies(), 0.99) for tally in tallies)
    bench.findings.add_fact(
        f"{number} at once, closed {describe_closing(took, deadline)}; descriptors {before}, {most}, {left}; "
        f"p99 of normal ones {format_ms(first)}, then {format_ms(then)}"
    )
    expect, open_ones = bench.findings.check, number - sum(map(len, took.values()))
    expect(
        not open_ones,
        f"{open_ones} were still open after {NORMAL_AFTER_DEADLINES * deadline:.0f} s.",
    )
    expect(left <= before + SPARE_DESCRIPTORS, f"{left - before} descriptors did not return.")
    for tally in tallies:
        unanswered = tally.statuses.total() - len(tally.accepted)
        expect(not unanswered, f"{unanswered} normal exports were turned away.")
    if bench.scale.is_full:
        expect(then <= DOUBLED * first, f"p99 of normal ones rose to {format_ms(then)}.")


async def wait_for_descriptors(vitals: ProcessMetrics, most: int) -> int:
    """The descriptors of the service, as soon as there are so few; or those that do not go."""
    descriptors = vitals.count_descriptors()
    with anyio.move_on_after(LEFT_SECONDS):
        while descriptors > most:
            await anyio.sleep(0.1)
            descriptors = vitals.count_descriptors()
    return descriptors


def describe_closing(took: Mapping[str, list[float]], deadline: float) -> str:
    """In deadlines, at the latest."""
    latest = {name: max(each, default=math.nan) / deadline for name, each in took.items()}
    return ", ".join(f"{name} after {each:.1f}" for name, each in latest.items()) + " deadlines"


async def stay_silent(sockets: RawHttpClient, _token: str, _pause: float) -> None:
    """Until it is closed, as all of them."""
    async with sockets.open_one() as slow:
        await slow.wait_closed()


async def trickle_headers(sockets: RawHttpClient, _token: str, pause: float) -> None:
    async with sockets.open_one() as slow:
        slow.writer.write(b"GET /health HTTP/1.1\r\nHost: atlas\r\nX-Slow: ")
        await trickle(slow, pause)


async def trickle_body(sockets: RawHttpClient, token: str, pause: float) -> None:
    async with sockets.open_one() as slow:
        slow.writer.write(sockets.build_head(EXPORT, token, bytes(LARGE_HEADER_BYTES)))
        await trickle(slow, pause)


async def trickle(slow: RawConnection, pause: float) -> None:
    async def write() -> None:
        while True:
            await anyio.sleep(pause)
            slow.writer.write(b" ")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await slow.wait_closed()
        tasks.cancel_scope.cancel()


async def read_nothing(sockets: RawHttpClient, _token: str, pause: float) -> None:
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
    "silent": stay_silent,
    "headers": trickle_headers,
    "body": trickle_body,
    "unread": read_nothing,
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


async def smuggle(bench: TrialEnvironment) -> None:
    """What two servers could read in two ways, with a second request behind it, cut anywhere."""
    await bench.atlas.start()
    sockets, rounds = RawHttpClient(bench.clients.url), bench.scale.scale_number(100, least=3)
    for name, (request, statuses) in PROBES.items():
        for _ in range(rounds):
            cut = bench.rng.randrange(1, min(len(request), 200))
            answers = await probe(sockets, request + SECOND, cut)
            is_one = len(answers) == 1 and answers[0] in statuses
            bench.findings.check(is_one, f"{name}: answered {answers or 'nothing'}.")
    bench.findings.add_fact(f"{len(PROBES)} probes, {rounds} times each, cut in two anywhere")


async def probe(sockets: RawHttpClient, request: bytes, cut: int) -> list[int]:
    """The statuses of all that is answered until the connection is closed; none if it is not."""
    received = b""
    try:
        async with asyncio.timeout(PROBE_SECONDS), sockets.open_one() as probe:
            with suppress(OSError):
                for chunk in (request[:cut], request[cut:]):
                    probe.writer.write(chunk)
                    await probe.writer.drain()
                while more := await probe.reader.read(65_536):
                    received += more
    except TimeoutError:
        return []
    return [int(status) for status in STATUS.findall(received)]
