"""`atlas phones`: lists the phones, and compares what they count with the dataset."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Annotated

import msgspec
import typer

from atlas.cli import phone_tables
from atlas.cli.configuration import ConfigOption, JsonOption
from atlas.cli.operator_client import JournalOption, OperatorRequest, ask, load_settings_for_journal
from atlas.cli.personal_data import parse_user
from atlas.cli.reconcile import reconcile
from atlas.core.messages import User
from atlas.core.phones import PhonePage, PhoneQuery
from atlas.core.ports import JournalPorts
from atlas.service.subscribers import utc_now
from atlas.settings import Settings

TABLE_PHONES = 20
PAGE_PHONES = 5_000  # read at once: some megabytes, and some tenths of a second of the service
UNITS = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
DURATION = re.compile(r"([0-9]{1,6})([mhdw])")

app = typer.Typer()
app.command()(reconcile)


@app.callback(invoke_without_command=True)
def phones(
    context: typer.Context,
    quiet: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only phones without an export for TIME: 3d or 12h."),
    ] = None,
    sub: Annotated[
        str | None,
        typer.Option(metavar="USER", help="Only this user; - reads the sub from standard input."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Maximum number of phones; 0 is all. Default: 20, or all as JSON or CSV.",
        ),
    ] = None,
    json: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    journal: JournalOption = None,
    config: ConfigOption = None,
) -> None:
    """List the phones, and those that have stopped sending.

    Those with the latest exports come first. A phone is quiet without an export for
    ATLAS_QUIET_DAYS, and stuck while it keeps sending the same export. The columns EXPORTS, ROWS
    and REJECTED are those of the last seven days.

    Example: atlas phones --quiet 3d
    """
    if context.invoked_subcommand is not None:
        if any([quiet, sub, limit, json, csv, journal, config]):
            raise typer.BadParameter(f"Pass options after {context.invoked_subcommand}.")
        return
    if json and csv:
        raise typer.BadParameter("Pass --json or --csv, not both.")
    if sub is not None and quiet is not None:
        raise typer.BadParameter("Pass --sub or --quiet, not both.")
    query = PhoneQuery(quiet_seconds=parse_duration(quiet, "--quiet"))
    settings = load_settings_for_journal(config, journal)
    if sub is not None:
        pages: Iterator[PhonePage] = iter([find_phones(settings, parse_user(sub), query)])
    else:
        default = 0 if json or csv else TABLE_PHONES
        pages = iterate_pages(settings, query, default if limit is None else limit)
        pages = chain([next(pages)], pages)  # if that fails, nothing is printed
    if json:
        print_parts(phone_tables.iterate_json(pages))
    elif csv:
        print_parts(phone_tables.iterate_csv(pages))
    elif sub is not None:
        print_parts(phone_tables.iterate_details(pages, utc_now()))
    else:
        print_parts(phone_tables.iterate_table(pages, utc_now()))


def print_parts(parts: Iterable[str]) -> None:
    for part in parts:
        typer.echo(part, nl=False)


def parse_duration(text: str | None, option: str) -> int | None:
    """Return the seconds of a duration. Raises typer.BadParameter."""
    if text is None:
        return None
    match = DURATION.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{option} must be a number and m, h, d or w, such as 3d.")
    return int(match[1]) * UNITS[match[2]]


def iterate_pages(settings: Settings, query: PhoneQuery, limit: int) -> Iterator[PhonePage]:
    """Yield as many pages of phones as the limit needs; 0 is all. Raises CommandError."""

    async def read(store: JournalPorts) -> PhonePage:
        quiet_days = settings.operator.quiet_days
        return await store.phones.list_phones(query, utc_now(), quiet_days)

    left = limit or None
    while True:
        size = PAGE_PHONES if left is None else min(left, PAGE_PHONES)
        query = msgspec.structs.replace(query, limit=size)
        parameters = msgspec.to_builtins(query)
        page = ask(settings, OperatorRequest("/phones", parameters), PhonePage, read)
        yield page
        if left is not None:
            left -= len(page.phones)
        if page.before is None or left == 0:
            return
        query = msgspec.structs.replace(query, before=page.before)


def find_phones(settings: Settings, user: User, query: PhoneQuery) -> PhonePage:
    """Return the phones of a user. Raises CommandError."""

    async def read(store: JournalPorts) -> PhonePage:
        quiet_days = settings.operator.quiet_days
        return await store.phones.list_phones(query, utc_now(), quiet_days, user)

    request = OperatorRequest("/phones/search", {}, "POST", {"user": user.sub})
    return ask(settings, request, PhonePage, read)
