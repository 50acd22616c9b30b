"""A Foundry emulator: the part of the public API (v2) that concerns datasets, and its rules.

`branches.py` holds the rules and `disk.py` the files, `api.py` and `tables.py` the endpoints,
`pipeline.py` the checks before them, `behaviour.py` the undocumented behaviour, `faults.py` the
faults, and `control.py` the endpoints that control them.
"""

from atlas.local.foundry.api import build_application
from atlas.local.foundry.behaviour import Behaviour, PathRefusal
from atlas.local.foundry.state import EmulatorOptions, FoundryEmulator

__all__ = ["Behaviour", "EmulatorOptions", "FoundryEmulator", "PathRefusal", "build_application"]
