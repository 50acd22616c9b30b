"""Opens the journal named by the settings, for a service or for a single command."""

import secrets
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, TextIO

from atlas import __version__
from atlas.core import identifiers
from atlas.core.diagnosis import CheckFailed
from atlas.core.errors import CommandError, ConfigurationError, JournalMissing
from atlas.core.events import EventBuffer
from atlas.core.inspection import JournalHealth
from atlas.core.ports import JournalInspector, JournalPorts
from atlas.outside import log
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.journal.keys import parse_key
from atlas.outside.journal.retention import ReceiptRetention
from atlas.outside.network import build_tls_context
from atlas.outside.postgres import address as postgres_address
from atlas.outside.postgres.address import DatabaseAddress
from atlas.outside.sqlite import journal as sqlite_journal
from atlas.outside.sqlite.readonly import ReadOnlyInspector
from atlas.service.extras import describe_missing_extra
from atlas.service.subscribers import EventSubscribers, add_tracing, build_subscribers, utc_now
from atlas.settings import Settings

if TYPE_CHECKING:  # asyncpg is optional
    from atlas.outside.postgres.connections import Connector


@asynccontextmanager
async def open_journal(
    settings: Settings, stderr: TextIO
) -> AsyncIterator[tuple[JournalPorts, EventSubscribers]]:
    """Open the journal of a service, and its event subscribers.

    A SQLite journal may wait for the previous process to release its lock, and blocks the event
    loop meanwhile: open it before the loop has other work. Raises JournalLocked, CommandError.
    """
    destination = f"{settings.foundry.dataset_rid}, branch {settings.foundry.branch}"
    logger = build_log_writer(settings, stderr)
    seconds, announce = sqlite_journal.LOCK_WAIT_SECONDS, partial(log.warn, logger)
    async with open_store(settings, seconds, destination, announce) as store:
        event_log = log.EventLog(logger, store.log_key, settings.log.user_ids)
        with add_tracing(build_subscribers(settings, event_log), settings) as subscribers:
            store.events.subscribe(subscribers.publish)
            yield store, subscribers


def build_log_writer(settings: Settings, stream: TextIO) -> log.LogWriter:
    return log.build_logger(stream, settings.log.level, settings.log.format)


@asynccontextmanager
async def open_unlocked(settings: Settings) -> AsyncIterator[JournalPorts]:
    """Open the journal for a command: one in PostgreSQL, or a file that no process is serving.

    This may add to the tables of an earlier version. Raises JournalLocked, and CommandError, also
    if PostgreSQL has no such journal yet.
    """
    if settings.journal.is_shared:
        connector = build_connector(settings)
        from atlas.outside.postgres import transfer  # noqa: PLC0415 - asyncpg is optional

        await transfer.require_journal(connector)
    async with open_store(settings) as store:
        yield store


def print_note(line: str) -> None:
    print(f"atlas: {line}", file=sys.stderr)  # noqa: T201


@dataclass(frozen=True, slots=True)
class UnopenedJournal:
    """Implements `ports.JournalInspector` for a journal that cannot be opened."""

    error: CommandError | ConfigurationError

    async def inspect(self) -> JournalHealth | None:
        if isinstance(self.error, JournalMissing):
            return None
        if isinstance(self.error, ConfigurationError):
            raise CheckFailed("The journal cannot be opened.", str(self.error))
        raise CheckFailed(str(self.error), "Start the server, or correct ATLAS_JOURNAL.")

    def pseudonym(self, sub: str) -> str:
        """Return a name that is used only here: the key is in the journal."""
        return identifiers.pseudonymize(secrets.token_bytes(32), sub)


@asynccontextmanager
async def open_inspector(settings: Settings) -> AsyncIterator[JournalInspector]:
    """Open an inspector of the journal. Raises ConfigurationError.

    It does not change a file. In PostgreSQL, tables of an earlier version get the additions of this
    one, which replicas of that version do not notice, and each key its copy, as at any start.
    """
    if settings.journal.is_shared:
        async with AsyncExitStack() as stack:
            inspector: JournalInspector
            try:
                store = await stack.enter_async_context(open_unlocked(settings))
                inspector = store.inspector
            except (CommandError, ConfigurationError) as error:
                inspector = UnopenedJournal(error)
            yield inspector
    else:
        yield ReadOnlyInspector(
            settings.journal.path, build_capacity_limits(settings), parse_keys(settings)
        )


def parse_keys(settings: Settings) -> list[bytes]:
    return [parse_key(text) for text in settings.journal.keys]


def build_capacity_limits(settings: Settings) -> CapacityLimits:
    options = settings.journal
    return CapacityLimits(options.bytes_max, options.exports_max, options.free_bytes_min)


def build_retention(settings: Settings) -> ReceiptRetention:
    options = settings.journal
    return ReceiptRetention(
        utc_now, options.receipts_days, options.receipts_max, options.digests_days
    )


@asynccontextmanager
async def open_store(
    settings: Settings,
    wait_seconds: float = 0,
    destination: str = "",
    announce: Callable[[str], None] = print_note,
) -> AsyncIterator[JournalPorts]:
    if settings.journal.is_shared:
        async with open_postgres(settings, destination, announce) as store:
            yield store
        return
    with sqlite_journal.open_journal(
        settings.journal.path,
        build_capacity_limits(settings),
        parse_keys(settings),
        settings.operator.listen,
        wait_seconds,
        build_retention(settings),
        destination,
        is_streamed=bool(settings.stream.rid),
    ) as store:
        yield store


def parse_address(settings: Settings) -> DatabaseAddress:
    """Return the address of a shared journal. Raises ConfigurationError."""
    if find_spec("asyncpg") is None:
        raise ConfigurationError(
            describe_missing_extra("ATLAS_JOURNAL=postgresql://", "asyncpg", "postgres")
        )
    return postgres_address.parse_address(settings.journal.url)


def build_connector(settings: Settings) -> "Connector":
    """Build the connector of a command. Raises ConfigurationError, also without asyncpg."""
    address = parse_address(settings)
    from atlas.outside.postgres.connections import Connector  # noqa: PLC0415 - asyncpg is optional

    return Connector(
        address,
        "atlas journal",
        EventBuffer(),
        is_pooled=settings.journal.pooled,
        tls=build_tls_context(settings.network.ca_bundle),
    )


def open_postgres(
    settings: Settings, destination: str, announce: Callable[[str], None]
) -> AbstractAsyncContextManager[JournalPorts]:
    """Open a journal in PostgreSQL. Raises ConfigurationError if the driver is not installed."""
    options, database = settings.journal, parse_address(settings)
    from atlas.outside.postgres import journal  # noqa: PLC0415 - asyncpg is optional

    return journal.open_journal(
        database,
        parse_keys(settings),
        journal.JournalOptions(
            limits=build_capacity_limits(settings),
            retention=build_retention(settings),
            lease_seconds=options.lease_seconds,
            keep_seconds=options.keep_seconds,
            is_pooled=options.pooled,
            is_streamed=bool(settings.stream.rid),
            version=__version__,
            tls=build_tls_context(settings.network.ca_bundle),
            announce=announce,
        ),
        destination,
    )
