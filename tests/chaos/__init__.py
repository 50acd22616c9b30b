"""Fault injection against the emulators of Foundry and Auth0: kill and starve the service, then
check that every promise was kept.

`runner.py` runs the trials of `scenarios/`. Each trial has its own environment
(`trial_environment.py`): the emulators in this process (`emulators.py`), the service in a process
of its own (`service_process.py`, which runs `service_main.py`), optionally with a failpoint
(`failpoints.py`) or with bugs (`injected_faults.py`), clients (`clients.py`), and the oracle, which
records every promise (`oracle.py`). Several replicas share a journal in PostgreSQL
(`replicas.py`). `just prove` and `just soak` run `__main__.py`.
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
