"""Runs trials one after another, each with its own testbed and seed."""

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
JournalEngine = Literal["sqlite", "postgres"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The trials to run. A trial draws the same from a seed whether it runs alone or not.

    `journal` is that of trials of a single service; those of several replicas share one anyway.
    """

    trials: Sequence[Scenario]
    scale: Scale
    seed: int
    journal: JournalEngine = "sqlite"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of one trial. `balance` is None if it could not be drawn."""

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
    """Run all trials; report the name of each, and then its outcome."""
    outcomes = []
    for trial in plan.trials:
        report(trial.name)
        outcomes.append(await run_scenario(trial, plan))
        report(outcomes[-1])
    return outcomes


async def run_scenario(trial: Scenario, plan: Plan) -> Outcome:
    began = time.monotonic()
    try:
        return await run_in_testbed(trial, plan)
    except Skipped as skipped:  # a part that this machine lacks
        facts = (str(skipped),)
        return Outcome(trial.name, time.monotonic() - began, None, facts=facts, is_skipped=True)


async def run_in_testbed(trial: Scenario, plan: Plan) -> Outcome:
    began, seed = time.monotonic(), f"{plan.seed} {trial.name}"
    if trial.needs_sqlite and plan.journal != "sqlite":
        raise Skipped("is about the file of SQLite")
    replicas = trial.replicas or int(plan.journal == "postgres")
    async with open_testbed(plan.scale, seed, trial.settings, replicas=replicas) as testbed:
        findings = testbed.findings
        if trial.draws_modes:
            findings.add_fact(testbed.emulators.draw_modes(seed))
        try:
            await run_with_limit(trial, testbed)
        except Broken as broken:
            findings.failures.append(str(broken))
        balance = await testbed.settle()
    seconds = time.monotonic() - began
    failures = tuple(dict.fromkeys(findings.failures))
    return Outcome(trial.name, seconds, balance, failures, tuple(findings.facts))


async def run_with_limit(trial: Scenario, testbed: TrialEnvironment) -> None:
    """Run a trial within its time limit; raise a client's error by itself. Raises Broken at the
    limit.
    """
    try:
        with anyio.move_on_after(trial.seconds_max) as limit:
            await trial.run(testbed)
        if limit.cancelled_caught:
            raise Broken(f"The trial did not end within {trial.seconds_max:.0f} s.")
    except* (Broken, Skipped) as several:
        error: BaseException = several
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
