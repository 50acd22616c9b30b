"""Senders: an offer of so many a second, whatever becomes of them, or so many that never rest.

They speak just enough HTTP, because on two cores a sender that costs as much as the service would
measure itself.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import aiohttp
import anyio
import msgspec
import pybase64

from tests import generator

EXPORT = b"/api/v1/healthkit/export"
BATCH = EXPORT + b"/batch"
RECORDS, USERS = 11, 50
LENGTH = re.compile(rb"(?i)content-length: ([0-9]+)")
HEAD = (
    b"POST %b HTTP/1.1\r\nHost: atlas.test\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer %b\r\n"
)


@dataclass
class Outcome:
    """How many exports were answered with which status, and how long each 200 took, in seconds."""

    statuses: Counter[int] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return self.statuses[200] / self.seconds

    @property
    def answered(self) -> float:
        """The share that was answered 200."""
        return self.statuses[200] / self.statuses.total()

    @property
    def failed(self) -> float:
        """A share."""
        return 1 - self.answered

    @property
    def p50(self) -> float:
        return self.quantile(0.5)

    @property
    def p99(self) -> float:
        return self.quantile(0.99)

    def quantile(self, share: float) -> float:
        return sorted(self.took)[int(len(self.took) * share)] if self.took else float("nan")


def bodies() -> Iterator[bytes]:
    """Ever other exports: the number of each stands in the uuids of its lines."""
    ndjson = generator.export(RECORDS)
    template = re.sub(rb'"uuid":"[0-9A-F]{8}', b'"uuid":"%08X', ndjson.replace(b"%", b"%%"))
    number = 0
    while True:
        ndjson = template % ((number,) * RECORDS)
        text = pybase64.b64encode(ndjson).decode()
        yield msgspec.json.encode({"rawhealthkit": text, "device": "iPhone"})
        number += 1


class Connections:
    """To one server: each is used again, and as many are opened as are needed at once."""

    def __init__(self, url: str) -> None:
        self._host, _, port = url.removeprefix("http://").partition(":")
        self._port = int(port)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, head: bytes, body: bytes) -> int:
        """The status of the answer."""
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body))
        answer = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(answer)
        assert length is not None, "every answer says how long it is"
        await reader.readexactly(int(length[1]))
        self._idle.append((reader, writer))
        return int(answer[9:12])

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


class Senders:
    def __init__(self, connections: Connections, tokens: list[str]) -> None:
        self._connections = connections
        self._tokens = [token.encode() for token in tokens]
        self._bodies = bodies()
        self._sent = 0

    async def send(self, outcome: Outcome, due: float, batch: int = 0) -> None:
        """One export, or a batch of so many; what it took counts from when it was due."""
        self._sent += 1
        token = self._tokens[self._sent % len(self._tokens)]
        body = self._batch(batch) if batch else next(self._bodies)
        try:
            status = await self._connections.post(HEAD % (BATCH if batch else EXPORT, token), body)
        except (OSError, asyncio.IncompleteReadError):
            status = 0
        exports = batch or 1
        outcome.statuses[status] += exports
        if status == 200:
            outcome.took.extend([time.perf_counter() - due] * exports)

    def _batch(self, exports: int) -> bytes:
        return b'{"chunks":[%b]}' % b",".join(next(self._bodies) for _ in range(exports))

    async def offer(self, a_second: float, seconds: float) -> Outcome:
        """An open offer: the next is due whether the last was answered or not."""
        outcome = Outcome()
        began = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for number in range(int(a_second * seconds)):
                due = began + number / a_second
                await anyio.sleep(max(0.0, due - time.perf_counter()))
                tasks.start_soon(self.send, outcome, due)
        outcome.seconds = time.perf_counter() - began
        return outcome

    async def offer_batches(
        self, a_second: float, seconds: float, connections: int, batch: int
    ) -> Outcome:
        """So many exports a second in batches, over so many connections: the next may have to wait
        for one.
        """
        outcome, free = Outcome(), anyio.CapacityLimiter(connections)
        began = time.perf_counter()

        async def send(due: float) -> None:
            async with free:
                await self.send(outcome, due, batch)

        async with anyio.create_task_group() as tasks:
            for number in range(int(a_second * seconds / batch)):
                due = began + number * batch / a_second
                await anyio.sleep(max(0.0, due - time.perf_counter()))
                tasks.start_soon(send, due)
        outcome.seconds = time.perf_counter() - began
        return outcome

    async def never_rest(self, connections: int, seconds: float) -> Outcome:
        """So many at a time, each sending again as soon as it was answered."""
        outcome = Outcome()
        began = time.perf_counter()

        async def sender() -> None:
            while time.perf_counter() - began < seconds:
                await self.send(outcome, time.perf_counter())

        async with anyio.create_task_group() as tasks:
            for _ in range(connections):
                tasks.start_soon(sender)
        outcome.seconds = time.perf_counter() - began
        return outcome


async def tokens(auth0: str) -> list[str]:
    return [await token(auth0, f"auth0|{number}") for number in range(USERS)]


async def token(auth0: str, sub: str) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{auth0}/stand-in/tokens", params={"sub": sub}) as answer,
    ):
        return await answer.text()


async def run(url: str, auth0: str, work: Callable[[Senders], Awaitable[Outcome]]) -> Outcome:
    connections = Connections(url)
    senders = Senders(connections, await tokens(auth0))
    await senders.send(Outcome(), 0.0)  # keys and tokens are fetched with the first
    try:
        return await work(senders)
    finally:
        connections.close()
