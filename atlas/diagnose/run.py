"""The steps of a diagnosis, and the walk through them."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from atlas.core.diagnosis import CheckFailed, CheckOutcome, CheckResult, Diagnosis
from atlas.core.errors import AtlasError, FoundryError
from atlas.diagnose import auth0, edge, foundry, history, journal, schema, summary
from atlas.diagnose.context import Context

AGAIN = "Try again; if it stays so, look at the log of Atlas."


class StepRow(NamedTuple):
    """A row of the table: `needs` are the steps that must pass before this one can be made."""

    name: str
    checks: str
    run: Callable[[Context], Awaitable[CheckOutcome]]
    needs: tuple[int, ...] = ()


STEPS = {
    1: StepRow("clock", "our clock agrees with those of Auth0 and Foundry", auth0.check_clock),
    2: StepRow("issuer", "the issuer has keys that we take", auth0.check_issuer),
    3: StepRow("token", "a phone's token is accepted, claim by claim", auth0.check_token),
    4: StepRow("edge", "Atlas answers phones, and large bodies reach it", edge.check_edge),
    5: StepRow("journal", "what was accepted is safe, and more fits in", journal.check_journal),
    6: StepRow("foundry token", "Foundry gives us a token with our scopes", foundry.check_token),
    7: StepRow("dataset", "the dataset and its branch are there", foundry.check_dataset, (6,)),
    8: StepRow("transactions", "nobody else's is open", foundry.check_transactions, (7,)),
    9: StepRow("probe", "a file can be put, and is taken back", foundry.check_probe, (7, 8)),
    10: StepRow("history", "rows stand there as they were sent", history.check_history, (7,)),
    11: StepRow("schema", "readers of the dataset get our rows", schema.check_schema, (7,)),
}
NAMES = {number: check.name for number, check in STEPS.items()}


async def run_checks(context: Context, version: str) -> Diagnosis:
    """Make every step, in order. A step that fails ends no other, but those that need it."""
    steps: list[CheckResult] = []
    for number, check in STEPS.items():
        context.evidence = []
        finding = await run(check, context, steps)
        evidence = tuple(context.evidence)
        steps.append(
            CheckResult(
                number, check.name, finding.verdict, finding.reason, evidence, finding.to_do
            )
        )
    return Diagnosis(
        context.now(), version, tuple(steps), summary.build_sections(context, steps, version)
    )


async def run(check: StepRow, context: Context, before: Sequence[CheckResult]) -> CheckOutcome:
    for step in before:
        if step.number in check.needs and step.verdict != "pass":
            return CheckOutcome("unknown", f"See step {step.number}.")
    try:
        return await check.run(context)
    except CheckFailed as amiss:
        context.note(*amiss.evidence)
        return amiss.finding
    except FoundryError as error:
        context.note(("client", context.settings.foundry.client_id))
        if error.instance_id:
            context.note(("errorInstanceId", error.instance_id))
        return CheckOutcome("fail", str(error), error.remedy)
    except AtlasError as error:  # the journal's disk, for instance
        return CheckOutcome("fail", str(error), AGAIN)
