"""Summarizes an export without its values: number and period of the samples of each type."""

from collections.abc import Iterable

from msgspec import Struct

from atlas.apple.samples import Sample, SampleDeletion


class TypeSummary(Struct):
    """The samples of one type. Timestamps are formatted as in the lines."""

    type: str
    count: int = 0
    first: str = ""
    last: str = ""

    def add(self, sample: Sample) -> None:
        begins, ends = sample.start_date, sample.end_date
        self.first = begins if not self.count else min(self.first, begins)
        self.last = max(self.last, ends)
        self.count += 1


def summarize(samples: Iterable[Sample | SampleDeletion]) -> list[TypeSummary]:
    """Count the samples of each type, the most frequent type first. Deletions are not counted."""
    summaries: dict[str, TypeSummary] = {}
    for sample in samples:
        if isinstance(sample, SampleDeletion):
            continue
        summary = summaries.get(sample.sample_type)
        if summary is None:
            summary = summaries[sample.sample_type] = TypeSummary(sample.sample_type)
        summary.add(sample)
    return sorted(summaries.values(), key=lambda kind: (-kind.count, kind.type))
