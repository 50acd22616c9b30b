"""Checks the whole flow, in its order; walk.py has the table of the steps.

It knows no system: it asks ports, inside a running service and without one.
"""

from atlas.diagnose.context import Context, Sources, address
from atlas.diagnose.schema import COLUMNS
from atlas.diagnose.walk import NAMES, walk

__all__ = ["COLUMNS", "NAMES", "Context", "Sources", "address", "walk"]
