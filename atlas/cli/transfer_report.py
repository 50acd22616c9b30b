"""The outcome of a transfer: the fate of the lines, and the place of their rows."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import aiohttp
import msgspec
import typer
from msgspec import Struct
from yarl import URL

from atlas.client import LineAccounting
from atlas.core.messages import Reject

SHOWN_MAX = 3  # of the transactions, of the files and of the receipts
FOLDER_SECONDS = 5.0


class TransferReport(Struct, frozen=True):
    """The result of `atlas send` and `atlas import`, for programs.

    lines = committed + accepted + rejected + not_sent. `already_stored` counts those of them that
    Atlas had before, and `already_sent` those that an interrupted import had sent. `files` are
    paths in the dataset; `folder` is the branch's folder on this machine, of `atlas local` only.
    """

    lines: int
    committed: int
    accepted: int
    rejected: int
    not_sent: int
    already_stored: int
    already_sent: int
    dataset_rid: str | None
    branch: str | None
    folder: str | None
    transactions: tuple[str, ...]
    files: tuple[str, ...]
    receipts: tuple[str, ...]
    rejects: tuple[Reject, ...]
    error: str | None


def build_report(
    balance: LineAccounting, dataset_folder: Path | None, already_sent: int
) -> TransferReport:
    """Build the report. `dataset_folder` is that of the emulator, with a folder per dataset."""
    exports = balance.exports
    dataset = next((each.dataset_rid for each in exports if each.dataset_rid), None)
    files = unique(each.file_path for each in exports)
    folder = find_branch(dataset_folder / dataset, files) if dataset_folder and dataset else None
    return TransferReport(
        balance.read,
        balance.committed,
        balance.accepted,
        balance.rejected,
        balance.unsent,
        balance.replayed,
        already_sent,
        dataset,
        folder.name if folder else None,
        str(folder) if folder else None,
        unique(each.transaction_rid for each in exports),
        files,
        unique(each.receipt_id for each in exports),
        tuple(Reject(line, reason) for line, reason in balance.rejects),
        balance.last_error,
    )


def unique(values: Iterator[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))


def find_branch(dataset: Path, files: Sequence[str]) -> Path | None:
    """Find the folder of the branch that has the last of these files, if any."""
    return next(
        (branch for branch in dataset.glob("*") if files and (branch / files[-1]).is_file()), None
    )


async def fetch_emulator_folder(url: URL) -> Path | None:
    """Ask `atlas local` at this URL for the folder of its datasets; None if it does not answer."""
    timeout = aiohttp.ClientTimeout(total=FOLDER_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session:
            address = url.with_port((url.port or 0) + 1).origin() / "stand-in/folder"
            async with session.get(address) as response:
                return Path(await response.text())
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None


def print_outcome(
    balance: LineAccounting,
    folder: Path | None,
    *,
    json: bool,
    item: str = "line",
    already_sent: int = 0,
) -> None:
    """Print the outcome. Its first rejected lines go to stderr, unless they are in the JSON.

    `already_sent` counts what an earlier run of an import has sent, and this one has skipped.
    """
    report = build_report(balance, folder, already_sent)
    if json:
        typer.echo(msgspec.json.encode(report))
        return
    skipped = f", {already_sent:,} already sent" if already_sent else ""
    typer.echo("\n".join([render_balance(balance) + skipped, *render_destination(report)]))
    for number, reason in balance.rejects:
        typer.echo(f"{item} {number}: {reason}" if number else reason, err=True)


def render_balance(balance: LineAccounting) -> str:
    """Render the number of lines by their fate, in one line."""
    parts = [
        f"{balance.committed:,} rows committed",
        f"{balance.accepted:,} accepted",
        f"{balance.rejected:,} rejected",
    ]
    if balance.unsent:
        parts.append(f"{balance.unsent:,} not sent")
    text = f"{balance.read:,} lines read = " + " + ".join(parts)
    return f"{text}  ({balance.replayed:,} already stored)" if balance.replayed else text


def render_destination(report: TransferReport) -> Iterator[str]:
    """Yield the lines that say where the rows are."""
    if report.dataset_rid is None:
        return
    branch = f"  (branch {report.branch})" if report.branch else ""
    yield f"Dataset      {report.dataset_rid}{branch}"
    yield from render_some("Transaction", report.transactions)
    if report.folder:
        yield f"Folder       {report.folder}"
    yield from render_some("File", report.files)
    yield from render_some("Receipt", report.receipts)
    if report.accepted:
        yield f"{report.accepted:,} rows are stored by Atlas, and not in the dataset yet."


def render_some(label: str, values: Sequence[str]) -> Iterator[str]:
    for value in values[:SHOWN_MAX]:
        yield f"{label:<12} {value}"
    if len(values) > SHOWN_MAX:
        yield f"{'':<12} and {len(values) - SHOWN_MAX:,} more; --json lists them all"
