"""The rows of the old service beside those of Atlas: which differ, and why.

The listing, in the order of the data: `files` finds the rows, `javascript` sees a record as the old
service saw it, `columns` knows what each service makes of one, `prints` keeps a hundred bytes of a
row, `pairs` puts those of both sides together, `balance` counts. `reasons` are the differences that
README.md lists.
"""

from atlas.comparison.balance import Balance, Finding, Place, compared
from atlas.comparison.files import NotRows, Side, opened
from atlas.comparison.reasons import Reason

__all__ = ["Balance", "Finding", "NotRows", "Place", "Reason", "Side", "compared", "opened"]
