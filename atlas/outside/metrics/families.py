"""The metrics that events move. config/operations.md lists them all."""

from collections.abc import Iterator
from typing import get_args

from atlas.core import errors
from atlas.core.events import Because, FailureCause, Why
from atlas.core.records import REASONS
from atlas.outside.metrics.series import Counter, Histogram, Labels

KIB, MIB = 1024, 1024 * 1024
STAGE_SECONDS = 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5
CALL_SECONDS = 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100
GROUP_EXPORTS = 1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000
GROUP_BYTES = 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 128 * MIB

AT_THE_DOOR = errors.BadRequest, errors.HeadersTooLarge, errors.TooSlow, errors.Unavailable
RESULTS = ("ok",), ("failed",)


class Senders:
    """What phones ask, and Auth0 tells of them."""

    def __init__(self) -> None:
        self.requests = Counter(
            "atlas_http_requests",
            "Requests of the public listener; a status of 0 if nobody heard an answer.",
            ("route", "method", "status"),
        )
        self.seconds = Histogram(
            "atlas_http_request_seconds",
            "How long requests took, with the wait for a commit.",
            CALL_SECONDS,
            ("route",),
        )
        self.refusals = Counter(
            "atlas_refusals",
            "Requests that were refused, and single chunks of a batch.",
            ("code",),
            codes(),
        )
        self.refused = Counter(
            "atlas_connections_refused",
            "Connections that were refused, or closed for what came on them.",
            ("code",),
            one_each(tuple(sorted(each.code for each in AT_THE_DOOR))),
        )
        self.cut = Counter(
            "atlas_connections_cut",
            "Connections that were ended without an answer, or before it was taken.",
            ("why",),
            one_each(get_args(Why)),
        )
        self.bytes = Counter(
            "atlas_request_bytes",
            "Bytes of the bodies that were read, after inflation.",
        )
        self.differ = Counter(
            "atlas_counts_differ", "Exports of which the sender had counted other lines than came."
        )
        self.stuck = Counter(
            "atlas_stuck_clients", "Times that a phone had sent the same bytes ten times more."
        )
        self.keys = Counter(
            "atlas_jwks_fetches", "Times that Auth0's keys were asked for.", ("result",), RESULTS
        )


class Stages:
    """What the stages do, and what they make of exports."""

    def __init__(self) -> None:
        self.seconds = Histogram(
            "atlas_stage_seconds",
            "How long a stage worked at a message.",
            STAGE_SECONDS,
            ("stage",),
        )
        self.crashes = Counter(
            "atlas_stage_crashes", "Bugs that a stage, the edge or the uploader met.", ("stage",)
        )
        outcomes = "accepted", "replayed", "committed", "set_aside", "quarantined"
        self.exports = Counter(
            "atlas_exports", "Exports, by what became of them.", ("outcome",), one_each(outcomes)
        )
        self.failed = Counter(
            "atlas_exports_failed",
            "Failures after which an export waits and is tried apart, by what failed.",
            ("reason",),
            one_each(get_args(FailureCause)),
        )
        self.rows = Counter(
            "atlas_rows",
            "Rows, as they were accepted and as they were committed.",
            ("outcome",),
            one_each(("accepted", "committed")),
        )
        self.rejected = Counter(
            "atlas_lines_rejected", "Lines that became no row.", ("reason",), one_each(REASONS)
        )
        self.committed_bytes = Counter(
            "atlas_committed_bytes", "Bytes of committed rows, as NDJSON."
        )


class Journal:
    """What the disk does to it."""

    def __init__(self) -> None:
        self.damaged = Counter(
            "atlas_journal_damaged", "What the disk has changed, or lost, of the journal."
        )
        self.unbalanced = Counter(
            "atlas_ledger_unbalanced", "Times that the ledger was wrong and was set right."
        )


class Groups:
    """How exports go to Foundry, and what keeps them from it."""

    def __init__(self) -> None:
        self.committed = Counter(
            "atlas_groups",
            "Transactions committed, by why they were begun just then.",
            ("because",),
            one_each(get_args(Because)),
        )
        self.exports = Histogram(
            "atlas_group_exports", "Exports in a committed transaction.", GROUP_EXPORTS
        )
        self.bytes = Histogram(
            "atlas_group_bytes", "Bytes in a committed transaction.", GROUP_BYTES
        )
        self.seconds = Histogram(
            "atlas_group_seconds", "How long a transaction took to its commit.", CALL_SECONDS
        )
        self.pauses = Counter(
            "atlas_upload_pauses", "Times that Foundry was not to be had, or held us off."
        )
        self.second_writer = Counter(
            "atlas_second_writer", "Times that somebody else was seen to write to the branch."
        )
        self.orphans = Counter(
            "atlas_orphans",
            "Transactions that may be ours, found open.",
            ("what",),
            one_each(("aborted", "suspected")),
        )


class Calls:
    """What Foundry is asked."""

    def __init__(self) -> None:
        self.answered = Counter(
            "atlas_foundry_calls",
            "Calls to Foundry; a status of 0 if it did not answer.",
            ("operation", "status"),
        )
        self.seconds = Histogram(
            "atlas_foundry_call_seconds", "How long Foundry took.", CALL_SECONDS, ("operation",)
        )
        self.retries = Counter(
            "atlas_foundry_retries", "Calls that were made once more.", ("operation",)
        )
        self.tokens = Counter(
            "atlas_foundry_token_fetches", "Tokens asked of Foundry.", ("result",), RESULTS
        )


class Families:
    """Every counter and every histogram, by the way of the data."""

    def __init__(self) -> None:
        self.senders = Senders()
        self.stages = Stages()
        self.journal = Journal()
        self.groups = Groups()
        self.calls = Calls()

    def all(self) -> Iterator[Counter | Histogram]:
        for each in (self.senders, self.stages, self.journal, self.groups, self.calls):
            yield from vars(each).values()


def one_each(values: tuple[str, ...]) -> tuple[Labels, ...]:
    return tuple((value,) for value in values)


def codes(kind: type[errors.AtlasError] = errors.AtlasError) -> list[Labels]:
    """All that a refusal can be."""
    found: set[Labels] = {(kind.code,)}
    for each in kind.__subclasses__():
        found.update(codes(each))
    return sorted(found)
