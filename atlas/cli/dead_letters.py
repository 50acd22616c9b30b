"""`atlas exports replay` and `discard`: decides on exports that were set aside."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, TypeVar
from urllib.parse import quote

import anyio
import msgspec
import typer

from atlas import service
from atlas.cli.configuration import ConfigOption, DryRunOption, JsonOption
from atlas.cli.operator_client import (
    JournalOption,
    OperatorOption,
    OperatorRequest,
    ask,
    load_settings_for_journal,
    parse_operator,
)
from atlas.core.dead_letters import ID_SHOWN, require_replayed, require_set_aside
from atlas.core.errors import CommandError, NotSetAside
from atlas.core.messages import AbandonResult, JournalEntry, JournalPage, ReplayResult
from atlas.core.ports import JournalPorts
from atlas.settings import Settings

T = TypeVar("T")

PAGE = 1_000
LINE = "{}  {:>8} rows  {:>11} bytes  {}"


class DryRun(msgspec.Struct, frozen=True):
    """The exports that a command would change."""

    exports: list[JournalEntry]


def replay(
    receipt_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="A receipt id, or the beginning of one.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All exports that were set aside.")] = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    operator: OperatorOption = None,
    journal: JournalOption = None,
    config: ConfigOption = None,
) -> None:
    """Replay exports that were set aside, for example after a bug fix.

    Exits with 1 if one of them fails again, or if ID is not set aside. Exports that crashed Atlas
    need the stages of a running service. Replicas do not lock the journal, so name one of them.

    Example: atlas exports replay --all --operator 10.0.0.5:8081
    """
    if all_ == (receipt_id is not None):
        raise typer.BadParameter("Name one export or --all.")
    settings = load_settings_for_journal(config, journal)
    if dry_run:
        print_plan(list_set_aside(settings, receipt_id), "replayed", is_json=json)
        return
    path_suffix = "" if receipt_id is None else f"/{quote(receipt_id, safe='')}"
    request = OperatorRequest(f"/exports{path_suffix}/replay", {}, "POST")
    if operator is not None:
        listener = parse_operator(operator)
        replayed = anyio.run(request.send_to, listener, settings.operator.token, ReplayResult)
    else:
        replayed = ask(
            settings, request, ReplayResult, lambda store: schedule_replay(store, receipt_id)
        )
    text = f"{replayed.again:,} replayed, {replayed.failed:,} failed again."
    typer.echo(msgspec.json.encode(replayed).decode() if json else text)
    if replayed.failed:
        raise typer.Exit(1)


async def schedule_replay(store: JournalPorts, receipt_id: str | None) -> ReplayResult | None:
    """Requeue exports for the next start. Quarantined ones need the stages of a running service."""
    entry = None
    if receipt_id is not None:
        entry = await store.ledger.find_entry(receipt_id)
        if entry is None:
            return None
        with map_not_set_aside():
            require_set_aside(entry)
    id = None if entry is None else entry.receipt.id
    quarantined = await store.dead_letters.list_original_ids()
    if id in quarantined or (id is None and quarantined):
        raise CommandError(
            "Only a running service can replay exports that crashed Atlas: see --operator."
        )
    requeued = await store.dead_letters.requeue(id)
    if entry is not None:
        with map_not_set_aside():
            require_replayed(entry, requeued)
    return ReplayResult(requeued, 0)


def discard(
    receipt_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="An export that was set aside.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Confirm: its data are lost.")] = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    journal: JournalOption = None,
    config: ConfigOption = None,
) -> None:
    """Discard an export that was set aside.

    Without an ID, all that no key can decrypt. The ledger keeps their entries. Exits with 1 if ID
    is not set aside.

    Example: atlas exports discard 5f0c1d --yes
    """
    if not (yes or dry_run):
        raise typer.BadParameter("A discarded export is lost for good: confirm with --yes.")
    settings = load_settings_for_journal(config, journal)
    if receipt_id is None:
        discard_unreadable(settings, is_dry_run=dry_run, is_json=json)
    elif dry_run:
        print_plan(list_set_aside(settings, receipt_id), "discarded", is_json=json)
    else:
        abandoned = ask(
            settings,
            OperatorRequest(f"/exports/{quote(receipt_id, safe='')}/discard", {}, "POST"),
            AbandonResult,
            lambda store: abandon_one(store, receipt_id),
        )
        text = f"{abandoned.abandoned:,} discarded."
        typer.echo(msgspec.json.encode(abandoned).decode() if json else text)


def discard_unreadable(settings: Settings, *, is_dry_run: bool, is_json: bool) -> None:
    """Discard everything that the configured keys cannot decrypt, and print the number."""
    abandoned = anyio.run(service.abandon_unreadable, settings, is_dry_run)
    text = f"{abandoned:,} exports discarded; the journal now uses the current key."
    if is_dry_run:
        text = f"{abandoned:,} exports would be discarded: no configured key decrypts them."
    typer.echo(msgspec.json.encode(AbandonResult(abandoned)).decode() if is_json else text)


async def abandon_one(store: JournalPorts, receipt_id: str) -> AbandonResult | None:
    entry = await store.ledger.find_entry(receipt_id)
    if entry is None:
        return None
    with map_not_set_aside():
        require_set_aside(entry)
    return AbandonResult(await store.dead_letters.abandon(entry.receipt.id))


@contextmanager
def map_not_set_aside() -> Iterator[None]:
    try:
        yield
    except NotSetAside as error:
        raise CommandError(str(error)) from error


def list_set_aside(settings: Settings, receipt_id: str | None) -> list[JournalEntry]:
    """Return the export with this id, or all that are set aside. Raises CommandError."""
    if receipt_id is not None:
        entry = find_entry(settings, receipt_id)
        with map_not_set_aside():
            require_set_aside(entry)
        return [entry]
    entries, before = list[JournalEntry](), None
    while True:
        page = fetch_page(settings, before)
        entries += page.entries
        if page.before is None:
            return entries
        before = page.before


def fetch_page(settings: Settings, before: int | None) -> JournalPage:
    return ask(
        settings,
        OperatorRequest("/exports", {"status": "set_aside", "limit": PAGE, "before": before}),
        JournalPage,
        lambda store: store.ledger.list_entries("set_aside", PAGE, before),
    )


def find_entry(settings: Settings, receipt_id: str) -> JournalEntry:
    """Find one export by its id, or the beginning of it. Raises CommandError."""
    return ask(
        settings,
        OperatorRequest(f"/exports/{quote(receipt_id, safe='')}", {}),
        JournalEntry,
        lambda store: store.ledger.find_entry(receipt_id),
    )


def print_plan(entries: list[JournalEntry], participle: str, *, is_json: bool) -> None:
    """Print the exports that would be changed."""
    if is_json:
        typer.echo(msgspec.json.encode(DryRun(entries)).decode())
        return
    for each in entries:
        receipt = each.receipt
        rows, size = f"{receipt.ingested:,}", f"{each.bytes:,}"
        typer.echo(LINE.format(receipt.id[:ID_SHOWN], rows, size, each.reason or "").rstrip())
    typer.echo(f"{len(entries):,} would be {participle}. Nothing was changed.")
