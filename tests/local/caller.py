"""A raw HTTP client of the Foundry emulator that exposes statuses, headers and bytes."""

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
from aiohttp.test_utils import TestServer
from yarl import URL

from atlas.local.foundry import FoundryEmulator, build_application
from atlas.local.foundry.state import DATASET

ROWS = b'{"uuid":"a"}\n'
HOME = f"/api/v2/datasets/{DATASET}"
A_FILE = "/files/a%2Fb.ndjson"
GRANT = b"grant_type=client_credentials&client_id=local&client_secret=local-secret"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
READ, WRITE = "api:datasets-read", "api:datasets-write"
SQL = ("api:sql-queries-execute", "api:sql-queries-read")


@dataclass
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


def error(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["errorName"]


@dataclass
class Caller:
    """A client with the emulator's address and a token."""

    foundry: FoundryEmulator
    session: aiohttp.ClientSession
    host: str
    token: str | None = None

    async def ask(
        self,
        method,
        path,
        data=None,
        headers=None,
        *,
        allow_redirects=True,
        timeout_seconds=None,
        **query,
    ) -> Answer:
        """Send a request; `path` is relative to the dataset, except for known prefixes."""
        where = (
            path
            if path.startswith(("/api", "/stand-in", "/multipass", "/foundry-"))
            else HOME + path
        )
        mine = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        async with self.session.request(
            method,
            URL(self.host + where, encoded=True).update_query(query),
            data=msgspec.json.encode(data) if isinstance(data, dict) else data,
            headers=mine | (headers or {}),
            skip_auto_headers=["Content-Type"],
            allow_redirects=allow_redirects,
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def ask_token(self) -> Answer:
        return await self.ask("POST", "/multipass/api/oauth2/token", GRANT, FORM)

    async def begin(self, kind="APPEND") -> str:
        return (await self.ask("POST", "/transactions", {"transactionType": kind})).json["rid"]

    async def put(self, rid, path=A_FILE, content=ROWS) -> Answer:
        return await self.ask("POST", path + "/upload", content, transactionRid=rid)

    async def end(self, rid, how="commit") -> Answer:
        return await self.ask("POST", f"/transactions/{rid}/{how}")

    async def commit(self, *paths, kind="APPEND", content=ROWS) -> str:
        rid = await self.begin(kind)
        for path in paths:
            assert (await self.put(rid, f"/files/{path}", content)).status == 200
        assert (await self.end(rid)).status == 200
        return rid

    async def fetch_status(self, rid) -> str:
        return (await self.ask("GET", f"/transactions/{rid}")).json["status"]

    async def list_paths(self, **query) -> list[str]:
        return [file["path"] for file in await self.list_files(**query)]

    async def list_files(self, **query) -> list[dict[str, Any]]:
        return (await self.ask("GET", "/files", **query)).json["data"]

    async def fault(self, **fault) -> Answer:
        return await self.ask("POST", "/stand-in/faults", fault)

    async def switch(self, **switches) -> Answer:
        return await self.ask("POST", "/stand-in/settings", switches)


@asynccontextmanager
async def open_caller(state, **more):
    foundry = FoundryEmulator(state, **more)
    async with TestServer(build_application(foundry)) as server, aiohttp.ClientSession() as session:
        host = str(server.make_url("")).rstrip("/")
        yield Caller(foundry, session, host, foundry.issue_token(frozenset({READ, WRITE})))
