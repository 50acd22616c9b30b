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
from atlas.cli.configuration import ConfigOption, configured
from atlas.cli.owner import NoAnswer, Question, with_journal
from atlas.core.diagnosis import Asked, Diagnosis, Step
from atlas.core.errors import BadSetting, CannotStart, FoundryError, JournalHeld
from atlas.core.messages import RemovalResult
from atlas.core.names import timestamp
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
    settings = with_journal(configured(config, os.environ))
    if remove_old_json or fix_schema:
        mend = remove if remove_old_json else fix
        typer.echo(mend(settings, is_sure=yes))
        return
    found = diagnosis(settings, Asked(bare(token), url or None))
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(markdown(found), encoding="utf-8")
    if json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        show(found, Console(highlight=False, soft_wrap=True))
    raise typer.Exit(found.exit_code)


def bare(token: str | None) -> str | None:
    """As it stands behind the Bearer of a header."""
    text = "" if token is None else token.strip().removeprefix("Bearer ").strip()
    return text or None


def ask_owner(settings: Settings, path: str, about: Mapping[str, str], kind: type[T]) -> T | None:
    """Ask the process that owns the journal; return None if none does, or none answers.

    A journal in memory has no lock that names its owner, who may be at the usual address. Raises
    CannotStart if the owner refuses.
    """
    held = service.holder(settings)
    if held is None and settings.journal.path is None:
        held = JournalHeld("memory", "", settings.operator.listen)
    if held is None:
        return None
    try:
        question = Question(path, {}, "POST", about)
        return anyio.run(question.put_to, held, settings.operator.token, kind)
    except NoAnswer:
        return None


def diagnosis(settings: Settings, asked: Asked) -> Diagnosis:
    """By the service itself if it runs: nobody else may put anything on its branch."""
    is_held = service.holder(settings) is not None
    about = msgspec.structs.asdict(asked)
    given = {name: text for name, text in about.items() if text is not None}
    told = ask_owner(settings, "/diagnose", given, Diagnosis)
    if told is not None:
        return told
    return anyio.run(partial(service.diagnosed, settings, asked, is_held=is_held))


def remove(settings: Settings, *, is_sure: bool) -> str:
    """Takes the old files out, in one transaction; what it has to say."""
    try:
        paths = anyio.run(service.old_json, settings)
        if not paths:
            return "There are no .json files under healthkit/raw."
        sure(f"Take {len(paths):,} .json files under healthkit/raw out of the dataset?", is_sure)
        told = ask_owner(settings, "/diagnose/remove-old-json", {}, RemovalResult)
        if told is None and service.holder(settings) is not None:
            raise CannotStart("Another process owns the branch, and does not answer.")
        removed = anyio.run(service.remove, settings, paths) if told is None else told
    except FoundryError as error:
        raise CannotStart(str(error)) from error
    transaction = "no transaction" if removed.transaction is None else removed.transaction
    return f"{removed.files:,} files taken out, in {transaction}."


def fix(settings: Settings, *, is_sure: bool) -> str:
    """Puts the schema; what it has to say."""
    if settings.foundry.file_format != "parquet":
        raise BadSetting(
            "ATLAS_FILE_FORMAT is not parquet: over NDJSON files a schema does harm; see step 11."
        )
    sure("Give the dataset the schema of 21 columns, for Parquet?", is_sure)
    try:
        anyio.run(service.fix_schema, settings)
    except FoundryError as error:
        raise CannotStart(str(error)) from error
    return "The dataset has the schema of 21 columns."


def sure(question: str, is_sure: bool) -> None:
    """Asks a person; a script says --yes."""
    if not is_sure:
        typer.confirm(question, abort=True, err=True)


def show(found: Diagnosis, console: Console) -> None:
    """For a person: what a step has seen stands under it, and the page below."""
    for step in found.steps:
        line = Text(f"{step.number:>2}  {step.name:<14}  ")
        line.append(f"{step.verdict:<7}", STYLES[step.verdict])
        console.print(line.append(f"  {step.reason}"))
        for name, value in step.evidence:
            console.print(Text(f"{INDENT}{name}: {value}", "dim"))
        if step.to_do:
            console.print(Text(f"{INDENT}-> {step.to_do}"))
    for section in found.sections:
        console.print(Text(f"\n{section.heading}", "bold"))
        for name, value in section.facts:
            console.print(Text(f"  {name}: {value}"))


def markdown(found: Diagnosis) -> str:
    """To be sent to somebody."""
    lines = [f"# Atlas {found.version}, {timestamp(found.at)}", "", "| | step | | |"]
    lines += ["|---|---|---|---|"]
    lines += [f"| {s.number} | {s.name} | {s.verdict} | {cell(s.reason)} |" for s in found.steps]
    for step in found.steps:
        lines += ["", *of_step(step)]
    for section in found.sections:
        lines += ["", f"## {section.heading}", ""]
        lines += [f"- {name}: {cell(value)}" for name, value in section.facts]
    return "\n".join(lines) + "\n"


def of_step(step: Step) -> list[str]:
    lines = [f"## {step.number} {step.name}: {step.verdict}", "", cell(step.reason), ""]
    lines += [f"- {name}: {cell(value)}" for name, value in step.evidence]
    return [*lines, "", f"To do: {cell(step.to_do)}"] if step.to_do else lines


def cell(text: str) -> str:
    """Nothing in it is markup."""
    return "".join(f"\\{each}" if each in "|<>*_`[]" else each for each in text)
