"""`atlas diagnose`: checks the whole flow, and reports problems and remedies."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import anyio
import msgspec
import typer
from rich.console import Console
from rich.text import Text

from atlas import service
from atlas.cli.configuration import ConfigOption, JsonOption, load_settings
from atlas.cli.operator_client import OperatorRequest, OperatorUnreachable, resolve_journal
from atlas.core.diagnosis import CheckResult, Diagnosis, DiagnosisRequest
from atlas.core.errors import CommandError, ConfigurationError, FoundryError, JournalLocked
from atlas.core.identifiers import format_timestamp
from atlas.core.messages import RemovalResult
from atlas.settings import Settings

T = TypeVar("T")

STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "unknown": "yellow"}
INDENT = " " * 29

TokenOption = Annotated[
    str | None,
    typer.Option(metavar="TOKEN", envvar="ATLAS_TOKEN", help="A phone's token, to be checked."),
]
UrlOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The URL that phones use. Default: that of the service."),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Also write a Markdown report, without secrets."),
]
RemoveOption = Annotated[
    bool,
    typer.Option("--remove-old-json", help="Remove the .json files of the old service instead."),
]
FixOption = Annotated[
    bool,
    typer.Option("--fix-schema", help="Apply the schema of 21 columns, for Parquet, instead."),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def diagnose(
    token: TokenOption = None,
    url: UrlOption = None,
    json: JsonOption = False,
    report: ReportOption = None,
    remove_old_json: RemoveOption = False,
    fix_schema: FixOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
) -> None:
    """Check the whole flow, and report problems and remedies.

    Exits with 0 if no step fails, else with 10 plus the number of the first failed step. It writes
    no rows. Example: atlas diagnose --token TOKEN --url https://atlas.example.com
    """
    settings = resolve_journal(load_settings(config, os.environ))
    if remove_old_json or fix_schema:
        remedy = remove_old_files if remove_old_json else apply_schema
        typer.echo(remedy(settings, is_confirmed=yes))
        return
    result = run_diagnosis(settings, DiagnosisRequest(strip_bearer(token), url or None))
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(render_markdown(result), encoding="utf-8")
    if json:
        typer.echo(msgspec.json.encode(result).decode())
    else:
        print_diagnosis(result, Console(highlight=False, soft_wrap=True))
    raise typer.Exit(result.exit_code)


def strip_bearer(token: str | None) -> str | None:
    """Return the token without "Bearer" in front of it, or None if it is empty."""
    text = "" if token is None else token.strip().removeprefix("Bearer ").strip()
    return text or None


def ask_owner(settings: Settings, path: str, body: Mapping[str, str], kind: type[T]) -> T | None:
    """Send a request to the process that owns the journal. None: no owner, or no response.

    A journal in memory has no lock that names its owner, so the configured address is tried. Raises
    CommandError if the owner rejects the request.
    """
    lock = service.find_lock_owner(settings)
    if lock is None and settings.journal.path is None:
        lock = JournalLocked("memory", "", settings.operator.listen)
    if lock is None:
        return None
    try:
        request = OperatorRequest(path, {}, "POST", body)
        return anyio.run(request.send, lock, settings.operator.token, kind)
    except OperatorUnreachable:
        return None


def run_diagnosis(settings: Settings, request: DiagnosisRequest) -> Diagnosis:
    """Diagnose in the running service, which alone may write to its branch; else do it here."""
    is_locked = service.find_lock_owner(settings) is not None
    fields = msgspec.structs.asdict(request)
    body = {name: text for name, text in fields.items() if text is not None}
    result = ask_owner(settings, "/diagnose", body, Diagnosis)
    if result is not None:
        return result
    return anyio.run(partial(service.diagnose_offline, settings, request, is_locked=is_locked))


def remove_old_files(settings: Settings, *, is_confirmed: bool) -> str:
    """Remove the old service's files in one transaction, and return the outcome as a sentence."""
    try:
        paths = anyio.run(service.list_legacy_files, settings)
        if not paths:
            return "There are no .json files under healthkit/raw."
        question = f"Remove {len(paths):,} .json files under healthkit/raw from the dataset?"
        confirm(question, is_confirmed)
        result = ask_owner(settings, "/diagnose/remove-old-json", {}, RemovalResult)
        if result is None and service.find_lock_owner(settings) is not None:
            raise CommandError("Another process owns the branch, and does not respond.")
        removed = anyio.run(service.remove_files, settings, paths) if result is None else result
    except FoundryError as error:
        raise CommandError(str(error)) from error
    transaction = "no transaction" if removed.transaction is None else removed.transaction
    return f"{removed.files:,} files removed, in {transaction}."


def apply_schema(settings: Settings, *, is_confirmed: bool) -> str:
    """Apply the schema, and return the outcome as a sentence."""
    if settings.foundry.file_format != "parquet":
        raise ConfigurationError(
            "ATLAS_FILE_FORMAT is not parquet: a schema would break NDJSON files; see step 11."
        )
    confirm("Apply the schema of 21 columns, for Parquet, to the dataset?", is_confirmed)
    try:
        anyio.run(service.fix_schema, settings)
    except FoundryError as error:
        raise CommandError(str(error)) from error
    return "The dataset has the schema of 21 columns."


def confirm(question: str, is_confirmed: bool) -> None:
    if not is_confirmed:
        typer.confirm(question, abort=True, err=True)


def print_diagnosis(result: Diagnosis, console: Console) -> None:
    """Print the steps, each with its evidence and remedy, then the summary sections."""
    for step in result.steps:
        line = Text(f"{step.number:>2}  {step.name:<14}  ")
        line.append(f"{step.verdict:<7}", STYLES[step.verdict])
        console.print(line.append(f"  {step.reason}"))
        for name, value in step.evidence:
            console.print(Text(f"{INDENT}{name}: {value}", "dim"))
        if step.to_do:
            console.print(Text(f"{INDENT}-> {step.to_do}"))
    for section in result.sections:
        console.print(Text(f"\n{section.heading}", "bold"))
        for name, value in section.facts:
            console.print(Text(f"  {name}: {value}"))


def render_markdown(result: Diagnosis) -> str:
    """Render a report in Markdown."""
    lines = [f"# Atlas {result.version}, {format_timestamp(result.at)}", "", "| | step | | |"]
    lines += ["|---|---|---|---|"]
    lines += [
        f"| {step.number} | {step.name} | {step.verdict} | {escape_markdown(step.reason)} |"
        for step in result.steps
    ]
    for step in result.steps:
        lines += ["", *render_step(step)]
    for section in result.sections:
        lines += ["", f"## {section.heading}", ""]
        lines += [f"- {name}: {escape_markdown(value)}" for name, value in section.facts]
    return "\n".join(lines) + "\n"


def render_step(step: CheckResult) -> list[str]:
    lines = [f"## {step.number} {step.name}: {step.verdict}", "", escape_markdown(step.reason), ""]
    lines += [f"- {name}: {escape_markdown(value)}" for name, value in step.evidence]
    return [*lines, "", f"To do: {escape_markdown(step.to_do)}"] if step.to_do else lines


def escape_markdown(text: str) -> str:
    return "".join(f"\\{char}" if char in "|<>*_`[]" else char for char in text)
