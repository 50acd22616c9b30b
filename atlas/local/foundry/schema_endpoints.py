"""Foundry's endpoints about schemas and tables, and the services behind "Apply a schema"."""

import csv
import io
from typing import Any

from aiohttp import web

from atlas.local.foundry.branches import FoundryApiError
from atlas.local.foundry.pipeline import read_body
from atlas.local.foundry.state import FoundryEmulator
from atlas.local.foundry.tables import READER_CLASSES, Row, StoredSchema, read_ndjson
from atlas.local.http import json_response

LOGIN_PAGE = "https://login.invalid/"
PAGE = "<html>Sign in</html>"


class SchemaEndpoints:
    """One method for each endpoint."""

    def __init__(self, foundry: FoundryEmulator) -> None:
        self._foundry = foundry
        self._branches = foundry.branches
        self._tables = foundry.tables

    async def get_schema(self, request: web.Request) -> web.Response:
        rid, name = request.match_info["rid"], request.query.get("branchName", "master")
        return self._describe(rid, name, self._tables.get_schema(rid, name))

    async def put_schema(self, request: web.Request) -> web.Response:
        body = await read_body(request)
        rid, name = request.match_info["rid"], str(body.get("branchName") or "master")
        if self._branches.get_branch(rid, name).head is None:
            raise FoundryApiError(404, "DatasetViewNotFound", datasetRid=rid, branch=name)
        reader = READER_CLASSES.get(str(body.get("dataframeReader", "PARQUET")))
        if reader is None:
            raise FoundryApiError(400, "InvalidParameterCombination")
        fields = body.get("schema", {}).get("fieldSchemaList", [])
        schema = StoredSchema({"fieldSchemaList": fields, "dataFrameReaderClass": reader})
        self._tables.schemas[rid, name] = schema
        return self._describe(rid, name, schema)

    async def read_table(self, request: web.Request) -> web.Response:
        rid, name = request.match_info["rid"], request.query.get("branchName", "master")
        if rid in self._tables.views:
            raise FoundryApiError(400, "DatasetReadNotSupported", datasetRid=rid)
        if request.query.get("format") != "CSV":
            raise FoundryApiError(400, "InvalidParameterCombination")
        kinds, rows = self._tables.get_table(rid, name)
        columns = request.query.getall("columns", list(kinds))
        limit = int(request.query.get("rowLimit", len(rows)))
        return web.Response(body=write_csv(columns, rows[:limit]), content_type="text/csv")

    async def get_from_service(self, request: web.Request) -> web.Response:
        if refusal := self._refuse():
            return refusal
        rid, name = request.match_info["rid"], request.match_info["branch"]
        self._branches.get_branch(rid, name)
        schema = self._tables.schemas.get((rid, name))
        if schema is None:
            return web.Response(status=204)
        return json_response({"schema": schema.content})

    async def put_by_service(self, request: web.Request) -> web.Response:
        if refusal := self._refuse():
            return refusal
        rid, name = request.match_info["rid"], request.match_info["branch"]
        self._branches.get_branch(rid, name)
        transaction = self._branches.find(rid, request.query.get("endTransactionRid", ""))
        if transaction.status != "COMMITTED":
            raise FoundryApiError(400, "TransactionNotCommitted", transactionRid=transaction.rid)
        self._tables.schemas[rid, name] = StoredSchema(await read_body(request))
        return json_response({})

    async def infer(self, request: web.Request) -> web.Response:
        """Infer a schema from the first file, as the button does: 60 makes a column of LONG."""
        if refusal := self._refuse():
            return refusal
        branch = self._branches.get_branch(request.match_info["rid"], request.match_info["branch"])
        path = next((each for each in branch.view if each.endswith(".ndjson")), None)
        if path is None:
            return json_response({"status": "FAILURE"})
        rows = list(read_ndjson(self._branches.read_content(branch.view[path], path)))
        fields = [
            {"type": infer_type(rows, name), "name": name, "nullable": True, "customMetadata": {}}
            for name in rows[0]
        ]
        schema = {
            "fieldSchemaList": fields,
            "dataFrameReaderClass": READER_CLASSES["DATASOURCE"],
            "customMetadata": {"format": "json", "options": {}},
        }
        return json_response({"status": "SUCCESS", "data": {"foundrySchema": schema}})

    def _describe(self, rid: str, name: str, schema: StoredSchema) -> web.Response:
        head = self._branches.get_branch(rid, name).head
        return json_response(
            {
                "branchName": name,
                "endTransactionRid": "" if head is None else head.rid,
                "schema": {"fieldSchemaList": schema.fields},
                "versionId": schema.version,
            }
        )

    def _refuse(self) -> web.Response | None:
        """Answer as a stack whose schema service is not open to applications."""
        match self._foundry.behaviour.schema_service:
            case "absent":
                return web.Response(status=404)
            case "forbidden":
                raise FoundryApiError(403, "Default:PermissionDenied")
            case "not_allowed":
                return web.Response(status=405)
            case "login":
                return web.Response(status=302, headers={"Location": LOGIN_PAGE})
            case "page":
                return web.Response(text=PAGE, content_type="text/html")
            case "open":
                return None


def write_csv(columns: list[str], rows: list[Row]) -> bytes:
    out = io.StringIO()
    table = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return out.getvalue().encode()


def infer_type(rows: list[dict[str, Any]], name: str) -> str:
    """Infer the type of a column from the values that are not null."""
    found = {type(row.get(name)) for row in rows} - {type(None)}
    if found == {bool}:
        return "BOOLEAN"
    if found and found <= {int, float}:
        return "DOUBLE" if float in found else "LONG"
    return "STRING"
