"""The list of all commands, and the handling of errors that they share."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from types import TracebackType
from typing import Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

from atlas import __version__
from atlas.core.errors import CommandError

INTERRUPTED = 130
# The words on the command line that a shell wants to complete: of bash and fish, and of zsh
COMPLETED_WORDS = ("COMP_WORDS", "_TYPER_COMPLETE_ARGS")
FAST_COMMANDS = {"serve", "health"}  # run without Typer if they have no options

# The name, module:function and summary of each command, so that the list imports none of them.
COMMANDS = [
    ("serve", "serve:serve", "Run the service."),
    ("local", "local:local", "Run the service with emulators of Foundry and Auth0."),
    ("token", "tokens:token", "Print a token from the Auth0 emulator of `atlas local`."),
    ("misbehave", "misbehave:app", "Let the emulators of `atlas local` fail, for a rehearsal."),
    ("send", "send:send", "Send a file of HealthKit records, as the app would."),
    ("import", "import_command:import_", "Send Apple's Health export."),
    ("sample", "sample:sample", "Print synthetic records of one phone and watch, as NDJSON."),
    ("flatten", "flatten:flatten", "Convert HealthKit records to rows, without a service."),
    ("rows", "rows:rows", "Print the newest rows of the dataset as NDJSON."),
    ("schema", "schema:schema", "Print the columns as a schema for another system."),
    ("compare", "compare:compare", "Compare the rows of the old service with those of Atlas."),
    ("phones", "phones:app", "List the phones, and those that have stopped sending."),
    ("person", "personal_data:app", "Show or erase a person's data."),
    ("top", "top:top", "Show the status of a running Atlas every second."),
    ("health", "health:health", "Check the health of a running Atlas, for a container."),
    ("diagnose", "diagnose:diagnose", "Check the whole flow, and report problems and remedies."),
    ("foundry", "foundry:app", "Create resources in Foundry beside the dataset."),
    ("exports", "exports:app", "Show, replay or discard exports in the journal."),
    ("config", "config:app", "Check or show the settings, or print their JSON Schema."),
    ("journal", "journal:app", "Check, back up or move the journal, its keys and its tables."),
]


def print_version(is_requested: bool) -> None:
    if is_requested:
        typer.echo(f"atlas {__version__}")
        raise typer.Exit


def atlas(
    context: typer.Context,
    _version: bool = typer.Option(
        False, "--version", help="Print the version.", is_eager=True, callback=print_version
    ),
) -> None:
    """Carry Apple Health data from an iOS app into a Palantir Foundry dataset.

    Example, without accounts: `atlas local`, and in another terminal `atlas send FILE`.
    """
    print_help(context)


def build_group(help_text: str) -> typer.Typer:
    """Build a group of commands."""
    app = typer.Typer()
    app.callback(invoke_without_command=True, help=help_text)(print_help)
    return app


def print_help(context: typer.Context) -> None:
    """Print the help of a group, unless one of its commands is run."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


class PlainCommand(TyperCommand):
    """A command whose help lists the arguments without their types in Python."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line: a required argument has no braces."""
        return [
            each.replace("{", "").replace("}", "") for each in super().collect_usage_pieces(ctx)
        ]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options, each with its help text."""
        sections = dict[str, list[tuple[str, str]]]()
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                name, text = record
                section = parameter.param_type_name
                plain_name = name.partition(" <")[0] if section == "argument" else name
                sections.setdefault(section, []).append((plain_name, text))
        for section in sorted(sections):
            with formatter.section(f"{section.capitalize()}s"):
                formatter.write_dl(sections[section])


def load(target: str) -> Callable[..., None] | typer.Typer:
    """Import a command's function, or the app of a group."""
    module, _, name = target.partition(":")
    command: Callable[..., None] | typer.Typer = getattr(import_module(f"atlas.cli.{module}"), name)
    return command


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """Build the app for these arguments. Other commands are only listed: imports take seconds."""
    app = typer.Typer(
        name="atlas",
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(atlas)
    requested = next((each for each in arguments if not each.startswith("-")), "")
    for name, target, summary in COMMANDS:
        command = load(target) if name == requested else placeholder
        if isinstance(command, typer.Typer):
            for each in command.registered_commands:
                each.cls = PlainCommand
            app.add_typer(command, name=name)
        else:
            help_text = summary if command is placeholder else None
            app.command(name, cls=PlainCommand, help=help_text)(command)
    return app


def placeholder() -> None:
    """A command that is listed, but not run."""


def main() -> None:
    """Run one command. An error is one line on stderr, and the exit code tells its cause."""
    sys.excepthook = report_bug
    try:
        sys.exit(run(sys.argv[1:]))
    except typer.TyperException as error:  # invalid usage
        fail(error.format_message().replace("Value error, ", ""), error.exit_code)
    except CommandError as error:
        fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)
    except OSError as error:  # such as a full disk
        fail(f"{error.strerror or repr(error)}.", 1)


def run(arguments: list[str]) -> int:
    """Run a command, and return the exit code.

    FAST_COMMANDS without options are called directly: to parse options, Typer imports pydantic,
    which would take 9 MiB of the service's memory.
    """
    for name, target, _ in COMMANDS:
        command = load(target) if arguments == [name] and name in FAST_COMMANDS else None
        if callable(command):
            command()
            return 0
    completed = next((os.environ[name] for name in COMPLETED_WORDS if name in os.environ), "")
    app = build_app(arguments or completed.split()[1:])
    # not app(): that would replace sys.excepthook
    return get_command(app)(arguments, standalone_mode=False) or 0


def report_bug(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print the traceback without the error's message, which may quote a health value."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
        kind, trace = type(error), error.__traceback__
    frames = "".join(traceback.format_tb(trace))
    typer.echo(
        f"{frames}atlas: Ended by a bug ({kind.__name__}). Please report the above.", err=True
    )


def fail(message: str, code: int) -> None:
    typer.echo(f"atlas: {message}", err=True)
    sys.exit(code)
