"""Diagnosis of the whole flow, step by step; run.py has the table of the steps.

It calls only ports, so that it can run inside a service and without one.
"""

from atlas.diagnose.context import Context, Inspectors, build_target_url
from atlas.diagnose.run import NAMES, run_checks
from atlas.diagnose.schema import describe_difference

__all__ = [
    "NAMES",
    "Context",
    "Inspectors",
    "build_target_url",
    "describe_difference",
    "run_checks",
]
