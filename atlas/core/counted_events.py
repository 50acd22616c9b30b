"""Events that a metric counts, each with the key of its counter."""

from collections.abc import Callable, Mapping
from typing import Any

from atlas.core import events
from atlas.core.events import Event
from atlas.core.histograms import Key

COUNTED_EVENTS: Mapping[type[Event], Callable[[Any], Key]] = {
    events.RequestRefused: lambda event: ("atlas_refusals", event.code),
    events.ConnectionRejected: lambda event: ("atlas_connections_refused", event.code),
    events.ConnectionAborted: lambda event: ("atlas_connections_cut", event.reason),
    events.RecordCountMismatch: lambda _: ("atlas_record_count_mismatches",),
    events.ClientStuck: lambda _: ("atlas_stuck_clients",),
    events.KeysFetched: lambda _: ("atlas_jwks_fetches", "ok"),
    events.KeysUnavailable: lambda _: ("atlas_jwks_fetches", "failed"),
    events.StageCrashed: lambda event: ("atlas_stage_crashes", event.stage),
    events.ExportReplayed: lambda _: ("atlas_exports", "replayed"),
    events.ExportQuarantined: lambda _: ("atlas_exports", "quarantined"),
    events.ExportFailed: lambda event: ("atlas_exports_failed", event.cause),
    events.JournalDamaged: lambda _: ("atlas_journal_damaged",),
    events.TotalsMismatch: lambda _: ("atlas_ledger_unbalanced",),
    events.ForeignWriterDetected: lambda _: ("atlas_foreign_writers",),
    events.OrphanAborted: lambda _: ("atlas_orphans", "aborted"),
    events.OrphanSuspected: lambda _: ("atlas_orphans", "suspected"),
    events.FoundryTokenFetched: lambda _: ("atlas_foundry_token_fetches", "ok"),
    events.FoundryTokenRefused: lambda _: ("atlas_foundry_token_fetches", "failed"),
    events.StreamRequestFailed: lambda _: ("atlas_stream_failures",),
    events.JournalFailedOver: lambda _: ("atlas_journal_failovers",),
    events.DatabaseConnectionLost: lambda _: ("atlas_journal_reconnects",),
}
