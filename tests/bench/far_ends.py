"""Foundry and Auth0 in a process of their own: `python -m tests.bench.far_ends [--lax] [SECONDS]`.

Foundry is one branch behind a bare protocol: it keeps no file and the rule of one open transaction,
and costs so little that the service is what is measured. (`atlas.local` has the strict one.) Prints
both addresses, ends with its standard input, and prints what it has counted. Each of Foundry's
answers takes SECONDS; with `--lax`, any number of transactions may be open.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from email.utils import formatdate
from functools import lru_cache
from typing import cast
from urllib.parse import unquote

import msgspec
import uvloop
from aiohttp import web

from atlas.local import auth0
from atlas.server import bind, format_address

EMPTY_LINE = b"\r\n\r\n"
CREATED = "2026-01-02T12:00:00.000Z"
TOKEN_PATH = "/multipass/api/oauth2/token"
TOKEN = {"access_token": "bench", "token_type": "Bearer", "expires_in": 3600}


@dataclass
class Count:
    """Everything that was committed, and the calls that the branch refused."""

    transactions: int = 0
    files: int = 0
    rows: int = 0
    bytes: int = 0
    refused: int = 0


@dataclass
class Branch:
    """The only one, of whatever dataset is asked for."""

    is_lax: bool = False
    count: Count = field(default_factory=Count)
    begun: int = 0
    states: dict[str, str] = field(default_factory=dict)
    head: str = ""

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

    def show(self, rid: str) -> dict[str, str]:
        told = {"rid": rid, "status": self.states[rid], "createdTime": CREATED}
        return told | {"transactionType": "APPEND"}

    def refuse(self, status: int, name: str) -> tuple[int, object]:
        self.count.refused += 1
        told = {"errorName": name, "errorCode": "CONFLICT", "parameters": {}}
        return status, told | {"errorInstanceId": "00000000-0000-0000-0000-000000000000"}

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
    """As much HTTP as our client speaks: a request at a time, its length in its header block."""

    def __init__(self, branch: Branch, latency_seconds: float) -> None:
        self._branch = branch
        self._latency_seconds = latency_seconds
        self._head = b""
        self._left = -1  # of the body; -1 before there is one
        self._size = self._rows = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has its own

    def data_received(self, data: bytes) -> None:
        if self._left < 0:
            self._head += data
            end = self._head.find(EMPTY_LINE)
            if end < 0:
                return
            self._head, data = self._head[:end], self._head[end + len(EMPTY_LINE) :]
            _, _, rest = self._head.lower().partition(b"\r\ncontent-length:")
            self._left = self._size = int(rest.partition(b"\r\n")[0] or 0)
        self._left -= len(data)
        self._rows += data.count(b"\n")
        if self._left == 0:
            self._answer()

    def _answer(self) -> None:
        method, target, _ = self._head.partition(b"\r\n")[0].decode().split(" ")
        status: int = 200
        told: object = TOKEN
        if target != TOKEN_PATH:
            status, told = self._branch.answer(method, target, self._size, self._rows)
        body = msgspec.json.encode(told)
        head = f"HTTP/1.1 {status} OK\r\nDate: {date_at(int(time.time()))}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._head, self._left, self._size, self._rows = b"", -1, 0, 0
        if self._latency_seconds:
            loop = asyncio.get_running_loop()
            loop.call_later(self._latency_seconds, self._transport.write, head.encode() + body)
        else:
            self._transport.write(head.encode() + body)


@lru_cache(maxsize=2)
def date_at(second: int) -> str:
    return formatdate(second, usegmt=True)


async def main(latency_seconds: float, *, is_lax: bool) -> None:
    branch, bound = Branch(is_lax), bind("127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: FoundryConnection(branch, latency_seconds), sock=bound
    )
    tenant = auth0.Auth0Emulator("")
    runner = web.AppRunner(auth0.build_application(tenant), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    keys = bind("127.0.0.1", 0)
    await web.SockSite(runner, keys).start()
    tenant.issuer = f"{format_address(keys)}/"
    print(format_address(bound), format_address(keys), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()
    print(json.dumps(asdict(branch.count)), flush=True)


if __name__ == "__main__":
    LAX = "--lax"
    seconds = [float(word) for word in sys.argv[1:] if word != LAX]
    uvloop.run(main(*seconds or [0.0], is_lax=LAX in sys.argv))
