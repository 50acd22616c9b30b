"""The commit protocol as a table and in random histories: exactly once, whatever happens.

A failing history prints its seed. To replay it effect by effect:

    python -m tests.support.protocol_world SEED
"""

import os
import re
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from atlas.actors.upload import effects as e
from atlas.actors.upload.policy import UploadPolicy
from atlas.actors.upload.protocol import TRANSITIONS, advance, start
from atlas.actors.upload.states import AT_REST, Moment, Phase, State
from atlas.core.errors import FoundryError
from atlas.core.messages import GroupLimits
from tests.support.protocol_world import World

README = Path(__file__).parent.parent / "atlas/actors/upload/README.md"
HISTORIES = 100_000 if os.environ.get("TESTS_IN_FULL") else 5_000
PHASES = frozenset(get_args(Phase))
MOVING = PHASES - AT_REST
EFFECTS = {each.__name__: each for each in e.Effect.__subclasses__()}
RESULTS = {each.__name__: each for each in e.Result.__subclasses__()}
NOW = Moment(0.0)
POLICY = UploadPolicy(group=GroupLimits())
FAILED = e.Failed(FoundryError())
NOT_AT_REST = "any that is not at rest"


@cache
def run_histories():
    """Run the histories and return each (phase, result, next phase, effect) they went through."""
    transitions = set()
    for seed in range(HISTORIES):
        run_history(seed, transitions)
    return frozenset(
        (phase, result.__name__, after, effect.__name__)
        for phase, result, after, effect in transitions
    )


def run_history(seed, transitions):
    try:
        World(seed, transitions).run()
    except Exception as error:
        error.add_note(f"To replay it: python -m tests.support.protocol_world {seed}")
        raise


def read_table():
    """Return the rows of the README's table: (phase, result, condition, next phase, effect)."""
    text = README.read_text(encoding="utf-8")
    section = text[text.index("## Transitions") : text.index("## Exports that fail")]
    rows = [row.strip("|").split("|") for row in section.splitlines() if row.startswith("|")]
    return [tuple(cell.strip(" `") for cell in row) for row in rows[2:]]


def read_transitions():
    """Return the same without conditions, with every phase spelled out."""
    found = set()
    for phase, result, _, after, effect in read_table():
        for each in MOVING if phase == NOT_AT_REST else [phase]:
            found.add((each, result, after, effect))
    return found


def render(transitions):
    lines = (" ".join(each) for each in sorted(transitions))
    return "".join(f"\n  {line}" for line in lines)


@pytest.mark.slow
def test_every_accepted_export_is_committed_exactly_once_or_set_aside():
    """The assertions are in protocol_effects.py and protocol_foundry.py of tests/support."""
    run_histories()


@pytest.mark.slow
def test_the_table_of_the_readme_is_what_happens():
    documented, seen = read_transitions(), run_histories()
    assert documented == seen, (
        f"not in the README:{render(seen - documented)}\nnever happens:{render(documented - seen)}"
    )


@pytest.mark.slow
def test_every_transition_of_the_code_is_taken_and_none_is_missing():
    taken = {(phase, RESULTS[result]) for phase, result, _, _ in run_histories()}
    failed = {(phase, e.Failed) for phase in MOVING}
    assert taken - failed == TRANSITIONS.keys()
    assert failed <= taken


def test_the_readme_has_a_condition_for_each_row_and_a_sentence_for_each_phase():
    rows = read_table()
    assert all(len(row) == 5 and row[2] for row in rows)
    assert len({row[:3] for row in rows}) == len(rows), "two rows have the same condition"
    described = re.findall(
        r"^\| `(\w+)` \| [a-z]", README.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert tuple(described) == tuple(dict.fromkeys(described))
    assert set(described) == PHASES


@pytest.mark.parametrize("effect", EFFECTS.values(), ids=EFFECTS)
def test_the_results_of_an_effect_are_those_that_its_docstring_names(effect):
    """Every phase that requests an effect handles all of its results, and no others."""
    named = {word for word in re.findall(r"[A-Z]\w+", effect.__doc__) if word in RESULTS}
    phases = {after for _, _, after, asked in read_transitions() if asked == effect.__name__}
    phases |= {"recovering"} if effect is e.ReadWorkInHand else set()
    assert phases
    for phase in phases:
        assert {result.__name__ for at, result in TRANSITIONS if at == phase} == named


def test_a_life_begins_with_what_is_in_hand():
    step = start()
    assert (step.state.phase, step.effect, step.events) == ("recovering", e.ReadWorkInHand(), ())


@pytest.mark.parametrize("phase", sorted(MOVING))
def test_a_failure_pauses_and_is_recovered_from_afterwards(phase):
    step = advance(POLICY, State(phase), FAILED, NOW)
    assert step.state.phase == "paused"
    assert isinstance(step.effect, e.Rest)
    assert advance(POLICY, step.state, e.Woken(), NOW).effect == e.ReadWorkInHand()


def list_unexpected():
    results = set(RESULTS.values()) - {e.Failed}
    return {(phase, each) for phase in PHASES for each in results} - TRANSITIONS.keys()


@pytest.mark.parametrize("phase", sorted(PHASES))
def test_a_result_that_a_phase_does_not_expect_is_a_bug(phase):
    for at, result in list_unexpected():
        if at == phase:
            anything = result(*[None] * len(result.__struct_fields__))
            with pytest.raises(KeyError):
                advance(POLICY, State(phase), anything, NOW)
