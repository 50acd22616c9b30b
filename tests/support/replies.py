"""Server responses for clients: fixed ones, and a connection that is cut off."""

from collections.abc import Awaitable, Callable

from aiohttp import web

Mood = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


def says(status: int, text: str = "", charset: str = "utf-8", **headers: str) -> Mood:
    async def mood(_request, _body):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=text.encode(charset), headers=named)

    return mood


async def hangs_up(request, _body):
    request.transport.abort()
    return web.Response()
