"""Foundry's endpoints about schemas. A schema belongs to a view and is not enforced at upload."""

import csv
import io
import uuid
from typing import Any

import msgspec
from aiohttp import web

from atlas.local.foundry.branches import Refused
from atlas.local.foundry.door import body_of
from atlas.local.foundry.state import Foundry
from atlas.local.http import json


class Tables:
    """One method an endpoint."""

    def __init__(self, foundry: Foundry) -> None:
        self._branches = foundry.branches
        self._schemas: dict[tuple[str, str], dict[str, Any]] = {}
        self._readers: dict[tuple[str, str], str] = {}  # which nobody is told

    async def get_schema(self, request: web.Request) -> web.Response:
        place = (request.match_info["rid"], request.query.get("branchName", "master"))
        self._branches.branch(*place)
        if place not in self._schemas:
            raise Refused(404, "SchemaNotFound", datasetRid=place[0], branchName=place[1])
        return json(self._schemas[place])

    async def put_schema(self, request: web.Request) -> web.Response:
        asked = await body_of(request)
        rid, name = request.match_info["rid"], str(asked.get("branchName") or "master")
        branch = self._branches.branch(rid, name)
        if branch.head is None:
            raise Refused(404, "DatasetViewNotFound", datasetRid=rid, branch=name)
        reader = str(asked.get("dataframeReader", "PARQUET"))
        if reader not in {"AVRO", "CSV", "PARQUET", "DATASOURCE"}:
            raise Refused(400, "InvalidParameterCombination")
        self._readers[rid, name] = reader
        self._schemas[rid, name] = {
            "branchName": name,
            "endTransactionRid": branch.head.rid,
            "schema": asked.get("schema", {}),
            "versionId": str(uuid.uuid4()),
        }
        return json(self._schemas[rid, name])

    async def read_table(self, request: web.Request) -> web.Response:
        """Rows of NDJSON files as CSV, whatever CSV is; of Parquet files, that there are some."""
        place = (request.match_info["rid"], request.query.get("branchName", "master"))
        view = self._branches.branch(*place).view
        if place not in self._schemas:
            raise Refused(404, "SchemaNotFound", datasetRid=place[0], branchName=place[1])
        if request.query.get("format") != "CSV":
            raise Refused(400, "InvalidParameterCombination")
        if any(path.endswith(".parquet") != (self._readers[place] == "PARQUET") for path in view):
            why = "Expected Parquet magic number"
            raise Refused(500, "ReadTableError", datasetRid=place[0], message=why)
        fields = self._schemas[place]["schema"].get("fieldSchemaList", [])
        out = io.StringIO()
        table = csv.DictWriter(out, [each["name"] for each in fields], extrasaction="ignore")
        table.writeheader()
        for path, found in view.items():
            content = b"" if path.endswith(".parquet") else self._branches.content(found, path)
            for line in content.splitlines():
                table.writerow(msgspec.json.decode(line))
        return web.Response(text=out.getvalue(), content_type="text/csv")
