"""Whoever owns the journal, asked by commands that look into it: its process, else we ourselves."""

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

ANSWER_SECONDS = 10.0
CONNECTION_ERRORS = aiohttp.ClientError, TimeoutError
Method = Literal["GET", "POST"]

JournalOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The journal; else that of the settings, or of `atlas local`."
    ),
]


def load_settings_for_journal(config: Path | None, journal: Path | None) -> Settings:
    """With the journal that was asked for, which must be there."""
    settings = resolve_journal(load_settings(config, os.environ), journal)
    path = settings.journal.path
    if path is None:
        raise CommandError("A journal in memory: ask the operator listener of the service itself.")
    if not path.is_file():
        raise CommandError(f"There is no journal at {path}: see --journal.")
    return settings


def resolve_journal(settings: Settings, requested: Path | None = None) -> Settings:
    """With this journal; if none was asked for, and none is there by default, with local's."""
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
    """Of the process that owns the journal; of the journal itself only when nobody does."""
    try:
        with service.open_unlocked(settings) as store:
            result = anyio.run(read_offline, store)
    except JournalLocked as held:
        return anyio.run(request.send, held, settings.operator.token, kind)
    if result is None:
        raise CommandError("No export in the journal has this id, or more than one begins so.")
    return result


@dataclass(frozen=True, slots=True)
class OperatorRequest:
    """The same question, to the operator listener. What `body` says stands in no address."""

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
            owner_name = lock.owner or "?"
            raise OperatorUnreachable(f"{lock} It does not answer at {owner_name}.") from error


async def request(
    url: URL, token: str, method: Method = "GET", about: Mapping[str, str | bool] | None = None
) -> bytes:
    """Ask an operator listener. Raises CommandError, and any of CONNECTION_ERRORS and NOT_JSON."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    body = None if about is None else msgspec.json.encode(about)
    if body is not None:
        headers["Content-Type"] = "application/json"
    seconds = ANSWER_SECONDS if method == "GET" else None  # an order takes its time
    timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=ANSWER_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.request(method, url, headers=headers, data=body) as response,
    ):
        text = await response.read()
        if response.status != 200:
            raise CommandError(msgspec.json.decode(text, type=OperatorErrorBody).error)
        return text


class OperatorUnreachable(CommandError):
    """The owner of the journal does not answer, or not as an Atlas does."""


class OperatorErrorBody(msgspec.Struct):
    error: str
