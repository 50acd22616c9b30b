"""The schema of a dataset: the public calls, and the service that "Apply a schema" uses in Foundry.

The public putSchema cannot declare NDJSON. The service can, but is not documented, so it may refuse
us, and an answer of it proves nothing until the schema has been read back.
"""

from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import quote

import msgspec
from msgspec import Struct

from atlas.core.dataset_schema import JSON_READER, SchemaColumn
from atlas.core.errors import FoundryError
from atlas.core.inspection import SchemaReader
from atlas.outside.foundry.client import ApiCall, FoundryClient, InternalError
from atlas.outside.foundry.errors import (
    build_optional_error,
    build_page_error,
    build_typed_error,
    describe_answer,
    is_about_setup,
    raise_for_status,
)
from atlas.outside.foundry.listing import NO_VIEW
from atlas.outside.foundry.responses import ApiResponse

SERVICE = "/foundry-metadata/api"
NO_SCHEMA_ERRORS = ("SchemaNotFound", NO_VIEW)
# Errors of readTable that say nothing about the files
OTHER_READ_ERRORS = (
    "ApiFeaturePreviewUsageOnly",
    "ColumnTypesNotSupported",
    "InvalidParameterCombination",
)
NO_CONTENT = 204
JSON_TYPE = "application/json"


class SchemaField(Struct, frozen=True):
    """A column in Foundry's schema of a dataset."""

    type: str
    name: str = ""
    nullable: bool | None = True


class ReaderMetadata(Struct, frozen=True):
    """The data source of `JSON_READER`."""

    format: str = ""


class FieldList(Struct, frozen=True, rename="camel"):
    """The columns of a schema."""

    field_schema_list: tuple[SchemaField, ...] = ()


class FieldsBody(Struct, frozen=True):
    """The response to getSchema."""

    schema: FieldList | None


class ReaderOfSchema(Struct, frozen=True, rename="camel"):
    """The part of a schema that the public API does not show."""

    data_frame_reader_class: str = ""
    custom_metadata: ReaderMetadata = ReaderMetadata()

    @property
    def kind(self) -> SchemaReader:
        """The kind of files that the schema is for."""
        if self.data_frame_reader_class == JSON_READER and self.custom_metadata.format == "json":
            return "ndjson"
        if self.data_frame_reader_class.endswith(".ParquetDataFrameReader"):
            return "parquet"
        return "other" if self.data_frame_reader_class else "unknown"


class ReaderBody(Struct, frozen=True):
    """The response of the service."""

    schema: ReaderOfSchema


class DatasetSchemas:
    """Implements `ports.SchemaInspection`. Only the methods that put a schema change anything."""

    def __init__(self, client: FoundryClient, location: tuple[str, str]) -> None:
        """`location` is the RID of the dataset and the name of the branch."""
        rid, branch = (quote(each, safe="") for each in location)
        self._client = client
        self._path = f"/datasets/{rid}"
        self._service_path = f"/schemas/datasets/{rid}/branches/{branch}"
        self._branch_query = {"branchName": location[1]}

    async def get_columns(self) -> Sequence[SchemaColumn] | None:
        response = await self._get("/getSchema")
        if response.has_error(*NO_SCHEMA_ERRORS) or response.status == NO_CONTENT:
            return None
        if not response.is_success:
            raise build_optional_error(response, "schemas")
        schema = response.read(FieldsBody).schema
        if schema is None:
            return None
        return [SchemaColumn(each.name, each.type.upper()) for each in schema.field_schema_list]

    async def get_reader(self, transaction: str) -> SchemaReader:
        try:
            response = await self._call_service("GET", transaction)
        except FoundryError:
            return "unknown"
        body = None if response.status == NO_CONTENT else response.read_if_valid(ReaderBody)
        return "unknown" if body is None else body.schema.kind

    async def find_read_problem(self) -> str:
        try:
            response = await self._get("/readTable", {"format": "CSV", "rowLimit": "1"})
        except InternalError as error:  # ReadTableError
            if error.error_name.endswith("Timeout"):
                raise
            return str(error)
        if response.is_page:
            raise build_page_error(response)
        if response.is_success:
            return ""
        is_blamed = response.status in {400, 422} and response.error.is_named
        if not is_blamed or is_about_setup(response) or response.has_error(*OTHER_READ_ERRORS):
            raise build_optional_error(response, "tables")
        return describe_answer(response.status, response.error)

    async def put_parquet(self, columns: Sequence[SchemaColumn]) -> None:
        """Put the schema of Parquet files, by the public API. Raises FoundryError."""
        fields = tuple(SchemaField(column.kind, column.name) for column in columns)
        body = self._branch_query | {"dataframeReader": "PARQUET", "schema": FieldList(fields)}
        path, content = f"{self._path}/putSchema", msgspec.json.encode(body)
        call = ApiCall("inspect", "PUT", path, None, content, JSON_TYPE)
        raise_for_status(await self._client.request(call))

    async def put_ndjson(self, schema: Mapping[str, object], transaction: str) -> None:
        """Put a schema of NDJSON files, by the service. Raises FoundryError.

        A success means nothing yet, because a page may have answered: read it back.
        """
        response = await self._call_service("POST", transaction, msgspec.json.encode(schema))
        if not response.is_success:
            reason = "its schema service does not take the schema from our client"
            raise build_typed_error(FoundryError, response, reason, remedy="")

    async def _get(self, path: str, query: Mapping[str, str] | None = None) -> ApiResponse:
        query = {**self._branch_query, **(query or {})}
        return await self._client.request(ApiCall("inspect", "GET", self._path + path, query))

    async def _call_service(
        self, method: Literal["GET", "POST"], transaction: str, content: bytes | None = None
    ) -> ApiResponse:
        query = {"endTransactionRid": transaction}
        kind = None if content is None else JSON_TYPE
        call = ApiCall("inspect", method, self._service_path, query, content, kind, root=SERVICE)
        return await self._client.request(call)
