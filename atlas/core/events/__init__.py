"""Everything that happens and is worth a log line or a metric; readers decide which.

No event carries a value from the data or a token; of Foundry's own words, only the name and the
instance id of an error. `user` is a sub: readers show a keyed hash of it.
"""

from collections.abc import Callable

from atlas.core.events import flow, foundry, journal, senders
from atlas.core.events.flow import (
    ActorCrashed,
    DrainEnded,
    DrainStarted,
    ExportAccepted,
    ExportQuarantined,
    ExportReplayed,
    LinesRejected,
    ParquetOfEach,
    ServiceStarted,
    StageWorked,
    crash_of,
)
from atlas.core.events.foundry import (
    Because,
    ExportCommitted,
    ExportFailed,
    ExportSetAside,
    FailureCause,
    FoundryCalled,
    FoundryTokenFetched,
    FoundryTokenRefused,
    GroupCommitted,
    GroupRecovered,
    GroupStarted,
    Operation,
    OrphanAborted,
    OrphanSuspected,
    SecondWriter,
    UploadPaused,
)
from atlas.core.events.journal import (
    JournalDamaged,
    JournalOutdated,
    KeyBesideJournal,
    LedgerUnbalanced,
    UserForgotten,
)
from atlas.core.events.senders import (
    ClientStuck,
    ConnectionCut,
    ConnectionRefused,
    CountsDiffer,
    KeysFetched,
    KeysUnavailable,
    RequestAnswered,
    RequestRead,
    RequestRefused,
    RequestsShed,
    Why,
)

__all__ = [
    "ActorCrashed",
    "Because",
    "ClientStuck",
    "ConnectionCut",
    "ConnectionRefused",
    "CountsDiffer",
    "DrainEnded",
    "DrainStarted",
    "Event",
    "ExportAccepted",
    "ExportCommitted",
    "ExportFailed",
    "ExportQuarantined",
    "ExportReplayed",
    "ExportSetAside",
    "FailureCause",
    "FoundryCalled",
    "FoundryTokenFetched",
    "FoundryTokenRefused",
    "GroupCommitted",
    "GroupRecovered",
    "GroupStarted",
    "JournalDamaged",
    "JournalOutdated",
    "KeyBesideJournal",
    "KeysFetched",
    "KeysUnavailable",
    "LedgerUnbalanced",
    "LinesRejected",
    "Operation",
    "OrphanAborted",
    "OrphanSuspected",
    "ParquetOfEach",
    "RequestAnswered",
    "RequestRead",
    "RequestRefused",
    "RequestsShed",
    "SecondWriter",
    "ServiceStarted",
    "StageWorked",
    "UploadPaused",
    "UserForgotten",
    "Watch",
    "Why",
    "crash_of",
]

Event = senders.Event | flow.Event | journal.Event | foundry.Event
Watch = Callable[[Event], None]
