"""Kills and starves the service against the stand-ins, and draws the balance.

`proof.py` runs the trials of `trials/`. Each has a bench of its own (`bench.py`): stand-ins in this
process (`standins.py`), the service as a process (`subject.py`, which runs `victim.py`), perhaps
with a mine in it (`mines.py`) or with bugs (`bugs.py`), phones (`phones.py`), and the oracle that
knows who was promised what (`oracle.py`).
"""

from atlas.prove.bench import SCALES
from atlas.prove.proof import Outcome, Plan, prove
from atlas.prove.report import markdown, table
from atlas.prove.soak import soaking
from atlas.prove.trials import TRIALS, Trial

__all__ = ["SCALES", "TRIALS", "Outcome", "Plan", "Trial", "markdown", "prove", "soaking", "table"]
