"""Requests create no reference cycles: the garbage collector is off while they are served."""

import base64
import gc
import gzip

import anyio
import msgspec
import pytest

from atlas.core.identifiers import API_PREFIX
from tests.conftest import GONE, ServiceHarness, an_export
from tests.support.connections import get, let_server_run, running_listener
from tests.support.connections import post as post_of

GOOD, BAD = an_export(), an_export(b"no json\n")
REQUESTS = {
    "an export": (GOOD, {}),
    "no row": (BAD, {}),
    "no base64": ({"rawhealthkit": "%"}, {}),
    "no JSON": (b"{", {}),
    "a stranger": (GOOD, {"token": "nobody"}),
    "no token": (GOOD, {"token": None}),
    "another media type": (GOOD, {"content_type": "text/plain"}),
    "a batch": ({"chunks": [GOOD, BAD, GOOD]}, {"path": "/export/batch"}),
    "a batch of what is no export": (
        {"chunks": [{"rawhealthkit": "%"}, {"rawhealthkit": 1}, GOOD]},
        {"path": "/export/batch"},
    ),
    "a batch of nothing good": ({"chunks": [BAD, BAD]}, {"path": "/export/batch"}),
    "a stream": (b"no json\n", {"content_type": "application/x-ndjson"}),
    "a stream of nothing": (b"", {"content_type": "application/x-ndjson"}),
    "a truncated stream": (
        gzip.compress(b"{}")[:-9],
        {"content_type": "application/x-ndjson", "content_encoding": "gzip"},
    ),
    "a stream that is cut": ([b"{}\n", GONE], {"content_type": "application/x-ndjson"}),
    "a key that names another": (an_export(base64.b64decode("e30K")), {"idempotency_key": "k"}),
}
TIMES = 20


@pytest.fixture
def life(tmp_path):
    return ServiceHarness(tmp_path / "journal.db")


async def post(flow, body, path="/export", token="token-of-ada", **headers):
    raw = msgspec.json.encode(body) if isinstance(body, dict) else body
    await flow.send("POST", API_PREFIX + path, token, raw, **headers)


async def count_garbage(flow, body, more):
    """Return the number of objects in cycles that TIMES requests leave behind."""
    await post(flow, body, **more)
    gc.collect()
    gc.disable()
    try:
        for _ in range(TIMES):
            await post(flow, body, **more)
    finally:
        gc.enable()
    return gc.collect()


@pytest.mark.parametrize(("body", "more"), REQUESTS.values(), ids=REQUESTS)
async def test_a_request_leaves_no_cycle_behind(life, body, more):
    async with life.running() as flow:
        await post(flow, GOOD, idempotency_key="k")
        # the second time: the first requests may release what earlier tests have left
        counts = [await count_garbage(flow, body, more) for _ in range(2)]

        assert counts[1] < TIMES


@pytest.mark.parametrize(
    "request_",
    [
        b"G",
        get(),
        post_of("Content-Length: 9"),
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        post_of("Transfer-Encoding: chunked") + b"x\r\n",
    ],
)
def test_a_connection_leaves_no_cycle_behind(request_):
    """Only on uvloop, as in production: asyncio leaves cycles of its own."""
    assert anyio.run(garbage_of, request_, backend_options={"use_uvloop": True}) == 0


async def garbage_of(request_: bytes) -> int:
    async with running_listener() as server:

        async def connect() -> None:
            async with server.connected() as stream:
                await stream.send(request_)
                await let_server_run()
            with anyio.fail_after(5):
                while server.connections():
                    await anyio.sleep(0.001)

        await connect()
        gc.collect()
        gc.disable()
        try:
            for _ in range(TIMES):
                await connect()
        finally:
            gc.enable()
        return gc.collect()
