"""Streams a body: one request for all of it, sent again until every part of it is safe.

What was safe before the connection was lost is passed over when the same body comes again, so
sending it again from its start costs little and adds nothing.
"""

import codecs
import zlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
import anyio

from atlas.client.replies import (
    UNACCOUNTED,
    CannotSend,
    LineAccounting,
    RetryLater,
    UploadReply,
    parse_response,
    record_accepted,
)
from atlas.client.sending import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    Client,
    describe_error,
)
from atlas.core.identifiers import API_PREFIX

STREAM = f"{API_PREFIX}/export"
GZIP_WINDOW_BITS = 31  # how zlib is told to write it
ALL_FAILED = "BATCH_UPLOAD_FAILED"
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)

Texts = Callable[[], Iterable[bytes]]


@dataclass(slots=True)
class StreamAttempt:
    """One request, and how much of the body was read for it."""

    client: Client
    texts: Texts
    balance: LineAccounting
    warn: Callable[[str], None]
    lines: int = 0
    size: int = 0
    read_error: OSError | None = None  # what it was read from

    async def send(self) -> UploadReply:
        """Raises Again, CannotSend, OSError, and what aiohttp does."""
        headers = {
            "Authorization": f"Bearer {self.client.token}",
            "Content-Type": "application/x-ndjson",
            "Content-Encoding": "gzip",
        }
        if self.client.device is not None:
            headers["Atlas-Device"] = quote(self.client.device)
        url, session = self.client.url + STREAM, self.client.session
        with anyio.CancelScope(deadline=anyio.current_time() + ANSWER_SECONDS) as patience:
            try:
                async with session.post(
                    url,
                    data=self.body(patience),
                    headers=headers,
                    allow_redirects=False,
                    timeout=TIMEOUT,
                ) as response:
                    text = await response.read()
                    return parse_response(response.status, response.headers, text)
            except aiohttp.ClientError:
                if self.read_error is not None:
                    raise self.read_error from None
                raise
        raise TimeoutError

    async def body(self, patience: anyio.CancelScope) -> AsyncIterator[bytes]:
        """Packed; as long as it gets on, there is patience."""
        packer = zlib.compressobj(1, zlib.DEFLATED, GZIP_WINDOW_BITS)
        try:
            for text in self.texts():
                self.count_lines(text)
                yield await anyio.to_thread.run_sync(packer.compress, text)
                patience.deadline = anyio.current_time() + ANSWER_SECONDS
        except OSError as error:
            self.read_error = error
            raise
        yield packer.flush()
        self.balance.read = self.balance.unsent = self.lines  # fewer, if the file has shrunk

    def count_lines(self, text: bytes) -> None:
        start = text if self.size else text.removeprefix(codecs.BOM_UTF8)
        self.size += len(text)
        self.lines += sum(map(bool, map(bytes.strip, start.split(b"\n"))))
        more = max(0, self.lines - self.balance.read)  # a later attempt reads the same again
        self.balance.read += more
        self.balance.unsent += more
        self.balance.bytes = self.size
        self.warn("")


async def stream(
    client: Client,
    texts: Texts,
    balance: LineAccounting,
    warn: Callable[[str], None] = lambda _: None,
) -> None:
    """Send all lines, and book what became of them.

    `texts` gives the whole of it, from the start, each time it is asked; each text is whole lines.
    `warn` is called with "" when more was read, and before each retry with its reason. When sending
    turns out to be of no use, `balance.trouble` says why.
    """
    try:
        answer = await send_with_retries(client, texts, balance, warn)
        record_stream(balance, answer)
    except CannotSend as error:
        balance.last_error = str(error)
    except (RetryLater, aiohttp.ClientError, TimeoutError) as error:
        balance.last_error = f"{client.url} did not take it: {describe_error(error)}."
    except OSError as error:
        balance.last_error = f"The lines cannot be read to their end: {error.strerror}."


async def send_with_retries(
    client: Client, texts: Texts, balance: LineAccounting, warn: Callable[[str], None]
) -> UploadReply:
    """The answer to a body, asked for until there is one, or it gets on no more."""
    furthest = 0
    while True:
        try:
            return await client.retry(
                lambda: StreamAttempt(client, texts, balance, warn).send(),
                (RetryLater, aiohttp.ClientError),
                warn,
            )
        except RetryLater as error:
            if error.safe_bytes <= furthest:
                raise
            furthest = error.safe_bytes


def record_stream(balance: LineAccounting, answer: UploadReply) -> None:
    """What is safe, and of the rest why it is not. Raises CannotSend."""
    answered_lines = sum(
        safe.records_ingested + safe.records_rejected for safe in answer.upload_results
    )
    is_all = answered_lines == balance.unsent
    if answered_lines > balance.unsent or not (is_all or answer.errors or answer.error):
        raise CannotSend(UNACCOUNTED)
    balance.unsent -= answered_lines
    for safe in answer.upload_results:
        record_accepted(balance, safe)
    if answer.error is not None and answer.error.code != ALL_FAILED:
        raise CannotSend(f"{answer.error.code}: {answer.error.message}")
    for failed in answer.errors:
        lines = [(each.line, each.reason) for each in failed.details]
        part = f"part {failed.index + 1}: {failed.code}: {failed.error}"
        balance.record_rejected(0, lines or [(0, part)])
    balance.record_rejected(balance.unsent, ())
    balance.unsent = 0
