"""Kills and starves the service against the stand-ins, and draws the balance.

`proof.py` runs the trials of `trials/`. Each has a bench of its own (`bench.py`): stand-ins in this
process (`standins.py`), the service as a process (`subject.py`, which runs `victim.py`), perhaps
with a mine in it (`mines.py`) or with bugs (`bugs.py`), phones (`phones.py`), and the oracle that
knows who was promised what (`oracle.py`). `just prove` and `just soak` run `__main__.py`.
"""

from tests.chaos.report import build_table, render_markdown
from tests.chaos.runner import Outcome, Plan, run_scenarios
from tests.chaos.scenarios import SCENARIOS, Scenario
from tests.chaos.soak import build_soak
from tests.chaos.trial_environment import SCALES

__all__ = [
    "SCALES",
    "SCENARIOS",
    "Outcome",
    "Plan",
    "Scenario",
    "build_soak",
    "build_table",
    "render_markdown",
    "run_scenarios",
]
