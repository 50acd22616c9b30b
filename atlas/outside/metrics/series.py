"""A counter and a histogram as plain numbers; only a scrape makes samples of them.

Those of prometheus_client take a lock each time and walk along their buckets: that made a
fiftieth of what an export costs.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import inf

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

Labels = tuple[str, ...]  # their values; their names are what a series is counted `by`


class Counter:
    """So many, by label. Those that are known are told from the start: a rate needs the zero."""

    def __init__(
        self, name: str, what: str, by: Sequence[str] = (), known: Iterable[Labels] = ()
    ) -> None:
        self.name, self.what, self.by = name, what, by
        self.values: dict[Labels, float] = dict.fromkeys(known if by else [()], 0)

    def add(self, labels: Labels = (), amount: float = 1) -> None:
        self.values[labels] = self.values.get(labels, 0) + amount

    def family(self) -> CounterMetricFamily:
        found = CounterMetricFamily(self.name, self.what, labels=self.by)
        for labels, value in self.values.items():
            found.add_metric(labels, value)
        return found


class Histogram:
    """How many were up to each bound, by label, and the sum of all."""

    def __init__(
        self, name: str, what: str, bounds: Sequence[float], by: Sequence[str] = ()
    ) -> None:
        self.name, self.what, self.by = name, what, by
        self.bounds = (*bounds, inf)
        self.values: dict[Labels, list[int]] = {}
        self.sums: dict[Labels, float] = {}
        if not by:
            self._first(())

    def observe(self, labels: Labels, value: float) -> None:
        if labels not in self.values:
            self._first(labels)
        self.values[labels][bisect_left(self.bounds, value)] += 1
        self.sums[labels] += value

    def _first(self, labels: Labels) -> None:
        self.sums[labels] = 0.0
        self.values[labels] = [0] * len(self.bounds)

    def family(self) -> HistogramMetricFamily:
        found = HistogramMetricFamily(self.name, self.what, labels=self.by)
        bounds = [*(str(float(bound)) for bound in self.bounds[:-1]), "+Inf"]
        for labels, counts in self.values.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            found.add_metric(labels, buckets, self.sums[labels])
        return found
