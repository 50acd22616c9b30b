"""`atlas top`: a running service on a terminal, as the operator page shows it."""

import os
from typing import Annotated

import anyio
import msgspec
import typer
from rich.console import Console
from rich.live import Live
from yarl import URL

from atlas.cli import emulators
from atlas.cli.configuration import ConfigOption, load_settings
from atlas.cli.operator_client import CONNECTION_ERRORS, request
from atlas.cli.render import Rates, format_time, render
from atlas.cli.send import parse_url
from atlas.core.errors import JSON_ERRORS, CommandError
from atlas.core.status import StatusSnapshot
from atlas.settings import OperatorSettings, Settings

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
    settings = load_settings(config, os.environ)
    places = [parse_url(operator, "--operator")] if operator else list_operator_urls(settings)
    console = Console()
    token = settings.operator.token
    url, picture, text = anyio.run(find_listener, places, token)
    if json:
        typer.echo(text)
    elif once or not console.is_terminal:
        console.print(render(picture, Rates(picture)))
    else:
        anyio.run(refresh, console, url, token, picture)


def list_operator_urls(settings: Settings) -> list[URL]:
    """The address in the settings; and, if that is the default, the one of `atlas local`."""
    configured_url = URL(f"http://{settings.operator.listen}")
    is_default = settings.operator.listen == OperatorSettings().listen
    return [configured_url, URL(emulators.OPERATOR)] if is_default else [configured_url]


async def fetch(url: URL, token: str) -> tuple[StatusSnapshot, bytes]:
    """The picture at an operator listener, also as it is sent.

    Raises CommandError if the answer is none, as from an Atlas of another version.
    """
    try:
        text = await request(url.join(URL("/status")), token)
        return msgspec.json.decode(text, type=StatusSnapshot), text
    except JSON_ERRORS as error:
        place = url.origin()
        raise CommandError(
            f"What answers at {place} is no operator listener of an Atlas like this."
        ) from error


async def find_listener(places: list[URL], token: str) -> tuple[URL, StatusSnapshot, bytes]:
    """The first listener that answers, and its picture. Raises CommandError."""
    for url in places:
        try:
            return url, *await fetch(url, token)
        except CONNECTION_ERRORS:
            continue
    tried = " nor at ".join(str(url.origin()) for url in places)
    raise CommandError(f"No Atlas answers at {tried}: see --operator.")


async def refresh(console: Console, url: URL, token: str, picture: StatusSnapshot) -> None:
    """Draw the picture every second until interrupted; a service that is away may come back."""
    rates, away = Rates(picture), ""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(render(picture, rates, away), refresh=True)
            await anyio.sleep(REFRESH_SECONDS)
            heard = f"Last heard at {format_time(picture.at)} UTC; trying again."
            try:
                picture, _ = await fetch(url, token)
                rates.add(picture)
                away = ""
            except CONNECTION_ERRORS:
                away = f"Atlas is away. {heard}"
            except CommandError as refusal:
                away = f"{refusal} {heard}"
