"""W3C Trace Context (https://www.w3.org/TR/trace-context/): the traces of requests."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import Struct

TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
SAMPLED = 1


class Trace(Struct, frozen=True, array_like=True):
    """The trace and span of a request, and its parent span, if any.

    Ids are lower-case hex digits: 32 for a trace, 16 for a span.
    """

    id: str
    span: str
    parent: str | None = None


def never_sample(_traceparent: str) -> Trace | None:
    """Sample nothing."""
    return None


@dataclass(frozen=True, slots=True)
class Sampler:
    """Decides whether a request is traced, and gives it a span.

    A request with a `traceparent` header is traced if its sender samples it; of the others, a
    random `share` is. `hex` returns the given number of random bytes in hex, `random` a number
    below 1.
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
