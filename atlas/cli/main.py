"""All commands together, and what they have in common."""

import sys
import traceback
from types import TracebackType

import typer
from typer.main import get_command

from atlas import __version__
from atlas.cli import diagnose, exports, importing, people, phone, prove, services, soak, top
from atlas.client import CannotSend
from atlas.core.errors import CannotStart

INTERRUPTED = 130

app = typer.Typer(
    name="atlas",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(services.serve)
app.command()(services.local)
app.command()(services.token)
app.command()(phone.send)
app.command("import")(importing.import_)
app.command()(phone.flatten)
app.command()(people.where)
app.command()(people.forget)
app.command()(top.top)
app.command()(diagnose.diagnose)
app.command()(prove.prove)
app.command()(soak.soak)
app.add_typer(exports.app, name="exports")


@app.callback(invoke_without_command=True)
def atlas(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version."),
) -> None:
    """Carries Apple Health data from an iOS app into a Palantir Foundry dataset.

    Example, without any account: `atlas local`, and in another terminal `atlas send FILE`.
    """
    if version:
        typer.echo(f"atlas {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run one command. Errors are one line on stderr; the exit code says whose they are."""
    sys.excepthook = ended_by_a_bug
    try:
        sys.exit(get_command(app)(standalone_mode=False) or 0)  # app() has a hook of its own
    except typer.TyperException as error:  # wrong usage
        fail(error.format_message(), error.exit_code)
    except CannotStart as error:
        fail(str(error), error.exit_code)
    except CannotSend as error:
        fail(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)
    except OSError as error:  # a full disk, a torn one; `| head` ends in typer, with 1
        fail(f"{error.strerror or repr(error)}.", 1)


def ended_by_a_bug(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Where it happened, without its message: that may quote a value."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
        kind, trace = type(error), error.__traceback__
    where = "".join(traceback.format_tb(trace))
    typer.echo(
        f"{where}atlas: Ended by a bug ({kind.__name__}). Please report the above.", err=True
    )


def fail(message: str, code: int) -> None:
    typer.echo(f"atlas: {message}", err=True)
    sys.exit(code)
