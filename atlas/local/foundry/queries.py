"""Foundry's endpoints of SQL. SQLite runs the queries, over the rows that readers see."""

import asyncio
import base64
import re
import sqlite3
import time
import uuid
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from atlas.local.foundry.branches import FoundryApiError
from atlas.local.foundry.pipeline import read_body
from atlas.local.foundry.schema_endpoints import write_csv
from atlas.local.foundry.state import FoundryEmulator
from atlas.local.foundry.tables import Row
from atlas.local.http import json_response

TABLE = re.compile(r"`(ri\.[^`]+)`")
LONG_POLL_SECONDS = 60.0


@dataclass(slots=True)
class SqlQuery:
    """A query. It has been run, but its status is "running" until `ends_at`."""

    ends_at: float
    result: bytes
    error: str
    is_canceled: bool = False

    def describe(self, id: str) -> dict[str, str]:
        if self.is_canceled:
            return {"type": "canceled"}
        if time.monotonic() < self.ends_at:
            return {"type": "running", "queryId": id}
        if self.error:
            return {"type": "failed", "errorMessage": self.error}
        return {"type": "succeeded", "queryId": id}


class QueryEndpoints:
    """One method for each endpoint."""

    def __init__(self, foundry: FoundryEmulator) -> None:
        self._foundry = foundry
        self._tables = foundry.tables
        self._queries: dict[str, SqlQuery] = {}

    async def execute(self, request: web.Request) -> web.Response:
        body = await read_body(request)
        query = str(body.get("query", ""))
        if not query.lstrip().upper().startswith("SELECT"):
            raise FoundryApiError(400, "QueryParseError", errorMessage="Only SELECT is supported")
        if body.get("serializationFormat") != "CSV":  # the emulator has no Arrow
            raise FoundryApiError(400, "ColumnTypesNotSupported")
        result, error = b"", ""
        try:
            result = self._run(query, body.get("fallbackBranchIds") or [])
        except sqlite3.Error as failure:
            error = str(failure)
        except FoundryApiError as failure:
            error = failure.name
        id = base64.b64encode(uuid.uuid4().bytes).decode() + "/="  # not safe in a URL, as there
        ends_at = time.monotonic() + self._foundry.options.sql_seconds
        self._queries[id] = SqlQuery(ends_at, result, error)
        return json_response(self._queries[id].describe(id))

    async def get_status(self, request: web.Request) -> web.Response:
        return json_response(self._find(request).describe(request.match_info["query"]))

    async def get_results(self, request: web.Request) -> web.Response:
        query = self._find(request)
        remaining = query.ends_at - time.monotonic()
        await asyncio.sleep(min(max(remaining, 0.0), LONG_POLL_SECONDS))
        match query.describe("")["type"]:
            case "running":
                raise FoundryApiError(400, "QueryRunning")
            case "canceled":
                raise FoundryApiError(400, "QueryCanceled")
            case "failed":
                raise FoundryApiError(500, "QueryFailed", errorMessage=query.error)
        return web.Response(body=query.result, content_type="application/octet-stream")

    async def cancel(self, request: web.Request) -> web.Response:
        query = self._find(request)
        query.is_canceled = time.monotonic() < query.ends_at
        return web.Response(status=204)

    def _find(self, request: web.Request) -> SqlQuery:
        query = self._queries.get(request.match_info["query"])
        if query is None:
            raise FoundryApiError(403, "QueryPermissionDenied")
        return query

    def _run(self, query: str, branches: list[str]) -> bytes:
        """Run a query over its tables on the first of these branches, and return CSV."""
        database = sqlite3.connect(":memory:")
        try:
            for rid in set(TABLE.findall(query)):
                columns, rows = self._get_table(rid, branches)
                names = ", ".join(f"`{name}`" for name in columns)
                database.execute(f"CREATE TABLE `{rid}` ({names})")
                marks = ", ".join("?" * len(columns))
                values = ([row[name] for name in columns] for row in rows)
                database.executemany(f"INSERT INTO `{rid}` VALUES ({marks})", values)  # noqa: S608
            found = database.execute(query)
            header = [name for name, *_ in found.description]
            table: list[Row] = [dict(zip(header, row, strict=True)) for row in found]
            return write_csv(header, table)
        finally:
            database.close()

    def _get_table(self, rid: str, branches: list[str]) -> tuple[dict[str, str], list[Any]]:
        for branch in branches:
            try:
                return self._tables.get_table(rid, branch)
            except FoundryApiError as error:
                if error.name != "BranchNotFound":
                    raise
        return self._tables.get_table(rid, "master")
