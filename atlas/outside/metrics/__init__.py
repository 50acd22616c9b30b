"""Exports the metrics of Atlas in the Prometheus text format.

families.py    counters and histograms: help texts, labels, known values
collector.py   collects them, and the gauges
"""

from atlas.outside.metrics.collector import CONTENT_TYPE, exposition

__all__ = ["CONTENT_TYPE", "exposition"]
