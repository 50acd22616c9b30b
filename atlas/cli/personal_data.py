"""`atlas person`: shows and erases the data of one person."""

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer

from atlas import service
from atlas.cli.configuration import ConfigOption, DryRunOption, JsonOption
from atlas.cli.main import build_group
from atlas.cli.operator_client import JournalOption, OperatorRequest, ask, load_settings_for_journal
from atlas.cli.phone_tables import clean_text
from atlas.cli.progress_meter import show_activity
from atlas.core import identifiers
from atlas.core.errors import AtlasError, CommandError
from atlas.core.messages import User
from atlas.core.personal_data import ErasureReceipt, PersonalDataReport, SharedFile
from atlas.core.ports import JournalPorts, PersonalDataTasks
from atlas.settings import Settings, require_foundry

T = TypeVar("T")

UserArgument = Annotated[
    str,
    typer.Argument(
        metavar="USER", help="The sub of the person's tokens; - reads it from standard input."
    ),
]

CONFIRM = "Erase all of this for good?"
CONFIRM_SEARCH = "Search the shared files as well, and erase what they hold of this user?"
SEARCHED = (
    "Searched   the dataset: the folder of this sub, and files that are shared by several users",
    "           the journal: exports, receipts, digests, and what is set aside",
    "Not        backups of the journal, earlier transactions of the dataset, and copies elsewhere",
    "A sub is compared as a whole. Is this the exact sub of the person's tokens?",
)

app = build_group(
    """Show or erase a person's data.

    Example: atlas person show 'auth0|687a'
    """
)


@app.command()
def show(
    user: UserArgument,
    files: Annotated[bool, typer.Option("--files", help="List each file.")] = False,
    json: JsonOption = False,
    journal: JournalOption = None,
    config: ConfigOption = None,
) -> None:
    """Show a person's data: files in the dataset, and exports.

    Example: atlas person show 'auth0|687a' --files
    """
    settings = load_settings_for_journal(config, journal)
    report = fetch_report(parse_user(user), settings, lists=files)
    typer.echo(msgspec.json.encode(report).decode() if json else "\n".join(render_report(report)))


@app.command()
def erase(
    user: UserArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    receipt: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the receipt as JSON.")
    ] = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    journal: JournalOption = None,
    config: ConfigOption = None,
) -> None:
    """Erase a person's data from the dataset and the journal.

    After a failure, run it again. The output lists the remaining steps, which Atlas cannot take.
    If nothing is known of the person, it says so, and exits with 0; in JSON, `known` is false.

    Example: atlas person erase 'auth0|687a' --receipt erased.json
    """
    if user == "-" and not (yes or dry_run):
        raise typer.BadParameter("USER is read from standard input: confirm with --yes.")
    subject, settings = parse_user(user), load_settings_for_journal(config, journal)
    if dry_run:
        print_plan(fetch_report(subject, settings, lists=True), is_json=json)
        return
    if not yes:
        report = fetch_report(subject, settings, lists=False)
        typer.echo("\n".join(render_report(report)), err=json)
        typer.confirm(CONFIRM_SEARCH if report.is_empty else CONFIRM, abort=True, err=True)
    with open_receipt(receipt) as keep:
        with show_activity("Erasing"):
            done = ask(
                settings,
                OperatorRequest("/erasures", {}, "POST", {"user": subject.sub}),
                ErasureReceipt,
                ask_offline(settings, lambda tasks: tasks.erase(subject)),
            )
        text = msgspec.json.format(msgspec.json.encode(done))
        # first, as writing the file may fail
        typer.echo(text.decode() if json else "\n".join(render_receipt(done)))
        keep(text + b"\n")


def print_plan(report: PersonalDataReport, *, is_json: bool) -> None:
    """Print what an erasure would remove."""
    if is_json:
        typer.echo(msgspec.json.encode(report).decode())
        return
    typer.echo("\n".join(render_report(report)))
    typer.echo(
        "Nothing was erased. Without --dry-run, all of this would be, and rows in shared files."
    )


def parse_user(user: str) -> User:
    """Parse the argument USER. Raises typer.BadParameter."""
    try:
        sub = sys.stdin.readline().rstrip("\r\n") if user == "-" else user
        sub.encode()
    except UnicodeError as error:
        raise typer.BadParameter("USER must be UTF-8 text.") from error
    if not sub:
        raise typer.BadParameter("USER is empty: give the sub of the person's tokens.")
    return User(sub)


