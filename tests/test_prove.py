"""What Atlas promises, under each fault of the table, as `atlas prove` does it; at a small size."""

import secrets

import pytest

from atlas.prove import SCALES, TRIALS, Plan, prove

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
async def test_the_balance_is_even(trial):
    plan = Plan([trial], SCALES["ci"], secrets.randbits(32))

    (outcome,) = await prove(plan, lambda _: None)

    if outcome.verdict == "skipped":
        pytest.skip(outcome.facts[0])
    assert outcome.verdict == "even", f"seed {plan.seed}: {outcome}"
