"""One step after the other. What a step needs and has not is said, and what fails is one step."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from atlas.core.diagnosis import Amiss, Diagnosis, Finding, Step, failed, unknown
from atlas.core.errors import AtlasError
from atlas.diagnose import auth0, edge, foundry, history, journal, page, schema
from atlas.diagnose.asking import Asking

AGAIN = "Try again; if it stays so, look at the log of Atlas."


class Question(NamedTuple):
    """A step; `needs` are those that must pass before it can be asked."""

    name: str
    ask: Callable[[Asking], Awaitable[Finding]]
    needs: tuple[int, ...] = ()


QUESTIONS = {
    1: Question("clock", auth0.clock),
    2: Question("issuer", auth0.issuer),
    3: Question("token", auth0.token),
    4: Question("edge", edge.edge),
    5: Question("journal", journal.journal),
    6: Question("foundry token", foundry.foundry_token),
    7: Question("dataset", foundry.dataset, needs=(6,)),
    8: Question("transactions", foundry.transactions, needs=(7,)),
    9: Question("probe", foundry.probe, needs=(7, 8)),
    10: Question("history", history.history, needs=(7,)),
    11: Question("schema", schema.schema, needs=(7,)),
}
NAMES = {number: question.name for number, question in QUESTIONS.items()}


async def walk(asking: Asking, version: str) -> Diagnosis:
    steps: list[Step] = []
    for number, question in QUESTIONS.items():
        found = await asked(asking, question, steps)
        given = found.verdict, found.reason, found.evidence, found.to_do
        steps.append(Step(number, question.name, *given))
    sections = page.sections(asking, steps, version)
    return Diagnosis(asking.now(), version, tuple(steps), sections)


async def asked(asking: Asking, question: Question, before: Sequence[Step]) -> Finding:
    """Never raises what has a name."""
    for step in before:
        if step.number in question.needs and step.verdict != "pass":
            return unknown(f"See step {step.number}.")
    try:
        return await question.ask(asking)
    except Amiss as amiss:
        return amiss.finding
    except AtlasError as error:  # the journal's disk, for instance
        return failed(str(error), AGAIN)
