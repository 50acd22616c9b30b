"""The rule that only an export that is set aside can be replayed or discarded."""

from atlas.core.errors import NotSetAside
from atlas.core.messages import JournalEntry, Status

ID_SHOWN = 12
NOT_SET_ASIDE: dict[Status, str] = {
    "accepted": "is accepted and waits for Foundry: Atlas uploads it without a command.",
    "committed": "is committed: its rows are in the dataset, in transaction {transaction}.",
    "abandoned": "was discarded: its data are gone. The phone can send it again.",
}
NO_DATA = "is set aside, but its data are lost: atlas exports discard {id} --yes removes it."


def require_set_aside(entry: JournalEntry) -> None:
    """Raise NotSetAside, with the status and what can be done, unless the export is set aside."""
    receipt = entry.receipt
    if receipt.status != "set_aside":
        raise NotSetAside(describe(entry, NOT_SET_ASIDE[receipt.status]))


def require_replayed(entry: JournalEntry, exports: int) -> None:
    """Raise NotSetAside if a replay of the export has found none, as its payload is missing."""
    if not exports:
        raise NotSetAside(describe(entry, NO_DATA))


def describe(entry: JournalEntry, sentence: str) -> str:
    id = entry.receipt.id[:ID_SHOWN]
    transaction = entry.receipt.transaction or "an unknown one"
    return f"Export {id} {sentence.format(id=id, transaction=transaction)}"
