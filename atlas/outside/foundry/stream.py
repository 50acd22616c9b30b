"""Publishes records to a Foundry stream, and inspects and creates one.

A stream has no transactions: a request whose answer is lost is repeated, and its records are then
in the stream twice, under the same key. No `viewRid` is sent, so that Foundry appends to the
present view of the branch, also after a reset.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from urllib.parse import quote

import msgspec
from msgspec import Struct

from atlas.core.errors import FoundryError, RecordsRefused, RecordTooLarge, RequestTooLarge
from atlas.core.inspection import StreamInfo
from atlas.core.rows import KEYED_COLUMN_TYPES
from atlas.core.stream import (
    DELETION_COLUMN,
    KEY_COLUMNS,
    ORDERING_COLUMN,
    StreamKind,
    encode_request,
)
from atlas.outside.foundry.client import ApiCall, FoundryClient, TransientError
from atlas.outside.foundry.errors import (
    ACCESS_DENIED_ERROR,
    build_optional_error,
    build_page_error,
    build_typed_error,
    is_about_setup,
    read_missing_scope,
)
from atlas.outside.foundry.responses import ApiResponse, Rid

STREAM_SCOPE = "api:streams-read api:streams-write"
GRANT_SCOPES = (
    "In Foundry, grant the application the scopes api:streams-read and api:streams-write."
)
ROLE = (
    "In Foundry, give the service user of our client the role Editor on the project of the stream."
)
UPDATE = "Install a newer version of Atlas."
UNKNOWN_STREAM = (
    "it does not know the stream, or our client has no role on it",
    f"Check FOUNDRY_STREAM_RID. {ROLE}",
)
# errors about the stream or our access to it: the reason, and the remedy
STREAM_ERRORS: Mapping[str, tuple[str, str]] = {
    "StreamNotFound": UNKNOWN_STREAM,
    "DatasetNotFound": UNKNOWN_STREAM,
    "BranchNotFound": ("the stream has no such branch", "Check branch in [stream]."),
    "ViewNotFound": ("the stream was reset or deleted meanwhile", "It is tried again."),
    "InvalidStreamNoSchema": (
        "the stream has no schema",
        "Create another one with atlas foundry make-stream, and set FOUNDRY_STREAM_RID to it.",
    ),
    "CannotWriteToTrashedStream": (
        "the stream is in the trash",
        "Restore it in Foundry, or unset FOUNDRY_STREAM_RID.",
    ),
    "PublishRecordsToStreamPermissionDenied": ("our client may not write to the stream", ROLE),
    "ApiUsageDenied": ("our client lacks a scope of the API", GRANT_SCOPES),
    "FolderNotFound": (
        "it does not know the folder, or our client has no role on it",
        "Check --folder, and give the service user of our client the role Editor on its project.",
    ),
    "ResourceNameAlreadyExists": (
        "the folder has something of this name already",
        "Choose another --name, or use the existing stream.",
    ),
    "CannotCreateStreamingDatasetInUserFolder": (
        "a stream cannot be in the home folder of a user",
        "Name a folder of a project.",
    ),
    "CreateStreamingDatasetPermissionDenied": (
        "our client may not create a stream there",
        "Give the service user of our client the role Editor on the project of the folder.",
    ),
    "InvalidStreamType": ("it does not know this type of stream", "Choose another --type."),
    "InvalidSchema": ("it does not accept the schema", UPDATE),
    "InvalidFieldSchema": ("it does not accept a column of the schema", UPDATE),
    "ApiFeaturePreviewUsageOnly": (
        "this endpoint is a preview, which the stack does not allow",
        "Create the stream in Foundry, with the columns that --dry-run prints.",
    ),
}
MAY_EXIST = "The stream may have been created all the same."
LOOK = "Look into the folder before another attempt."
NULLABLE = ("value_double",)
REFUSED = "it refuses the records: do they match the schema of the stream?"
IN_DATASET = "The dataset has the record."
ASK_DIAGNOSE = "Compare the schema of the stream: atlas diagnose."


class DataType(Struct, frozen=True):
    """The type of a column."""

    type: str = ""


class ColumnSchema(Struct, frozen=True, rename="camel"):
    """The type of a column, and whether it may be null."""

    nullable: bool = True
    data_type: DataType = DataType()


class StreamColumn(Struct, frozen=True):
    """A column of a stream."""

    name: str
    schema: ColumnSchema = ColumnSchema()


class StreamSchema(Struct, frozen=True, rename="camel"):
    """The columns of a stream, and its key."""

    fields: tuple[StreamColumn, ...] = ()
    key_field_names: tuple[str, ...] | None = None


class StreamBody(Struct, frozen=True, rename="camel"):
    """The response about a stream."""

    schema: StreamSchema = StreamSchema()
    view_rid: str = ""


class CreatedDataset(Struct, frozen=True):
    """The response to the creation of a stream."""

    rid: Rid


class FoundryStream:
    """Implements `ports.Stream` and `ports.StreamInspection`."""

    def __init__(self, client: FoundryClient, location: tuple[str, str]) -> None:
        """`location` is the RID of the stream and the name of the branch."""
        rid, branch = (quote(part, safe="") for part in location)
        self._client = client
        self._path = f"/streams/datasets/{rid}/streams/{branch}"

    async def publish(self, records: Sequence[bytes]) -> None:
        path, body = f"/highScale{self._path}/publishRecords", encode_request(records)
        call = ApiCall("publish", "POST", path, None, body, "application/json")
        response = await self._client.request(call)
        if not response.is_success:
            raise build_publish_error(response)
        if response.is_page:
            raise build_page_error(response)

    async def inspect(self) -> StreamInfo:
        response = await self._client.request(ApiCall("inspect", "GET", self._path))
        if not response.is_success:
            raise build_stream_error(response)
        body = response.read(StreamBody)
        fields = {each.name: each.schema.data_type.type.lower() for each in body.schema.fields}
        return StreamInfo(fields, body.schema.key_field_names or (), body.view_rid)

    async def check_writable(self) -> None:
        """Publish no record: only an answer about the stream or our access counts."""
        with suppress(RecordsRefused):
            await self.publish([])


async def create_stream(client: FoundryClient, request: Mapping[str, object]) -> str:
    """Create a stream in one attempt, and return its RID. Raises FoundryError with a remedy."""
    path, body = "/streams/datasets/create", msgspec.json.encode(request)
    call = ApiCall("inspect", "POST", path, {"preview": "true"}, body, "application/json")
    try:
        response = await client.request_once(call)
    except TransientError as error:
        raise FoundryError(f"{error} {MAY_EXIST}", remedy=LOOK) from error
    if not response.is_success:
        raise build_stream_error(response)
    try:
        return response.read(CreatedDataset).rid
    except FoundryError as error:
        raise FoundryError(f"{error} {MAY_EXIST}", remedy=LOOK) from error


def build_create_request(folder: str, name: str, kind: StreamKind) -> dict[str, object]:
    """Build the request that creates a stream for Atlas's records."""
    columns = [
        StreamColumn(name, ColumnSchema(name in NULLABLE, DataType(kind)))
        for name, kind in KEYED_COLUMN_TYPES.items()
    ]
    return {
        "name": name,
        "parentFolderRid": folder,
        "streamType": kind,
        "schema": {
            "fields": columns,
            "keyFieldNames": KEY_COLUMNS,
            "changeDataCapture": {
                "type": "fullRow",
                "deletionFieldName": DELETION_COLUMN,
                "orderingFieldName": ORDERING_COLUMN,
            },
        },
    }


