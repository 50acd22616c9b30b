"""Calls to Foundry that only `atlas diagnose` makes, with the same client as the service.

Only `put_schema` changes anything.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct

from atlas.core.diagnosis import CheckFailed
from atlas.core.errors import RETRY_LATER, FoundryError
from atlas.core.inspection import SchemaColumn, TransactionInfo
from atlas.core.personal_data import DatasetFile
from atlas.core.ports import Clock
from atlas.outside.foundry.client import ApiCall, FoundryClient
from atlas.outside.foundry.dataset import FoundryDataset
from atlas.outside.foundry.errors import raise_for_status
from atlas.outside.foundry.listing import NO_VIEW, FilePages
from atlas.outside.foundry.responses import FilePage, TransactionBody
from atlas.outside.foundry.token import (
    ENDPOINT_SETTING,
    Credentials,
    EndpointUnreachable,
    FoundryToken,
)
from atlas.outside.network import explain_unreachable, measure_clock_skew

T = TypeVar("T")

HOST_SETTING = "FOUNDRY_HOST"
UNKNOWN_TRANSACTION_RID = "ri.foundry.main.transaction.00000000-0000-0000-0000-000000000000"
TRANSACTIONS_PAGE_SIZE = "20"
NO_SCHEMA_ERRORS = ("SchemaNotFound", NO_VIEW)


class DatasetBody(Struct, frozen=True):
    """The name of a dataset."""

    name: str = ""


class TransactionList(Struct, frozen=True):
    """The last transactions of a branch, newest first."""

    data: tuple[TransactionBody, ...]


class SchemaField(Struct, frozen=True):
    """A column in Foundry's schema of a dataset."""

    type: str
    name: str = ""
    nullable: bool = True


class FieldList(Struct, frozen=True):
    """The columns of a schema."""

    field_schema_list: tuple[SchemaField, ...] = msgspec.field(name="fieldSchemaList", default=())


class SchemaBody(Struct, frozen=True):
    """The response to getSchema."""

    schema: FieldList


class FoundryInspection:
    """Implements `ports.DatasetInspection`. Its `dataset` implements `ports.Branch`."""

    def __init__(
        self,
        client: FoundryClient,
        token: FoundryToken,
        credentials: Credentials,
        location: tuple[str, str],
        dataset: FoundryDataset,
        clock: Clock,
    ) -> None:
        """`location` is the RID of the dataset and the name of the branch."""
        rid, branch = location
        self.dataset = dataset
        self._client = client
        self._token = token
        self._credentials = credentials
        self._clock = clock
        self._path = f"/datasets/{quote(rid, safe='')}"
        self._branch_path = f"/branches/{quote(branch, safe='')}"
        self._branch_query = {"branchName": branch}
        self._listing = FilePages(client, rid, branch)

    async def fetch_token(self) -> int:
        credentials = self._credentials
        for name, value in (
            (HOST_SETTING, credentials.url),
            ("FOUNDRY_CLIENT_ID", credentials.client_id),
            ("FOUNDRY_CLIENT_SECRET", credentials.client_secret),
        ):
            if not value:
                raise CheckFailed(f"{name} is not set.", f"Set {name}.")
        try:
            await self._token.get()
        except EndpointUnreachable as error:
            cause, settings = error.__cause__ or error, f"{HOST_SETTING} or {ENDPOINT_SETTING}"
            raise explain_unreachable(cause, credentials.url, settings) from error
        except FoundryError as error:
            evidence = (("client", credentials.client_id),)
            is_outage = error.remedy == RETRY_LATER
            raise CheckFailed(str(error), error.remedy, evidence, is_outage=is_outage) from error
        return self._token.lifetime_seconds

    def ahead_seconds(self) -> float | None:
        return measure_clock_skew(self._token.date, self._clock())

    async def check_scopes(self) -> None:
        """Make a call for each scope. Neither has an effect: the transaction does not exist."""
        path = f"{self._path}/transactions/{UNKNOWN_TRANSACTION_RID}/abort"
        for call in (self._build_call(""), ApiCall("inspect", "POST", path)):
            response = await self._client.request(call)
            if response.has_error("ApiUsageDenied"):
                raise_for_status(response)

    async def dataset_name(self) -> str:
        return (await self._get(DatasetBody, "")).name

    async def transaction(self, rid: str) -> TransactionInfo:
        body = await self._get(TransactionBody, f"/transactions/{quote(rid, safe='')}")
        return build_transaction_info(body)

    async def transactions(self) -> Sequence[TransactionInfo]:
        query = {"preview": "true", "pageSize": TRANSACTIONS_PAGE_SIZE}
        page = await self._get(TransactionList, f"{self._branch_path}/transactions", query)
        return [build_transaction_info(body) for body in page.data]

    async def list_files(self, transaction: str, prefix: str) -> Sequence[DatasetFile]:
        response = await self._listing.first_page(transaction, prefix)
        page = raise_for_status(response).read(FilePage)
        return [DatasetFile(file.path, transaction, file.bytes) for file in page.data]

    async def schema(self) -> Sequence[SchemaColumn] | None:
        response = await self._client.request(self._build_call("/getSchema", self._branch_query))
        if response.has_error(*NO_SCHEMA_ERRORS):
            return None
        fields = raise_for_status(response).read(SchemaBody).schema.field_schema_list
        return [SchemaColumn(field.name, field.type) for field in fields]

    async def put_schema(self, columns: Sequence[SchemaColumn]) -> None:
        fields = tuple(SchemaField(column.kind, column.name) for column in columns)
        body = self._branch_query | {"dataframeReader": "PARQUET", "schema": FieldList(fields)}
        path, content = f"{self._path}/putSchema", msgspec.json.encode(body)
        call = ApiCall("inspect", "PUT", path, None, content, "application/json")
        raise_for_status(await self._client.request(call))

    async def is_readable(self) -> bool:
        """True if Foundry can read the files as a table."""
        query = self._branch_query | {"format": "CSV", "rowLimit": "1"}
        try:
            return (await self._client.request(self._build_call("/readTable", query))).status == 200
        except FoundryError:
            return False  # ReadTableError is a 500

    async def _get(self, kind: type[T], path: str, query: Mapping[str, str] | None = None) -> T:
        response = await self._client.request(self._build_call(path, query))
        return raise_for_status(response).read(kind)

    def _build_call(self, path: str, query: Mapping[str, str] | None = None) -> ApiCall:
        return ApiCall("inspect", "GET", self._path + path, query)


def build_transaction_info(body: TransactionBody) -> TransactionInfo:
    return TransactionInfo(
        body.rid, body.transaction_type, body.status, body.created_time, body.closed_time
    )
