"""Access to the journal for commands: through the process that owns it, or directly."""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import aiohttp
import anyio
import msgspec
import typer
from yarl import URL

from atlas import service
from atlas.cli import emulators
from atlas.cli.configuration import load_settings
from atlas.cli.send import parse_url
from atlas.core.errors import JSON_ERRORS, CommandError, JournalLocked
from atlas.core.ports import JournalPorts
from atlas.settings import JournalSettings, Settings

T = TypeVar("T")

TIMEOUT_SECONDS = 10.0
CONNECTION_ERRORS = aiohttp.ClientError, TimeoutError
Method = Literal["GET", "POST"]

JournalOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The journal. Default: that of the settings, or of `atlas local`."
    ),
]


OperatorOption = Annotated[
    str | None,
    typer.Option(
        "--operator", metavar="HOST:PORT", help="The operator listener of a running service."
    ),
]


def parse_operator(address: str) -> URL:
    """Parse the option --operator; also a URL. Raises typer.BadParameter."""
    return parse_url(address if "://" in address else f"http://{address}", "--operator")


def load_settings_for_journal(config: Path | None, journal: Path | None) -> Settings:
    """Load settings whose journal is an existing file. Raises CommandError."""
    settings = resolve_journal(load_settings(config, os.environ), journal)
    path = settings.journal.path
    if settings.journal.is_shared:
        return settings
    if path is None:
        raise CommandError("The journal is in memory: use the operator listener of the service.")
    if not path.is_file():
        raise CommandError(f"There is no journal at {path}: see --journal.")
    return settings


def resolve_journal(settings: Settings, requested: Path | None = None) -> Settings:
    """Set the journal: the requested one, else the configured one.

    If that is the default path and does not exist, use the journal of `atlas local`, if any.
    """
    local = emulators.STATE / emulators.JOURNAL
    path = settings.journal.path if requested is None else requested
    if path is None:
        return settings
    if path == JournalSettings().path and not path.exists() and local.exists():
        path = local
    replace = msgspec.structs.replace
    return replace(settings, journal=replace(settings.journal, url=f"sqlite:///{path}"))


def ask(
    settings: Settings,
    request: "OperatorRequest",
    kind: type[T],
    read_offline: Callable[[JournalPorts], Awaitable[T | None]],
) -> T:
    """Send the request to the process that owns the journal; without one, call `read_offline`."""

    async def read() -> T | None:
        async with service.open_unlocked(settings) as store:
            return await read_offline(store)

    try:
        result = run(read)
    except JournalLocked as lock:
        return run(partial(request.send, lock, settings.operator.token, kind))
    if result is None:
        raise CommandError(
            "No export in the journal has this id, or several ids begin with it: see atlas exports "
            "list."
        )
    return result


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run work in an event loop.

    The task itself returns nothing: when it ends, Python renders it as text with its result, which
    would take longer than reading a large page.
    """
    results = list[T]()

    async def collect() -> None:
        results.append(await work())

    anyio.run(collect)
    return results[0]


@dataclass(frozen=True, slots=True)
class OperatorRequest:
    """A request to the operator listener. Personal data go into `body`, never into the URL."""

    path: str
    query: Mapping[str, str | int | None]
    method: Method = "GET"
    body: Mapping[str, str | bool] | None = None

    async def send(self, lock: JournalLocked, token: str, kind: type[T]) -> T:
        """Send it to the process that holds the lock. Raises CommandError."""
        if not lock.owner:  # such as another command
            raise OperatorUnreachable(str(lock))
        problem = f"{lock} It does not respond at {lock.owner}."
        return await self._send(URL(f"http://{lock.owner}"), token, kind, problem)

    async def send_to(self, listener: URL, token: str, kind: type[T]) -> T:
        """Send it to this operator listener. Raises CommandError."""
        problem = f"No operator listener of this version of Atlas responds at {listener.origin()}."
        return await self._send(listener, token, kind, problem)

    async def _send(self, listener: URL, token: str, kind: type[T], problem: str) -> T:
        try:
            url = URL(f"{listener.origin()}{self.path}", encoded=True).update_query(
                {name: value for name, value in self.query.items() if value is not None}
            )
            return msgspec.json.decode(await request(url, token, self.method, self.body), type=kind)
        except (*CONNECTION_ERRORS, *JSON_ERRORS) as error:
            raise OperatorUnreachable(problem) from error


async def request(
    url: URL, token: str, method: Method = "GET", body: Mapping[str, str | bool] | None = None
) -> bytes:
    """Send a request to an operator listener, and return the body of the response.

    Raises CommandError with the listener's own error, CONNECTION_ERRORS and JSON_ERRORS.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    content = None if body is None else msgspec.json.encode(body)
    seconds = TIMEOUT_SECONDS if method == "GET" else None  # a POST may take minutes
    timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=TIMEOUT_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.request(method, url, headers=headers, data=content) as response,
    ):
        text = await response.read()
        if response.status != 200:
            raise CommandError(msgspec.json.decode(text, type=OperatorErrorBody).error)
        return text


def read_file(settings: Settings, read: Callable[[bool], Awaitable[T]]) -> T:
    """Call `read(False)` on the journal; if a service uses its file, `read(True)` while it is held.

    Raises JournalLocked if the process that uses the file does not hold it for us.
    """

    async def run() -> T:
        # the event loop would handle Ctrl-C only when the file has been read
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return await read(False)
        except JournalLocked as lock:
            async with hold_file(lock, settings.operator.token):
                return await read(True)

    return anyio.run(run)


@asynccontextmanager
async def hold_file(lock: JournalLocked, token: str) -> AsyncIterator[None]:
    """Have the process that uses a journal keep its file unchanged.

    Raises JournalLocked if it does not answer, CommandError with its own error.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_SECONDS)
    async with AsyncExitStack() as stack:
        try:
            session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
            url = URL(f"http://{lock.owner}/journal/hold")
            response = await stack.enter_async_context(session.post(url, headers=headers))
            if response.status != 200:
                text = await response.read()
                raise CommandError(msgspec.json.decode(text, type=OperatorErrorBody).error)
            await response.content.readline()
        except (*CONNECTION_ERRORS, *JSON_ERRORS, ValueError) as error:
            raise lock from error
        yield


class OperatorUnreachable(CommandError):
    """The owner of the journal does not respond, or its response is not valid."""


class OperatorErrorBody(msgspec.Struct):
    error: str
