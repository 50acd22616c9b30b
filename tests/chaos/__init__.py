"""Kills and starves the service against the stand-ins, and draws the balance.

`proof.py` runs the trials of `trials/`. Each has a bench of its own (`bench.py`): stand-ins in this
process (`standins.py`), the service as a process (`subject.py`, which runs `victim.py`), perhaps
with a mine in it (`mines.py`) or with bugs (`bugs.py`), phones (`phones.py`), and the oracle that
knows who was promised what (`oracle.py`). `just prove` and `just soak` run `__main__.py`.
"""

from tests.chaos.bench import SCALES
from tests.chaos.proof import Outcome, Plan, prove
from tests.chaos.report import markdown, table
from tests.chaos.soak import soaking
from tests.chaos.trials import TRIALS, Trial

__all__ = ["SCALES", "TRIALS", "Outcome", "Plan", "Trial", "markdown", "prove", "soaking", "table"]
