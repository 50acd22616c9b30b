"""The verdict of a diagnosis: that of the running service, and what the steps add to it."""

from collections.abc import Iterator, Sequence

from atlas.core.diagnosis import CheckResult
from atlas.core.status import ServiceVerdict
from atlas.core.verdict import build_verdict, describe_oldest
from atlas.diagnose.context import Context

TOKEN, EDGE = 3, 4  # steps: that of a phone's token, and that of the URL of phones


def judge_diagnosis(context: Context, results: Sequence[CheckResult]) -> ServiceVerdict:
    """Judge the service by its own verdict, if it runs here, and by the steps that fail.

    A failing step makes it `degraded`. It is `down` if it does not run, or phones do not reach it.
    A failing token concerns one phone only.
    """
    outages, problems = list(find_outages(context, results)), list[str]()
    service = context.service_verdict
    if service is not None:
        (outages if service.state == "down" else problems).extend(service.reasons)
    else:
        problems += find_backlog_problems(context)
    problems += [
        f"Step {each.number} ({each.name}): {each.reason}"
        for each in results
        if each.verdict == "fail" and each.number != TOKEN and each.reason not in problems
    ]
    return build_verdict(outages, problems)


def find_outages(context: Context, results: Sequence[CheckResult]) -> Iterator[str]:
    (edge,) = [each for each in results if each.number == EDGE]
    journal = context.facts.journal
    database = None if journal is None else journal.database
    if edge.verdict == "fail" and context.facts.version is None:
        yield f"Phones do not reach Atlas at {context.url}."
    elif edge.verdict == "unknown" and not (database is not None and database.replicas):
        yield f"No Atlas runs here with these settings ({context.url})."


def find_backlog_problems(context: Context) -> Iterator[str]:
    """Yield the problems of a journal that no service on this machine has judged."""
    journal = context.facts.journal
    if journal is None:
        return
    if journal.oldest is not None:
        yield from describe_oldest((context.clock() - journal.oldest).total_seconds())
    if journal.database is not None and journal.database.replicas and not journal.database.is_led:
        yield "No replica uploads."
