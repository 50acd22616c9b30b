"""A Foundry for a laptop: the part of its public API (v2) that a dataset needs, and its rules.

`branches.py` holds the rules and the disk, `api.py` the endpoints, `faults.py` the misbehaviour,
`control.py` what only a stand-in has: asking for it.
"""

from atlas.local.foundry.api import application
from atlas.local.foundry.state import Foundry

__all__ = ["Foundry", "application"]
