"""Stubs of Foundry and Auth0 in a separate process: `python -m tests.bench.stubs [--lax]
[SECONDS]`.

Foundry is one branch on a bare asyncio protocol. It stores no files, allows one open transaction,
and is so cheap that the service is the bottleneck. (`atlas.local` has the strict emulator.) Prints
both addresses, ends when its standard input is closed, and then prints its counts. Each answer of
Foundry takes SECONDS; `--lax` allows any number of open transactions.
"""

import asyncio
import json
import re
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime
from email.utils import formatdate
from functools import lru_cache
from typing import cast
from urllib.parse import unquote

import msgspec
import uvloop
from aiohttp import web

from atlas.local import auth0
from atlas.server import bind, format_address

PUBLISH = b"/publishRecords HTTP"
INGESTED_AT = re.compile(rb'"ingested_at":"([^"]+)"')
EMPTY_LINE = b"\r\n\r\n"
CREATED = "2026-01-02T12:00:00.000Z"
TOKEN_PATH = "/multipass/api/oauth2/token"
TOKEN = {"access_token": "bench", "token_type": "Bearer", "expires_in": 3600}


@dataclass
class Count:
    """Everything committed, and the number of refused calls."""

    transactions: int = 0
    files: int = 0
    rows: int = 0
    bytes: int = 0
    refused: int = 0
    published: int = 0  # records of a stream
    delay_p50: float = 0.0  # from the acceptance of a record to the answer of the stream
    delay_p99: float = 0.0


@dataclass
class Branch:
    """The only branch, of every dataset."""

    is_lax: bool = False
    count: Count = field(default_factory=Count)
    begun: int = 0
    states: dict[str, str] = field(default_factory=dict)
    head: str = ""
    delays: list[float] = field(default_factory=list)

    def begin(self) -> tuple[int, object]:
        if self.states.get(self.head) == "OPEN" and not self.is_lax:
            return self.refuse(409, "OpenTransactionAlreadyExists")
        self.begun += 1
        self.head = f"ri.foundry.main.transaction.{self.begun}"
        self.states[self.head] = "OPEN"
        return 200, self.show(self.head)

    def end(self, rid: str, state: str) -> tuple[int, object]:
        if self.states.get(rid) != "OPEN":
            return self.refuse(400, "TransactionNotOpen")
        self.states[rid] = state
        self.count.transactions += state == "COMMITTED"
        return 200, self.show(rid)

    def put(self, path: str, query: str, size: int, rows: int) -> tuple[int, object]:
        rid = query.partition("transactionRid=")[2].partition("&")[0]
        if self.states.get(rid) != "OPEN":
            return self.refuse(400, "TransactionNotOpen")
        self.count.files += 1
        self.count.rows += rows
        self.count.bytes += size
        path = unquote(path)
        return 200, {"path": path, "transactionRid": rid, "sizeBytes": str(size)}

    def publish(self, body: bytes, latency_seconds: float) -> tuple[int, object]:
        answered_at = time.time() + latency_seconds
        accepted = [datetime.fromisoformat(each.decode()) for each in INGESTED_AT.findall(body)]
        self.count.published += len(accepted)
        self.delays += [answered_at - each.timestamp() for each in accepted]
        return 200, None

    def sum_up(self) -> Count:
        delays = sorted(self.delays)
        if delays:
            self.count.delay_p50, self.count.delay_p99 = (
                delays[int(len(delays) * share)] for share in (0.5, 0.99)
            )
        return self.count

    def show(self, rid: str) -> dict[str, str]:
        body = {"rid": rid, "status": self.states[rid], "createdTime": CREATED}
        return body | {"transactionType": "APPEND"}

    def refuse(self, status: int, name: str) -> tuple[int, object]:
        self.count.refused += 1
        body = {"errorName": name, "errorCode": "CONFLICT", "parameters": {}}
        return status, body | {"errorInstanceId": "00000000-0000-0000-0000-000000000000"}

    def answer(self, method: str, target: str, size: int, rows: int) -> tuple[int, object]:
        path, _, query = target.partition("?")
        match method, path.split("/")[5:]:
            case "POST", ["files", name, "upload"]:
                return self.put(name, query, size, rows)
            case "POST", ["transactions"]:
                return self.begin()
            case "POST", ["transactions", rid, "commit"]:
                return self.end(rid, "COMMITTED")
            case "POST", ["transactions", rid, "abort"]:
                return self.end(rid, "ABORTED")
            case "GET", ["transactions", rid] if rid in self.states:
                return 200, self.show(rid)
            case "GET", ["branches", name]:
                return 200, {"name": name} | ({"transactionRid": self.head} if self.head else {})
            case "GET", ["files"]:
                return 200, {"data": []}
        return self.refuse(404, "FileNotFoundOnBranch")


class FoundryConnection(asyncio.Protocol):
    """The HTTP that our client uses: one request at a time, with a Content-Length."""

    def __init__(self, branch: Branch, latency_seconds: float) -> None:
        self._branch = branch
        self._latency_seconds = latency_seconds
        self._head = b""
        self._left = -1  # bytes left of the body; -1 while reading the head
        self._size = self._rows = 0
        self._body = bytearray()  # of records for a stream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has its own class

    def data_received(self, data: bytes) -> None:
        if self._left < 0:
            self._head += data
            end = self._head.find(EMPTY_LINE)
            if end < 0:
                return
            self._head, data = self._head[:end], self._head[end + len(EMPTY_LINE) :]
            _, _, rest = self._head.lower().partition(b"\r\ncontent-length:")
            self._left = self._size = int(rest.partition(b"\r\n")[0] or 0)
            self._is_stream = PUBLISH in self._head
        self._left -= len(data)
        self._rows += data.count(b"\n")
        if self._is_stream:
            self._body += data
        if self._left == 0:
            self._answer()

    def _answer(self) -> None:
        method, target, _ = self._head.partition(b"\r\n")[0].decode().split(" ")
        status: int = 200
        content: object = TOKEN
        if self._is_stream:
            status, content = self._branch.publish(bytes(self._body), self._latency_seconds)
            self._body.clear()
        elif target != TOKEN_PATH:
            status, content = self._branch.answer(method, target, self._size, self._rows)
        body = msgspec.json.encode(content)
        head = f"HTTP/1.1 {status} OK\r\nDate: {format_date(int(time.time()))}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._head, self._left, self._size, self._rows = b"", -1, 0, 0
        if self._latency_seconds:
            loop = asyncio.get_running_loop()
            loop.call_later(self._latency_seconds, self._transport.write, head.encode() + body)
        else:
            self._transport.write(head.encode() + body)


@lru_cache(maxsize=2)
def format_date(second: int) -> str:
    return formatdate(second, usegmt=True)


async def main(latency_seconds: float, *, is_lax: bool) -> None:
    branch, foundry_socket = Branch(is_lax), bind("127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: FoundryConnection(branch, latency_seconds), sock=foundry_socket
    )
    tenant = auth0.Auth0Emulator("")
    runner = web.AppRunner(auth0.build_application(tenant), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    auth0_socket = bind("127.0.0.1", 0)
    await web.SockSite(runner, auth0_socket).start()
    tenant.issuer = f"{format_address(auth0_socket)}/"
    print(format_address(foundry_socket), format_address(auth0_socket), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()
    print(json.dumps(asdict(branch.sum_up())), flush=True)


if __name__ == "__main__":
    LAX = "--lax"
    seconds = [float(word) for word in sys.argv[1:] if word != LAX]
    uvloop.run(main(*seconds or [0.0], is_lax=LAX in sys.argv))
