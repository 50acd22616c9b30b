"""A journal with everything that a journal can hold."""

from datetime import timedelta

from msgspec.structs import replace

from atlas.core.commits import Conclusion, Verdict
from atlas.core.messages import (
    BranchSnapshot,
    ExportMetadata,
    GroupLimits,
    IdempotencySlot,
    RawExport,
    User,
)
from atlas.core.personal_data import SharedFile
from atlas.core.phones import PhoneReport
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.journal.retention import ReceiptRetention
from atlas.outside.sqlite.journal import open_journal
from tests.support.exports import ADA, NOON, export

CY = User("auth0|cy")  # has sent a report, and no export
KEY = bytes(32)
LATER = NOON + timedelta(days=40)
RETENTION = ReceiptRetention(lambda: LATER)  # exports of NOON are reduced to digests
NEW = 35 * 86_400  # the number of an export whose receipt is kept
SNAPSHOT = BranchSnapshot("ri.foundry.main.transaction.head", LATER)
FOUR = GroupLimits(exports_max=4)
CRASHES = RawExport(ExportMetadata(ADA, "", "", "crashes"), b"Zm9v")
DATASET = "ri.foundry.main.dataset.1, branch master"


def open_file(path, keys=(KEY,)):
    """Open a SQLite journal with the key that `open_postgres_journal` uses."""
    limits = CapacityLimits(free_bytes=0)
    return open_journal(
        path, limits, keys, retention=RETENTION, destination_name=DATASET, is_streamed=True
    )


async def fill(journal, *, is_open: bool = True) -> None:
    """Leave digests, receipts, exports in every state, a group in hand, phones and reports."""
    await journal.leadership.acquire()
    for number in range(4):
        await journal.intake.append(export(number))
    await commit(journal, "ri.foundry.main.transaction.1", Verdict("committed"))
    for number in range(NEW, NEW + 16):
        await journal.intake.append(add_key(export(number)))
    await commit(journal, "ri.foundry.main.transaction.2", Verdict("committed"))
    refused = Verdict("refused", "Foundry refused it", is_certain=True)
    await commit(journal, "ri.foundry.main.transaction.3", refused, tries_max=1)
    discarded = (await journal.ledger.list_entries("set_aside", 1, None)).entries[0].receipt.id
    await journal.dead_letters.abandon(discarded)
    await commit(journal, "ri.foundry.main.transaction.4", Verdict("failed", "an outage"))
    await journal.dead_letters.store(CRASHES, "crashes", LATER)
    for user in (ADA, CY):
        await journal.phones.store_report(user, PhoneReport("sync_ended", LATER, "iPad"), LATER)
    await journal.personal_data.purge(User("auth0|bob"), [SharedFile("healthkit/raw/a", 3)])
    await journal.outbox.claim(FOUR, SNAPSHOT, "normal")
    if is_open:
        await journal.outbox.record_open("ri.foundry.main.transaction.5", FOUR)


async def commit(journal, transaction, verdict, **more) -> None:
    """Commit a group in which each export gets this verdict."""
    if verdict.kind == "committed":
        verdict = replace(verdict, transaction=transaction)
    await journal.outbox.claim(FOUR, SNAPSHOT, "normal")
    await journal.outbox.record_open(transaction, FOUR)
    await journal.outbox.conclude(Conclusion(transaction, default_verdict=verdict, **more))


def add_key(sent):
    slot = IdempotencySlot(f"key {sent.id}", 0, 1)
    return replace(sent, head=replace(sent.head, binding=slot))
