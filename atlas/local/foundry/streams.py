"""Streams, and Foundry's endpoints about them. They are in memory only.

The records of a request are appended all together, or none of them if one does not match the
schema. The view of a stream changes when it is reset.
"""

from collections.abc import Callable

import msgspec
from aiohttp import web
from msgspec import Struct

from atlas.local.foundry.branches import FoundryApiError
from atlas.local.foundry.pipeline import read_body
from atlas.local.foundry.state import FoundryEmulator
from atlas.local.foundry.stream_state import EmulatedStream, check_schema, is_matching, new_rid
from atlas.local.http import json_response

RECORD_BYTES_MAX = 1_000_000
KINDS = "LOW_LATENCY", "HIGH_THROUGHPUT"


class Publication(Struct, frozen=True):
    """The body of publishRecords. Records are parsed later, one by one."""

    records: list[msgspec.Raw]
    view_rid: str | None = msgspec.field(name="viewRid", default=None)


class StreamEndpoints:
    """One method for each endpoint."""

    def __init__(self, foundry: FoundryEmulator, monotonic: Callable[[], float]) -> None:
        self._foundry = foundry
        self._monotonic = monotonic

    async def create(self, request: web.Request) -> web.Response:
        require_preview(request)
        body = await read_body(request)
        name, folder = str(body.get("name", "")), str(body.get("parentFolderRid", ""))
        streams = self._foundry.streams
        if folder.startswith("ri.compass.main.folder.user"):
            raise FoundryApiError(
                400, "CannotCreateStreamingDatasetInUserFolder", parentFolderRid=folder
            )
        if not folder.startswith("ri.compass.main.folder."):
            raise FoundryApiError(404, "FolderNotFound", folderRid=folder)
        if any((each.name, each.folder) == (name, folder) for each in streams.values()):
            raise FoundryApiError(409, "ResourceNameAlreadyExists", resourceName=name)
        if body.get("streamType", KINDS[0]) not in KINDS:
            raise FoundryApiError(400, "InvalidStreamType", streamType=str(body["streamType"]))
        check_schema(body.get("schema"))
        stream = EmulatedStream(
            new_rid("dataset"),
            name,
            folder,
            str(body.get("branchName") or "master"),
            body["schema"],
            body.get("streamType", KINDS[0]),
        )
        streams[stream.rid] = stream
        return json_response({"rid": stream.rid, "name": name, "parentFolderRid": folder})

    async def get(self, request: web.Request) -> web.Response:
        return json_response(self._find(request).describe())

    async def reset(self, request: web.Request) -> web.Response:
        require_preview(request)
        stream = self._find(request)
        stream.reset()
        return json_response(stream.describe())

    async def publish(self, request: web.Request) -> web.Response:
        content = await request.read()
        limit = self._foundry.options.publish_bytes_max
        if 0 < limit < len(content):
            raise FoundryApiError(413, "RequestEntityTooLarge")
        try:
            body = msgspec.json.decode(content, type=Publication)
        except msgspec.DecodeError as error:
            raise FoundryApiError(400, "InvalidParameterCombination") from error
        stream = self._find(request, body.view_rid)
        if stream.is_trashed:
            raise FoundryApiError(400, "CannotWriteToTrashedStream", datasetRid=stream.rid)
        records = [bytes(each) for each in body.records]
        columns = stream.columns
        for record in records:
            if len(record) > RECORD_BYTES_MAX:
                raise FoundryApiError(413, "RecordTooLarge")
            if not is_matching(record, columns):
                raise FoundryApiError(
                    400,
                    "RecordDoesNotMatchStreamSchema",
                    datasetRid=stream.rid,
                    branchName=stream.branch,
                )
        now = self._monotonic()
        stream.records += records
        stream.arrived_at += [now] * len(records)
        return web.Response(status=204)

    async def get_end_offsets(self, request: web.Request) -> web.Response:
        require_preview(request)
        return json_response({"0": str(len(self._find(request).records))})

    async def get_records(self, request: web.Request) -> web.Response:
        require_preview(request)
        stream, query = self._find(request, request.query.get("viewRid")), request.query
        start, limit = int(query.get("startOffset", 0)), int(query["limit"])
        page = stream.records[start : start + limit] if query["partitionId"] == "0" else []
        return json_response(
            [
                {"offset": str(offset), "value": msgspec.Raw(record)}
                for offset, record in enumerate(page, start)
            ]
        )

    def _find(self, request: web.Request, view: str | None = None) -> EmulatedStream:
        rid, branch = request.match_info["rid"], request.match_info["branch"]
        stream = self._foundry.streams.get(rid)
        if stream is None or stream.branch != branch:
            raise FoundryApiError(404, "StreamNotFound", datasetRid=rid, streamBranchName=branch)
        if view not in {None, stream.view}:
            raise FoundryApiError(404, "ViewNotFound", viewRid=view)
        return stream


def require_preview(request: web.Request) -> None:
    if request.query.get("preview") != "true":
        raise FoundryApiError(400, "ApiFeaturePreviewUsageOnly")
