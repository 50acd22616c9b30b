"""Senders: an offer of so many a second, whatever becomes of them, or so many that never rest."""

import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import aiohttp
import anyio
import msgspec
import pybase64

from tests import records

EXPORT = "/api/v1/healthkit/export"
RECORDS, USERS = 11, 50


@dataclass
class Outcome:
    """How often which status came, and how long each answer of 200 took, in seconds."""

    statuses: Counter[int] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return self.statuses[200] / self.seconds

    @property
    def failed(self) -> float:
        """A share."""
        return 1 - self.statuses[200] / self.statuses.total()

    @property
    def p99(self) -> float:
        return sorted(self.took)[int(len(self.took) * 0.99)] if self.took else float("nan")


def bodies() -> Iterator[bytes]:
    """Ever other exports: the number of each stands in the uuids of its lines."""
    ndjson = records.export(RECORDS)
    template = re.sub(rb'"uuid":"[0-9A-F]{8}', b'"uuid":"%08X', ndjson.replace(b"%", b"%%"))
    number = 0
    while True:
        ndjson = template % ((number,) * RECORDS)
        text = pybase64.b64encode(ndjson).decode()
        yield msgspec.json.encode({"rawhealthkit": text, "device": "iPhone"})
        number += 1


class Senders:
    def __init__(self, session: aiohttp.ClientSession, url: str, tokens: list[str]) -> None:
        self._session = session
        self._url = url + EXPORT
        self._tokens = tokens
        self._bodies = bodies()
        self._sent = 0

    async def send(self, outcome: Outcome, due: float) -> None:
        """One export; what it took counts from when it was due."""
        self._sent += 1
        headers = {
            "Authorization": f"Bearer {self._tokens[self._sent % len(self._tokens)]}",
            "Content-Type": "application/json",
        }
        body = next(self._bodies)
        try:
            async with self._session.post(self._url, data=body, headers=headers) as answer:
                await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            status = 0
        outcome.statuses[status] += 1
        if status == 200:
            outcome.took.append(time.perf_counter() - due)

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
    async with aiohttp.ClientSession() as session:
        found = []
        for number in range(USERS):
            asked = {"sub": f"auth0|{number}"}
            async with session.get(f"{auth0}/stand-in/tokens", params=asked) as answer:
                found.append(await answer.text())
        return found


async def run(url: str, auth0: str, work: Callable[[Senders], Awaitable[Outcome]]) -> Outcome:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        senders = Senders(session, url, await tokens(auth0))
        await senders.send(Outcome(), 0.0)  # keys and tokens are fetched with the first
        return await work(senders)
