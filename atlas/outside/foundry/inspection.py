"""Foundry, looked at: each thing that must be so for a row to come into the dataset and be read.

Every call is made once: what is told is how Foundry is now. Nothing is changed but by `put_schema`.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from msgspec import Meta, Struct

from atlas.core.diagnosis import Amiss
from atlas.core.errors import FoundryError
from atlas.core.ports import Clock, TransactionState
from atlas.core.sights import Column, FileSeen, FilesSeen, Grant, TransactionSeen
from atlas.outside.foundry.amiss import no_token, refused
from atlas.outside.foundry.calls import Answer, Call, Calls
from atlas.outside.foundry.dataset import NO_FILE, PAGE_SIZE, Branch, Files
from atlas.outside.foundry.token import Credentials, answered, token_in
from atlas.outside.network import UNREACHED, ahead_seconds, unreached

T = TypeVar("T")

SETTING, TOKEN_SETTING = "FOUNDRY_HOST", "FOUNDRY_OAUTH_TOKEN_URL"
TOKEN_SECONDS = 10.0
OURS, RAW = "healthkit/", "healthkit/raw/"
NOBODYS = "ri.foundry.main.transaction.00000000-0000-0000-0000-000000000000"
TRANSACTIONS, PAGES_MAX = "20", 10
READER = "PARQUET"
NO_SCHEMA = {"SchemaNotFound", "DatasetViewNotFound"}


class Named(Struct, frozen=True):
    name: str = ""


class Transaction(Struct, frozen=True, rename="camel"):
    rid: str
    transaction_type: str
    status: TransactionState
    created_time: Annotated[datetime, Meta(tz=True)]
    closed_time: Annotated[datetime, Meta(tz=True)] | None = None

    def seen(self) -> TransactionSeen:
        times = self.created_time, self.closed_time
        return TransactionSeen(self.rid, self.transaction_type, self.status, *times)


class Transactions(Struct, frozen=True):
    data: tuple[Transaction, ...]


class Field(Struct, frozen=True):
    type: str
    name: str = ""
    nullable: bool = True


class FieldList(Struct, frozen=True):
    field_schema_list: tuple[Field, ...] = msgspec.field(name="fieldSchemaList", default=())


class Schema(Struct, frozen=True):
    schema: FieldList


class FoundryInspection:
    """Answers `ports.Stack`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        calls: Calls,
        credentials: Credentials,
        rid: str,
        branch: str,
        now: Clock,
    ) -> None:
        self._session = session
        self._calls = calls
        self._credentials = credentials
        self._home = f"/datasets/{quote(rid, safe='')}"
        self._branch = branch
        self._now = now
        self._ahead: float | None = None

    async def grant(self) -> Grant:
        client = self._credentials
        for name, value in (
            (SETTING, client.url),
            ("FOUNDRY_CLIENT_ID", client.client_id),
            ("FOUNDRY_CLIENT_SECRET", client.client_secret),
        ):
            if not value:
                raise Amiss(f"{name} is not set.", f"Set {name}: see the README.")
        began = time.monotonic()
        try:
            status, headers, body = await answered(self._session, client, TOKEN_SECONDS)
        except UNREACHED as error:
            raise unreached(error, client.url, f"{SETTING} or {TOKEN_SETTING}") from error
        self._ahead = ahead_seconds(headers.get("Date", ""), self._now())
        try:
            token = token_in(status, body)
        except FoundryError as error:
            raise no_token(status, headers, client.client_id) from error
        return Grant(token.get("expires_in", 0), time.monotonic() - began)

    def ahead_seconds(self) -> float | None:
        return self._ahead

    async def scopes(self) -> None:
        """Asked with calls that need them, and change nothing: nobody has that transaction."""
        nobodys = f"{self._home}/transactions/{NOBODYS}/abort"
        for call in (Call("look", "GET", self._home), Call("look", "POST", nobodys)):
            answer = await self._ask(call)
            if answer.error.error_name == "ApiUsageDenied":
                raise refused(answer, self._credentials.client_id)

    async def dataset(self) -> str:
        return (await self._get(Named, "")).name

    async def head(self) -> str:
        return (await self._get(Branch, self._on_branch_path())).transaction_rid

    async def transaction(self, rid: str) -> TransactionSeen:
        return (await self._get(Transaction, f"/transactions/{quote(rid, safe='')}")).seen()

    async def transactions(self) -> Sequence[TransactionSeen]:
        query = {"preview": "true", "pageSize": TRANSACTIONS}
        path = f"{self._on_branch_path()}/transactions"
        return [each.seen() for each in (await self._get(Transactions, path, query)).data]

    async def files(self) -> FilesSeen:
        endings, pages, more = Counter[str](), 0, True
        async for page in self._pages(OURS):
            endings.update(file.path.rpartition(".")[2] for file in page.data)
            pages, more = pages + 1, bool(page.next_page_token)
            if pages == PAGES_MAX:
                break
        return FilesSeen(endings, is_whole=not more)

    async def files_in(self, transaction: str) -> Sequence[FileSeen]:
        query = {"startTransactionRid": transaction, "endTransactionRid": transaction}
        query |= self._on_branch() | {"pageSize": PAGE_SIZE, "pathPrefix": OURS}
        found = await self._get(Files, "/files", query)
        return [FileSeen(file.path, int(file.size_bytes)) for file in found.data]

    async def old_json(self) -> Sequence[str]:
        return [
            file.path
            async for page in self._pages(RAW)
            for file in page.data
            if file.path.endswith(".json")
        ]

    async def content(self, file: FileSeen) -> bytes | None:
        address = f"{self._home}/files/{quote(file.path, safe='')}/content"
        call = Call("look", "GET", address, self._on_branch(), answer_bytes=file.bytes)
        answer = await self._ask(call)
        return None if answer.error.error_name in NO_FILE else self._expect(answer).body

    async def schema(self) -> Sequence[Column] | None:
        answer = await self._ask(Call("look", "GET", f"{self._home}/getSchema", self._on_branch()))
        if answer.error.error_name in NO_SCHEMA:
            return None
        fields = self._read(self._expect(answer), Schema).schema.field_schema_list
        return [Column(field.name, field.type) for field in fields]

    async def put_schema(self, columns: Sequence[Column]) -> None:
        fields = tuple(Field(column.kind, column.name) for column in columns)
        asked = self._on_branch() | {"dataframeReader": READER, "schema": FieldList(fields)}
        body = msgspec.json.encode(asked)
        call = Call("look", "PUT", f"{self._home}/putSchema", None, body, "application/json")
        self._expect(await self._ask(call))

    async def is_readable(self) -> bool:
        """A table is asked for, of one row; what comes is not looked at."""
        query = self._on_branch() | {"format": "CSV", "rowLimit": "1"}
        try:
            answer = await self._calls.ask_once(
                Call("look", "GET", f"{self._home}/readTable", query)
            )
        except FoundryError as error:
            if isinstance(error.__cause__, UNREACHED):
                raise self._amiss(error) from error
            return False  # ReadTableError is a 500
        return answer.status == 200

    async def _pages(self, prefix: str) -> AsyncIterator[Files]:
        query = self._on_branch() | {"pageSize": PAGE_SIZE, "pathPrefix": prefix}
        more = True
        while more:
            page = await self._get(Files, "/files", query)
            yield page
            more = bool(page.next_page_token)
            query["pageToken"] = page.next_page_token or ""

    async def _get(self, kind: type[T], path: str, query: Mapping[str, str] | None = None) -> T:
        answer = await self._ask(Call("look", "GET", self._home + path, query))
        return self._read(self._expect(answer), kind)

    async def _ask(self, call: Call) -> Answer:
        try:
            return await self._calls.ask_once(call)
        except FoundryError as error:
            raise self._amiss(error) from error

    def _amiss(self, error: FoundryError) -> Amiss:
        if isinstance(error.__cause__, UNREACHED):
            return unreached(error.__cause__, self._calls.host, SETTING)
        return Amiss(str(error), f"Try again in a minute; if it stays so, is {SETTING} right?")

    def _expect(self, answer: Answer) -> Answer:
        if answer.status not in {200, 204}:
            raise refused(answer, self._credentials.client_id)
        return answer

    def _read(self, answer: Answer, kind: type[T]) -> T:
        try:
            return answer.read(kind)
        except FoundryError as error:
            raise Amiss(
                "What answers is no Foundry: it is not what its API says.",
                f"Is {SETTING} right? Does a proxy answer in its place?",
            ) from error

    def _on_branch(self) -> dict[str, str]:
        return {"branchName": self._branch}

    def _on_branch_path(self) -> str:
        return f"/branches/{quote(self._branch, safe='')}"
