"""`atlas diagnose`: walks the whole flow, and says what is wrong and what to do."""

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
from atlas.cli.configuration import ConfigOption, load_settings
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
    typer.Option(metavar="TOKEN", envvar="ATLAS_TOKEN", help="A phone's, to be taken apart."),
]
UrlOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The address that phones use; else that of the service."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON, for a program.")]
ReportOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Where it goes as Markdown, too; no secret is in it."),
]
RemoveOption = Annotated[
    bool, typer.Option("--remove-old-json", help="Take out the .json files of the old service.")
]
FixOption = Annotated[
    bool, typer.Option("--fix-schema", help="Give Parquet files the schema of 21 columns.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do that without asking.")]


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
    """Walk the whole flow: what is wrong, and what to do.

    Exit 0 when nothing fails, else 10 and the number of the first step that fails. It leaves no
    row anywhere. Example: atlas diagnose --token TOKEN --url https://atlas.example.com
    """
    settings = resolve_journal(load_settings(config, os.environ))
    if remove_old_json or fix_schema:
        remedy = remove_old_files if remove_old_json else put_schema
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
    """As it stands behind the Bearer of a header."""
    text = "" if token is None else token.strip().removeprefix("Bearer ").strip()
    return text or None


def ask_owner(settings: Settings, path: str, about: Mapping[str, str], kind: type[T]) -> T | None:
    """Ask the process that owns the journal; return None if none does, or none answers.

    A journal in memory has no lock that names its owner, who may be at the usual address. Raises
    CommandError if the owner refuses.
    """
    held = service.find_lock_owner(settings)
    if held is None and settings.journal.path is None:
        held = JournalLocked("memory", "", settings.operator.listen)
    if held is None:
        return None
    try:
        question = OperatorRequest(path, {}, "POST", about)
        return anyio.run(question.send, held, settings.operator.token, kind)
    except OperatorUnreachable:
        return None


def run_diagnosis(settings: Settings, request: DiagnosisRequest) -> Diagnosis:
    """By the service itself if it runs: nobody else may put anything on its branch."""
    is_held = service.find_lock_owner(settings) is not None
    about = msgspec.structs.asdict(request)
    body = {name: text for name, text in about.items() if text is not None}
    reply = ask_owner(settings, "/diagnose", body, Diagnosis)
    if reply is not None:
        return reply
    return anyio.run(partial(service.diagnose_offline, settings, request, is_locked=is_held))


def remove_old_files(settings: Settings, *, is_confirmed: bool) -> str:
    """Takes the old files out, in one transaction; what it has to say."""
    try:
        paths = anyio.run(service.list_legacy_files, settings)
        if not paths:
            return "There are no .json files under healthkit/raw."
        confirm(
            f"Take {len(paths):,} .json files under healthkit/raw out of the dataset?", is_confirmed
        )
        result = ask_owner(settings, "/diagnose/remove-old-json", {}, RemovalResult)
        if result is None and service.find_lock_owner(settings) is not None:
            raise CommandError("Another process owns the branch, and does not answer.")
        removed = anyio.run(service.remove_files, settings, paths) if result is None else result
    except FoundryError as error:
        raise CommandError(str(error)) from error
    transaction = "no transaction" if removed.transaction is None else removed.transaction
    return f"{removed.files:,} files taken out, in {transaction}."


def put_schema(settings: Settings, *, is_confirmed: bool) -> str:
    """Puts the schema; what it has to say."""
    if settings.foundry.file_format != "parquet":
        raise ConfigurationError(
            "ATLAS_FILE_FORMAT is not parquet: over NDJSON files a schema does harm; see step 11."
        )
    confirm("Give the dataset the schema of 21 columns, for Parquet?", is_confirmed)
    try:
        anyio.run(service.fix_schema, settings)
    except FoundryError as error:
        raise CommandError(str(error)) from error
    return "The dataset has the schema of 21 columns."


def confirm(question: str, is_confirmed: bool) -> None:
    """Asks a person; a script says --yes."""
    if not is_confirmed:
        typer.confirm(question, abort=True, err=True)


def print_diagnosis(result: Diagnosis, console: Console) -> None:
    """For a person: what a step has seen stands under it, and the page below."""
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
    """To be sent to somebody."""
    lines = [f"# Atlas {result.version}, {format_timestamp(result.at)}", "", "| | step | | |"]
    lines += ["|---|---|---|---|"]
    lines += [
        f"| {each.number} | {each.name} | {each.verdict} | {escape_cell(each.reason)} |"
        for each in result.steps
    ]
    for step in result.steps:
        lines += ["", *render_step(step)]
    for section in result.sections:
        lines += ["", f"## {section.heading}", ""]
        lines += [f"- {name}: {escape_cell(value)}" for name, value in section.facts]
    return "\n".join(lines) + "\n"


def render_step(step: CheckResult) -> list[str]:
    lines = [f"## {step.number} {step.name}: {step.verdict}", "", escape_cell(step.reason), ""]
    lines += [f"- {name}: {escape_cell(value)}" for name, value in step.evidence]
    return [*lines, "", f"To do: {escape_cell(step.to_do)}"] if step.to_do else lines


def escape_cell(text: str) -> str:
    """Nothing in it is markup."""
    return "".join(f"\\{each}" if each in "|<>*_`[]" else each for each in text)
