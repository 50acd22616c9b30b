"""Walks the whole flow, in its order, and says of each step whether it does its part.

asking.py      whom a walk asks, and what it has learned on its way
auth0.py       1 clock, 2 issuer, 3 token
edge.py        4 edge
journal.py     5 journal
foundry.py     6 foundry token, 7 dataset, 8 transactions, 9 probe
history.py     10 history
schema.py      11 schema
walk.py        one step after the other
page.py        what the owner wants to know beside the steps

It knows no system: it asks ports, inside a running service and without one.
"""

from atlas.diagnose.asking import Asking, Sources, address
from atlas.diagnose.schema import COLUMNS
from atlas.diagnose.walk import NAMES, walk

__all__ = ["COLUMNS", "NAMES", "Asking", "Sources", "address", "walk"]
