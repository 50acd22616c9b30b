"""The uploader's memory, from one group to the next."""

from dataclasses import dataclass

from atlas.core.events import Because
from atlas.core.messages import BranchSnapshot


@dataclass(slots=True)
class Memory:
    """A new life knows nothing."""

    is_compared: bool = False  # with the dataset, whether the journal is older
    is_asked: bool = False  # all that the journal notes as begun was asked for
    is_excused: bool = False  # it was Foundry that ended what is claimed
    is_turn_of_suspects: bool = False
    is_unresolved: bool = False  # an attempt before this one may still open a transaction
    is_busy: bool = False  # there was a group before this one
    because: Because = "idle"  # what the group that is begun next did not wait for any longer
    failures: int = 0
    begun_at: float | None = None
    seen: tuple[float, BranchSnapshot] | None = None
    holder: str = ""
    holders: int = 0
