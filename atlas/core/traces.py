"""W3C Trace Context (https://www.w3.org/TR/trace-context/): which trace a request belongs to."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import Struct

TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
SAMPLED = 1


class Trace(Struct, frozen=True, array_like=True):
    """What a request is in its trace: its span, and the one that it comes from, if any.

    Ids are lower-case hex digits: 32 of a trace, 16 of a span.
    """

    id: str
    span: str
    parent: str | None = None


def never_sample(_traceparent: str) -> Trace | None:
    """Nobody wants to know."""
    return None


@dataclass(frozen=True, slots=True)
class Sampler:
    """Gives a request its span. `hex` makes so many random bytes, `random` a number below 1.

    What comes with a trace is recorded if its sender does; of the others, so large a share.
    """

    share: float
    hex: Callable[[int], str]
    random: Callable[[], float]

    def __call__(self, traceparent: str) -> Trace | None:
        match = TRACEPARENT.fullmatch(traceparent)
        if match and (match[1] != "00" or match[5] is None):
            is_sampled = int(match[4], 16) & SAMPLED
            return Trace(match[2], self.hex(8), match[3]) if is_sampled else None
        return Trace(self.hex(16), self.hex(8)) if self.random() < self.share else None
