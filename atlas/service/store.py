"""The journal, as the settings want it: for a service, or for one command."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TextIO

from atlas.core import ports
from atlas.outside import log
from atlas.outside.sqlite import journal, keys
from atlas.outside.sqlite.look import JournalLook
from atlas.outside.sqlite.room import Bounds
from atlas.outside.sqlite.shelf import Shelf
from atlas.service.readers import Readers, reading, traced
from atlas.settings import Settings


@dataclass(frozen=True, slots=True)
class Store:
    """The parts of a journal."""

    intake: ports.Intake
    receipts: ports.Receipts
    outbox: ports.Outbox
    aside: ports.Aside
    ledger: ports.Ledger
    people: ports.PersonRecords
    checkup: ports.Checkup
    is_durable: bool


@contextmanager
def opened(settings: Settings, stderr: TextIO) -> Iterator[tuple[Store, Readers]]:
    """The journal, and who reads what happens. Raises JournalHeld, CannotStart.

    To be entered before an event loop runs: it may wait for a predecessor to end.
    """
    to = f"{settings.foundry.dataset_rid}, branch {settings.foundry.branch}"
    with held(settings, journal.HELD_SECONDS, to) as found:
        store = stored(found)
        stream = log.logger(stderr, settings.log.level)
        told = log.Log(stream, found.log_key, settings.log.user_ids)
        with traced(reading(settings, told, partial(datetime.now, UTC)), settings) as readers:
            found.news.listen(readers.watch)
            yield store, readers


def stored(found: journal.SqliteJournal) -> Store:
    return Store(
        intake=found.intake,
        receipts=found.receipts,
        outbox=found.outbox,
        aside=found.aside,
        ledger=found.ledger,
        people=found.people,
        checkup=found.checkup,
        is_durable=found.is_durable,
    )


@contextmanager
def unheld(settings: Settings) -> Iterator[Store]:
    """A journal that nobody serves just now. Raises JournalHeld, CannotStart."""
    with held(settings, wait_seconds=0) as found:
        yield stored(found)


def abandon(settings: Settings) -> int:
    """Give up all that was sealed with a key that is lost; how many exports that is.

    Raises JournalHeld, CannotStart when there is nothing that this key does not open.
    """
    sealed_with = [keys.key(text) for text in settings.journal.keys]
    return journal.abandon(settings.journal.path, sealed_with)


def looked(settings: Settings) -> JournalLook:
    """The journal as it lies there, for whoever must not change it. Raises BadSetting."""
    kept = settings.journal
    return JournalLook(kept.path, bounds(settings), [keys.key(text) for text in kept.keys])


def bounds(settings: Settings) -> Bounds:
    kept = settings.journal
    return Bounds(kept.bytes_max, kept.exports_max, kept.free_bytes_min)


def held(
    settings: Settings, wait_seconds: float, to: str = ""
) -> AbstractContextManager[journal.SqliteJournal]:
    kept = settings.journal
    sealed_with = [keys.key(text) for text in kept.keys]
    shelf = Shelf(partial(datetime.now, UTC), kept.receipts_days, kept.receipts_max)
    owner = settings.operator.listen
    return journal.opened(kept.path, bounds(settings), sealed_with, owner, wait_seconds, shelf, to)
