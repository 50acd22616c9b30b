"""The addresses of the emulator, and the endpoint, the scope and the name of each."""

import time
from collections.abc import Iterator

from aiohttp import web

from atlas.local.foundry import control
from atlas.local.foundry.api import FoundryEndpoints
from atlas.local.foundry.pipeline import (
    READ,
    SQL_EXECUTE,
    SQL_READ,
    STREAM_READ,
    STREAM_WRITE,
    WRITE,
    Handler,
    RequestPipeline,
)
from atlas.local.foundry.queries import QueryEndpoints
from atlas.local.foundry.schema_endpoints import SchemaEndpoints
from atlas.local.foundry.state import FoundryEmulator
from atlas.local.foundry.streams import StreamEndpoints
from atlas.local.foundry.views import ViewEndpoints
from atlas.local.http import write_date_header

BODY_BYTES_MAX = 256 * 1024 * 1024
HOME = "/api/v2/datasets/{rid}"
BRANCH, FILES = HOME + "/branches/{branch}", HOME + "/files"
TRANSACTION = HOME + "/transactions/{txn}"
FILE = FILES + "/{path:[^/]+}"  # includes braces
SCHEMA_SERVICE = "/foundry-metadata/api/schemas/datasets/{rid}/branches/{branch}"
INFERENCE = "/foundry-schema-inference/api/datasets/{rid}/branches/{branch}/schema"
SQL, QUERY = "/api/v2/sqlQueries", "/api/v2/sqlQueries/{query:[^/]+}"
STREAM = "/streams/datasets/{rid}/streams/{branch}"
FAST_STREAM = "/api/v2/highScale" + STREAM

Route = tuple[str, str, str, str, Handler]  # method, path, name of the call, scope, handler


def build_application(foundry: FoundryEmulator) -> web.Application:
    """Build the application, to be served at an address of its own."""
    pipeline = RequestPipeline(foundry)
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    for list_routes in (list_file_routes, list_table_routes, list_stream_routes):
        for method, path, call, scope, handler in list_routes(foundry):
            app.router.add_route(method, path, pipeline.protect(call, scope, handler))
    token = pipeline.protect("token", "", pipeline.issue_token)
    app.router.add_post("/multipass/api/oauth2/token", token)
    control.add_routes(app, foundry)
    app.router.add_route("*", "/{address:.*}", answer_unknown)

    async def set_date(_request: web.Request, answer: web.StreamResponse) -> None:
        await write_date_header(answer, foundry.options.clock_ahead_seconds)
        if not foundry.behaviour.date_header:
            answer.headers.popall("Date", None)

    app.on_response_prepare.append(set_date)
    app.on_cleanup.append(lambda _: close_state(foundry))
    return app


def list_file_routes(foundry: FoundryEmulator) -> Iterator[Route]:
    api = FoundryEndpoints(foundry)
    yield "GET", HOME, "dataset", READ, api.get_dataset
    yield "POST", HOME + "/transactions", "create", WRITE, api.create
    yield "GET", HOME + "/transactions", "transactions", READ, api.list_transactions
    yield "GET", TRANSACTION, "get", READ, api.get
    yield "POST", TRANSACTION + "/commit", "commit", WRITE, api.commit
    yield "POST", TRANSACTION + "/abort", "abort", WRITE, api.abort
    yield "GET", BRANCH, "branch", READ, api.get_branch
    yield "GET", BRANCH + "/transactions", "transactions", READ, api.list_transactions
    yield "GET", FILES, "list", READ, api.list_files
    yield "POST", FILE + "/upload", "upload", WRITE, api.upload
    yield "GET", FILE, "file", READ, api.get_file
    yield "GET", FILE + "/content", "content", READ, api.get_content
    yield "DELETE", FILE, "delete", WRITE, api.delete


def list_table_routes(foundry: FoundryEmulator) -> Iterator[Route]:
    schemas, views = SchemaEndpoints(foundry), ViewEndpoints(foundry)
    queries = QueryEndpoints(foundry)
    yield "GET", HOME + "/getSchema", "schema", READ, schemas.get_schema
    yield "PUT", HOME + "/putSchema", "schema", WRITE, schemas.put_schema
    yield "GET", HOME + "/readTable", "table", READ, schemas.read_table
    yield "GET", SCHEMA_SERVICE, "schema_service", READ, schemas.get_from_service
    yield "POST", SCHEMA_SERVICE, "schema_service", WRITE, schemas.put_by_service
    yield "POST", INFERENCE, "schema_service", READ, schemas.infer
    yield "POST", "/api/v2/datasets/views", "view", WRITE, views.create
    yield "GET", "/api/v2/datasets/views/{view}", "view", READ, views.get
    yield "POST", SQL + "/execute", "sql", SQL_EXECUTE, queries.execute
    yield "GET", QUERY + "/getStatus", "sql", SQL_READ, queries.get_status
    yield "GET", QUERY + "/getResults", "sql", SQL_READ, queries.get_results
    yield "POST", QUERY + "/cancel", "sql", SQL_EXECUTE, queries.cancel


def list_stream_routes(foundry: FoundryEmulator) -> Iterator[Route]:
    streams = StreamEndpoints(foundry, time.monotonic)
    yield "POST", "/api/v2/streams/datasets/create", "stream", STREAM_WRITE, streams.create
    yield "GET", "/api/v2" + STREAM, "stream", STREAM_READ, streams.get
    yield "POST", "/api/v2" + STREAM + "/reset", "stream", STREAM_WRITE, streams.reset
    yield "POST", FAST_STREAM + "/publishRecords", "publish", STREAM_WRITE, streams.publish
    yield "GET", FAST_STREAM + "/getEndOffsets", "records", STREAM_READ, streams.get_end_offsets
    yield "GET", FAST_STREAM + "/getRecords", "records", STREAM_READ, streams.get_records


async def answer_unknown(_request: web.Request) -> web.Response:
    """Answer 404 without a body, as Foundry does at unknown addresses."""
    return web.Response(status=404)


async def close_state(foundry: FoundryEmulator) -> None:
    foundry.branches.close()
