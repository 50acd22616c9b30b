"""The level and the message of each event.

Messages of the old service are kept word for word, because runbooks search for them. An error needs
a person; config/runbook.md says what to do. What a sender did wrong is not an error, and neither is
a failure that passes by itself.
"""

from atlas.core import events
from atlas.core.events import Event

MESSAGES: dict[type[Event], tuple[str, str]] = {
    events.RequestAnswered: ("debug", "Request answered"),
    events.OperatorRequestAnswered: ("debug", "Operator request answered"),
    events.ConnectionRejected: ("info", "Connection rejected"),
    events.ConnectionAborted: ("debug", "Connection cut"),
    events.RequestsShed: ("warning", "HealthKit raw export failed"),
    events.StageCompleted: ("debug", "Stage handled a message"),
    events.LinesRejected: ("debug", "Export has no valid line"),
    events.ServiceStarted: ("info", "Atlas started"),
    events.ListenersOpened: ("info", "Listening"),
    events.ReadinessDelayed: ("warning", "Not ready yet"),
    events.ExportAccepted: ("debug", "Uploading HealthKit data to dataset"),
    events.ExportReplayed: ("info", "Export replayed"),
    events.RecordCountMismatch: ("warning", "Record count mismatch"),
    events.ClientStuck: ("warning", "Stuck client"),
    events.ExportCommitted: ("info", "Successfully uploaded HealthKit JSON to Foundry dataset"),
    events.ExportFailed: ("warning", "HealthKit export failed, tried apart from the others"),
    events.ExportSetAside: ("error", "Failed to upload HealthKit JSON to Foundry dataset"),
    events.ExportQuarantined: ("error", "HealthKit export that crashes Atlas set aside"),
    events.GroupStarted: ("debug", "Foundry transaction opened"),
    events.GroupCommitted: ("debug", "Foundry transaction committed"),
    events.GroupRecovered: ("warning", "Foundry transaction of unknown outcome settled"),
    events.UploadPaused: ("warning", "Failed to upload HealthKit JSON to Foundry dataset"),
    events.UnprotectedKeyFile: ("warning", "ATLAS_JOURNAL_KEY is not set"),
    events.ParquetPerExport: ("warning", "Parquet saves little in a file for each export"),
    events.JournalDamaged: ("error", "Journal damaged"),
    events.JournalRestored: ("error", "Journal older than the dataset"),
    events.TotalsMismatch: ("error", "Ledger unbalanced"),
    events.LeadershipTaken: ("info", "This replica uploads"),
    events.LeadershipLost: ("info", "This replica stopped uploading"),
    events.JournalFailedOver: ("warning", "Journal failed over"),
    events.OldPrimaryRefused: ("warning", "An old primary of the database answered"),
    events.ExportsOfferedAgain: ("warning", "Exports stored again after a failover"),
    events.ExportsStored: ("debug", "Exports stored in the database"),
    events.DatabaseConnectionLost: ("warning", "Connection to the journal's database lost"),
    events.NotificationsDelayed: ("warning", "Notifications of the database do not arrive"),
    events.OrphanAborted: ("warning", "Foundry transaction whose answer was lost aborted"),
    events.OrphanSuspected: ("error", "Foundry transaction that may be ours blocks the branch"),
    events.ForeignWriterDetected: ("error", "Somebody else writes to the branch"),
    events.RowsPublished: ("debug", "Rows published to the stream"),
    events.StreamRowsSkipped: ("warning", "Rows are not published to the stream"),
    events.StreamRowsDropped: ("warning", "Stream too far behind: oldest rows dropped from it"),
    events.StreamRequestFailed: ("debug", "Request to the stream failed"),
    events.StreamPaused: ("error", "Nothing can be published to the stream"),
    events.StreamResumed: ("info", "Rows are published to the stream again"),
    events.UserErased: ("warning", "User forgotten"),
    events.KeysFetched: ("debug", "Auth0 signing keys fetched"),
    events.KeysChanged: ("info", "Auth0 signing keys changed"),
    events.KeysUnavailable: ("warning", "Auth0 signing keys cannot be fetched"),
    events.FoundryTokenFetched: ("debug", "Foundry token fetched"),
    events.FoundryTokenRefused: ("warning", "Foundry gives no token"),
    events.StageCrashed: ("error", "Stage crashed"),
    events.PhonesCounted: ("debug", "Phones counted"),
    events.DrainStarted: ("info", "Shutting down"),
    events.DrainEnded: ("info", "Shut down"),
}
# Text is for a person who watches: one line per commit. JSON is for a person who searches: the
# lines of each export, which have its correlation id.
TEXT_LEVELS: dict[type[Event], str] = {
    events.ListenersOpened: "debug",  # the line `ready` follows
    events.RequestRead: "debug",
    events.ExportReplayed: "debug",
    events.ExportCommitted: "debug",
    events.GroupCommitted: "info",
}
# errors that are regular results of an operation, not failures
EXPECTED_ERRORS: dict[str, frozenset[str]] = {
    "begin": frozenset({"OpenTransactionAlreadyExists"}),
    "transaction": frozenset({"TransactionNotFound"}),
    "file": frozenset({"FileNotFound", "FileNotFoundOnBranch", "DatasetViewNotFound"}),
    "remove": frozenset({"FileNotFound", "FileNotFoundOnBranch"}),
    "files": frozenset({"DatasetViewNotFound", "TransactionNotCommitted", "TransactionNotFound"}),
}


def choose_message(event: Event) -> tuple[str, str]:
    """Return the level and message of an event, which may depend on more than its type."""
    if isinstance(event, events.RequestRefused):
        return "warning", describe_refusal(event)
    if isinstance(event, events.FoundryCalled):  # what fails because of it has a line of its own
        return "debug", "Foundry call failed" if is_failure(event) else "Foundry called"
    if isinstance(event, events.RequestRead):
        kind = "batch" if event.is_batch else "raw"
        return "info", f"Processing HealthKit {kind} export to dataset"
    return MESSAGES[type(event)]


def is_failure(event: events.FoundryCalled) -> bool:
    """True if Foundry responded with an error that is not a regular result of the operation."""
    is_expected = event.error_name in EXPECTED_ERRORS.get(event.operation, frozenset())
    return event.status >= 400 and not is_expected


def describe_refusal(event: events.RequestRefused) -> str:
    """Return the sentence of a refusal; most are those of the old service."""
    if event.code in {"NOT_FOUND", "METHOD_NOT_ALLOWED"}:
        return "Nothing is at this address"  # usually a scanner
    if event.status == 401:
        return "JWT validation failed"
    if event.status == 429:
        return "Rate limit exceeded"
    too_large = event.status == 413
    return "HealthKit export exceeds payload limit" if too_large else "HealthKit raw export failed"
