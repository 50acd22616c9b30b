"""Sends lines as one streamed request, and sends it again until every part is safe.

The service skips parts that were safe before a connection was lost, so sending the whole body
again costs little and adds nothing.
"""

import codecs
import zlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
import anyio

from atlas.client.batches import GZIP_WINDOW_BITS
from atlas.client.replies import (
    UNACCOUNTED,
    CannotSend,
    LineAccounting,
    RetryLater,
    UploadReply,
    parse_response,
    record_accepted,
)
from atlas.client.sending import ANSWER_SECONDS, CONNECT_SECONDS, Client, describe_error
from atlas.core.identifiers import API_PREFIX

STREAM = f"{API_PREFIX}/export"
ALL_FAILED = "BATCH_UPLOAD_FAILED"
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)

ReadBlocks = Callable[[], Iterable[bytes]]


@dataclass(slots=True)
class StreamAttempt:
    """One request, and the amount of the body that was read for it."""

    client: Client
    read_blocks: ReadBlocks
    balance: LineAccounting
    warn: Callable[[str], None]
    lines: int = 0
    size: int = 0
    read_error: OSError | None = None

    async def send(self) -> UploadReply:
        """Raises RetryLater, CannotSend, OSError, TimeoutError and aiohttp.ClientError."""
        headers = {
            "Authorization": f"Bearer {self.client.token}",
            "Content-Type": "application/x-ndjson",
            "Content-Encoding": "gzip",
        }
        if self.client.device is not None:
            headers["Atlas-Device"] = quote(self.client.device)
        url, session = self.client.url + STREAM, self.client.session
        with anyio.CancelScope(deadline=anyio.current_time() + ANSWER_SECONDS) as scope:
            try:
                async with session.post(
                    url,
                    data=self.compress_body(scope),
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

    async def compress_body(self, scope: anyio.CancelScope) -> AsyncIterator[bytes]:
        """Compress the blocks, and extend the deadline after each one that was sent."""
        compressor = zlib.compressobj(1, zlib.DEFLATED, GZIP_WINDOW_BITS)
        try:
            for block in self.read_blocks():
                self.count_lines(block)
                yield await anyio.to_thread.run_sync(compressor.compress, block)
                scope.deadline = anyio.current_time() + ANSWER_SECONDS
        except OSError as error:
            self.read_error = error
            raise
        yield compressor.flush()
        self.balance.read = self.balance.unsent = self.lines  # fewer, if the file has shrunk

    def count_lines(self, block: bytes) -> None:
        text = block if self.size else block.removeprefix(codecs.BOM_UTF8)
        self.size += len(block)
        self.lines += sum(map(bool, map(bytes.strip, text.split(b"\n"))))
        added = max(0, self.lines - self.balance.read)  # a retry reads the same lines again
        self.balance.read += added
        self.balance.unsent += added
        self.balance.bytes = self.size
        self.warn("")


async def stream(
    client: Client,
    read_blocks: ReadBlocks,
    balance: LineAccounting,
    warn: Callable[[str], None] = lambda _: None,
) -> None:
    """Send all lines as a stream, and record their outcomes in `balance`.

    `read_blocks` is called for each attempt, and gives all lines from the first; each block is
    whole lines. `warn` is called with "" after each block, and with the reason before each retry.
    On an error that retrying does not fix, `balance.last_error` holds the reason.
    """
    try:
        reply = await send_with_retries(client, read_blocks, balance, warn)
        record_stream(balance, reply)
    except CannotSend as error:
        balance.last_error = str(error)
    except (RetryLater, aiohttp.ClientError, TimeoutError) as error:
        balance.last_error = f"{client.url} did not accept it: {describe_error(error)}."
    except OSError as error:
        balance.last_error = f"Cannot read all of the lines: {error.strerror}."


async def send_with_retries(
    client: Client,
    read_blocks: ReadBlocks,
    balance: LineAccounting,
    warn: Callable[[str], None],
) -> UploadReply:
    """Send the body until it is answered, for as long as more of it becomes safe."""
    safe_bytes = 0
    while True:
        try:
            return await client.retry(
                lambda: StreamAttempt(client, read_blocks, balance, warn).send(),
                (RetryLater, aiohttp.ClientError),
                warn,
            )
        except RetryLater as error:
            if error.safe_bytes <= safe_bytes:
                raise
            safe_bytes = error.safe_bytes


def record_stream(balance: LineAccounting, reply: UploadReply) -> None:
    """Record the safe lines, and the errors of the others. Raises CannotSend."""
    answered = sum(safe.records_ingested + safe.records_rejected for safe in reply.upload_results)
    is_all = answered == balance.unsent
    if answered > balance.unsent or not (is_all or reply.errors or reply.error):
        raise CannotSend(UNACCOUNTED)
    balance.unsent -= answered
    for safe in reply.upload_results:
        record_accepted(balance, safe)
    if reply.error is not None and reply.error.code != ALL_FAILED:
        raise CannotSend(f"{reply.error.code}: {reply.error.message}")
    for failed in reply.errors:
        lines = [(each.line, each.reason) for each in failed.details]
        part = f"part {failed.index + 1}: {failed.code}: {failed.error}"
        balance.record_rejected(0, lines or [(0, part)])
    balance.record_rejected(balance.unsent, ())
    balance.unsent = 0
