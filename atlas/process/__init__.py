"""Journal, loop, sockets and signals: from settings to a service that can be reached."""

import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager

import anyio
import uvicorn
from starlette.types import ASGIApp

from atlas import service
from atlas.core.errors import CannotStart
from atlas.runtime import give_back_large_blocks
from atlas.service import Readers, Store, World
from atlas.settings import Settings

Beside = Callable[[], AbstractAsyncContextManager[None]]
Connect = Callable[[Settings, Store, Readers], AbstractAsyncContextManager[World]]

GRACE_SECONDS = 3  # for answers under way: whoever waits for a commit is told at once
KEEP_ALIVE_SECONDS = 75
BACKLOG = 2048

# uvicorn's own words may quote a request; what is worth telling is an event
logging.getLogger("uvicorn").setLevel(logging.CRITICAL + 1)


def run(
    settings: Settings,
    beside: Beside,
    tell: Callable[[str], None],
    connect: Connect = service.connected,
) -> None:
    """Open the journal, then serve until a signal. `beside` runs for as long."""
    with service.opened(settings, sys.stderr) as (store, readers):

        async def main() -> None:
            public, operator = settings.edge, settings.operator.address
            with bind(public.host, public.port) as front, bind(*operator) as back:
                async with (
                    beside(),
                    connect(settings, store, readers) as world,
                    service.serving(world, settings) as atlas,
                ):
                    tell(address(front))
                    listeners = [Listener(atlas.public, front), Listener(atlas.operator, back)]
                    await listen(listeners, atlas.drain)

        collect_seldom()
        give_back_large_blocks()
        anyio.run(main, backend_options={"use_uvloop": True})


class Listener(uvicorn.Server):
    """uvicorn at a socket of ours, leaving the signals to us: we have more than it to end."""

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
                proxy_headers=False,  # nobody's address is asked for
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
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
    """A socket that listens there; from now on nobody is turned away. Raises CannotStart."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise CannotStart(f"Cannot listen at {host} port {port}: {why}.") from error


def address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def listen(listeners: Sequence[Listener], drain: Callable[[], None]) -> None:
    """Serve until a signal ends it.

    The first SIGTERM or Ctrl-C drains; a second Ctrl-C does not wait for that.
    """
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end_at_signal, listeners, drain, tasks.cancel_scope)
        async with anyio.create_task_group() as serving:
            for listener in listeners:
                serving.start_soon(listener.listen)
        tasks.cancel_scope.cancel()


async def end_at_signal(
    listeners: Sequence[Listener], drain: Callable[[], None], scope: anyio.CancelScope
) -> None:
    is_ending = False
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            if is_ending and number == signal.SIGINT:
                scope.cancel()
            is_ending = True
            drain()
            for listener in listeners:
                listener.should_exit = True


def collect_seldom() -> None:
    """A collection of garbage walks all that thousands of waiting requests hold, for nothing.

    By its defaults that took a fifth of the processor at 340 exports a second; what we make has
    hardly any cycles.
    """
    gc.collect()
    gc.freeze()  # modules stay for good
    gc.set_threshold(20_000, 10, 100)
