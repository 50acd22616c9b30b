"""`atlas exports`: shows, replays and discards exports in the journal."""

from typing import Annotated
from urllib.parse import quote

import msgspec
import typer

from atlas import service
from atlas.cli.configuration import ConfigOption, JsonOption
from atlas.cli.operator_client import JournalOption, OperatorRequest, ask, load_settings_for_journal
from atlas.core import identifiers
from atlas.core.errors import CommandError
from atlas.core.messages import (
    AbandonResult,
    Isolation,
    JournalEntry,
    JournalPage,
    ListedStatus,
    ReplayResult,
)
from atlas.service import JournalPorts

ID_SHOWN = 12
LINE = "{:<9}  {:<24}  {:>8}  {:>8}  {:>11}  {:>5}  {:<16}  {:<12}  {}"
INDENT = " " * 11  # the width of the column STATUS
HEADINGS = LINE.format(
    "STATUS", "ACCEPTED", "ROWS", "REJECTED", "BYTES", "TRIES", "USER", "RECEIPT", "TRANSACTION"
)

ISOLATION_NOTES: dict[Isolation, str] = {
    "none": "",
    "own_file": "tried in a file of its own: ",
    "small_group": "tried in a small group: ",
    "alone": "tried alone: ",
}

app = typer.Typer()


@app.callback(invoke_without_command=True)
def exports(context: typer.Context) -> None:
    """Show, replay or discard exports in the journal.

    Example: atlas exports list
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("list")
def list_(
    status: Annotated[ListedStatus | None, typer.Option(help="Only this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number.")] = 20,
    before: Annotated[
        int | None, typer.Option(min=1, max=2**62, help="The next page: see the last line.")
    ] = None,
    find: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Only this receipt id, user or correlation id."),
    ] = None,
    json: JsonOption = False,
    journal: JournalOption = None,
    config: ConfigOption = None,
) -> None:
    """List exports, newest first, and the number of exports by status.

    `failed` exports are accepted, have failed, and are retried separately.
    Example: atlas exports list --status failed
    """
    listing = ask(
        load_settings_for_journal(config, journal),
        OperatorRequest(
            "/exports", {"status": status, "limit": limit, "before": before, "find": find}
        ),
        JournalPage,
        lambda store: store.ledger.list_entries(status, limit, before, find),
    )
    typer.echo(msgspec.json.encode(listing).decode() if json else render_table(listing))


@app.command()
def show(
    receipt_id: Annotated[
        str, typer.Argument(metavar="ID", help="A receipt id, or the beginning of one.")
    ],
    journal: JournalOption = None,
    config: ConfigOption = None,
) -> None:
    """Show one export as JSON.

    Example: atlas exports show 5f0c1d
    """
    entry = ask(
        load_settings_for_journal(config, journal),
        OperatorRequest(f"/exports/{quote(receipt_id, safe='')}", {}),
        JournalEntry,
        lambda store: store.ledger.find_entry(receipt_id),
    )
    typer.echo(msgspec.json.format(msgspec.json.encode(entry)).decode())


@app.command()
def replay(
    receipt_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A receipt id, or the beginning of one.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All exports that were set aside.")] = False,
    journal: JournalOption = None,
    config: ConfigOption = None,
) -> None:
    """Replay exports that were set aside, for example after a bug fix.

    Example: atlas exports replay --all
    """
    if all_ == (receipt_id is not None):
        raise typer.BadParameter("Name one export or --all.")
    path_suffix = "" if receipt_id is None else f"/{quote(receipt_id, safe='')}"
    replayed = ask(
        load_settings_for_journal(config, journal),
        OperatorRequest(f"/exports{path_suffix}/replay", {}, "POST"),
        ReplayResult,
        lambda store: schedule_replay(store, receipt_id),
    )
    typer.echo(f"{replayed.again:,} replayed, {replayed.failed:,} failed again.")


async def schedule_replay(store: JournalPorts, receipt_id: str | None) -> ReplayResult | None:
    """Requeue exports for the next start. Quarantined ones need the stages of a running service."""
    id = None
    if receipt_id is not None:
        entry = await store.ledger.find_entry(receipt_id)
        if entry is None:
            return None
        id = entry.receipt.id
    quarantined = await store.dead_letters.list_original_ids()
    if id in quarantined or (id is None and quarantined):
        raise CommandError("Only a running service can replay exports that crashed Atlas.")
    return ReplayResult(await store.dead_letters.requeue(id), 0)


@app.command()
def discard(
    receipt_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="An export that was set aside.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Confirm: its data are lost.")] = False,
    journal: JournalOption = None,
    config: ConfigOption = None,
) -> None:
    """Discard an export that was set aside; without an ID, all that no key can decrypt.

    The ledger keeps their entries. Example: atlas exports discard 5f0c1d --yes
    """
    if not yes:
        raise typer.BadParameter("A discarded export is lost for good: confirm with --yes.")
    settings = load_settings_for_journal(config, journal)
    if receipt_id is None:
        typer.echo(
            f"{service.abandon_unreadable(settings):,} exports discarded; "
            "the journal now uses the current key."
        )
        return
    abandoned = ask(
        settings,
        OperatorRequest(f"/exports/{quote(receipt_id, safe='')}/discard", {}, "POST"),
        AbandonResult,
        lambda store: abandon_one(store, receipt_id),
    )
    typer.echo(f"{abandoned.abandoned:,} discarded.")


async def abandon_one(store: JournalPorts, receipt_id: str) -> AbandonResult | None:
    entry = await store.ledger.find_entry(receipt_id)
    return AbandonResult(await store.dead_letters.abandon(entry.receipt.id)) if entry else None


def render_table(listing: JournalPage) -> str:
    """Render a table, followed by the totals of the whole journal."""
    lines = [HEADINGS]
    for entry in listing.entries:
        receipt = entry.receipt
        lines.append(
            LINE.format(
                receipt.status,
                identifiers.format_timestamp(receipt.at),
                f"{receipt.ingested:,}",
                f"{receipt.rejected:,}",
                f"{entry.bytes:,}",
                entry.tries,
                entry.user,
                receipt.id[:ID_SHOWN],
                receipt.transaction or "",
            ).rstrip()
        )
        if entry.reason is not None:
            lines.append(f"{INDENT}{ISOLATION_NOTES[entry.isolation]}{entry.reason}")
    totals = ", ".join(f"{count:,} {status}" for status, count in listing.totals.items())
    more = f"  (older: --before {listing.before})" if listing.before is not None else ""
    if listing.looked_at is not None:
        lines.append(f"Stopped after searching {listing.looked_at:,} exports.")
    return "\n".join([*lines, totals + more])
