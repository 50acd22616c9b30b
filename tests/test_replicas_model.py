"""Several leaders in random histories: exactly once, whoever freezes, dies or is deposed.

A failing history prints its seed. To replay it part by part:

    python -m tests.support.protocol_replicas SEED
"""

import os

import pytest

from tests.support.protocol_replicas import Replicas

QUICK = 50
HISTORIES = 100_000 if os.environ.get("TESTS_IN_FULL") else 3_000


def run_history(seed, without=""):
    try:
        Replicas(seed, without).run()
    except Exception as error:
        replay = f"python -m tests.support.protocol_replicas {seed} {without}".rstrip()
        error.add_note(f"To replay it: {replay}")
        raise


def run_histories(count, without=""):
    for seed in range(count):
        run_history(seed, without)


@pytest.mark.parametrize("seed", range(QUICK))
def test_every_export_is_committed_once_whoever_leads(seed):
    run_history(seed)


@pytest.mark.slow
def test_every_export_is_committed_once_in_many_histories():
    run_histories(HISTORIES)


@pytest.mark.parametrize(
    "protection",
    [
        pytest.param("fence", id="the journal's check of who writes"),
        pytest.param("epochs", id="the intents of earlier leaders"),
        pytest.param("begin", id="the question before a begin"),
        pytest.param("abandon", id="the abort by a replica that is deposed"),
    ],
)
def test_without_a_protection_the_promise_is_broken(protection):
    with pytest.raises(Exception) as broken:  # noqa: PT011 - several ways to break it
        run_histories(3_000, protection)
    assert "To replay it" in broken.value.__notes__[0]


@pytest.mark.slow
@pytest.mark.parametrize("protection", ["commit", "abort"])
def test_the_questions_before_a_commit_and_an_abort_only_save_retries(protection):
    run_histories(1_000, protection)
