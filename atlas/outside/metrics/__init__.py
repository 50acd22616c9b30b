"""The metrics, as a reader of events, in the format of Prometheus.

series.py    a counter and a histogram, as cheap as can be: they are told several times an export
families.py  the list of what events move
metrics.py   which event moves what, and what is asked at each scrape
"""

from atlas.outside.metrics.metrics import CONTENT_TYPE, Metrics

__all__ = ["CONTENT_TYPE", "Metrics"]
