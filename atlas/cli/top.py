"""`atlas top`: shows a running service on a terminal, as the operator page does."""

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
        help="The operator listener. Default: that of the settings, or of `atlas local`.",
    ),
]


def top(
    operator: OperatorOption = None,
    once: Annotated[bool, typer.Option("--once", help="Print the status once.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON once.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show the status of a running Atlas every second.

    Without a terminal, print it once.

    Example: atlas top --operator http://127.0.0.1:8083
    """
    settings, console = load_settings(config, os.environ), Console()
    urls = [parse_url(operator, "--operator")] if operator else list_operator_urls(settings)
    token = settings.operator.token
    url, status, text = anyio.run(find_listener, urls, token)
    if json:
        typer.echo(text)
    elif once or not console.is_terminal:
        console.print(render(status, Rates(status)))
    else:
        anyio.run(refresh, console, url, token, status)


def list_operator_urls(settings: Settings) -> list[URL]:
    """Return the configured address and, if that is the default, also that of `atlas local`."""
    url = URL(f"http://{settings.operator.listen}")
    is_default = settings.operator.listen == OperatorSettings().listen
    return [url, URL(emulators.OPERATOR)] if is_default else [url]


async def fetch(url: URL, token: str) -> tuple[StatusSnapshot, bytes]:
    """Fetch the status from an operator listener, decoded and as it was sent.

    Raises CommandError if it cannot be decoded, as from another version of Atlas.
    """
    try:
        text = await request(url.join(URL("/status")), token)
        return msgspec.json.decode(text, type=StatusSnapshot), text
    except JSON_ERRORS as error:
        raise CommandError(
            f"The server at {url.origin()} is not the operator listener of this version of Atlas."
        ) from error


async def find_listener(urls: list[URL], token: str) -> tuple[URL, StatusSnapshot, bytes]:
    """Return the first listener that responds, and its status. Raises CommandError."""
    for url in urls:
        try:
            return url, *await fetch(url, token)
        except CONNECTION_ERRORS:
            continue
    tried = " or at ".join(str(url.origin()) for url in urls)
    raise CommandError(f"Atlas does not respond at {tried}: see --operator.")


async def refresh(console: Console, url: URL, token: str, status: StatusSnapshot) -> None:
    """Draw the status every second until interrupted. If Atlas does not respond, keep trying."""
    rates, error = Rates(status), ""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(render(status, rates, error), refresh=True)
            await anyio.sleep(REFRESH_SECONDS)
            stale = f"Last update at {format_time(status.at)} UTC; trying again."
            try:
                status, _ = await fetch(url, token)
                rates.add(status)
                error = ""
            except CONNECTION_ERRORS:
                error = f"Atlas does not respond. {stale}"
            except CommandError as failure:
                error = f"{failure} {stale}"
