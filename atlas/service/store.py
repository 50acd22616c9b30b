"""Opens the journal named by the settings, for a service or for a single command."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TextIO

from atlas.core import ports
from atlas.outside import log
from atlas.outside.sqlite import journal, keys
from atlas.outside.sqlite.capacity import CapacityLimits
from atlas.outside.sqlite.readonly import ReadOnlyInspector
from atlas.outside.sqlite.retention import ReceiptRetention
from atlas.service.subscribers import EventSubscribers, add_tracing, build_subscribers, utc_now
from atlas.settings import Settings


@dataclass(frozen=True, slots=True)
class JournalPorts:
    """The ports of a journal."""

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
    """Open the journal of a service, and its event subscribers.

    Enter it before an event loop runs: it may wait for the previous process to release the lock.
    Raises JournalLocked, CommandError.
    """
    destination = f"{settings.foundry.dataset_rid}, branch {settings.foundry.branch}"
    with open_locked(settings, journal.LOCK_WAIT_SECONDS, destination) as sqlite_journal:
        logger = log.build_logger(stderr, settings.log.level)
        event_log = log.EventLog(logger, sqlite_journal.log_key, settings.log.user_ids)
        with add_tracing(build_subscribers(settings, event_log), settings) as subscribers:
            sqlite_journal.events.subscribe(subscribers.publish)
            yield collect_ports(sqlite_journal), subscribers


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
    """Open a journal that no process is serving. Raises JournalLocked, CommandError."""
    with open_locked(settings, wait_seconds=0) as sqlite_journal:
        yield collect_ports(sqlite_journal)


def abandon_unreadable(settings: Settings) -> int:
    """Abandon the exports that the configured keys cannot decrypt, and return their number.

    Raises JournalLocked, and CommandError if the keys decrypt everything.
    """
    return journal.abandon(settings.journal.path, parse_keys(settings))


def build_inspector(settings: Settings) -> ReadOnlyInspector:
    """Build a read-only inspector of the journal. Raises ConfigurationError."""
    return ReadOnlyInspector(
        settings.journal.path, build_capacity_limits(settings), parse_keys(settings)
    )


def parse_keys(settings: Settings) -> list[bytes]:
    return [keys.parse_key(text) for text in settings.journal.keys]


def build_capacity_limits(settings: Settings) -> CapacityLimits:
    options = settings.journal
    return CapacityLimits(options.bytes_max, options.exports_max, options.free_bytes_min)


def open_locked(
    settings: Settings, wait_seconds: float, destination: str = ""
) -> AbstractContextManager[journal.SqliteJournal]:
    options = settings.journal
    return journal.open_journal(
        options.path,
        build_capacity_limits(settings),
        parse_keys(settings),
        settings.operator.listen,
        wait_seconds,
        ReceiptRetention(utc_now, options.receipts_days, options.receipts_max),
        destination,
    )
