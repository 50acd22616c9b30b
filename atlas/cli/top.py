"""`atlas top`: a running service on a terminal, as the operator page shows it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import aiohttp
import anyio
import msgspec
import typer
from rich.console import Console
from rich.live import Live
from yarl import URL

from atlas.cli import standins
from atlas.cli.configuration import ConfigOption, configured
from atlas.cli.owner import bearer, read_reply
from atlas.cli.panel import clock, drawn
from atlas.cli.phone import url_of
from atlas.cli.rates import Rates, grown
from atlas.core.errors import NOT_JSON, CannotStart
from atlas.core.picture import Picture
from atlas.settings import Operator, Settings

ANSWER_SECONDS, SILENT_SECONDS = 10.0, 15.0
PAUSE_SECONDS, PAUSE_SECONDS_MAX = 0.5, 5.0
AWAY = aiohttp.ClientError, TimeoutError

OperatorOption = Annotated[
    str | None,
    typer.Option(
        "--operator",
        metavar="URL",
        help="The operator listener; else that of the settings, or of `atlas local`.",
    ),
]


def top(
    operator: OperatorOption = None,
    once: Annotated[bool, typer.Option("--once", help="One picture, then end.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As JSON, with --once.")] = False,
    config: ConfigOption = None,
) -> None:
    """What a running Atlas does, each second anew, until Ctrl-C.

    Without a terminal it is one picture. Example: atlas top --operator http://127.0.0.1:8083
    """
    if json and not once:
        raise typer.BadParameter("--json is for one picture: say --once, too.")
    settings = configured(config, os.environ)
    places = [url_of(operator, "--operator")] if operator else places_of(settings)
    console = Console()
    listener = anyio.run(answering, places, settings.operator.token)
    if json:
        typer.echo(anyio.run(listener.first))
    elif once or not console.is_terminal:
        picture = msgspec.json.decode(anyio.run(listener.first), type=Picture)
        console.print(drawn(picture, Rates(picture)))
    else:
        anyio.run(shown_on, console, listener)


def places_of(settings: Settings) -> list[URL]:
    """Where the settings say; if they say nothing else than by default, where local's is, too."""
    ours = URL(f"http://{settings.operator.listen}")
    return (
        [ours, URL(standins.OPERATOR)] if settings.operator.listen == Operator().listen else [ours]
    )


class Listener:
    """The operator listener of a running service."""

    def __init__(self, url: URL, token: str) -> None:
        self.url = url
        self._headers = bearer(token)

    async def first(self) -> bytes:
        """A picture, as it is sent."""
        async with self._asked("/picture") as answer:
            text = await answer.read()
            self._read(text, answer)
        return text

    async def messages(self) -> AsyncIterator[Picture]:
        """All of it, then what is new, each second, for as long as it lasts."""
        async with self._asked("/live") as answer:
            text = b""
            async for piece in answer.content.iter_any():
                *events, text = (text + piece).split(b"\n\n")
                for event in events:
                    yield self._read(event.removeprefix(b"data: "), answer)

    def _read(self, text: bytes, answer: aiohttp.ClientResponse) -> Picture:
        """Raise CannotStart for a refusal, or for what an Atlas of another version may send."""
        try:
            return read_reply(answer.status, text, Picture)
        except NOT_JSON as error:
            raise CannotStart(nobody_of_ours(answer)) from error

    @asynccontextmanager
    async def _asked(self, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=ANSWER_SECONDS, sock_read=SILENT_SECONDS
        )
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session,
            session.get(self.url.join(URL(path))) as answer,
        ):
            if answer.status != 200:
                self._read(await answer.read(), answer)
            yield answer


def nobody_of_ours(answer: aiohttp.ClientResponse) -> str:
    return f"What answers at {answer.url.origin()} is no operator listener of an Atlas like this."


async def answering(places: list[URL], token: str) -> Listener:
    """The first of them where something does. Raises CannotStart."""
    for url in places:
        listener = Listener(url, token)
        try:
            await listener.first()
        except AWAY:
            continue
        return listener
    tried = " nor at ".join(str(url.origin()) for url in places)
    raise CannotStart(f"No Atlas answers at {tried}: see --operator.")


async def shown_on(console: Console, listener: Listener) -> None:
    """Until it is interrupted: whoever goes away may come again."""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        screen, pause = Screen(live), PAUSE_SECONDS
        while True:
            why = "Atlas is away."
            try:
                is_whole = True
                async for picture in listener.messages():
                    screen.show(picture, is_whole=is_whole)
                    is_whole, pause = False, PAUSE_SECONDS
            except AWAY:
                pass
            except CannotStart as refused:
                why = str(refused)
            screen.tell(f"{why} Last heard at {screen.heard}; trying again.")
            await anyio.sleep(pause)
            pause = min(2 * pause, PAUSE_SECONDS_MAX)


class Screen:
    """What was heard last, and its rates."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._picture: Picture | None = None
        self._rates: Rates | None = None

    @property
    def heard(self) -> str:
        return "never" if self._picture is None else f"{clock(self._picture.at)} UTC"

    def show(self, picture: Picture, *, is_whole: bool) -> None:
        if is_whole or self._picture is None or self._rates is None:
            self._rates = Rates(picture)
        else:
            picture = grown(self._picture, picture)
            self._rates.add(picture)
        self._picture = picture
        self.tell("")

    def tell(self, away: str) -> None:
        if self._picture is not None and self._rates is not None:
            self._live.update(drawn(self._picture, self._rates, away), refresh=True)
