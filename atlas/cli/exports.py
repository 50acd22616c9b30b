"""`atlas exports`: shows, replays and discards exports in the journal."""

from typing import Annotated, get_args

import msgspec
import typer

from atlas.cli.configuration import ConfigOption, JsonOption
from atlas.cli.dead_letters import discard, find_entry, replay
from atlas.cli.main import build_group
from atlas.cli.operator_client import (
    JournalOption,
    OperatorRequest,
    ask,
    load_settings_for_journal,
)
from atlas.core import identifiers
from atlas.core.dead_letters import ID_SHOWN
from atlas.core.messages import Isolation, JournalPage, ListedStatus

FIND_CHARACTERS_MAX = 255  # the length of the longest sub
STATUSES = ", ".join(get_args(ListedStatus))
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

app = build_group(
    """Show, replay or discard exports in the journal.

    Example: atlas exports list
    """
)


@app.command("list")
def list_(
    status: Annotated[
        ListedStatus | None, typer.Option(metavar="STATUS", help=f"Only this status: {STATUSES}.")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Print at most N.")] = 20,
    before: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=2**62, help="The next page: see the last line."),
    ] = None,
    find: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Only this receipt id, user (the sub or its pseudonym) or correlation id.",
        ),
    ] = None,
    json: JsonOption = False,
    journal: JournalOption = None,
    config: ConfigOption = None,
) -> None:
    """List exports, newest first, and the number of exports by status.

    `failed` exports are accepted, have failed, and are retried separately.

    Example: atlas exports list --status failed --find 'auth0|ada'
    """
    if find is not None:
        find = find.strip()  # of a text that was pasted
        require_text(find)
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
    json: Annotated[bool, typer.Option("--json", help="Print it in one line.")] = False,
    journal: JournalOption = None,
    config: ConfigOption = None,
) -> None:
    """Show one export as JSON.

    Example: atlas exports show 5f0c1d
    """
    entry = find_entry(load_settings_for_journal(config, journal), receipt_id)
    text = msgspec.json.encode(entry)
    typer.echo((text if json else msgspec.json.format(text)).decode())


app.command()(replay)
app.command()(discard)


def require_text(find: str) -> None:
    """Raise typer.BadParameter if the text is empty, too long or not UTF-8."""
    try:
        find.encode()
    except UnicodeError as error:
        raise typer.BadParameter("--find must be UTF-8 text.") from error
    if not 0 < len(find) <= FIND_CHARACTERS_MAX:
        raise typer.BadParameter(f"--find takes 1 to {FIND_CHARACTERS_MAX} characters.")


def render_table(listing: JournalPage) -> str:
    """Render a table, followed by the totals of the whole journal."""
    lines = [HEADINGS if listing.entries else "There are no such exports."]
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
