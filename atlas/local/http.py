"""HTTP functions that both emulators use."""

import time
from email.utils import formatdate
from typing import TypeVar

import msgspec
from aiohttp import web

T = TypeVar("T")


def json_response(body: object, status: int = 200) -> web.Response:
    text = msgspec.json.encode(body)
    return web.Response(body=text, status=status, content_type="application/json")


async def parse_request(request: web.Request, kind: type[T]) -> T:
    """Decode the body, {} if it is empty. Answers 400 if it is invalid."""
    try:
        return msgspec.json.decode(await request.read() or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise web.HTTPBadRequest(text=str(error)) from error


async def write_date_header(answer: web.StreamResponse, ahead_seconds: float) -> None:
    """Write a Date header that is ahead of the system's clock."""
    if ahead_seconds:
        answer.headers["Date"] = formatdate(time.time() + ahead_seconds, usegmt=True)


def drop_connection(request: web.Request) -> web.Response:
    """Abort the connection. The returned response is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