def build_publish_error(response: ApiResponse) -> FoundryError:
    """Return the error of a refused request: is a record at fault, its size, or the stream?"""
    name = response.error.base_name
    if name in STREAM_ERRORS:
        return build_stream_error(response)
    if name == "RecordTooLarge":
        return build_typed_error(RecordTooLarge, response, "a record is too large", IN_DATASET)
    if response.status == 413:
        return build_typed_error(RequestTooLarge, response, "the request is too large")
    if response.status in {400, 413, 422} and not is_about_setup(response):
        return build_typed_error(RecordsRefused, response, REFUSED, ASK_DIAGNOSE)
    return build_stream_error(response)


def build_stream_error(response: ApiResponse) -> FoundryError:
    """Return the error of a failure that is about the stream, the folder, or our access."""
    name = response.error.base_name
    known = STREAM_ERRORS.get(name)
    if known is None and name.endswith(ACCESS_DENIED_ERROR):
        known = "our client lacks a role", ROLE
    if known is None and response.status == 403:
        known = "our client lacks a role or a scope", f"{ROLE} {GRANT_SCOPES}"
    if known is None:
        return build_optional_error(response, "streams")
    reason, remedy = known
    reason += read_missing_scope(response.error)
    return build_typed_error(FoundryError, response, reason, remedy)
