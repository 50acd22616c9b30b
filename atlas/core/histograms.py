"""Histograms of durations and sizes, as plain numbers."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

Key = tuple[str, ...]  # the name of a metric, then the values of its labels

CALL_SECONDS = 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100
STAGE_SECONDS = 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5
DELAY_SECONDS = 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 3_600, 86_400
COMMIT_SECONDS = 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10
GROUP_KIB = 4, 16, 64, 256, 1024, 4 * 1024, 16 * 1024, 64 * 1024, 128 * 1024
BOUNDS: Mapping[str, Sequence[float]] = {
    "atlas_http_request_seconds": CALL_SECONDS,
    "atlas_stage_seconds": STAGE_SECONDS,
    "atlas_group_exports": (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000),
    "atlas_group_bytes": [kib * 1024 for kib in GROUP_KIB],
    "atlas_group_seconds": CALL_SECONDS,
    "atlas_foundry_call_seconds": CALL_SECONDS,
    "atlas_stream_delay_seconds": DELAY_SECONDS,
    "atlas_journal_commit_seconds": COMMIT_SECONDS,
    "atlas_journal_batch_exports": (1, 2, 4, 8, 16, 32, 64, 128, 256),
}


class Histogram:
    """The number of values up to each bound, and their sum.

    The histogram of prometheus_client takes a lock and searches its buckets for each value, which
    was 2 % of the cost of an export.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # the last is of values above all bounds
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


EMPTY = Histogram(())


class Histograms(dict[Key, Histogram]):
    """Histograms by key; one that does not exist yet is empty."""

    def __missing__(self, key: Key) -> Histogram:
        return self.setdefault(key, Histogram(BOUNDS[key[0]]))
