"""Senders: connections without pauses, or a fixed rate of exports.

They run in one process on bare asyncio protocols: on two cores, senders as expensive as the service
would measure themselves. An export costs them 20 µs.
"""

import asyncio
import itertools
import re
import resource
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

import pybase64

from atlas.core.identifiers import API_PREFIX
from tests.support import generator

USERS, RECORDS = 50, 11
SAFE = (200, 202)
OFFER_CONNECTIONS_MAX = 8_000  # an offer beyond fails in the sender
CONNECTING = 100  # concurrently, because a listener's backlog is limited
ANSWER_SECONDS_MAX = 60.0
AGAIN_SECONDS = 0.05  # before connecting again after a refused connection
EMPTY_LINE = b"\r\n\r\n"
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]+)")
CLOSES = re.compile(rb"(?i)\r\nconnection: *close")


@dataclass
class Outcome:
    """Answers by status, 0 for a broken connection, with latencies of safe and refused exports."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    refusal_latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def record(self, status: int, seconds: float) -> None:
        self.statuses[status] += 1
        (self.latencies if status in SAFE else self.refusal_latencies).append(seconds)

    def add(self, other: "Outcome") -> None:
        self.statuses += other.statuses
        self.latencies += other.latencies
        self.refusal_latencies += other.refusal_latencies
        self.seconds += other.seconds

    @property
    def safe_count(self) -> int:
        return sum(self.statuses[status] for status in SAFE)

    @property
    def rate(self) -> float:
        return self.safe_count / self.seconds

    @property
    def safe_share(self) -> float:
        """Share of the exports that are safe."""
        return self.safe_count / max(1, self.statuses.total())

    @property
    def refusal_rate(self) -> float:
        """Other answers per second."""
        return (self.statuses.total() - self.safe_count) / self.seconds


def quantile(found: list[float], share: float) -> float:
    return sorted(found)[int(len(found) * share)] if found else float("nan")


class Exports:
    """Requests with different exports: the uuids of the lines contain the number of the export."""

    def __init__(self, records: int, tokens: list[str], prefer: str = "") -> None:
        ndjson = generator.export(records).replace(b"%", b"%%")
        self._template = re.sub(rb'"uuid":"[0-9A-F]{8}', b'"uuid":"%08X', ndjson)
        self._uuids = self._template.count(b"%08X")
        self._numbers = itertools.count()
        length = len(self._body(0))
        self._heads = itertools.cycle([build_head(token, length, prefer) for token in tokens])

    def _body(self, number: int) -> bytes:
        text = self._template % ((number,) * self._uuids)
        return b'{"device":"iPhone","rawhealthkit":"%b"}' % pybase64.b64encode(text)

    def __next__(self) -> bytes:
        return next(self._heads) + self._body(next(self._numbers))

    def __iter__(self) -> Iterator[bytes]:
        return self


def build_head(token: str, length: int, prefer: str) -> bytes:
    return (
        f"POST {API_PREFIX}/export HTTP/1.1\r\nHost: atlas.test\r\n"
        f"Content-Type: application/json\r\nAuthorization: Bearer {token}\r\n"
        + (f"Prefer: {prefer}\r\n" if prefer else "")
        + f"Content-Length: {length}\r\n\r\n"
    ).encode()


class Connection(asyncio.Protocol):
    """One sender. `on_answer` is called with each status, and may send the next request at once."""

    def __init__(self, on_answer: Callable[["Connection", int], None]) -> None:
        self._on_answer = on_answer
        self._answer = b""
        self._began = 0.0
        self.is_waiting = self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has its own class
        self.is_open = True

    def send(self, request: bytes, due: float) -> None:
        self._began, self.is_waiting = due, True
        if self._transport.is_closing():
            self.is_open = False
            self._end(0)
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._answer:
            data = self._answer + data
        end = data.find(EMPTY_LINE)
        found = LENGTH.search(data) if end >= 0 else None
        if found is None or len(data) < end + len(EMPTY_LINE) + int(found[1]):
            self._answer = data
            return
        self._answer = b""
        self.is_open = CLOSES.search(data, 0, end) is None
        if not self.is_open:
            self._transport.close()
        self._end(int(data[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self.is_waiting:
            self._end(0)

    def _end(self, status: int) -> None:
        self.is_waiting = False
        self._on_answer(self, status)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    def close(self) -> None:
        self._transport.close()


class Fleet:
    """All connections to one service."""

    def __init__(self, url: str, exports: Exports) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._address = host, int(port)
        self._exports = exports
        self._connecting = asyncio.Semaphore(CONNECTING)
        self._connections = set[Connection]()
        self._tasks = set[asyncio.Task[None]]()
        self._idle: list[Connection] = []
        self._awaited_answer: asyncio.Future[None] | None = None
        self.is_over = False
        self.outcome = Outcome()

    async def _connect(self, on_answer: Callable[[Connection, int], None]) -> Connection:
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with self._connecting:
                    _, made = await loop.create_connection(
                        lambda: Connection(on_answer), *self._address
                    )
            except OSError:
                self.outcome.record(0, 0.0)
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                self._connections.add(made)
                return made

    # without pauses

    def send_without_pauses(self, connections: int) -> None:
        """Start senders that send again after each answer, whatever it is."""
        for _ in range(connections):
            self._spawn_sender()

    def _spawn_sender(self) -> None:
        task = asyncio.ensure_future(self._start_sender())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_sender(self) -> None:
        made = await self._connect(self._send_next)
        if not self.is_over:
            made.send(next(self._exports), time.perf_counter())

    def _send_next(self, connection: Connection, status: int) -> None:
        self._note(connection, status)
        if self.is_over:
            return
        if connection.is_open:
            connection.send(next(self._exports), time.perf_counter())
        else:
            self._connections.discard(connection)
            self._spawn_sender()

    def _note(self, connection: Connection, status: int) -> None:
        self.outcome.record(status, connection.seconds)
        if self._awaited_answer is not None and not self._awaited_answer.done():
            self._awaited_answer.set_result(None)

    async def wait_for_answer(self, seconds_max: float) -> None:
        """Wait until an answer arrives, so that a window begins and ends with whole exports."""
        self._awaited_answer = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._awaited_answer], timeout=seconds_max)

    # at a fixed rate

    async def offer(self, a_second: float, seconds: float) -> Outcome:
        """Send at a fixed rate without waiting for answers, and then wait for all of them.

        Latencies count from the time at which an export was due.
        """
        self.outcome = outcome = Outcome()
        began = time.perf_counter()
        for number in range(int(a_second * seconds)):
            due = began + number / a_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.ensure_future(self._send_one(due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        until = time.perf_counter() + ANSWER_SECONDS_MAX
        while left := len(self._tasks) + sum(each.is_waiting for each in self._connections):
            if time.perf_counter() > until:
                outcome.statuses[0] += left
                break
            await asyncio.sleep(AGAIN_SECONDS)
        outcome.seconds = time.perf_counter() - began
        return outcome

    async def _send_one(self, due: float) -> None:
        while self._idle:
            idle = self._idle.pop()
            if idle.is_open:
                idle.send(next(self._exports), due)
                return
            self._connections.discard(idle)
        if len(self._connections) + len(self._tasks) > OFFER_CONNECTIONS_MAX:
            self.outcome.record(0, time.perf_counter() - due)
            return
        made = await self._connect(self._make_idle)
        made.send(next(self._exports), due)

    def _make_idle(self, connection: Connection, status: int) -> None:
        self._note(connection, status)
        if connection.is_open:
            self._idle.append(connection)
        else:
            self._connections.discard(connection)

    async def close(self) -> None:
        self.is_over = True
        for task in self._tasks:
            task.cancel()
        for connection in self._connections:
            connection.close()
        await asyncio.sleep(0)


def fetch_tokens(auth0: str, users: int = USERS) -> list[str]:
    """Fetch a token for each user."""
    return [fetch_token(auth0, f"auth0|{number}") for number in range(users)]


def fetch_token(auth0: str, sub: str) -> str:
    query = urllib.parse.urlencode({"sub": sub})
    with urllib.request.urlopen(f"{auth0}/stand-in/tokens?{query}") as answer:
        text: str = answer.read().decode()
    return text


def raise_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
