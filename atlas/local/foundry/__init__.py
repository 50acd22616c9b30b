"""A Foundry emulator: the part of the public API (v2) that concerns datasets and streams.

`application.py` lists the addresses. `branches.py` holds the rules, `disk.py` the files,
`tables.py` their rows and `stream_state.py` the streams; `api.py`, `schema_endpoints.py`,
`views.py`, `queries.py` and `streams.py` are the endpoints, `pipeline.py` the checks before them,
`behaviour.py` the undocumented behaviour, `faults.py` the faults, and `control.py` the endpoints
that control them.
"""

from atlas.local.foundry.application import build_application
from atlas.local.foundry.behaviour import Behaviour, PathRefusal
from atlas.local.foundry.state import EmulatorOptions, FoundryEmulator

__all__ = ["Behaviour", "EmulatorOptions", "FoundryEmulator", "PathRefusal", "build_application"]
