"""Types of the commit protocol that the journal and the uploader share."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from atlas.core.messages import BranchSnapshot, CommitGroup, TransactionKind

Lane = Literal["normal", "isolated"]


class Backlog(Struct, frozen=True):
    """The numbers of waiting exports: fresh ones, and failed ones that are retried separately.

    `is_full`: the fresh ones fill a whole group. `doubtful`: how many of them are not claimed,
    because the database may have lost what happened to them.
    """

    fresh: int = 0
    failed: int = 0
    is_full: bool = False
    doubtful: int = 0

    @property
    def waiting(self) -> int:
        return self.fresh + self.failed


class Intent(Struct, frozen=True):
    """An attempt to begin a transaction of this kind, and the branch just before it."""

    kind: TransactionKind
    snapshot: BranchSnapshot


class WorkInHand(Struct, frozen=True):
    """Work that was begun and not concluded.

    `group`: the claimed exports. `transaction`: the one that is recorded as open. `intents`: the
    attempts to begin that may still open a transaction.
    """

    group: CommitGroup | None = None
    transaction: str | None = None
    intents: tuple[Intent, ...] = ()


class CommitResult(BranchSnapshot, frozen=True):
    """The branch after a commit.

    `is_confirmed`: Foundry confirmed our only request to commit. Otherwise another client may have
    committed the transaction first, without all of our files.
    """

    is_confirmed: bool = True


VerdictKind = Literal[
    "committed", "corrupt", "moved", "refused", "failed", "divided", "isolated", "released"
]


class Verdict(Struct, frozen=True):
    """The outcome of a transaction for one export.

    committed   its rows are in `transaction`
    corrupt     its payload cannot be read any more: set aside
    moved       its path belongs to another file: accepted again, with another path
    refused     Foundry refused its file. Counts as a try; it gets a file of its own from now on.
                `is_certain` if Foundry blamed the file by name
    failed      its group failed for an unknown reason. Counts as a try; from the second on, it is
                retried in smaller groups
    divided     Foundry refused its shared file. Counts as a try, unless Foundry never answered
                (`is_unanswered`); it is retried in smaller groups at once
    isolated    it is retried alone from now on. Does not count as a try. Foundry never answered
                about its file, but about others (`is_unanswered`); or refused it, and with it the
                commit of all others
    released    accepted again as before
    """

    kind: VerdictKind
    reason: str = ""
    transaction: str = ""
    is_certain: bool = False
    is_unanswered: bool = False


RELEASED = Verdict("released")


class Conclusion(Struct, frozen=True):
    """The end of work in hand: a verdict on each export; `default_verdict` is for the rest.

    `transaction` is the one that is recorded as open, None if none is. After `tries_max` failures
    that count, an export is set aside if it is certainly at fault: Foundry blamed its file, a probe
    was taken (`has_evidence`), or other exports were committed since its last failure.
    """

    transaction: str | None = None
    verdicts: Mapping[str, Verdict] = {}
    default_verdict: Verdict = RELEASED
    tries_max: int = 5
    has_evidence: bool = False

    def find_verdict(self, id: str) -> Verdict:
        return self.verdicts.get(id, self.default_verdict)
