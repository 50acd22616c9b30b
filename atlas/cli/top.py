"""`atlas top`: a running service on a terminal, as the operator page shows it."""

import os
from typing import Annotated

import anyio
import msgspec
import typer
from rich.console import Console
from rich.live import Live
from yarl import URL

from atlas.cli import standins
from atlas.cli.configuration import ConfigOption, configured
from atlas.cli.owner import CONNECTION_ERRORS, request
from atlas.cli.panel import Rates, clock, drawn
from atlas.cli.phone import url_of
from atlas.core.errors import NOT_JSON, CannotStart
from atlas.core.picture import Picture
from atlas.settings import Operator, Settings

REFRESH_SECONDS = 1.0

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
    token = settings.operator.token
    url, picture, text = anyio.run(find_listener, places, token)
    if json:
        typer.echo(text)
    elif once or not console.is_terminal:
        console.print(drawn(picture, Rates(picture)))
    else:
        anyio.run(refresh, console, url, token, picture)


def places_of(settings: Settings) -> list[URL]:
    """The address in the settings; and, if that is the default, the one of `atlas local`."""
    ours = URL(f"http://{settings.operator.listen}")
    is_default = settings.operator.listen == Operator().listen
    return [ours, URL(standins.OPERATOR)] if is_default else [ours]


async def fetch(url: URL, token: str) -> tuple[Picture, bytes]:
    """The picture at an operator listener, also as it is sent.

    Raises CannotStart if the answer is none, as from an Atlas of another version.
    """
    try:
        text = await request(url.join(URL("/picture")), token)
        return msgspec.json.decode(text, type=Picture), text
    except NOT_JSON as error:
        place = url.origin()
        raise CannotStart(
            f"What answers at {place} is no operator listener of an Atlas like this."
        ) from error


async def find_listener(places: list[URL], token: str) -> tuple[URL, Picture, bytes]:
    """The first listener that answers, and its picture. Raises CannotStart."""
    for url in places:
        try:
            return url, *await fetch(url, token)
        except CONNECTION_ERRORS:
            continue
    tried = " nor at ".join(str(url.origin()) for url in places)
    raise CannotStart(f"No Atlas answers at {tried}: see --operator.")


async def refresh(console: Console, url: URL, token: str, picture: Picture) -> None:
    """Draw the picture every second until interrupted; a service that is away may come back."""
    rates, away = Rates(picture), ""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(drawn(picture, rates, away), refresh=True)
            await anyio.sleep(REFRESH_SECONDS)
            heard = f"Last heard at {clock(picture.at)} UTC; trying again."
            try:
                picture, _ = await fetch(url, token)
                rates.add(picture)
                away = ""
            except CONNECTION_ERRORS:
                away = f"Atlas is away. {heard}"
            except CannotStart as refusal:
                away = f"{refusal} {heard}"
