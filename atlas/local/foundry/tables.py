"""Foundry's endpoints about schemas. A schema belongs to a view and is not enforced at upload."""

import csv
import io
import uuid
from typing import Any

import msgspec
from aiohttp import web

from atlas.local.foundry.branches import FoundryApiError
from atlas.local.foundry.pipeline import read_body
from atlas.local.foundry.state import FoundryEmulator
from atlas.local.http import json_response


class SchemaEndpoints:
    """One method for each endpoint."""

    def __init__(self, foundry: FoundryEmulator) -> None:
        self._branches = foundry.branches
        self._schemas: dict[tuple[str, str], dict[str, Any]] = {}
        self._readers: dict[tuple[str, str], str] = {}  # not part of any response

    async def get_schema(self, request: web.Request) -> web.Response:
        branch_key = (request.match_info["rid"], request.query.get("branchName", "master"))
        self._branches.get_branch(*branch_key)
        if branch_key not in self._schemas:
            raise FoundryApiError(
                404, "SchemaNotFound", datasetRid=branch_key[0], branchName=branch_key[1]
            )
        return json_response(self._schemas[branch_key])

    async def put_schema(self, request: web.Request) -> web.Response:
        body = await read_body(request)
        rid, name = request.match_info["rid"], str(body.get("branchName") or "master")
        branch = self._branches.get_branch(rid, name)
        if branch.head is None:
            raise FoundryApiError(404, "DatasetViewNotFound", datasetRid=rid, branch=name)
        reader = str(body.get("dataframeReader", "PARQUET"))
        if reader not in {"AVRO", "CSV", "PARQUET", "DATASOURCE"}:
            raise FoundryApiError(400, "InvalidParameterCombination")
        self._readers[rid, name] = reader
        self._schemas[rid, name] = {
            "branchName": name,
            "endTransactionRid": branch.head.rid,
            "schema": body.get("schema", {}),
            "versionId": str(uuid.uuid4()),
        }
        return json_response(self._schemas[rid, name])

    async def read_table(self, request: web.Request) -> web.Response:
        """Answer the rows of NDJSON files as CSV. For Parquet files, only the header."""
        branch_key = (request.match_info["rid"], request.query.get("branchName", "master"))
        view = self._branches.get_branch(*branch_key).view
        if branch_key not in self._schemas:
            raise FoundryApiError(
                404, "SchemaNotFound", datasetRid=branch_key[0], branchName=branch_key[1]
            )
        if request.query.get("format") != "CSV":
            raise FoundryApiError(400, "InvalidParameterCombination")
        if any(
            path.endswith(".parquet") != (self._readers[branch_key] == "PARQUET") for path in view
        ):
            why = "Expected Parquet magic number"
            raise FoundryApiError(500, "ReadTableError", datasetRid=branch_key[0], message=why)
        fields = self._schemas[branch_key]["schema"].get("fieldSchemaList", [])
        out = io.StringIO()
        table = csv.DictWriter(out, [each["name"] for each in fields], extrasaction="ignore")
        table.writeheader()
        for path, transaction in view.items():
            content = (
                b"" if path.endswith(".parquet") else self._branches.read_content(transaction, path)
            )
            for line in content.splitlines():
                table.writerow(msgspec.json.decode(line))
        return web.Response(text=out.getvalue(), content_type="text/csv")
