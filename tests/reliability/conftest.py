"""Fixtures of the disk tests: a printed seed, so that a run can be repeated."""

import os
import secrets

import pytest


@pytest.fixture
def seed() -> int:
    """Draw a seed; TESTS_SEED repeats a run."""
    seed = int(os.environ.get("TESTS_SEED") or secrets.randbits(32))
    print(f"TESTS_SEED={seed}")  # noqa: T201  # pytest shows it with a failure
    return seed
