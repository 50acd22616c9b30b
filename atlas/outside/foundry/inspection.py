"""Inspects everything that must work for a row to get into the dataset and be read.

Every call is made once, because it shows the present state. Only `put_schema` changes anything.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Meta, Struct

from atlas.core.diagnosis import Amiss
from atlas.core.errors import FoundryError
from atlas.core.ports import Clock, TransactionState
from atlas.core.sights import Column, FileSeen, FilesSeen, Grant, TransactionSeen
from atlas.outside.foundry.client import ApiCall, FoundryClient, Method
from atlas.outside.foundry.dataset import NO_FILE
from atlas.outside.foundry.errors import explain_no_token, raise_for_status
from atlas.outside.foundry.listing import NO_VIEW, PAGE_SIZE, transaction_query
from atlas.outside.foundry.responses import ApiResponse, BranchBody, FilePage
from atlas.outside.foundry.token import ENDPOINT_SETTING, Credentials, parse_token, request_token
from atlas.outside.network import UNREACHED, HttpSession, ahead_seconds, unreached

T = TypeVar("T")

SETTING = "FOUNDRY_HOST"
TOKEN_SECONDS = 10.0
OURS, RAW = "healthkit/", "healthkit/raw/"
UNKNOWN_TRANSACTION = "ri.foundry.main.transaction.00000000-0000-0000-0000-000000000000"
TRANSACTIONS, PAGES_MAX = "20", 10
READER = "PARQUET"
NO_SCHEMA = ("SchemaNotFound", NO_VIEW)


class DatasetBody(Struct, frozen=True):
    name: str = ""


class InspectedTransaction(Struct, frozen=True, rename="camel"):
    rid: str
    transaction_type: str
    status: TransactionState
    created_time: Annotated[datetime, Meta(tz=True)]
    closed_time: Annotated[datetime, Meta(tz=True)] | None = None

    def seen(self) -> TransactionSeen:
        times = self.created_time, self.closed_time
        return TransactionSeen(self.rid, self.transaction_type, self.status, *times)


class TransactionList(Struct, frozen=True):
    data: tuple[InspectedTransaction, ...]


class SchemaField(Struct, frozen=True):
    type: str
    name: str = ""
    nullable: bool = True


class FieldList(Struct, frozen=True):
    field_schema_list: tuple[SchemaField, ...] = msgspec.field(name="fieldSchemaList", default=())


class SchemaBody(Struct, frozen=True):
    schema: FieldList


class InspectionClient:
    """Makes each call once. Raises Amiss for an answer that shows a problem."""

    def __init__(self, client: FoundryClient, rid: str, branch: str, client_id: str) -> None:
        self._client = client
        self._client_id = client_id
        self._home = f"/datasets/{quote(rid, safe='')}"
        self.branch_path = f"/branches/{quote(branch, safe='')}"
        self.branch_query = {"branchName": branch}

    async def get(self, kind: type[T], path: str, query: Mapping[str, str] | None = None) -> T:
        return self.read(await self.request(self.build_call("GET", path, query)), kind)

    def build_call(
        self, method: Method, path: str, query: Mapping[str, str] | None = None, size: int = 0
    ) -> ApiCall:
        """Build a call about the dataset; `size` is the bytes of a large response."""
        return ApiCall("inspect", method, self._home + path, query, response_bytes=size)

    async def request(self, call: ApiCall) -> ApiResponse:
        """Return any response, also one of failure. Raises Amiss when there is none."""
        try:
            return await self.request_raw(call)
        except FoundryError as error:
            raise Amiss(str(error), error.to_do) from error

    async def request_raw(self, call: ApiCall) -> ApiResponse:
        """Return any response. Raises Amiss when Foundry cannot be reached, else FoundryError."""
        try:
            return await self._client.request_once(call)
        except FoundryError as error:
            if isinstance(error.__cause__, UNREACHED):
                raise unreached(error.__cause__, self._client.host, SETTING) from error
            raise

    async def request_ok(self, call: ApiCall) -> ApiResponse:
        """Return a successful response. Raises Amiss."""
        return self.require_success(await self.request(call))

    def require_success(self, response: ApiResponse) -> ApiResponse:
        try:
            return raise_for_status(response)
        except FoundryError as error:
            answer = f"{response.status} {response.error.name}".rstrip()
            seen = [("answer", answer), ("client", self._client_id)]
            if error.instance_id:
                seen.append(("errorInstanceId", error.instance_id))
            raise Amiss(str(error), error.to_do, tuple(seen)) from error

    def read(self, response: ApiResponse, kind: type[T]) -> T:
        try:
            return self.require_success(response).read(kind)
        except FoundryError as error:
            raise Amiss(
                "The answer is not from Foundry: it does not match the documented API.",
                f"Is {SETTING} right? Does a proxy answer in its place?",
            ) from error


class FoundryAccess:
    """Implements `ports.Access`."""

    def __init__(
        self,
        session: HttpSession,
        credentials: Credentials,
        client: InspectionClient,
        now: Clock,
    ) -> None:
        self._session = session
        self._credentials = credentials
        self._client = client
        self._now = now
        self._ahead: float | None = None

    async def grant(self) -> Grant:
        credentials = self._credentials
        for name, value in (
            (SETTING, credentials.url),
            ("FOUNDRY_CLIENT_ID", credentials.client_id),
            ("FOUNDRY_CLIENT_SECRET", credentials.client_secret),
        ):
            if not value:
                raise Amiss(f"{name} is not set.", f"Set {name}.")
        began = time.monotonic()
        try:
            status, headers, body = await request_token(self._session, credentials, TOKEN_SECONDS)
        except UNREACHED as error:
            raise unreached(error, credentials.url, f"{SETTING} or {ENDPOINT_SETTING}") from error
        self._ahead = ahead_seconds(headers.get("Date", ""), self._now())
        try:
            token = parse_token(status, body)
        except FoundryError as error:
            raise explain_no_token(status, headers, credentials.client_id) from error
        return Grant(token.get("expires_in", 0), time.monotonic() - began)

    def ahead_seconds(self) -> float | None:
        return self._ahead

    async def scopes(self) -> None:
        """Try a call for each scope; none changes anything, as no such transaction exists.

        Raises Amiss when one is missing.
        """
        client = self._client
        abort = client.build_call("POST", f"/transactions/{UNKNOWN_TRANSACTION}/abort")
        for call in (client.build_call("GET", ""), abort):
            response = await client.request(call)
            if response.has_error("ApiUsageDenied"):
                client.require_success(response)


@dataclass(frozen=True, slots=True)
class FoundryBranches:
    """Implements `ports.Branches`."""

    client: InspectionClient

    async def dataset(self) -> str:
        return (await self.client.get(DatasetBody, "")).name

    async def head(self) -> str:
        return (await self.client.get(BranchBody, self.client.branch_path)).transaction_rid or ""

    async def transaction(self, rid: str) -> TransactionSeen:
        path = f"/transactions/{quote(rid, safe='')}"
        return (await self.client.get(InspectedTransaction, path)).seen()

    async def transactions(self) -> Sequence[TransactionSeen]:
        query = {"preview": "true", "pageSize": TRANSACTIONS}
        path = f"{self.client.branch_path}/transactions"
        return [each.seen() for each in (await self.client.get(TransactionList, path, query)).data]


@dataclass(frozen=True, slots=True)
class FoundryContents:
    """Implements `ports.Contents`."""

    client: InspectionClient

    async def files(self) -> FilesSeen:
        endings, pages, more = Counter[str](), 0, True
        async for page in self._pages(OURS):
            endings.update(file.path.rpartition(".")[2] for file in page.data)
            pages, more = pages + 1, bool(page.next_page_token)
            if pages == PAGES_MAX:
                break
        return FilesSeen(endings, is_whole=not more)

    async def files_in(self, transaction: str) -> Sequence[FileSeen]:
        query = transaction_query(transaction)
        query |= self.client.branch_query | {"pageSize": PAGE_SIZE, "pathPrefix": OURS}
        found = await self.client.get(FilePage, "/files", query)
        return [FileSeen(file.path, file.bytes) for file in found.data]

    async def old_json(self) -> Sequence[str]:
        return [
            file.path
            async for page in self._pages(RAW)
            for file in page.data
            if file.path.endswith(".json")
        ]

    async def content(self, file: FileSeen) -> bytes | None:
        path, client = f"/files/{quote(file.path, safe='')}/content", self.client
        call = client.build_call("GET", path, client.branch_query, file.bytes)
        response = await client.request(call)
        return None if response.has_error(*NO_FILE) else client.require_success(response).body

    async def _pages(self, prefix: str) -> AsyncIterator[FilePage]:
        query = self.client.branch_query | {"pageSize": PAGE_SIZE, "pathPrefix": prefix}
        more = True
        while more:
            page = await self.client.get(FilePage, "/files", query)
            yield page
            more = bool(page.next_page_token)
            query["pageToken"] = page.next_page_token or ""


@dataclass(frozen=True, slots=True)
class FoundrySchemas:
    """Implements `ports.Schemas`."""

    client: InspectionClient

    async def schema(self) -> Sequence[Column] | None:
        client = self.client
        call = client.build_call("GET", "/getSchema", client.branch_query)
        response = await client.request(call)
        if response.has_error(*NO_SCHEMA):
            return None
        fields = client.read(response, SchemaBody).schema.field_schema_list
        return [Column(field.name, field.type) for field in fields]

    async def put_schema(self, columns: Sequence[Column]) -> None:
        fields = tuple(SchemaField(column.kind, column.name) for column in columns)
        body = self.client.branch_query | {"dataframeReader": READER, "schema": FieldList(fields)}
        call = replace(
            self.client.build_call("PUT", "/putSchema"),
            body=msgspec.json.encode(body),
            content_type="application/json",
        )
        await self.client.request_ok(call)

    async def is_readable(self) -> bool:
        """Return whether Foundry can read a table of one row; the content does not matter."""
        query = self.client.branch_query | {"format": "CSV", "rowLimit": "1"}
        try:
            response = await self.client.request_raw(
                self.client.build_call("GET", "/readTable", query)
            )
        except FoundryError:
            return False  # ReadTableError is a 500
        return response.status == 200


@dataclass(frozen=True, slots=True)
class FoundryInspection:
    """All inspections of Foundry, in the order in which they are made."""

    access: FoundryAccess
    branches: FoundryBranches
    contents: FoundryContents
    schemas: FoundrySchemas
