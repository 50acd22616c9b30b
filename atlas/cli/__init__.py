"""The command line: one function a command, one file a kind of command."""

import sys

import typer

from atlas import __version__
from atlas.cli import data, journal, services
from atlas.core.errors import CannotStart

app = typer.Typer(
    name="atlas",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Carries Apple Health data from an iOS app into a Palantir Foundry dataset.",
    epilog="Try it without any account: [bold]atlas local[/bold], and in another terminal "
    "[bold]atlas send FILE.ndjson[/bold].",
)
for room in (services.app, data.app):
    app.add_typer(room)
app.add_typer(journal.app, name="exports")


def version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"atlas {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _version: bool = typer.Option(
        False, "--version", callback=version, is_eager=True, help="Print the version."
    ),
) -> None:
    """What comes before any command."""


def main() -> None:
    """Errors are one line on stderr, and an exit code that says whose they are."""
    try:
        app()
    except CannotStart as error:
        print(f"atlas: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
