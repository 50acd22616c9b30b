"""Compares the rows of the old service with those of Atlas, and explains the differences.

The modules, in the order of the data: `files` reads the rows, `javascript` parses a record as the
old service did, `columns` computes the columns that each service makes of it, `fingerprints` packs
a row to a hundred bytes, `pairs` matches the rows of both sides, `report` counts. `reasons` lists
the known differences.
"""

from atlas.comparison.files import NotRows, Side, open_side
from atlas.comparison.reasons import Reason
from atlas.comparison.report import ComparisonReport, ReasonSummary, RowLocation, compare_sides

__all__ = [
    "ComparisonReport",
    "NotRows",
    "Reason",
    "ReasonSummary",
    "RowLocation",
    "Side",
    "compare_sides",
    "open_side",
]
