"""What the tests of the disk share: chance that is told, so that it can be repeated."""

import os
import secrets

import pytest


@pytest.fixture
def seed() -> int:
    """Give TESTS_SEED to have the same again."""
    seed = int(os.environ.get("TESTS_SEED") or secrets.randbits(32))
    print(f"TESTS_SEED={seed}")  # noqa: T201  # pytest shows it beside a failure
    return seed
