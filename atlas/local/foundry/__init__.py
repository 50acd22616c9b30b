"""A Foundry for a laptop: the part of its public API (v2) that a dataset needs, and its rules.

`branches.py` holds the rules and `disk.py` the files, `api.py` and `tables.py` the endpoints,
`door.py` what they have in common, `behaviour.py` what is not documented, `faults.py` the
misbehaviour, `control.py` how it is asked for.
"""

from atlas.local.foundry.api import application
from atlas.local.foundry.behaviour import Behaviour, Refusal
from atlas.local.foundry.state import Foundry, Switches

__all__ = ["Behaviour", "Foundry", "Refusal", "Switches", "application"]
