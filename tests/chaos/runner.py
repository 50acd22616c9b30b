"""Runs trial after trial: a bench each, a seed each, and what came of it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import anyio

from tests.chaos.oracle import Balance
from tests.chaos.scenarios import Scenario
from tests.chaos.service_process import Broken, Skipped
from tests.chaos.trial_environment import Scale, TrialEnvironment, open_testbed

Verdict = Literal["PASS", "FAIL", "skipped"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is proven. The same seed draws the same for each trial, alone or among others."""

    trials: Sequence[Scenario]
    scale: Scale
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one trial. `balance` is None if it could not be drawn."""

    name: str
    seconds: float
    balance: Balance | None
    failures: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    is_skipped: bool = False

    @property
    def verdict(self) -> Verdict:
        if self.is_skipped:
            return "skipped"
        return "FAIL" if self.failures or self.balance is None else "PASS"


async def run_scenarios(plan: Plan, report: Callable[[Outcome | str], None]) -> list[Outcome]:
    """All of them, one after another; told are the name of each and then its outcome."""
    outcomes = []
    for trial in plan.trials:
        report(trial.name)
        outcomes.append(await run_scenario(trial, plan.scale, f"{plan.seed} {trial.name}"))
        report(outcomes[-1])
    return outcomes


async def run_scenario(trial: Scenario, scale: Scale, seed: str) -> Outcome:
    began = time.monotonic()
    async with open_testbed(scale, seed, trial.settings) as bench:
        findings = bench.findings
        if trial.draws_modes:
            findings.add_fact(bench.emulators.draw_modes(seed))
        try:
            await run_with_limit(trial, bench)
        except Skipped as skipped:
            facts = (str(skipped),)
            return Outcome(trial.name, time.monotonic() - began, None, facts=facts, is_skipped=True)
        except Broken as broken:
            findings.failures.append(str(broken))
        balance = await bench.settle()
    seconds = time.monotonic() - began
    failures = tuple(dict.fromkeys(findings.failures))
    return Outcome(trial.name, seconds, balance, failures, tuple(findings.facts))


async def run_with_limit(trial: Scenario, bench: TrialEnvironment) -> None:
    """What a trial raises among its phones comes out alone. Raises Broken if it has no end."""
    try:
        with anyio.move_on_after(trial.seconds_max) as limit:
            await trial.run(bench)
        if limit.cancelled_caught:
            raise Broken(f"It came to no end in {trial.seconds_max:.0f} s.")
    except* (Broken, Skipped) as several:
        error: BaseException = several
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
