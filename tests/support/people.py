"""Requests for two people: their exports, and the operator's actions on their data."""

import msgspec

from tests.conftest import an_export, asgi

HOST = {"host": "127.0.0.1:9464"}
ADA, ZOE = "auth0|ada", "auth0|zoe"


async def query_operator(flow, path, user=ADA, **more):
    """Return the response of the operator listener."""
    body = msgspec.json.encode({"user": user, **more})
    kind = {"content-type": "application/json"}
    return await asgi(flow.service.operator, "POST", path, HOST | kind, body)


async def post_record(flow, uuid, user=ADA, **headers):
    line = b'{"uuid":"%b"}\n' % uuid.encode()
    return await flow.post(an_export(line), token=f"token-of-{user}", **headers)
