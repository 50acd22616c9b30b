"""The rows of the old service beside those of Atlas: which differ, and why.

The listing, in the order of the data: `files` finds the rows, `javascript` sees a record as the old
service saw it, `columns` knows what each service makes of one, `prints` keeps a hundred bytes of a
row, `pairs` puts those of both sides together, `balance` counts. `reasons` are the differences that
the README names.
"""

from atlas.comparison.files import NotRows, Side, open_side
from atlas.comparison.reasons import Reason
from atlas.comparison.report import ComparisonReport, Finding, RowLocation, compare_sides

__all__ = [
    "ComparisonReport",
    "Finding",
    "NotRows",
    "Reason",
    "RowLocation",
    "Side",
    "compare_sides",
    "open_side",
]
