"""A server at a socket of ours."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from atlas.process.door import Door, Rules
from atlas.process.places import Places
from atlas.process.refusals import Refusals

GRACE_SECONDS = 3  # for answers under way: whoever waits for a commit is told at once


class Listener(uvicorn.Server):
    """uvicorn behind our door, leaving the signals to us: we have more than it to end."""

    def __init__(
        self,
        app: ASGIApp,
        bound: socket.socket,
        rules: Rules,
        refusals: Refusals,
    ) -> None:
        places = Places(rules.connections_max)
        door = partial(Door, rules=rules, places=places, refusals=refusals)
        super().__init__(
            uvicorn.Config(
                app,
                http=cast("Any", door),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # nobody's address is asked for
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._bound = bound

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def listen(self) -> None:
        await self.serve(sockets=[self._bound])
