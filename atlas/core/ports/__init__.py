"""What Atlas asks of the outside, in the order of the flow. `atlas/outside` answers.

Errands, Turn, People and Replays are what operators ask of the flow: actors answer.
"""

from atlas.core.ports.foundry import (
    SEEN_SECONDS_MAX,
    Branch,
    Bytes,
    Dataset,
    Errands,
    Folders,
    History,
    TransactionState,
    Turn,
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
    "SEEN_SECONDS_MAX",
    "Access",
    "Aside",
    "Attempts",
    "Backlog",
    "Branch",
    "Branches",
    "Bytes",
    "Checkup",
    "Clock",
    "Compute",
    "Contents",
    "Dataset",
    "Errands",
    "Folders",
    "Front",
    "History",
    "Identities",
    "Intake",
    "Issuer",
    "Ledger",
    "Mailbox",
    "Outbox",
    "People",
    "PersonRecords",
    "Receipts",
    "Replays",
    "Schemas",
    "TransactionState",
    "Turn",
]
