"""Checks the whole flow, in its order; walk.py has the table of the steps.

It knows no system: it asks ports, inside a running service and without one.
"""

from atlas.diagnose.context import Context, Inspectors, build_target_url
from atlas.diagnose.run import NAMES, run_checks
from atlas.diagnose.schema import COLUMNS

__all__ = ["COLUMNS", "NAMES", "Context", "Inspectors", "build_target_url", "run_checks"]
