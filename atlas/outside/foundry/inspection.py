"""Foundry, looked at: each thing that must be so for a row to come into the dataset and be read.

Every call is made once: what is told is how Foundry is now. Nothing is changed but by `put_schema`.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from atlas.outside.foundry.calls import Answer, Call, Calls, Method
from atlas.outside.foundry.dataset import NO_FILE, PAGE_SIZE, Branch, Files
from atlas.outside.foundry.refusals import expect, no_token, shown
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


class Questions:
    """Each is asked once; what is amiss with its answer is raised as Amiss."""

    def __init__(self, calls: Calls, rid: str, branch: str, client_id: str) -> None:
        self._calls = calls
        self._client_id = client_id
        self._home = f"/datasets/{quote(rid, safe='')}"
        self.branch_path = f"/branches/{quote(branch, safe='')}"
        self.on_branch = {"branchName": branch}

    async def get(self, kind: type[T], path: str, query: Mapping[str, str] | None = None) -> T:
        return self.read(await self.ask(self.call("GET", path, query)), kind)

    def call(
        self, method: Method, path: str, query: Mapping[str, str] | None = None, size: int = 0
    ) -> Call:
        """About the dataset; `size` is that of a large answer."""
        return Call("inspect", method, self._home + path, query, answer_bytes=size)

    async def ask(self, call: Call) -> Answer:
        """Any answer, of failure too."""
        try:
            return await self.reach(call)
        except FoundryError as error:
            raise Amiss(str(error), error.to_do) from error

    async def reach(self, call: Call) -> Answer:
        """The same. Raises FoundryError when Foundry is there, and has no answer."""
        try:
            return await self._calls.ask_once(call)
        except FoundryError as error:
            if isinstance(error.__cause__, UNREACHED):
                raise unreached(error.__cause__, self._calls.host, SETTING) from error
            raise

    def expect(self, answer: Answer) -> Answer:
        try:
            return expect(answer)
        except FoundryError as error:
            name = shown(answer.error.error_name)
            seen = (("answer", f"{answer.status} {name}".rstrip()), ("client", self._client_id))
            raise Amiss(str(error), error.to_do, seen) from error

    def read(self, answer: Answer, kind: type[T]) -> T:
        try:
            return self.expect(answer).read(kind)
        except FoundryError as error:
            raise Amiss(
                "What answers is no Foundry: it is not what its API says.",
                f"Is {SETTING} right? Does a proxy answer in its place?",
            ) from error


class FoundryAccess:
    """Answers `ports.Access`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        credentials: Credentials,
        questions: Questions,
        now: Clock,
    ) -> None:
        self._session = session
        self._credentials = credentials
        self._questions = questions
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
        questions = self._questions
        abort = questions.call("POST", f"/transactions/{NOBODYS}/abort")
        for call in (questions.call("GET", ""), abort):
            answer = await questions.ask(call)
            if answer.error.error_name == "ApiUsageDenied":
                questions.expect(answer)


@dataclass(frozen=True, slots=True)
class FoundryBranches:
    """Answers `ports.Branches`."""

    questions: Questions

    async def dataset(self) -> str:
        return (await self.questions.get(Named, "")).name

    async def head(self) -> str:
        return (await self.questions.get(Branch, self.questions.branch_path)).transaction_rid

    async def transaction(self, rid: str) -> TransactionSeen:
        path = f"/transactions/{quote(rid, safe='')}"
        return (await self.questions.get(Transaction, path)).seen()

    async def transactions(self) -> Sequence[TransactionSeen]:
        query = {"preview": "true", "pageSize": TRANSACTIONS}
        path = f"{self.questions.branch_path}/transactions"
        return [each.seen() for each in (await self.questions.get(Transactions, path, query)).data]


@dataclass(frozen=True, slots=True)
class FoundryContents:
    """Answers `ports.Contents`."""

    questions: Questions

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
        query |= self.questions.on_branch | {"pageSize": PAGE_SIZE, "pathPrefix": OURS}
        found = await self.questions.get(Files, "/files", query)
        return [FileSeen(file.path, int(file.size_bytes)) for file in found.data]

    async def old_json(self) -> Sequence[str]:
        return [
            file.path
            async for page in self._pages(RAW)
            for file in page.data
            if file.path.endswith(".json")
        ]

    async def content(self, file: FileSeen) -> bytes | None:
        path, questions = f"/files/{quote(file.path, safe='')}/content", self.questions
        call = questions.call("GET", path, questions.on_branch, file.bytes)
        answer = await questions.ask(call)
        return None if answer.error.error_name in NO_FILE else questions.expect(answer).body

    async def _pages(self, prefix: str) -> AsyncIterator[Files]:
        query = self.questions.on_branch | {"pageSize": PAGE_SIZE, "pathPrefix": prefix}
        more = True
        while more:
            page = await self.questions.get(Files, "/files", query)
            yield page
            more = bool(page.next_page_token)
            query["pageToken"] = page.next_page_token or ""


@dataclass(frozen=True, slots=True)
class FoundrySchemas:
    """Answers `ports.Schemas`."""

    questions: Questions

    async def schema(self) -> Sequence[Column] | None:
        questions = self.questions
        answer = await questions.ask(questions.call("GET", "/getSchema", questions.on_branch))
        if answer.error.error_name in NO_SCHEMA:
            return None
        fields = questions.read(answer, Schema).schema.field_schema_list
        return [Column(field.name, field.type) for field in fields]

    async def put_schema(self, columns: Sequence[Column]) -> None:
        fields = tuple(Field(column.kind, column.name) for column in columns)
        asked = self.questions.on_branch | {"dataframeReader": READER, "schema": FieldList(fields)}
        call = replace(
            self.questions.call("PUT", "/putSchema"),
            body=msgspec.json.encode(asked),
            content_type="application/json",
        )
        self.questions.expect(await self.questions.ask(call))

    async def is_readable(self) -> bool:
        """A table is asked for, of one row; what comes is not looked at."""
        query = self.questions.on_branch | {"format": "CSV", "rowLimit": "1"}
        try:
            answer = await self.questions.reach(self.questions.call("GET", "/readTable", query))
        except FoundryError:
            return False  # ReadTableError is a 500
        return answer.status == 200


@dataclass(frozen=True, slots=True)
class FoundryInspection:
    """All that is looked at, in this order."""

    access: FoundryAccess
    branches: FoundryBranches
    contents: FoundryContents
    schemas: FoundrySchemas
