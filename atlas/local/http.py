"""What both stand-ins need to speak HTTP."""

import time
from email.utils import formatdate
from typing import TypeVar

import msgspec
from aiohttp import web

T = TypeVar("T")


def json(body: object, status: int = 200) -> web.Response:
    text = msgspec.json.encode(body)
    return web.Response(body=text, status=status, content_type="application/json")


async def read(request: web.Request, kind: type[T]) -> T:
    """What is asked for, {} for nothing; what cannot be read is a 400."""
    try:
        return msgspec.json.decode(await request.read() or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise web.HTTPBadRequest(text=str(error)) from error


async def dated(answer: web.StreamResponse, ahead_seconds: float) -> None:
    """Its Date is that of a clock which is so far before ours."""
    if ahead_seconds:
        answer.headers["Date"] = formatdate(time.time() + ahead_seconds, usegmt=True)


def cut(request: web.Request) -> web.Response:
    """The connection is gone; what is returned arrives nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
