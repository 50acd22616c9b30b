"""The good mobile client: batches, retries that add nothing twice, and a balance at the end.

It does what the app should do. A batch is cut from the file alone, and named by what is in it: the
same file sent again, by whomever and after whatever, is recognised and adds no row.
"""

import gzip
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import anyio
import msgspec
import pybase64
import stamina
import stamina.instrumentation

BATCH = "/api/v1/healthkit/export/batch"
CHUNK_BYTES_MAX, CHUNK_LINES_MAX = 512 * 1024, 1_000
CHUNKS = 8  # in a batch: some 4 MiB of lines, half an hour of nothing lost when one fails
AT_ONCE = 4
ANSWER_SECONDS = 60.0  # as iOS
TRIES, GIVE_UP_SECONDS = 12, 900.0
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class CannotSend(Exception):
    """Sending is of no use; the message says what to do."""


class Again(Exception):
    """Not this time. `seconds` is when the service wants to hear from us, if it said so."""

    def __init__(self, why: str, seconds: float | None = None) -> None:
        super().__init__(why)
        self.seconds = seconds


@dataclass(slots=True)
class Balance:
    """What became of every line: read = committed + accepted + rejected + unsent."""

    read: int = 0
    committed: int = 0
    accepted: int = 0
    rejected: int = 0
    unsent: int = 0
    replayed: int = 0  # of the committed and accepted, those that stood before
    trouble: str | None = None
    reasons: dict[str, int] = field(default_factory=dict)
    receipts: list[str] = field(default_factory=list)  # of what is accepted and not committed yet

    @property
    def is_even(self) -> bool:
        return self.read == self.committed + self.accepted + self.rejected + self.unsent

    def refuse(self, lines: int, why: str) -> None:
        self.rejected += lines
        self.reasons[why] = self.reasons.get(why, 0) + lines


@dataclass(frozen=True, slots=True)
class Batch:
    """Chunks of lines. `key` is the same whenever the same lines are sent."""

    chunks: tuple[bytes, ...]
    lines: tuple[int, ...]  # records in each chunk; blank lines are none

    @property
    def key(self) -> str:
        digest = hashlib.sha256()
        for chunk in self.chunks:
            digest.update(hashlib.sha256(chunk).digest())
        return digest.hexdigest()


def batches(lines: Iterable[bytes]) -> Iterator[Batch]:
    """Cut by the lines alone, so that the same file gives the same batches."""
    chunks: list[tuple[bytes, int]] = []
    for chunk in cut(lines):
        chunks.append(chunk)
        if len(chunks) == CHUNKS:
            yield packed(chunks)
            chunks = []
    if chunks:
        yield packed(chunks)


def cut(lines: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Chunks, each with the number of records in it."""
    gathered: list[bytes] = []
    size = records = 0
    for line in lines:
        if gathered and (size + len(line) > CHUNK_BYTES_MAX or records == CHUNK_LINES_MAX):
            if records:
                yield b"".join(gathered), records
            gathered, size, records = [], 0, 0
        gathered.append(line)
        size += len(line)
        records += bool(line.strip())
    if records:
        yield b"".join(gathered), records


def packed(chunks: list[tuple[bytes, int]]) -> Batch:
    texts, lines = zip(*chunks, strict=True)
    return Batch(texts, lines)


@dataclass(frozen=True, slots=True)
class Client:
    """Sends to one Atlas, as one user."""

    session: aiohttp.ClientSession
    url: str
    token: str
    device: str

    async def send(
        self, lines: Iterable[bytes], tell: Callable[[Balance], None] = lambda _: None
    ) -> Balance:
        """Send all lines; the balance of what became of them.

        When sending turns out to be of no use, what is under way is finished, nothing new is begun,
        and `trouble` says why.
        """
        balance = Balance()
        queue = batches(lines)

        async def worker() -> None:
            while balance.trouble is None and (batch := next(queue, None)):
                balance.read += sum(batch.lines)
                try:
                    book(balance, batch, await self.delivered(batch))
                except CannotSend as error:
                    balance.unsent += sum(batch.lines)
                    balance.trouble = str(error)
                tell(balance)

        async with anyio.create_task_group() as workers:
            for _ in range(AT_ONCE):
                workers.start_soon(worker)
        return balance

    async def delivered(self, batch: Batch) -> dict[str, Any]:
        """The answer to a batch, asked for until there is one. Raises CannotSend."""
        stamina.instrumentation.set_on_retry_hooks([])  # our caller tells, in its own words
        try:
            async for attempt in stamina.retry_context(
                on=wait,
                attempts=TRIES,
                timeout=GIVE_UP_SECONDS,
                wait_initial=0.5,
                wait_max=30.0,
            ):
                with attempt:
                    return await self.posted(batch)
        except (Again, aiohttp.ClientError, TimeoutError) as error:
            raise CannotSend(f"{self.url} did not take it: {why(error)}.") from error
        raise AssertionError("stamina tries at least once")

    async def posted(self, batch: Batch) -> dict[str, Any]:
        chunks = [
            {"rawhealthkit": pybase64.b64encode(text).decode(), "recordCount": count}
            | ({"device": self.device} if self.device else {})
            for text, count in zip(batch.chunks, batch.lines, strict=True)
        ]
        body = gzip.compress(msgspec.json.encode({"chunks": chunks}), compresslevel=1)
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "Idempotency-Key": batch.key,
        }
        async with self.session.post(self.url + BATCH, data=body, headers=headers) as response:
            return understood(response.status, response.headers, await response.read())


def understood(status: int, headers: Any, body: bytes) -> dict[str, Any]:
    """An answer of which every chunk has its place. Raises Again, CannotSend."""
    try:
        answer = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError:
        answer = {}
    error = answer.get("error") or {}
    if status in AGAIN:
        after = headers.get("Retry-After", "")
        told = f"{status} {error.get('code', '')}".strip()
        raise Again(told, float(after) if after.isdecimal() else None)
    if "upload_results" not in answer:
        message = error.get("message", "that is no Atlas")
        raise CannotSend(f"{status} {error.get('code', '')}: {message}")
    return answer


def wait(error: Exception) -> bool | float:
    """Whether, and when, to try again: not before the service wants to hear from us."""
    if isinstance(error, Again) and error.seconds is not None:
        return error.seconds
    return isinstance(error, Again | aiohttp.ClientError | TimeoutError)


def why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {ANSWER_SECONDS:.0f} s"
    return str(error) or type(error).__name__


def book(balance: Balance, batch: Batch, answer: dict[str, Any]) -> None:
    """Every line of a batch is committed, accepted or rejected."""
    for result in answer["upload_results"]:
        good = result["records_ingested"]
        if result["status"] == "committed":
            balance.committed += good
        else:
            balance.accepted += good
            balance.receipts.append(result["receipt_id"])
        if result["replayed"]:
            balance.replayed += good
        for reject in result["rejects"]:
            balance.refuse(1, reject["reason"])
        told = len(result["rejects"])
        if result["records_rejected"] > told:
            balance.refuse(result["records_rejected"] - told, "not told, beyond the first few")
    for error in answer.get("errors", ()):
        balance.refuse(batch.lines[error["chunkIndex"]], error["code"])


@asynccontextmanager
async def connected(url: str, token: str, device: str) -> AsyncIterator[Client]:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Client(session, url.rstrip("/"), token, device)