def fetch_report(person: User, settings: Settings, *, lists: bool) -> PersonalDataReport:
    with show_activity("Searching"):
        return ask(
            settings,
            OperatorRequest("/personal-data", {}, "POST", {"user": person.sub, "files": lists}),
            PersonalDataReport,
            ask_offline(settings, lambda tasks: tasks.report(person, lists=lists)),
        )


def ask_offline(
    settings: Settings, query: Callable[[PersonalDataTasks], Awaitable[T]]
) -> Callable[[JournalPorts], Awaitable[T]]:
    """Build a function that runs the query on an unlocked journal and the configured Foundry."""

    async def run_query(store: JournalPorts) -> T:
        require_foundry(settings)
        try:
            async with service.open_personal_data(settings, store) as tasks:
                return await query(tasks)
        except AtlasError as error:
            raise CommandError(str(error)) from error

    return run_query


@contextmanager
def open_receipt(receipt: Path | None) -> Iterator[Callable[[bytes], object]]:
    """Create the receipt's file, and yield a function that writes it. Raises CommandError.

    The file is created before anything is erased, and removed again if no receipt was written.
    """
    if receipt is None:
        yield lambda _content: None
        return
    try:
        file = receipt.open("xb")
    except FileExistsError as error:
        raise CommandError(f"{receipt} already exists: --receipt needs a new file.") from error
    except OSError as error:
        raise CommandError(f"Cannot write {receipt}: {error.strerror}.") from error
    is_written = False

    def write(content: bytes) -> None:
        nonlocal is_written
        file.write(content)
        file.flush()
        is_written = True

    with file:
        try:
            yield write
        finally:
            if not is_written:
                receipt.unlink()  # so that the same command can be run again


def render_report(report: PersonalDataReport) -> Iterator[str]:
    """Yield the lines of a report: totals, then each file if they were requested."""
    yield f"User       {report.user}  (the pseudonym in the log)"
    if report.is_empty:
        yield "There are no data of this user."
        return
    yield f"Files      {report.files:,} of their own, {report.bytes:,} bytes{format_span(report)}"
    exports = ", ".join(f"{count:,} {status}" for status, count in report.exports.items())
    yield f"Journal    {exports or 'no receipt'}, {report.digests:,} digests"
    for phone in report.phones:
        at = phone.last_export_at
        last = "no export" if at is None else f"last export {identifiers.format_timestamp(at)}"
        yield f"Phone      {clean_text(phone.device)}, {last}, {phone.types:,} types"
    if report.reports:
        yield f"Reports    {report.reports:,} of their phones"
    yield from render_shared_files(report.shared)
    for each in report.aside:
        yield f"Set aside  {each.id}  {each.bytes:,} bytes, {each.reason}"
    for file in report.listed:
        since = "" if file.at is None else f"  since {identifiers.format_timestamp(file.at)}"
        yield f"{file.path}  {file.bytes:,} bytes{since}  {file.transaction}"


def format_span(report: PersonalDataReport) -> str:
    if report.first is None or report.last is None:
        return ""
    first, last = map(identifiers.format_timestamp, (report.first, report.last))
    return f", written from {first} to {last}"


def render_shared_files(shared: tuple[SharedFile, ...]) -> Iterator[str]:
    if shared:
        exports = sum(each.exports for each in shared)
        yield f"Shared     {exports:,} exports in {len(shared):,} files with rows of other users:"
    for each in shared:
        yield f"           {each.path}  {each.exports:,} exports"


def render_receipt(done: ErasureReceipt) -> Iterator[str]:
    """Yield the lines of a receipt, or of a search that has found nothing."""
    yield f"At         {identifiers.format_timestamp(done.at)}"
    yield f"User       {done.user}  (the pseudonym in the log)"
    if not done.known:
        yield "Nothing is known of this person, and nothing was erased."
        yield from SEARCHED
        return
    purged = ", ".join(f"{count:,} {kind}" for kind, count in done.purged.items())
    yield f"Removed    {done.files:,} files, {done.bytes:,} bytes"
    for transaction in done.transactions:
        yield f"           {transaction}"
    if done.rewritten:
        rows = sum(each.rows for each in done.rewritten)
        yield f"Rewritten  {len(done.rewritten):,} shared files, without {rows:,} of their rows:"
    yield from (f"           {each.path}" for each in done.rewritten)
    yield f"Purged     {purged or 'nothing'}"
    yield from render_shared_files(done.shared)
    yield "Still to be done:"
    for number, each in enumerate(done.to_do, 1):
        yield f"  {number}. {each}"
