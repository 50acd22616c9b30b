"""Sockets, signals and the server: from a running service to one that can be reached."""

import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
import uvicorn
from starlette.types import ASGIApp

from atlas.core.errors import CannotStart
from atlas.service import Service
from atlas.settings import Settings

GRACE_SECONDS = 3  # for answers under way: whoever waits for a commit is told at once


class Listener(uvicorn.Server):
    """uvicorn, leaving the signals to us: we have more than it to bring to an end."""

    def __init__(self, app: ASGIApp, bound: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._bound = bound

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def listen(self) -> None:
        await self.serve(sockets=[self._bound])


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises CannotStart."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise CannotStart(f"Cannot listen at {host}:{port}: {error.strerror}.") from error


async def run(service: Service, settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve both listeners until a signal ends it; `ready` is told the public address.

    The first SIGTERM or Ctrl-C drains; a second Ctrl-C does not wait for that.
    """
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL + 1)  # its words may quote a request
    edge = settings.edge
    with bind(edge.host, edge.port) as public, bind(*settings.operator.address) as operator:
        listeners = [Listener(service.public, public), Listener(service.operator, operator)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end_at_signal, service, listeners, tasks.cancel_scope)
            async with anyio.create_task_group() as serving:
                for listener in listeners:
                    serving.start_soon(listener.listen)
                while not all(listener.started for listener in listeners):
                    await anyio.sleep(0.01)
                host = f"[{edge.host}]" if ":" in edge.host else edge.host
                ready(f"http://{host}:{public.getsockname()[1]}")
            tasks.cancel_scope.cancel()


async def end_at_signal(
    service: Service, listeners: list[Listener], scope: anyio.CancelScope
) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            if listeners[0].should_exit and number == signal.SIGINT:
                scope.cancel()
            service.drain()
            for listener in listeners:
                listener.should_exit = True
