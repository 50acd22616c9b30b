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
    JournalFile,
    JournalInspector,
    PublicEndpoint,
    RowCounter,
    SchemaInspection,
    StreamInspection,
)
from atlas.core.ports.journal import (
    DeadLetters,
    Intake,
    JournalPorts,
    Ledger,
    Outbox,
    ReceiptQueries,
    Reconciliation,
    ReplayTasks,
    UploadQueue,
)
from atlas.core.ports.personal_data import PersonalDataStore, PersonalDataTasks
from atlas.core.ports.phones import PhoneBook
from atlas.core.ports.replicas import (
    HandleNotification,
    Leadership,
    LeadStatus,
    Outcomes,
    ReplicaPeers,
    Topic,
)
from atlas.core.ports.stream import Stream, StreamQueue

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
    "HandleNotification",
    "Identities",
    "Intake",
    "IssuerInspector",
    "JournalFile",
    "JournalInspector",
    "JournalPorts",
    "LeadStatus",
    "Leadership",
    "Ledger",
    "MaintenanceTasks",
    "Outbox",
    "Outcomes",
    "PersonalDataStore",
    "PersonalDataTasks",
    "PhoneBook",
    "PublicEndpoint",
    "ReceiptQueries",
    "Reconciliation",
    "ReplayTasks",
    "ReplicaPeers",
    "RowCounter",
    "SchemaInspection",
    "Stream",
    "StreamInspection",
    "StreamQueue",
    "Topic",
    "TransactionQueries",
    "TransactionState",
    "UploadQueue",
]
