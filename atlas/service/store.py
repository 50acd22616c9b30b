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
from atlas.outside.sqlite.capacity import CapacityLimits
from atlas.outside.sqlite.readonly import ReadOnlyInspector
from atlas.outside.sqlite.retention import ReceiptRetention
from atlas.service.subscribers import EventSubscribers, add_tracing, build_subscribers
from atlas.settings import Settings


@dataclass(frozen=True, slots=True)
class JournalPorts:
    """The parts of a journal."""

    intake: ports.Intake
    receipts: ports.ReceiptQueries
    outbox: ports.Outbox
    dead_letters: ports.DeadLetters
    ledger: ports.Ledger
    personal_data: ports.PersonalDataStore
    inspector: ports.JournalInspector
    is_durable: bool


@contextmanager
def open_journal(
    settings: Settings, stderr: TextIO
) -> Iterator[tuple[JournalPorts, EventSubscribers]]:
    """The journal, and who reads what happens. Raises JournalHeld, CannotStart.

    To be entered before an event loop runs: it may wait for a predecessor to end.
    """
    destination = f"{settings.foundry.dataset_rid}, branch {settings.foundry.branch}"
    with open_locked(settings, journal.LOCK_WAIT_SECONDS, destination) as sqlite_journal:
        store = collect_ports(sqlite_journal)
        stream = log.build_logger(stderr, settings.log.level)
        event_log = log.EventLog(stream, sqlite_journal.log_key, settings.log.user_ids)
        with add_tracing(
            build_subscribers(settings, event_log, partial(datetime.now, UTC)), settings
        ) as subscribers:
            sqlite_journal.events.subscribe(subscribers.publish)
            yield store, subscribers


def collect_ports(sqlite_journal: journal.SqliteJournal) -> JournalPorts:
    return JournalPorts(
        intake=sqlite_journal.intake,
        receipts=sqlite_journal.receipts,
        outbox=sqlite_journal.outbox,
        dead_letters=sqlite_journal.dead_letters,
        ledger=sqlite_journal.ledger,
        personal_data=sqlite_journal.people,
        inspector=sqlite_journal.inspector,
        is_durable=sqlite_journal.is_durable,
    )


@contextmanager
def open_unlocked(settings: Settings) -> Iterator[JournalPorts]:
    """A journal that nobody serves just now. Raises JournalHeld, CannotStart."""
    with open_locked(settings, wait_seconds=0) as sqlite_journal:
        yield collect_ports(sqlite_journal)


def abandon_unreadable(settings: Settings) -> int:
    """Give up all that was sealed with a key that is lost; how many exports that is.

    Raises JournalHeld, CannotStart when there is nothing that this key does not open.
    """
    key_list = [keys.parse_key(text) for text in settings.journal.keys]
    return journal.abandon(settings.journal.path, key_list)


def build_inspector(settings: Settings) -> ReadOnlyInspector:
    """The journal as it lies there, for whoever must not change it. Raises BadSetting."""
    options = settings.journal
    return ReadOnlyInspector(
        options.path,
        build_capacity_limits(settings),
        [keys.parse_key(text) for text in options.keys],
    )


def build_capacity_limits(settings: Settings) -> CapacityLimits:
    options = settings.journal
    return CapacityLimits(options.bytes_max, options.exports_max, options.free_bytes_min)


def open_locked(
    settings: Settings, wait_seconds: float, destination: str = ""
) -> AbstractContextManager[journal.SqliteJournal]:
    options = settings.journal
    key_list = [keys.parse_key(text) for text in options.keys]
    shelf = ReceiptRetention(
        partial(datetime.now, UTC), options.receipts_days, options.receipts_max
    )
    owner = settings.operator.listen
    return journal.open_journal(
        options.path,
        build_capacity_limits(settings),
        key_list,
        owner,
        wait_seconds,
        shelf,
        destination,
    )
