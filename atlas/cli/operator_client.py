"""Access to the journal for commands: through the process that owns it, or directly."""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
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
from atlas.core.errors import JSON_ERRORS, CommandError, JournalLocked
from atlas.service import JournalPorts
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


def load_settings_for_journal(config: Path | None, journal: Path | None) -> Settings:
    """Load settings whose journal is an existing file. Raises CommandError."""
    settings = resolve_journal(load_settings(config, os.environ), journal)
    path = settings.journal.path
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
    try:
        with service.open_unlocked(settings) as store:
            result = anyio.run(read_offline, store)
    except JournalLocked as lock:
        return anyio.run(request.send, lock, settings.operator.token, kind)
    if result is None:
        raise CommandError("No export in the journal has this id, or several ids begin with it.")
    return result


@dataclass(frozen=True, slots=True)
class OperatorRequest:
    """A request to the operator listener. Personal data go into `body`, never into the URL."""

    path: str
    query: Mapping[str, str | int | None]
    method: Method = "GET"
    body: Mapping[str, str | bool] | None = None

    async def send(self, lock: JournalLocked, token: str, kind: type[T]) -> T:
        url = URL(f"http://{lock.owner}{self.path}", encoded=True).update_query(
            {name: value for name, value in self.query.items() if value is not None}
        )
        try:
            return msgspec.json.decode(await request(url, token, self.method, self.body), type=kind)
        except (*CONNECTION_ERRORS, *JSON_ERRORS) as error:
            owner = lock.owner or "?"
            raise OperatorUnreachable(f"{lock} It does not respond at {owner}.") from error


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


class OperatorUnreachable(CommandError):
    """The owner of the journal does not respond, or its response is not valid."""


class OperatorErrorBody(msgspec.Struct):
    error: str
