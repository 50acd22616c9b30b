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
from atlas.cli.progress_meter import show_activity
from atlas.cli.render import VERDICT_STYLES
from atlas.cli.schema import SchemaFormat, render_schema
from atlas.core.diagnosis import CheckResult, Diagnosis, DiagnosisRequest
from atlas.core.errors import CommandError, FoundryError, JournalLocked
from atlas.core.identifiers import format_timestamp
from atlas.core.messages import RemovalResult
from atlas.core.verdict import describe
from atlas.settings import Settings, require_foundry

T = TypeVar("T")

STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "unknown": "yellow"}
INDENT = " " * 29
FORMAT_NAMES = {"ndjson": "NDJSON", "parquet": "Parquet"}

TokenOption = Annotated[
    str | None,
    typer.Option(metavar="TOKEN", envvar="ATLAS_TOKEN", help="A phone's token, to be checked."),
]
ProofOption = Annotated[
    str | None,
    typer.Option(metavar="PROOF", help="The DPoP proof that was sent with the token."),
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
    typer.Option("--fix-schema", help="Give the dataset the schema of the rows instead."),
]
ReplaceOption = Annotated[
    bool,
    typer.Option("--replace-schema", help="The same, also if the dataset has another schema."),
]
YesOption = Annotated[
    bool | None,
    typer.Option(
        "--yes/--dry-run", help="Do not ask for confirmation; or only print what would be done."
    ),
]


def diagnose(  # noqa: PLR0913, PLR0917 - one parameter for each option
    token: TokenOption = None,
    proof: ProofOption = None,
    url: UrlOption = None,
    json: JsonOption = False,
    report: ReportOption = None,
    remove_old_json: RemoveOption = False,
    fix_schema: FixOption = False,
    replace_schema: ReplaceOption = False,
    yes: YesOption = None,
    config: ConfigOption = None,
) -> None:
    """Check the whole flow, and report problems and remedies.

    Exits with 0 if no step fails, else with 10 plus the number of the first failed step. It writes
    no rows.

    Example: atlas diagnose --token TOKEN --url https://atlas.example.com
    """
    settings = resolve_journal(load_settings(config, os.environ))
    if remove_old_json:
        typer.echo(remove_old_files(settings, is_confirmed=yes))
        return
    if fix_schema or replace_schema:
        typer.echo(apply_schema(settings, may_replace=replace_schema, is_confirmed=yes))
        return
    request = DiagnosisRequest(strip_scheme(token), url or None, proof or None)
    with show_activity("Checking the whole flow"):
        result = run_diagnosis(settings, request)
    if json:
        typer.echo(msgspec.json.encode(result).decode())
    else:
        print_diagnosis(result, Console(highlight=False, soft_wrap=True))
    if report is not None:
        try:
            report.parent.mkdir(parents=True, exist_ok=True)
            report.write_text(render_markdown(result), encoding="utf-8")
        except OSError as error:
            typer.echo(f"atlas: Cannot write {report}: {error.strerror}.", err=True)
            raise typer.Exit(result.exit_code or 1) from error
    raise typer.Exit(result.exit_code)


def strip_scheme(token: str | None) -> str | None:
    """Return the token without "Bearer" or "DPoP" in front of it, or None if it is empty."""
    text = "" if token is None else token.strip()
    return text.removeprefix("Bearer ").removeprefix("DPoP ").strip() or None


def ask_owner(settings: Settings, path: str, body: Mapping[str, str], kind: type[T]) -> T | None:
    """Send a request to the process that owns the journal. None: no owner, or no response.

    A journal in memory has no lock that names its owner, so the configured address is tried. Raises
    CommandError if the owner rejects the request.
    """
    lock = service.find_lock_owner(settings)
    if lock is None and settings.journal.url == "memory:":
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


def remove_old_files(settings: Settings, *, is_confirmed: bool | None) -> str:
    """Remove the old service's files in one transaction, and return the outcome as a sentence."""
    try:
        paths = anyio.run(service.list_legacy_files, settings)
        if not paths:
            return "There are no .json files under healthkit/raw."
        if is_confirmed is False:
            return f"{len(paths):,} .json files under healthkit/raw would be removed."
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


def apply_schema(settings: Settings, *, may_replace: bool, is_confirmed: bool | None) -> str:
    """Apply the schema, and return the outcome as a sentence."""
    require_foundry(settings)
    format, columns = settings.foundry.file_format, settings.export.columns
    schema = f"the schema of {columns} columns, for {FORMAT_NAMES[format]}"
    try:
        with show_activity("Looking at the schema"):
            found = anyio.run(service.compare_schema, settings)
        if found.has_schema and not found.difference:
            return f"The dataset already has {schema}."
        if found.has_schema and not may_replace:
            raise CommandError(
                f"The dataset has another schema: {found.difference}. To replace it: "
                "atlas diagnose --replace-schema"
            )
        replaced = f", in place of another one: {found.difference}" if found.has_schema else ""
        if is_confirmed is False:
            return f"The dataset would get {schema}{replaced}."
        confirm(f"Give the dataset {schema}{replaced}?", is_confirmed)
        with show_activity("Putting the schema"):
            anyio.run(service.put_schema, settings, found)
    except FoundryError as error:
        if format == "parquet":
            raise CommandError(str(error)) from error
        typer.echo(render_schema(SchemaFormat.FOUNDRY, columns))
        raise CommandError(
            f"{error} To set the schema by hand, paste the JSON above in Foundry: the dataset, "
            "Details, Schema, Edit."
        ) from error
    return f"The dataset has {schema}."


def confirm(question: str, is_confirmed: bool | None) -> None:
    if not is_confirmed:
        typer.confirm(question, abort=True, err=True)


def print_diagnosis(result: Diagnosis, console: Console) -> None:
    """Print the steps, each with its evidence and remedy, the sections, and the verdict."""
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
    console.print(Text(f"\n{describe(result.verdict)}", VERDICT_STYLES[result.verdict.state]))


def render_markdown(result: Diagnosis) -> str:
    """Render a report in Markdown."""
    lines = [f"# Atlas {result.version}, {format_timestamp(result.at)}", ""]
    lines += [escape_markdown(describe(result.verdict)), "", "| | step | | |"]
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
