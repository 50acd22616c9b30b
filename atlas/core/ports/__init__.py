"""What Atlas asks of the outside, in the order of the flow. `atlas/outside` answers.

Errands, Turn, People and Replays are what operators ask of the flow: actors answer.
"""

from atlas.core.ports.foundry import (
    SNAPSHOT_MAX_AGE_SECONDS,
    Branch,
    BranchAccess,
    Bytes,
    Dataset,
    FileListing,
    MaintenanceTasks,
    TransactionQueries,
    TransactionState,
)
from atlas.core.ports.inspection import (
    Access,
    Branches,
    Checkup,
    Contents,
    Front,
    Issuer,
    Schemas,
)
from atlas.core.ports.journal import (
    Aside,
    Attempts,
    Backlog,
    Intake,
    Ledger,
    Mailbox,
    Outbox,
    People,
    PersonRecords,
    Receipts,
    Replays,
)
from atlas.core.ports.surroundings import (
    Clock,
    Compute,
    Identities,
)

__all__ = [
    "SNAPSHOT_MAX_AGE_SECONDS",
    "Access",
    "Aside",
    "Attempts",
    "Backlog",
    "Branch",
    "BranchAccess",
    "Branches",
    "Bytes",
    "Checkup",
    "Clock",
    "Compute",
    "Contents",
    "Dataset",
    "FileListing",
    "Front",
    "Identities",
    "Intake",
    "Issuer",
    "Ledger",
    "Mailbox",
    "MaintenanceTasks",
    "Outbox",
    "People",
    "PersonRecords",
    "Receipts",
    "Replays",
    "Schemas",
    "TransactionQueries",
    "TransactionState",
]
