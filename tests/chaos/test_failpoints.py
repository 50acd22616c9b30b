"""Failpoints and faults name methods as text, which no type checker follows."""

import pytest

from atlas.core import ports
from tests.chaos import failpoints
from tests.chaos.injected_faults import IDENTITY_METHODS
from tests.chaos.scenarios.replica_kills import FROZEN_AT, RECOVERS_AT

PORTS = {"intake": ports.Intake, "outbox": ports.Outbox, "branch": ports.Branch}
POINTS = {
    *failpoints.POINTS_OF_SHARED_FILES,
    *failpoints.POINTS_OF_LOST_UPLOADS,
    *failpoints.POINTS_OF_RECOVERY,
    *FROZEN_AT,
    *RECOVERS_AT,
} - {failpoints.SQLITE}


@pytest.mark.parametrize("point", sorted(POINTS))
def test_a_failpoint_names_a_method_of_a_port(point):
    port, method = failpoints.Failpoint(point, 1).target

    assert callable(getattr(PORTS[port], method))


def test_the_faulty_methods_of_the_identity_provider_exist():
    assert all(callable(getattr(ports.Identities, name)) for name in IDENTITY_METHODS)
