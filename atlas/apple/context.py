"""The state of one pass over an export: its identities, and counts of texts that it cannot read."""

from collections import Counter
from dataclasses import dataclass, field

from atlas.apple.identity import INNER_FILTER_WORDS, Identity, StableIdentity
from atlas.apple.printed_identity import PrintedIdentity

# Texts that a phone prints in its language or calendar, by kind. Their values are never reported.
DATES, VALUES = "dates", "values that are not numbers"
TOTALS = "totals of workouts"
RATES, UNITS = "sampling rates of electrocardiograms", "units of electrocardiograms"
POSITIONS = "numbers in routes"


@dataclass(slots=True)
class ConversionContext:
    """The identities, and the number of texts that could not be read, by kind.

    `inner_identity` is for samples inside other samples, which most exports repeat outside. They
    are counted separately, so that both copies have the same uuid.
    """

    identity: Identity
    inner_identity: Identity
    unread: Counter[str] = field(default_factory=Counter)

    @classmethod
    def begin(cls, version: int) -> "ConversionContext":
        if version == 1:
            return cls(PrintedIdentity(), PrintedIdentity())
        return cls(StableIdentity(), StableIdentity(INNER_FILTER_WORDS))

    def enter(self, unread: Counter[str]) -> "ConversionContext":
        """Return the context for the samples inside a sample."""
        return ConversionContext(self.inner_identity, self.inner_identity, unread)
