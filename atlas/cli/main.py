"""All commands together, and what they have in common."""

import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from types import TracebackType

import typer
from typer.main import get_command

from atlas import __version__
from atlas.core.errors import CommandError

INTERRUPTED = 130
FAST_COMMANDS = {"serve", "health"}  # when no option is given

# The name, the place and the first sentence of each, so that listing them imports none of them.
COMMANDS = [
    ("serve", "serve:serve", "The service."),
    (
        "local",
        "local:local",
        "The service with stand-ins of Foundry and Auth0: no account, nothing leaves the machine.",
    ),
    ("token", "tokens:token", "A token from the stand-in of Auth0 that `atlas local` runs."),
    (
        "send",
        "send:send",
        "Send a file of HealthKit records as the app would, and say what became of every line.",
    ),
    (
        "import",
        "import_command:import_",
        "Send Apple's Health export, and report the outcome of its samples.",
    ),
    ("flatten", "flatten:flatten", "Records in, rows out, without any service."),
    (
        "compare",
        "compare:compare",
        "Compare the rows of the old service with those of Atlas, and explain the differences.",
    ),
    (
        "person",
        "personal_data:app",
        "Show or erase a person's data: files in the dataset, exports in the journal.",
    ),
    ("top", "top:top", "What a running Atlas does, each second anew, until Ctrl-C."),
    ("health", "health:health", "Ask a running Atlas how it is, as a container's HEALTHCHECK."),
    ("diagnose", "diagnose:diagnose", "Walk the whole flow: what is wrong, and what to do."),
    ("exports", "exports:app", "What stands in the journal: accepted, committed, set aside."),
]


def print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"atlas {__version__}")
        raise typer.Exit


def atlas(
    context: typer.Context,
    _version: bool = typer.Option(
        False, "--version", help="Print the version.", is_eager=True, callback=print_version
    ),
) -> None:
    """Carries Apple Health data from an iOS app into a Palantir Foundry dataset.

    Example, without any account: `atlas local`, and in another terminal `atlas send FILE`.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def load(place: str) -> Callable[..., None] | typer.Typer:
    """Import a command's function, or the app of a group."""
    file, _, name = place.partition(":")
    found: Callable[..., None] | typer.Typer = getattr(import_module(f"atlas.cli.{file}"), name)
    return found


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """Build the app for these arguments: the other commands are in it by name only.

    To import all of them takes seconds.
    """
    app = typer.Typer(
        name="atlas",
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(atlas)
    asked = next((each for each in arguments if not each.startswith("-")), "")
    for name, place, summary in COMMANDS:
        command = load(place) if name == asked else name_only
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name, help=summary if command is name_only else None)(command)
    return app


def name_only() -> None:
    """Stand for a command that is listed and not run."""


def main() -> None:
    """Run one command. Errors are one line on stderr; the exit code says whose they are."""
    sys.excepthook = report_bug
    try:
        sys.exit(run(sys.argv[1:]))
    except typer.TyperException as error:  # wrong usage
        fail(error.format_message(), error.exit_code)
    except CommandError as error:
        fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)
    except OSError as error:  # a full disk, a torn one; `| head` ends in typer, with 1
        fail(f"{error.strerror or repr(error)}.", 1)


def run(arguments: list[str]) -> int:
    """Run a command; without options, those that a container runs are called as they are.

    To read options Typer imports pydantic: 9 MiB, for as long as the service lives.
    """
    for name, place, _ in COMMANDS:
        command = load(place) if arguments == [name] and name in FAST_COMMANDS else None
        if callable(command):
            command()
            return 0
    # calling the app itself would set a hook for exceptions
    return get_command(build_app(arguments))(arguments, standalone_mode=False) or 0


def report_bug(
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
