"""Finds the records that a stream refuses, by dividing the requests that it refuses."""

from collections import Counter
from collections.abc import Iterator, Sequence

from atlas.core.stream import StreamLimits, divide_records

# Refused requests, down to a sixteenth of the first, after which the stream itself is at fault
REFUSALS_MAX = 31
RECORD_BYTES_MAX = 1_000_000  # documented: a larger record that is refused is itself at fault


class PublishWindow:
    """The records of some exports, and what has become of them. A request is a range of records.

    A record that is refused alone is skipped, but only if Foundry accepts others: a stream that
    accepts none has another schema, and must not cost any rows. A record that is too large is
    skipped in any case, because it may be the only one for days. `has_accepted`: Foundry has just
    accepted other records.
    """

    def __init__(
        self,
        exports: Sequence[Sequence[bytes]],
        limits: StreamLimits,
        *,
        has_accepted: bool = False,
    ) -> None:
        self._records = [record for records in exports for record in records]
        self._owners = [owner for owner, records in enumerate(exports) for _ in records]
        self._open = [len(records) for records in exports]
        self._refused = Counter[int]()
        self._oversized = Counter[int]()  # part of `_refused`
        self._refusals = 0
        self.has_accepted = has_accepted
        self.too_large_bytes: int | None = None  # of the smallest request refused for its size
        sizes = [len(record) for record in self._records]
        self.requests = list(divide_records(sizes, limits))

    def get(self, request: range) -> Sequence[bytes]:
        return self._records[request.start : request.stop]

    def measure(self, request: range) -> int:
        """Return the size of the request's records in bytes."""
        return sum(map(len, self.get(request)))

    def accept(self, request: range) -> None:
        """Record that Foundry has accepted the request."""
        self.has_accepted = True
        for owner in self._owners[request.start : request.stop]:
            self._open[owner] -= 1

    def record_too_large(self, request: range) -> None:
        """Record that a request was refused for its size; not if it is a single record."""
        if len(request) > 1:
            size = self.measure(request)
            smallest = self.too_large_bytes
            self.too_large_bytes = size if smallest is None else min(size, smallest)

    def refuse(self, request: range, *, is_oversized: bool = False) -> Sequence[range]:
        """Record that Foundry has refused the request; return the requests to make instead.

        `is_oversized`: Foundry has named the size of a record as the reason.
        """
        if len(request) > 1:
            self._refusals += 1
            middle = (request.start + request.stop) // 2
            return range(request.start, middle), range(middle, request.stop)
        owner = self._owners[request.start]
        self._refused[owner] += 1
        self._open[owner] -= 1
        if is_oversized or self.measure(request) > RECORD_BYTES_MAX:
            self._oversized[owner] += 1
        else:
            self._refusals += 1
        return ()

    @property
    def is_hopeless(self) -> bool:
        """True if the stream seems to refuse every record."""
        refused, oversized = self._refused.total(), self._oversized.total()
        is_over = self._refusals >= REFUSALS_MAX or refused == len(self._records) > oversized
        return is_over and not self.has_accepted

    def list_finished(self) -> Iterator[tuple[int, int]]:
        """Yield the position of each finished export, and the number of its skipped records."""
        for position, left in enumerate(self._open):
            refused = self._refused[position]
            if not left and (self.has_accepted or refused == self._oversized[position]):
                yield position, refused
