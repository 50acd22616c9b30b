"""Calls to Foundry that only commands make, with the same client as the service.

Only `create_view`, and the methods of `schemas` that put one, change anything.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import quote

from msgspec import Struct

from atlas.core.diagnosis import CheckFailed
from atlas.core.errors import RETRY_LATER, FoundryError
from atlas.core.inspection import TransactionInfo, ViewRequest
from atlas.core.personal_data import DatasetFile
from atlas.core.ports import Clock
from atlas.outside.foundry import views
from atlas.outside.foundry.client import ApiCall, FoundryClient
from atlas.outside.foundry.dataset import FoundryDataset
from atlas.outside.foundry.errors import raise_for_status
from atlas.outside.foundry.listing import FilePages
from atlas.outside.foundry.queries import TableRows
from atlas.outside.foundry.responses import FilePage, TransactionBody
from atlas.outside.foundry.schemas import DatasetSchemas
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


class DatasetBody(Struct, frozen=True):
    """The name of a dataset."""

    name: str = ""


class TransactionList(Struct, frozen=True):
    """The last transactions of a branch, newest first."""

    data: tuple[TransactionBody, ...]


class FoundryInspection:
    """Implements `ports.DatasetInspection`; `dataset`, `schemas` and `rows` implement others."""

    def __init__(
        self,
        client: FoundryClient,
        token: FoundryToken,
        credentials: Credentials,
        dataset: FoundryDataset,
        rows: TableRows,
        location: tuple[str, str],
        clock: Clock,
    ) -> None:
        """`location` is the RID of the dataset and the name of the branch."""
        rid, branch = location
        self.dataset = dataset
        self.rows = rows
        self.schemas = DatasetSchemas(client, location)
        self._client = client
        self._token = token
        self._credentials = credentials
        self._clock = clock
        self._path = f"/datasets/{quote(rid, safe='')}"
        self._branch_path = f"/branches/{quote(branch, safe='')}"
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

    async def create_view(self, request: ViewRequest) -> str:
        """Create a View, and return its RID. Raises FoundryError."""
        return await views.create_view(self._client, request)

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

    async def _get(self, kind: type[T], path: str, query: Mapping[str, str] | None = None) -> T:
        response = await self._client.request(self._build_call(path, query))
        return raise_for_status(response).read(kind)

    def _build_call(self, path: str, query: Mapping[str, str] | None = None) -> ApiCall:
        return ApiCall("inspect", "GET", self._path + path, query)


def build_transaction_info(body: TransactionBody) -> TransactionInfo:
    return TransactionInfo(
        body.rid, body.transaction_type, body.status, body.created_time, body.closed_time
    )
