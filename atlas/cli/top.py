"""`atlas top`: a running service on a terminal, as the operator page shows it."""

import os
from dataclasses import dataclass
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
from atlas.cli.owner import Refusal, bearer
from atlas.cli.panel import clock, drawn
from atlas.cli.phone import url_of
from atlas.cli.rates import Rates
from atlas.core.errors import NOT_JSON, CannotStart
from atlas.core.picture import Picture
from atlas.settings import Operator, Settings

ANSWER_SECONDS, REFRESH_SECONDS = 10.0, 1.0
CONNECTION_ERRORS = aiohttp.ClientError, TimeoutError

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
    listener, text = anyio.run(find_listener, places, settings.operator.token)
    picture = msgspec.json.decode(text, type=Picture)
    if json:
        typer.echo(text)
    elif once or not console.is_terminal:
        console.print(drawn(picture, Rates(picture)))
    else:
        anyio.run(refresh, console, listener, picture)


def places_of(settings: Settings) -> list[URL]:
    """The address in the settings; and, if that is the default, the one of `atlas local`."""
    ours = URL(f"http://{settings.operator.listen}")
    is_default = settings.operator.listen == Operator().listen
    return [ours, URL(standins.OPERATOR)] if is_default else [ours]


@dataclass(frozen=True, slots=True)
class Listener:
    """The operator listener of a running service."""

    url: URL
    token: str

    async def text(self) -> bytes:
        """The picture as it is sent.

        Raises CannotStart if the answer is none, as from an Atlas of another version.
        """
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=bearer(self.token)) as session,
                session.get(self.url.join(URL("/picture"))) as answer,
            ):
                text = await answer.read()
                if answer.status != 200:
                    raise CannotStart(msgspec.json.decode(text, type=Refusal).error)
                msgspec.json.decode(text, type=Picture)
                return text
        except NOT_JSON as error:
            place = self.url.origin()
            raise CannotStart(
                f"What answers at {place} is no operator listener of an Atlas like this."
            ) from error


async def find_listener(places: list[URL], token: str) -> tuple[Listener, bytes]:
    """The first listener that answers, and its picture. Raises CannotStart."""
    for url in places:
        listener = Listener(url, token)
        try:
            return listener, await listener.text()
        except CONNECTION_ERRORS:
            continue
    tried = " nor at ".join(str(url.origin()) for url in places)
    raise CannotStart(f"No Atlas answers at {tried}: see --operator.")


async def refresh(console: Console, listener: Listener, picture: Picture) -> None:
    """Draw the picture every second until interrupted; a service that is away may come back."""
    rates, away = Rates(picture), ""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(drawn(picture, rates, away), refresh=True)
            await anyio.sleep(REFRESH_SECONDS)
            heard = f"Last heard at {clock(picture.at)} UTC; trying again."
            try:
                picture = msgspec.json.decode(await listener.text(), type=Picture)
                rates.add(picture)
                away = ""
            except CONNECTION_ERRORS:
                away = f"Atlas is away. {heard}"
            except CannotStart as refusal:
                away = f"{refusal} {heard}"
