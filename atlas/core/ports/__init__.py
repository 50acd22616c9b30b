"""What Atlas asks of the outside, in the order of the flow. `atlas/outside` answers.

MaintenanceTasks, BranchAccess, People and Replays are what operators ask of the flow.
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
    Checkup,
    DatasetInspection,
    Front,
    Issuer,
)
from atlas.core.ports.journal import (
    Aside,
    Intake,
    Ledger,
    Outbox,
    People,
    PersonRecords,
    Receipts,
    Reconciliation,
    Replays,
    UploadQueue,
)
from atlas.core.ports.surroundings import (
    Clock,
    Compute,
    Identities,
)

__all__ = [
    "SNAPSHOT_MAX_AGE_SECONDS",
    "Aside",
    "Branch",
    "BranchAccess",
    "Bytes",
    "Checkup",
    "Clock",
    "Compute",
    "Dataset",
    "DatasetInspection",
    "FileListing",
    "Front",
    "Identities",
    "Intake",
    "Issuer",
    "Ledger",
    "MaintenanceTasks",
    "Outbox",
    "People",
    "PersonRecords",
    "Receipts",
    "Reconciliation",
    "Replays",
    "TransactionQueries",
    "TransactionState",
    "UploadQueue",
]
