"""The ports of Atlas, in the order of the flow. `atlas/outside` has the adapters.

The exceptions are MaintenanceTasks, BranchAccess, PersonalDataTasks and ReplayTasks: operators use
them, and the flow implements them.
"""

from atlas.core.ports.environment import Clock, CpuExecutor, Identities
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
    DatasetInspection,
    IssuerInspector,
    JournalInspector,
    PublicEndpoint,
)
from atlas.core.ports.journal import (
    DeadLetters,
    Intake,
    Ledger,
    Outbox,
    PersonalDataStore,
    PersonalDataTasks,
    ReceiptQueries,
    Reconciliation,
    ReplayTasks,
    UploadQueue,
)

__all__ = [
    "SNAPSHOT_MAX_AGE_SECONDS",
    "Branch",
    "BranchAccess",
    "Bytes",
    "Clock",
    "CpuExecutor",
    "Dataset",
    "DatasetInspection",
    "DeadLetters",
    "FileListing",
    "Identities",
    "Intake",
    "IssuerInspector",
    "JournalInspector",
    "Ledger",
    "MaintenanceTasks",
    "Outbox",
    "PersonalDataStore",
    "PersonalDataTasks",
    "PublicEndpoint",
    "ReceiptQueries",
    "Reconciliation",
    "ReplayTasks",
    "TransactionQueries",
    "TransactionState",
    "UploadQueue",
]
