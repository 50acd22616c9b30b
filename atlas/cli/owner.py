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
from atlas.cli import standins
from atlas.cli.configuration import configured
from atlas.core.errors import NOT_JSON, CannotStart, JournalHeld
from atlas.service import Store
from atlas.settings import Journal, Settings

T = TypeVar("T")

ANSWER_SECONDS = 10.0

JournalOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The journal; else that of the settings, or of `atlas local`."
    ),
]


def settings_of(config: Path | None, journal: Path | None) -> Settings:
    """With the journal that was asked for, which must be there."""
    settings = with_journal(configured(config, os.environ), journal)
    path = settings.journal.path
    if path is None:
        raise CannotStart("A journal in memory: ask the operator listener of the service itself.")
    if not path.is_file():
        raise CannotStart(f"There is no journal at {path}: see --journal.")
    return settings


def with_journal(settings: Settings, asked: Path | None = None) -> Settings:
    """With this journal; if none was asked for, and none is there by default, with local's."""
    local = standins.STATE / standins.JOURNAL
    path = settings.journal.path if asked is None else asked
    if path is None:
        return settings
    if path == Journal().path and not path.exists() and local.exists():
        path = local
    replace = msgspec.structs.replace
    return replace(settings, journal=replace(settings.journal, url=f"sqlite:///{path}"))


def ask(
    settings: Settings,
    question: "Question",
    kind: type[T],
    look: Callable[[Store], Awaitable[T | None]],
) -> T:
    """Of the process that owns the journal; of the journal itself only when nobody does."""
    try:
        with service.unheld(settings) as store:
            found = anyio.run(look, store)
    except JournalHeld as held:
        return anyio.run(question.put_to, held, settings.operator.token, kind)
    if found is None:
        raise CannotStart("No export in the journal has this id, or more than one begins so.")
    return found


@dataclass(frozen=True, slots=True)
class Question:
    """The same question, to the operator listener. What `about` says stands in no address."""

    path: str
    query: Mapping[str, str | int | None]
    method: Literal["GET", "POST"] = "GET"
    about: Mapping[str, str | bool] | None = None

    async def put_to(self, held: JournalHeld, token: str, kind: type[T]) -> T:
        url = URL(f"http://{held.owner}{self.path}", encoded=True).update_query(
            {name: value for name, value in self.query.items() if value is not None}
        )
        headers = bearer(token)
        body = None if self.about is None else msgspec.json.encode(self.about)
        if body is not None:
            headers["Content-Type"] = "application/json"
        seconds = ANSWER_SECONDS if self.method == "GET" else None  # an order takes its time
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=ANSWER_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.request(self.method, url, headers=headers, data=body) as answer,
            ):
                return read_reply(answer.status, await answer.read(), kind)
        except (aiohttp.ClientError, TimeoutError, *NOT_JSON) as error:
            place = held.owner or "?"
            raise NoAnswer(f"{held} It does not answer at {place}.") from error


class NoAnswer(CannotStart):
    """Whoever owns the journal does not answer, or not as an Atlas does."""


def bearer(token: str) -> dict[str, str]:
    """The header of whoever knows the operator's token, if there is one."""
    return {"Authorization": f"Bearer {token}"} if token else {}


class Refusal(msgspec.Struct):
    error: str


def read_reply(status: int, body: bytes, kind: type[T]) -> T:
    """Decode a reply of an operator listener. Raises CannotStart for a refusal, else NOT_JSON."""
    if status != 200:
        raise CannotStart(msgspec.json.decode(body, type=Refusal).error)
    return msgspec.json.decode(body, type=kind)
