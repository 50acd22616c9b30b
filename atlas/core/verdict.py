"""The verdict on a running service, in the same words on the operator page and in commands.

down      no export can be accepted now: the readiness checks fail
degraded  exports are accepted, but some do not reach Foundry in time, or need an operator
ok        neither
"""

from collections.abc import Iterable, Iterator

from atlas.core.identifiers import format_duration
from atlas.core.status import (
    FoundryStatus,
    JournalStatus,
    Replica,
    RuntimeGauges,
    ServiceVerdict,
)

OLDEST_SECONDS_MAX = 900.0  # as in the alert AtlasJournalAge
OK_MEANING = "Exports are accepted, and reach Foundry."


def judge(
    gauges: RuntimeGauges,
    journal: JournalStatus,
    foundry: FoundryStatus,
    replicas: Iterable[Replica] = (),
) -> ServiceVerdict:
    """Judge a service by its gauges, and by the parts of the status that are built from them."""
    imbalance = 0 if gauges.totals is None else gauges.totals.imbalance
    return build_verdict(
        find_outages(gauges),
        [
            *find_delays(journal, foundry),
            *find_journal_problems(journal, imbalance),
            *find_replica_problems(replicas),
        ],
    )


def build_verdict(outages: Iterable[str], problems: Iterable[str]) -> ServiceVerdict:
    """Build the verdict; `outages` mean that no export can be accepted."""
    down, degraded = tuple(outages), tuple(problems)
    if down:
        return ServiceVerdict("down", down + degraded)
    return ServiceVerdict("degraded" if degraded else "ok", degraded)


def describe(verdict: ServiceVerdict) -> str:
    """Describe the verdict in one line."""
    return f"{describe_state(verdict)}: {' '.join(verdict.reasons) or OK_MEANING}"


def describe_state(verdict: ServiceVerdict) -> str:
    return "OK" if verdict.state == "ok" else verdict.state


def find_outages(gauges: RuntimeGauges) -> Iterator[str]:
    if gauges.is_draining:
        yield "Shutting down: new exports are rejected."
    for check, reason in gauges.not_ready.items():
        yield f"No export can be accepted ({check}): {reason}"


def find_delays(journal: JournalStatus, foundry: FoundryStatus) -> Iterator[str]:
    """Yield the reasons why exports do not reach Foundry in time.

    A pause counts only if exports wait other than those that Foundry refuses.
    """
    if foundry.paused_reason is not None and (
        journal.exports > journal.failed or not journal.failed
    ):
        yield f"Uploads are paused: {foundry.paused_reason}"
    yield from describe_oldest(journal.oldest_seconds)


def describe_oldest(seconds: float) -> Iterator[str]:
    if seconds > OLDEST_SECONDS_MAX:
        yield f"The oldest export has waited for {format_duration(seconds)}."


def find_journal_problems(journal: JournalStatus, imbalance: int) -> Iterator[str]:
    if journal.failed:
        failed = count_exports(journal.failed, "has failed and is", "have failed and are")
        yield f"{failed} retried apart from the others."
    if journal.set_aside:
        are_set_aside = count_exports(journal.set_aside, "is set aside", "are set aside")
        yield f"{are_set_aside}, for an operator to decide."
    if imbalance:
        yield "The journal does not balance: its totals differ from the exports in it."


def find_replica_problems(replicas: Iterable[Replica]) -> Iterator[str]:
    """Yield a problem of replicas that share a journal; without any, there is none."""
    epochs = [each.epoch for each in replicas]
    if epochs and all(epoch is None for epoch in epochs):
        yield "No replica uploads."


def count_exports(number: int, singular_verb: str, plural_verb: str) -> str:
    """Return the number of exports with its verb."""
    return f"1 export {singular_verb}" if number == 1 else f"{number:,} exports {plural_verb}"
