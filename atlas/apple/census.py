"""What is in an export, without a value: how many of which type, from when to when."""

from collections.abc import Iterable

from msgspec import Struct

from atlas.apple.samples import Sample


class Kind(Struct):
    """The samples of one type. Moments are as in the lines."""

    type: str
    count: int = 0
    first: str = ""
    last: str = ""

    def take(self, sample: Sample) -> None:
        begins, ends = sample.start_date, sample.end_date
        self.first = begins if not self.count else min(self.first, begins)
        self.last = max(self.last, ends)
        self.count += 1


def census(samples: Iterable[Sample]) -> list[Kind]:
    """The most frequent type first."""
    found: dict[str, Kind] = {}
    for sample in samples:
        kind = found.get(sample.sample_type)
        if kind is None:
            kind = found[sample.sample_type] = Kind(sample.sample_type)
        kind.take(sample)
    return sorted(found.values(), key=lambda kind: (-kind.count, kind.type))
