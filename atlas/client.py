"""The good mobile client: batches, retries that add nothing twice, and a balance at the end.

It does what the app should do. A batch is cut from the file alone, and named by what is in it: the
same file sent again, by whomever and after whatever, is recognised and adds no row.
"""

import gzip
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp
import anyio
import msgspec
import pybase64
import stamina
import stamina.instrumentation

BATCH = "/api/v1/healthkit/export/batch"
CHUNK_BYTES_MAX, CHUNK_LINES_MAX = 512 * 1024, 1_000
CHUNKS = 8  # in a batch: some 4 MiB of lines, and no more is lost when an answer is
AT_ONCE = 4
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0  # the latter as iOS
TRIES, GIVE_UP_SECONDS = 12, 900.0
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
REJECTS_SHOWN = 20

stamina.instrumentation.set_on_retry_hooks([])  # our caller tells, in its own words


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
    bytes: int = 0
    rejects: list[tuple[int, str]] = field(default_factory=list)  # the first few: line, reason
    trouble: str | None = None

    @property
    def is_even(self) -> bool:
        return self.read == self.committed + self.accepted + self.rejected + self.unsent

    def reject(self, count: int, told: Iterable[tuple[int, str]]) -> None:
        self.rejected += count
        self.rejects = sorted([*self.rejects, *told])[:REJECTS_SHOWN]


class Chunk(NamedTuple):
    """Lines that become one file. Blank ones are no records; `first` is where it begins."""

    text: bytes
    records: int
    first: int


class Batch(NamedTuple):
    """What goes in one request."""

    chunks: tuple[Chunk, ...]

    @property
    def key(self) -> str:
        """The same whenever the same lines are sent."""
        digest = hashlib.sha256()
        for chunk in self.chunks:
            digest.update(hashlib.sha256(chunk.text).digest())
        return digest.hexdigest()

    @property
    def records(self) -> int:
        return sum(chunk.records for chunk in self.chunks)

    @property
    def bytes(self) -> int:
        return sum(len(chunk.text) for chunk in self.chunks)


def batches(lines: Iterable[bytes]) -> Iterator[Batch]:
    """Cut by the lines alone, so that the same file gives the same batches."""
    chunks: list[Chunk] = []
    for chunk in cut(lines):
        chunks.append(chunk)
        if len(chunks) == CHUNKS:
            yield Batch(tuple(chunks))
            chunks = []
    if chunks:
        yield Batch(tuple(chunks))


def cut(lines: Iterable[bytes]) -> Iterator[Chunk]:
    gathered: list[bytes] = []
    size = records = 0
    first = 1
    for number, line in enumerate(lines, 1):
        if gathered and (size + len(line) > CHUNK_BYTES_MAX or records == CHUNK_LINES_MAX):
            if records:
                yield Chunk(b"".join(gathered), records, first)
            gathered, size, records, first = [], 0, 0, number
        gathered.append(line)
        size += len(line)
        records += bool(line.strip())
    if records:
        yield Chunk(b"".join(gathered), records, first)


@dataclass(frozen=True, slots=True)
class Client:
    """Sends to one Atlas, as one user."""

    session: aiohttp.ClientSession
    url: str
    token: str
    device: str | None = None

    async def send(
        self, lines: Iterable[bytes], balance: Balance, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        """Send all lines, and book what became of them.

        `tell` is called after each booking with "", and before each retry with its reason. When
        sending turns out to be of no use, what is under way is finished, nothing new is begun, and
        `balance.trouble` says why.
        """
        queue = batches(lines)

        async def worker() -> None:
            while balance.trouble is None and (batch := next(queue, None)):
                try:
                    book(balance, batch, await self.delivered(batch, tell))
                except CannotSend as error:
                    balance.unsent += batch.records
                    balance.trouble = str(error)
                balance.read += batch.records
                balance.bytes += batch.bytes
                tell("")

        async with anyio.create_task_group() as workers:
            for _ in range(AT_ONCE):
                workers.start_soon(worker)

    async def delivered(self, batch: Batch, tell: Callable[[str], None]) -> dict[str, Any]:
        """The answer to a batch, asked for until there is one. Raises CannotSend."""
        body = packed(batch, self.device)

        def again(error: Exception) -> bool | float:
            if wait(error):
                tell(why(error))
            return wait(error)

        try:
            async for attempt in stamina.retry_context(
                on=again, attempts=TRIES, timeout=GIVE_UP_SECONDS, wait_initial=0.5, wait_max=30.0
            ):
                with attempt:
                    return await self.posted(body, batch.key)
        except (Again, aiohttp.ClientError, TimeoutError) as error:
            raise CannotSend(f"{self.url} did not take it: {why(error)}.") from error
        raise AssertionError("stamina tries at least once")

    async def posted(self, body: bytes, key: str) -> dict[str, Any]:
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "Idempotency-Key": key,
        }
        async with self.session.post(self.url + BATCH, data=body, headers=headers) as response:
            return understood(response.status, response.headers, await response.read())


def packed(batch: Batch, device: str | None) -> bytes:
    """The body of a request. It has no timestamp: the same lines are the same export for ever."""
    sender = {} if device is None else {"device": device}
    chunks = [
        {"rawhealthkit": pybase64.b64encode(chunk.text).decode(), "recordCount": chunk.records}
        | sender
        for chunk in batch.chunks
    ]
    return gzip.compress(msgspec.json.encode({"chunks": chunks}), compresslevel=1)


def understood(status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """An answer of which every chunk has its place. Raises Again, CannotSend."""
    try:
        answer = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        answer = {}
    error = answer.get("error") or {}
    if status in AGAIN:
        after = headers.get("Retry-After", "")
        told = f"{status} {error.get('code', '')}".strip()
        raise Again(told, float(after) if after.isdecimal() else None)
    if "upload_results" not in answer:
        message = error.get("message", "This is no Atlas.")
        raise CannotSend(f"{status} {error.get('code', '')}: {message}".replace(" :", ":"))
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
        rows = result["records_ingested"]
        if result["status"] == "committed":
            balance.committed += rows
        else:
            balance.accepted += rows
        if result["replayed"]:
            balance.replayed += rows
        offset = batch.chunks[result["chunkIndex"]].first - 1
        rejects = ((offset + each["line"], each["reason"]) for each in result["rejects"])
        balance.reject(result["records_rejected"], rejects)
    for error in answer.get("errors", ()):
        chunk = batch.chunks[error["chunkIndex"]]
        balance.reject(chunk.records, [(chunk.first, f"{error['code']}: {error['error']}")])


@asynccontextmanager
async def connected(url: str, token: str, device: str | None) -> AsyncIterator[Client]:
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS
    )
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Client(session, url.rstrip("/"), token, device)
