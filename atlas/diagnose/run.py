"""The table of steps, and the function that runs them."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from atlas.core.diagnosis import CheckFailed, CheckOutcome, CheckResult, Diagnosis
from atlas.core.errors import AtlasError, FoundryError
from atlas.diagnose import auth0, edge, foundry, history, journal, schema, summary
from atlas.diagnose.context import Context

TRY_AGAIN = "Try again; if it persists, check the log of Atlas."


class Step(NamedTuple):
    """A step of the diagnosis. It runs only if all steps that it `needs` have passed."""

    name: str
    run: Callable[[Context], Awaitable[CheckOutcome]]
    needs: tuple[int, ...] = ()


STEPS = {  # README.md describes them
    1: Step("clock", auth0.check_clock),
    2: Step("issuer", auth0.check_issuer),
    3: Step("token", auth0.check_token),
    4: Step("edge", edge.check_edge),
    5: Step("journal", journal.check_journal),
    6: Step("foundry token", foundry.check_token),
    7: Step("dataset", foundry.check_dataset, needs=(6,)),
    8: Step("transactions", foundry.check_transactions, needs=(7,)),
    9: Step("probe", foundry.check_probe, needs=(7, 8)),
    10: Step("history", history.check_history, needs=(7,)),
    11: Step("schema", schema.check_schema, needs=(7,)),
}
NAMES = {number: step.name for number, step in STEPS.items()}


async def run_checks(context: Context, version: str) -> Diagnosis:
    """Run every step in order. A failing step skips only the steps that need it."""
    results: list[CheckResult] = []
    for number, step in STEPS.items():
        context.evidence = []
        outcome = await run(step, context, results)
        evidence, remedy = tuple(context.evidence), outcome.to_do
        results.append(
            CheckResult(number, step.name, outcome.verdict, outcome.reason, evidence, remedy)
        )
    sections = summary.build_sections(context, results, version)
    return Diagnosis(context.clock(), version, tuple(results), sections)


async def run(step: Step, context: Context, earlier: Sequence[CheckResult]) -> CheckOutcome:
    for result in earlier:
        if result.number in step.needs and result.verdict != "pass":
            return CheckOutcome("unknown", f"See step {result.number}.")
    try:
        return await step.run(context)
    except CheckFailed as failure:
        context.note(*failure.evidence)
        return failure.finding
    except FoundryError as error:
        context.note(("client", context.settings.foundry.client_id))
        if error.instance_id:
            context.note(("errorInstanceId", error.instance_id))
        return CheckOutcome("fail", str(error), error.remedy)
    except AtlasError as error:  # for example of the journal's disk
        return CheckOutcome("fail", str(error), TRY_AGAIN)
