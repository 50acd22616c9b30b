"""The commit of a group of exports, in the words of its two sides: the journal and the uploader."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from atlas.core.messages import BranchSnapshot, CommitGroup, TransactionKind

Lane = Literal["normal", "isolated"]


class Backlog(Struct, frozen=True):
    """The exports that wait: fresh ones, and those with a failure that are tried apart.

    `is_full`: the fresh ones fill a whole group.
    """

    fresh: int = 0
    failed: int = 0
    is_full: bool = False

    @property
    def waiting(self) -> int:
        return self.fresh + self.failed


class Intent(Struct, frozen=True):
    """An attempt to begin a transaction of this kind, and the branch just before it."""

    kind: TransactionKind
    snapshot: BranchSnapshot


class InHand(Struct, frozen=True):
    """Work that was begun and not concluded.

    `group`: the claimed exports. `transaction`: the one that is recorded as open. `intents`: the
    attempts to begin that may still open a transaction.
    """

    group: CommitGroup | None = None
    transaction: str | None = None
    intents: tuple[Intent, ...] = ()


class CommitResult(BranchSnapshot, frozen=True):
    """The branch behind a commit.

    `is_confirmed`: Foundry answered our one request. Otherwise somebody else may have committed the
    transaction before, and perhaps other files in it than we have put.
    """

    is_confirmed: bool = True


VerdictKind = Literal[
    "committed", "corrupt", "moved", "refused", "failed", "divided", "isolated", "released"
]


class Verdict(Struct, frozen=True):
    """How a transaction ended for one export.

    committed   its rows stand in `transaction`
    corrupt     its payload cannot be read any more: set aside
    moved       its path belongs to another file: accepted again, with another path
    refused     Foundry refused its file: counts, and it has a file of its own from now on;
                `is_certain` if Foundry blamed the file by name
    failed      its group failed, nobody knows why: counts, and from the second time on the group
                is divided
    divided     the same, and the group is divided at once
    isolated    tried alone; counts not. Foundry never answered about its file, but about others
                (`is_unanswered`); or refused it, in a group that it spoiled for all others
    released    accepted again as before
    """

    kind: VerdictKind
    reason: str = ""
    transaction: str = ""
    is_certain: bool = False
    is_unanswered: bool = False


RELEASED = Verdict("released")


class Conclusion(Struct, frozen=True):
    """The end of what is in hand: a verdict for each of its exports, and `others` for the rest.

    `transaction` is the one that is recorded as open, None if none is. `tries_max`: after so many
    failures that count an export is set aside, if its fault is certain or `has_evidence`: Foundry
    took other files since its last failure.
    """

    transaction: str | None = None
    verdicts: Mapping[str, Verdict] = {}
    others: Verdict = RELEASED
    tries_max: int = 5
    has_evidence: bool = False

    def verdict_on(self, id: str) -> Verdict:
        return self.verdicts.get(id, self.others)
