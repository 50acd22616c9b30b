"""Well-behaved clients: they retry an export until it is safe, and report to the oracle."""

import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import anyio
import msgspec
import pybase64

from atlas.core.errors import JSON_ERRORS
from atlas.core.identifiers import API_PREFIX
from tests.chaos.oracle import Oracle, Reply, derive_uuid

LINES = 40  # 20 KB
NOISE_BYTES = 100  # incompressible, so that the journal grows as with real exports
USERS = 200  # enough to stay below the request limit per user
DEVICE, TIMESTAMP = "iPhone of the proof", "2025-09-26T06:30:00.000Z"
ANSWER_SECONDS = 20.0
AGAIN_SECONDS, AGAIN_SECONDS_MAX = 0.05, 0.5  # Retry-After is shortened to save time
SETTLED_SECONDS = 90.0

CHUNK_BYTES, LOST_AFTER_SECONDS = 64 * 1024, 1.0  # in which parts are stored
SAFE = Reply("", "accepted", None, None, TIMESTAMP, False)  # of a stream: its place does not matter

Sub = Callable[[int], str]


class Refusal(msgspec.Struct):
    code: str


class Refused(msgspec.Struct):
    error: Refusal


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; `status` 0 means that there was none."""

    status: int
    body: bytes = b""
    retry_after: str = ""

    @property
    def reply(self) -> Reply | None:
        """The promise in the response, if there is one."""
        return msgspec.json.decode(self.body, type=Reply) if self.status in {200, 202} else None

    @property
    def refusal(self) -> str:
        """Status and code of a refusal."""
        try:
            return f"{self.status} {msgspec.json.decode(self.body, type=Refused).error.code}"
        except JSON_ERRORS:
            return f"{self.status} without a code"


@dataclass(frozen=True, slots=True)
class Export:
    """One export of one user, as lines of NDJSON."""

    name: str
    sub: str
    lines: tuple[bytes, ...]

    @classmethod
    def generate(cls, name: str, sub: str, rng: random.Random, lines: int = LINES) -> "Export":
        return cls(
            name, sub, tuple(build_record(derive_uuid(name, line), rng) for line in range(lines))
        )

    def body(self) -> bytes:
        return wrap(b"\n".join(self.lines))


def wrap(ndjson: bytes) -> bytes:
    """Encode an export, or a chunk of a batch, as JSON."""
    text = pybase64.b64encode(ndjson).decode()
    return msgspec.json.encode({"rawhealthkit": text, "device": DEVICE, "timestamp": TIMESTAMP})


def build_record(uuid: str, rng: random.Random, noise_bytes: int = NOISE_BYTES) -> bytes:
    return msgspec.json.encode(
        {
            "uuid": uuid,
            "sampleType": "HKQuantityTypeIdentifierHeartRate",
            "sourceName": "Watch of the proof",
            "startDate": "2025-09-26T06:29:12.000Z",
            "endDate": "2025-09-26T06:29:12.000Z",
            "valueDouble": rng.randint(40, 180),
            "unit": "count/min",
            "device": {"model": "Watch", "manufacturer": "Apple Inc."},
            "noise": rng.randbytes(noise_bytes).hex(),
        }
    )


def choose_user(number: int) -> str:
    return f"auth0|{number % USERS}"


@dataclass(slots=True)
class Clients:
    """All clients of a trial. `tokens` returns the token of a user.

    Each request goes to one of `replicas`, by chance; to `url` if there are none.
    """

    url: str
    session: aiohttp.ClientSession
    oracle: Oracle
    rng: random.Random
    tokens: Callable[[str], str]
    replicas: Sequence[str] = ()
    patience_seconds: float = ANSWER_SECONDS
    answered: list[tuple[float, int]] = field(default_factory=list)  # times and statuses
    refused: Counter[str] = field(default_factory=Counter)  # number of refusals by kind
    numbers: Callable[[], int] = field(default_factory=lambda: itertools.count().__next__)

    def next_export(self, sub: Sub = choose_user) -> Export:
        """Generate an export that was not sent before."""
        number = self.numbers()
        return Export.generate(f"export-{number}", sub(number), self.rng)

    def choose_url(self) -> str:
        return self.rng.choice(self.replicas) if self.replicas else self.url

    async def post(self, export: Export, url: str | None = None, **headers: str) -> Answer:
        """Send an export once. Header names are written with underscores."""
        self.oracle.record_sent(export.name, len(export.lines))
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= {"Content-Type": "application/json"}
        sent.setdefault("Authorization", f"Bearer {self.tokens(export.sub)}")
        try:
            async with self.session.post(
                f"{url or self.choose_url()}{API_PREFIX}/export",
                data=export.body(),
                headers=sent,
                timeout=aiohttp.ClientTimeout(total=self.patience_seconds),
            ) as answer:
                body = await answer.read()
                result = Answer(answer.status, body, answer.headers.get("Retry-After", ""))
        except (aiohttp.ClientError, OSError, TimeoutError):
            return Answer(0)
        self.answered.append((time.monotonic(), result.status))
        if result.reply is not None:
            self.oracle.record_answer(export.name, result.reply)
        return result

    async def stream(self, export: Export, share: float = 1.0) -> Answer:
        """Send an export as a stream; with `share` < 1 the connection breaks after that share of
        it.
        """
        self.oracle.record_sent(export.name, len(export.lines))
        body = b"\n".join(export.lines) + b"\n"

        async def chunks() -> AsyncIterator[bytes]:
            end = int(len(body) * share)
            for at in range(0, end, CHUNK_BYTES):
                yield body[at : min(at + CHUNK_BYTES, end)]
            if end < len(body):
                await anyio.sleep(LOST_AFTER_SECONDS)
                raise ConnectionResetError

        headers = {
            "Authorization": f"Bearer {self.tokens(export.sub)}",
            "Content-Type": "application/x-ndjson",
        }
        url = f"{self.choose_url()}{API_PREFIX}/export"
        timeout = aiohttp.ClientTimeout(total=2 * ANSWER_SECONDS)
        try:
            async with self.session.post(
                url, data=chunks(), headers=headers, timeout=timeout
            ) as answer:
                result = Answer(answer.status, await answer.read())
        except (aiohttp.ClientError, OSError, TimeoutError):
            return Answer(0)
        if result.status in {200, 202}:
            self.oracle.record_answer(export.name, SAFE)
        return result

    async def deliver(self, export: Export, **headers: str) -> Reply | None:
        """Retry an export until it is safe. Return None on a permanent refusal, which the oracle
        reports.
        """
        while True:
            answer = await self.post(export, **headers)
            if answer.reply is not None:
                return answer.reply
            if answer.status >= 400 and answer.status not in {408, 429, 503}:
                self.oracle.surprises[answer.refusal] += 1
                if answer.status < 500:
                    return None
            self.refused[answer.refusal if answer.status else "no answer"] += 1
            delay = float(answer.retry_after) if answer.retry_after.isdecimal() else AGAIN_SECONDS
            await anyio.sleep(min(delay, AGAIN_SECONDS_MAX) * self.rng.uniform(0.5, 1.0))

    @asynccontextmanager
    async def keep_sending(
        self, exports: int, phones: int = 16, per_second: float | None = None, **headers: str
    ) -> AsyncIterator[None]:
        """Send at least `exports` exports, and more while the block runs; then wait for all
        answers.

        A client sends its next export when its last one is safe, and not faster than `per_second`
        allows.
        """
        is_over, left = False, exports

        async def run_client(index: int) -> None:
            nonlocal left
            await anyio.sleep(index / per_second if per_second else 0.0)
            while left > 0 or not is_over:
                left -= 1
                turn = anyio.current_time() + (phones / per_second if per_second else 0.0)
                await self.deliver(self.next_export(), **headers)
                await anyio.sleep_until(turn)
            give_up = anyio.current_time() + SETTLED_SECONDS  # every export was sent by now
            tasks.cancel_scope.deadline = min(tasks.cancel_scope.deadline, give_up)

        async with anyio.create_task_group() as tasks:
            for index in range(min(phones, exports)):
                tasks.start_soon(run_client, index)
            yield
            is_over = True
