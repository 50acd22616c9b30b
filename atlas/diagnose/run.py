"""The table of steps, and the function that runs them."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from atlas.core.diagnosis import CheckFailed, CheckOutcome, CheckResult, Diagnosis
from atlas.core.errors import AtlasError, FoundryError
from atlas.diagnose import auth0, edge, foundry, history, journal, schema, stream, summary
from atlas.diagnose.context import Context
from atlas.diagnose.verdict import judge_diagnosis
from atlas.settings import Settings

TRY_AGAIN = "Try again; if it persists, check the log of Atlas."


class DiagnosticStep(NamedTuple):
    """A step of the diagnosis. It runs only if all steps that it `needs` have passed.

    With settings for which it does not apply, it is left out.
    """

    name: str
    run: Callable[[Context], Awaitable[CheckOutcome]]
    needs: tuple[int, ...] = ()
    applies: Callable[[Settings], bool] = lambda _: True


STEPS = {  # README.md describes them
    1: DiagnosticStep("clock", auth0.check_clock),
    2: DiagnosticStep("issuer", auth0.check_issuer),
    3: DiagnosticStep("token", auth0.check_token),
    4: DiagnosticStep("edge", edge.check_edge),
    5: DiagnosticStep("journal", journal.check_journal),
    6: DiagnosticStep("foundry token", foundry.check_token),
    7: DiagnosticStep("dataset", foundry.check_dataset, needs=(6,)),
    8: DiagnosticStep("transactions", foundry.check_transactions, needs=(7,)),
    9: DiagnosticStep("probe", foundry.check_probe, needs=(7, 8)),
    10: DiagnosticStep("history", history.check_history, needs=(7,)),
    11: DiagnosticStep("schema", schema.check_schema, needs=(7,)),
    12: DiagnosticStep("stream", stream.check_stream, needs=(6,), applies=stream.is_configured),
}
NAMES = {number: step.name for number, step in STEPS.items()}


async def run_checks(context: Context, version: str) -> Diagnosis:
    """Run every step in order. A failing step skips only the steps that need it."""
    results: list[CheckResult] = []
    for number, step in STEPS.items():
        if not step.applies(context.settings):
            continue
        context.evidence = []
        outcome = await run(step, context, results)
        evidence, remedy = tuple(context.evidence), outcome.to_do
        results.append(
            CheckResult(number, step.name, outcome.verdict, outcome.reason, evidence, remedy)
        )
    sections = summary.build_sections(context, results, version)
    verdict = judge_diagnosis(context, results)
    return Diagnosis(context.clock(), version, tuple(results), verdict, sections)


async def run(
    step: DiagnosticStep, context: Context, earlier: Sequence[CheckResult]
) -> CheckOutcome:
    for result in earlier:
        if result.number in step.needs and result.verdict != "pass":
            return CheckOutcome("unknown", f"See step {result.number}.")
    try:
        return await step.run(context)
    except CheckFailed as failure:
        context.note(*failure.evidence)
        return failure.outcome
    except FoundryError as error:
        context.note(("client", context.settings.foundry.client_id))
        if error.instance_id:
            context.note(("errorInstanceId", error.instance_id))
        return CheckOutcome("fail", str(error), error.remedy)
    except AtlasError as error:  # for example of the journal's disk
        return CheckOutcome("fail", str(error), TRY_AGAIN)
