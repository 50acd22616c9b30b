"""The number of rows that a reader of the dataset sees: by SQL, or else from one of its columns.

The calls of SQL need scopes that the service itself does not, so they have a token of their own.
"""

import re
from typing import Literal
from urllib.parse import quote

import anyio
import msgspec
from msgspec import Struct

from atlas.core.errors import FoundryError
from atlas.core.inspection import RowCount
from atlas.outside.foundry.client import ApiCall, FoundryClient
from atlas.outside.foundry.errors import build_typed_error, read_missing_scope
from atlas.outside.foundry.responses import ApiResponse

SQL_SCOPE = "api:datasets-read api:sql-queries-execute api:sql-queries-read"
SQL_SECONDS = 20.0  # because an operator is waiting
POLL_SECONDS = 0.5
TABLE_ROWS_MAX = 1_000_000  # of readTable, unless the files are Parquet
COUNTED_COLUMN = "ingested_at"  # never empty, and never with a line break
COUNTED_BYTES, HEADER_BYTES_MAX = 32, 32  # of a value of it, and of its name
NUMBER = re.compile(rb'"?([0-9]{1,18})"?')


class QueryStatus(Struct, frozen=True, rename="camel"):
    """The status of a query of SQL."""

    type: Literal["running", "succeeded", "failed", "canceled"]
    query_id: str = ""


class TableRows:
    """Implements `ports.RowCounter`."""

    def __init__(
        self, client: FoundryClient, sql_client: FoundryClient, location: tuple[str, str]
    ) -> None:
        """`location` is the RID of the dataset and the name of the branch."""
        self._rid, self._branch = location
        self._client = client
        self._sql_client = sql_client

    async def count(self, rows_max: int) -> RowCount:
        try:
            return await self._query()
        except FoundryError as error:
            problem = f"By SQL: {error}"
        try:
            return await self._read_column(rows_max)
        except FoundryError as error:
            raise FoundryError(f"{problem} By readTable: {error}") from error

    async def _query(self) -> RowCount:
        """Count all rows by SQL."""
        content = msgspec.json.encode(
            {
                "query": f"SELECT COUNT(*) AS row_count FROM `{self._rid}`",  # noqa: S608 - a RID
                "fallbackBranchIds": [self._branch],  # the branch, if the query names none
                "serializationFormat": "CSV",
            }
        )
        call = ApiCall("inspect", "POST", "/sqlQueries/execute", None, content, "application/json")
        status = check(await self._sql_client.request_once(call)).read(QueryStatus)
        path = f"/sqlQueries/{quote(status.query_id, safe='')}"
        deadline = anyio.current_time() + SQL_SECONDS
        while status.type == "running":
            if anyio.current_time() > deadline:
                await self._sql_client.request(ApiCall("inspect", "POST", f"{path}/cancel"))
                raise FoundryError(f"The query takes more than {SQL_SECONDS:.0f} s.")
            await anyio.sleep(POLL_SECONDS)
            status = (await self._get_sql(f"{path}/getStatus")).read(QueryStatus)
        if status.type != "succeeded":
            raise FoundryError(f"The query is {status.type}.")
        words = (await self._get_sql(f"{path}/getResults")).body.split()
        number = NUMBER.fullmatch(words[-1]) if words else None
        if number is None:
            raise FoundryError("The answer is not a number.")
        return RowCount(int(number[1]), "SQL")

    async def _get_sql(self, path: str) -> ApiResponse:
        return check(await self._sql_client.request(ApiCall("inspect", "GET", path)))

    async def _read_column(self, rows_max: int) -> RowCount:
        """Count rows by reading one column, but no more of them than needed."""
        if rows_max > TABLE_ROWS_MAX:
            raise FoundryError(f"More than {TABLE_ROWS_MAX:,} rows are expected.")
        query = {"branchName": self._branch, "format": "CSV", "columns": COUNTED_COLUMN}
        query |= {"rowLimit": str(rows_max)}
        path, size = f"/datasets/{quote(self._rid, safe='')}/readTable", rows_max * COUNTED_BYTES
        call = ApiCall("inspect", "GET", path, query, response_bytes=size)
        table = check(await self._client.request(call)).body.rstrip()
        if COUNTED_COLUMN.encode() not in table[:HEADER_BYTES_MAX]:
            raise FoundryError("The answer is not a table.")
        rows = table.count(b"\n")  # after the header
        return RowCount(rows, "readTable", is_minimum=rows >= rows_max)


def check(response: ApiResponse) -> ApiResponse:
    """Return a response with content. Raises FoundryError that names a scope that is missing."""
    if response.is_success and response.body:
        return response
    scope = read_missing_scope(response.error)
    reason = f"our client lacks a scope{scope}" if scope else ""
    raise build_typed_error(FoundryError, response, reason)
