"""Opens the journal and assembles its parts."""

import asyncio
import secrets
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from atlas.core.events import EventBuffer
from atlas.core.ports import Clock, JournalPorts
from atlas.outside.journal.capacity import CapacityLimits, CommitRate
from atlas.outside.journal.phones import PhoneCodec
from atlas.outside.journal.retention import ReceiptRetention
from atlas.outside.journal.row_codec import RowCodec
from atlas.outside.postgres.address import DatabaseAddress
from atlas.outside.postgres.connections import Connector, Session
from atlas.outside.postgres.dead_letters import PostgresDeadLetters
from atlas.outside.postgres.inspector import PostgresInspector
from atlas.outside.postgres.intake import PostgresIntake
from atlas.outside.postgres.lease import LEASE_SECONDS, Lease
from atlas.outside.postgres.ledger import PostgresLedger
from atlas.outside.postgres.observation import DatabaseObserver, utc_now
from atlas.outside.postgres.outbox import PostgresOutbox
from atlas.outside.postgres.peers import IntakeNotifier, PostgresPeers
from atlas.outside.postgres.personal_data import PostgresPersonalData
from atlas.outside.postgres.phones import PostgresPhones, PostgresPhoneWriter
from atlas.outside.postgres.preparation import prepare
from atlas.outside.postgres.receipts import PostgresReceipts
from atlas.outside.postgres.recent import RecentExports
from atlas.outside.postgres.retention import ReceiptPruner
from atlas.outside.postgres.sealing import Sealer
from atlas.outside.postgres.stream import PostgresStreamQueue

LEASE_CALL_SECONDS = 3.0  # shorter than a lease
DEFAULT_RETENTION = ReceiptRetention(clock=utc_now)
DEFAULT_LIMITS = CapacityLimits(16 * 1024**3, 10_000_000, 0)


@dataclass(frozen=True, slots=True)
class JournalOptions:
    """The options of a journal.

    `lease_seconds`: after which another replica takes over. `keep_seconds`: how long a replica
    holds what it accepted, to store it again after a failover; 0 holds nothing. `is_pooled`: the
    connections go through a pooler in transaction mode. `is_streamed`: the rows are published to a
    stream, too. `version` is that of this replica, `clock` the one of its machine. `tls` is for
    servers whose certificate is verified. `announce` gets a line while a start waits for the
    database.
    """

    limits: CapacityLimits = DEFAULT_LIMITS
    retention: ReceiptRetention = DEFAULT_RETENTION
    lease_seconds: float = LEASE_SECONDS
    keep_seconds: float = 60.0
    is_pooled: bool = False
    is_streamed: bool = False
    version: str = ""
    tls: ssl.SSLContext | None = None
    clock: Clock = utc_now
    announce: Callable[[str], None] = lambda _: None


@asynccontextmanager
async def open_journal(
    address: DatabaseAddress,
    journal_keys: Sequence[bytes],
    options: JournalOptions,
    destination_name: str = "",
) -> AsyncIterator[JournalPorts]:
    """Open the journal in this schema; a new one is created.

    `destination_name` names the dataset and branch of the exports. Raises ConfigurationError if the
    server, the key or the destination does not fit, and CommandError if the database is away.
    """
    events = EventBuffer()
    name = f"atlas {socket.gethostname()[:48]} {secrets.token_hex(4)}"  # 63 characters at most
    connector = Connector(address, name, events, is_pooled=options.is_pooled, tls=options.tls)
    cipher = await prepare(connector, journal_keys, destination_name, options.announce)
    codec, recent = RowCodec(cipher), RecentExports(options.keep_seconds, time.monotonic)
    uploads, reads = Session(connector), Session(connector)
    writes, calls = Session(connector), Session(connector, LEASE_CALL_SECONDS)
    lease = Lease(connector, calls, options.lease_seconds)
    notifier = IntakeNotifier(reads)
    limits = options.limits
    phones = PostgresPhoneWriter(reads, PhoneCodec(cipher))

    def notify() -> None:
        if not lease.is_held:
            notifier.notify()

    sealer, is_streamed = Sealer(codec), options.is_streamed
    intake = PostgresIntake(
        writes, sealer, limits, recent, events, phones, notify, is_streamed=is_streamed
    )
    connector.on_contact, connector.on_failover = recent.confirm, intake.offer_again
    peers = PostgresPeers(connector, reads, codec, options.version, options.clock)
    pruner, rate = ReceiptPruner(options.retention), CommitRate(time.monotonic)
    observer = DatabaseObserver(name, options.clock, time.monotonic, peers.is_delayed)
    try:
        yield JournalPorts(
            intake=intake,
            receipts=PostgresReceipts(reads, codec),
            outbox=PostgresOutbox(uploads, lease, codec, pruner, rate, connector),
            stream=PostgresStreamQueue(reads, codec),
            dead_letters=PostgresDeadLetters(reads, codec, limits, is_streamed=is_streamed),
            ledger=PostgresLedger(reads, codec, limits, time.monotonic, observer),
            personal_data=PostgresPersonalData(connector, reads, codec, recent, phones),
            phones=PostgresPhones(reads, cipher, phones),
            inspector=PostgresInspector(reads, codec, limits, connector, observer),
            file=None,
            leadership=lease,
            peers=peers,
            log_key=codec.cipher.user_key,
            events=events,
            is_durable=True,
            replica=name,
        )
    finally:
        for part in (intake, phones, notifier):
            await part.close()
        await peers.leave()
        await asyncio.gather(*(each.close() for each in (uploads, writes, calls, reads)))
