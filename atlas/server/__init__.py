"""Runs the service: opens the journal and the sockets, starts the loop, handles signals."""

import errno
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial

import anyio

from atlas import service
from atlas.computing import set_mmap_threshold
from atlas.core.errors import CommandError
from atlas.core.events import ListenersOpened
from atlas.core.ports import JournalPorts
from atlas.runtime import run_in_background
from atlas.server.garbage import collect_when_idle, disable_automatic_collection
from atlas.server.http import BACKLOG, ConnectionLimits, Listener, RawErrors
from atlas.server.readiness import Readiness
from atlas.server.rlimits import disable_core_dumps, raise_nofile_limit
from atlas.server.service_manager import ServiceManager
from atlas.service import Dependencies, EventSubscribers
from atlas.settings import EdgeSettings, Settings

__all__ = [
    "ServiceManager",
    "bind",
    "build_connection_limits",
    "format_address",
    "run",
]

OpenCompanion = Callable[[], AbstractAsyncContextManager[None]]
Connect = Callable[
    [Settings, JournalPorts, EventSubscribers], AbstractAsyncContextManager[Dependencies]
]

NO_MANAGER = ServiceManager()
OPERATORS_MAX = 64  # connections
RESERVED_DESCRIPTORS = 300  # operators, the journal, calls to Foundry and Auth0, workers

REMEDIES = {
    errno.EADDRINUSE: " Stop the other process, or choose another port.",
    errno.EACCES: " Ports below 1024 need root privileges: choose a higher port.",
    errno.EADDRNOTAVAIL: " This machine does not have this address.",
}


def run(
    settings: Settings,
    open_companion: OpenCompanion,
    on_ready: Callable[[str], None],
    connect: Connect = service.open_dependencies,
    manager: ServiceManager = NO_MANAGER,
) -> None:
    """Open the journal, and serve until a signal. The companion is open during that time.

    `on_ready` gets the URL of the public listener once `/health/ready` is 200. `manager` started
    this process, and is notified then, too.
    """

    async def main() -> None:
        async with service.open_journal(settings, sys.stderr) as (store, subscribers):
            with (
                bind(settings.edge.host, settings.edge.port) as public,
                bind(*settings.operator.address) as operator,
            ):
                async with (
                    open_companion(),
                    connect(settings, store, subscribers) as dependencies,
                    service.run_service(dependencies, settings) as running,
                ):
                    url = format_address(public)
                    dependencies.emit(ListenersOpened(url, format_address(operator)))
                    errors = RawErrors(
                        dependencies.clock, dependencies.timing.random, dependencies.emit
                    )
                    listeners = [
                        Listener(running.public, public, public_limits, errors),
                        Listener(running.operator, operator, operator_limits, errors),
                    ]
                    readiness = Readiness(
                        running.explain_unready, partial(on_ready, url), manager, dependencies.emit
                    )
                    async with run_in_background(readiness.announce):
                        await serve(listeners, partial(stop, running.drain, manager))

    disable_core_dumps()
    descriptors = raise_nofile_limit()
    public_limits, operator_limits = build_connection_limits(settings.edge, descriptors)
    disable_automatic_collection()
    set_mmap_threshold()
    with service.capture_library_messages(settings, sys.stderr):
        anyio.run(main, backend_options={"use_uvloop": True})


def stop(drain: Callable[[], None], manager: ServiceManager) -> None:
    manager.notify("STOPPING=1", "STATUS=Shutting down.")
    drain()


def build_connection_limits(
    edge: EdgeSettings, descriptors: int
) -> tuple[ConnectionLimits, ConnectionLimits]:
    """Return the limits of the public listener and of the operators' listener.

    Some descriptors stay reserved for the files and calls that the connections need.
    """
    available = max(descriptors - RESERVED_DESCRIPTORS, descriptors // 2)
    public = ConnectionLimits(
        header_bytes_max=edge.header_bytes_max,
        header_seconds=edge.header_seconds,
        write_timeout_seconds=edge.slow_seconds,
        idle_seconds=edge.idle_seconds,
        connections_max=min(edge.connections_max, available),
    )
    return public, replace(public, connections_max=OPERATORS_MAX)


def bind(host: str, port: int) -> socket.socket:
    """Open a listening socket, which queues connections from now on. Raises CommandError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        # Python appends "(while attempting to bind on address …)"
        reason = str(getattr(error, "strerror", None) or error).partition(" (while ")[0]
        remedy = REMEDIES.get(getattr(error, "errno", 0), "")
        raise CommandError(f"Cannot listen at {host} port {port}: {reason}.{remedy}") from error


def format_address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(listeners: Sequence[Listener], drain: Callable[[], None]) -> None:
    """Serve until a signal.

    The first SIGTERM or Ctrl-C drains the service; a second Ctrl-C stops it at once.
    """
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drain_on_signal, listeners, drain, tasks.cancel_scope)
        tasks.start_soon(collect_when_idle, lambda: all(each.is_idle for each in listeners))
        async with anyio.create_task_group() as serving:
            for listener in listeners:
                serving.start_soon(listener.listen)
        tasks.cancel_scope.cancel()


async def drain_on_signal(
    listeners: Sequence[Listener], drain: Callable[[], None], scope: anyio.CancelScope
) -> None:
    is_ending = False
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            if is_ending and number == signal.SIGINT:
                scope.cancel()
            is_ending = True
            for listener in listeners:  # before the drain, so that responses say Connection: close
                listener.end()
            drain()
