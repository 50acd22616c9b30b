"""The minimum cost of an export: `python -m tests.bench.floor durable|codec|echo`.

`durable` does only what is necessary before an export is safe: our HTTP server, Starlette, a token
cached by its digest, JSON, base64, our codec, compression and encryption, SQLite with one sync per
group of exports, and an answer with the same fields. `codec` omits encryption and journal; `echo`
only reads the body and answers. AUTH0_ISSUER and ATLAS_JOURNAL are those of the service.
"""

import asyncio
import hashlib
import os
import queue
import sqlite3
import sys
import threading
import urllib.request
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import msgspec
from joserfc import jwt
from joserfc.jwk import KeySet
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.computing import set_mmap_threshold
from atlas.core import identifiers, ndjson, rows
from atlas.core.identifiers import API_PREFIX
from atlas.core.messages import ExportMetadata, RawExport, RowTable, User
from atlas.edge.api_types import ExportBody
from atlas.outside.journal.cipher import Cipher, generate_data_key
from atlas.outside.journal.compression import compress
from atlas.outside.journal.row_codec import PrivateFields
from atlas.server import bind, format_address
from atlas.server.garbage import disable_automatic_collection
from atlas.server.http import ConnectionLimits, Listener, RawErrors

PATH = f"{API_PREFIX}/export"
BYTES_MAX, LINES_MAX = 16 * 1024 * 1024, 100_000
TABLE = """
    CREATE TABLE export (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, user TEXT, at TEXT,
        ingested INTEGER, rejected INTEGER, bytes INTEGER, label BLOB, payload BLOB) STRICT
"""
INSERT = "INSERT INTO export VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)"

Row = tuple[Any, ...]


class Reply(msgspec.Struct):
    """A reply with as many fields as that of the service, of the same sizes."""

    message: str
    success: bool
    ingested: int
    id: str
    path: str
    timestamp: str
    correlation_id: str = msgspec.field(name="correlationId")
    dataset: str = "ri.foundry.main.dataset.19102749-23e6-4fa8-827e-70eae2b94730"
    status: str = "accepted"
    rejects: tuple[str, ...] = ()


class GroupedRows:
    """Collects rows while a thread writes and syncs the previous group."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._gathered: list[tuple[Row, asyncio.Future[None]]] = []
        self._groups = queue.SimpleQueue[list[tuple[Row, asyncio.Future[None]]]]()
        self._is_writing = False
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._write, daemon=True).start()

    async def append(self, row: Row) -> None:
        durable = self._loop.create_future()
        self._gathered.append((row, durable))
        if not self._is_writing:
            self._is_writing = True
            self._loop.call_soon(self._hand_over)
        await durable

    def _hand_over(self) -> None:
        group, self._gathered = self._gathered, []
        self._is_writing = bool(group)
        if group:
            self._groups.put(group)

    def _write(self) -> None:
        db = sqlite3.connect(self._path, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(TABLE)
        while True:
            group = self._groups.get()
            db.execute("BEGIN IMMEDIATE")
            db.executemany(INSERT, [row for row, _ in group])
            db.execute("COMMIT")
            self._loop.call_soon_threadsafe(self._end, group)

    def _end(self, group: list[tuple[Row, asyncio.Future[None]]]) -> None:
        for _, durable in group:
            durable.set_result(None)
        self._hand_over()


class Users:
    """Users by the digest of their token: each token is verified once."""

    def __init__(self, issuer: str) -> None:
        with urllib.request.urlopen(f"{issuer}.well-known/jwks.json") as answer:
            self._keys = KeySet.import_key_set(msgspec.json.decode(answer.read()))
        self._known: dict[bytes, User] = {}

    def get_user(self, request: Request) -> User:
        token = request.headers["authorization"].removeprefix("Bearer ")
        digest = hashlib.sha256(token.encode()).digest()
        user = self._known.get(digest)
        if user is None:
            claims = jwt.decode(token, self._keys, algorithms=["RS256"]).claims
            user = self._known[digest] = User(claims["sub"])
        return user


Store = Callable[[str, PrivateFields, datetime, RowTable], Awaitable[None]]


def build_app(users: Users, store: Store) -> Starlette:
    decoder, encoder = msgspec.json.Decoder(ExportBody), msgspec.json.Encoder()

    async def post(request: Request) -> Response:
        user = users.get_user(request)
        sent = decoder.decode(await request.body())
        declared, received_at = sent.get_declared_fields(), datetime.now(UTC)
        decoded = ndjson.decode(
            RawExport(
                ExportMetadata(user, declared.device, declared.timestamp, ""), sent.get_text()
            ),
            BYTES_MAX,
            LINES_MAX,
        )
        stamp = identifiers.format_timestamp(received_at)
        header = rows.Header(user.sub, declared.device, stamp, stamp)
        table = rows.flatten(ndjson.split_lines(decoded.text), header)
        path = identifiers.build_path(user, received_at)
        await store(
            decoded.id, PrivateFields(user.sub, path, table.rejects, decoded.id), received_at, table
        )
        reply = Reply("ok", True, table.ingested, decoded.id, path, stamp, decoded.id[:36])
        return Response(encoder.encode(reply), media_type="application/json")

    return Starlette(routes=[Route(PATH, post, methods=["POST"])])


def build_echo_app() -> Starlette:
    reply = Reply("ok", True, 0, "0" * 64, PATH, PATH, "0" * 36)

    async def post(request: Request) -> Response:
        await request.body()
        return Response(msgspec.json.encode(reply), media_type="application/json")

    return Starlette(routes=[Route(PATH, post, methods=["POST"])])


async def drop(_id: str, _label: PrivateFields, _at: datetime, _table: RowTable) -> None:
    """Store nothing, as in `codec`."""


def build_encrypting_store(journal: GroupedRows) -> Store:
    cipher = Cipher(generate_data_key())

    async def store(
        id: str, private: PrivateFields, received_at: datetime, table: RowTable
    ) -> None:
        fixed = (
            id,
            cipher.hash_user(private.sub),
            received_at.isoformat(),
            table.ingested,
            table.rejected,
        )
        bound = msgspec.msgpack.encode(fixed)
        encrypted = cipher.encrypt(msgspec.msgpack.encode(private), bound)
        payload = cipher.encrypt(compress(table.ndjson), bound)
        await journal.append((*fixed, len(table.ndjson), encrypted, payload))

    return store


async def main(kind: str) -> None:
    with bind("127.0.0.1", 0) as bound:
        app = build_echo_app()
        if kind != "echo":
            path = Path(os.environ["ATLAS_JOURNAL"].removeprefix("sqlite:///"))
            store = drop if kind == "codec" else build_encrypting_store(GroupedRows(path))
            app = build_app(Users(os.environ["AUTH0_ISSUER"]), store)
        refusals = RawErrors(lambda: datetime.now(UTC), lambda: 0.5, lambda _: None)
        print(f"ready {format_address(bound)}", flush=True)
        await Listener(app, bound, ConnectionLimits(), refusals).listen()


if __name__ == "__main__":
    disable_automatic_collection()
    set_mmap_threshold()
    anyio.run(main, sys.argv[1], backend_options={"use_uvloop": True})
