"""The leadership protocol: decides when this replica uploads. Pure: no I/O, clock or randomness.

A lease lasts `lease_seconds` by the clock of the database. The replica that holds it stops earlier
by its own clock, so two never upload at the same time unless one of them is frozen. A frozen one
changes nothing when it wakes: the journal rejects its writes, and it asks the journal before it
begins, commits or aborts a transaction.
"""

import math
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from atlas.replicas.states import (
    Acquired,
    Decision,
    Finished,
    Input,
    Lost,
    Occupied,
    Phase,
    Released,
    Renewed,
    Term,
    Unanswered,
)

RENEWALS = 5  # during a lease
TRUSTED_SHARE = 0.8  # of a lease, after which an unconfirmed one counts as lost
FOLLOW_SECONDS = 0.5  # between two attempts to take the lease, so one is taken half a second late
RETRY_SECONDS = 0.25  # after a failure of the database
UPLOADING: frozenset[Phase] = frozenset({"leading", "finishing"})

LeaseSeconds = float | None
Transition = Callable[[LeaseSeconds, Term, Any], Decision]


def start_leading(lease_seconds: LeaseSeconds, _: Term, result: Acquired) -> Decision:
    term = Term("leading", result.epoch, result.asked_at)
    return Decision(term, "start", renewal_seconds(lease_seconds))


def keep_following(_: LeaseSeconds, term: Term, __: Occupied) -> Decision:
    return Decision(term, seconds=FOLLOW_SECONDS)


def retry(_: LeaseSeconds, term: Term, __: Unanswered) -> Decision:
    return Decision(term, seconds=RETRY_SECONDS)


def keep_leading(lease_seconds: LeaseSeconds, term: Term, result: Renewed) -> Decision:
    term = replace(term, confirmed_at=result.asked_at)
    if result.is_wanted:
        return Decision(replace(term, phase="finishing"), "finish", renewal_seconds(lease_seconds))
    return Decision(term, seconds=renewal_seconds(lease_seconds))


def keep_finishing(lease_seconds: LeaseSeconds, term: Term, result: Renewed) -> Decision:
    term = replace(term, confirmed_at=result.asked_at)
    return Decision(term, seconds=renewal_seconds(lease_seconds))


def await_confirmation(lease_seconds: LeaseSeconds, term: Term, result: Unanswered) -> Decision:
    """Stop uploading once another replica may have taken the lease."""
    seconds = trusted_seconds(lease_seconds, term, result.now)
    if seconds > 0:
        return Decision(term, seconds=min(seconds, RETRY_SECONDS))
    return Decision(replace(term, phase="unconfirmed"), "cancel", RETRY_SECONDS)


def resume(lease_seconds: LeaseSeconds, term: Term, result: Renewed) -> Decision:
    """Upload again: no other replica took the lease meanwhile."""
    term = replace(term, phase="leading", confirmed_at=result.asked_at)
    return Decision(term, "resume", renewal_seconds(lease_seconds))


def step_down(_: LeaseSeconds, __: Term, ___: Lost) -> Decision:
    return Decision(Term(), "abandon", FOLLOW_SECONDS)


def release(_: LeaseSeconds, term: Term, __: Finished) -> Decision:
    return Decision(replace(term, phase="releasing"))


def follow(_: LeaseSeconds, __: Term, ___: Released | Unanswered) -> Decision:
    """Follow; a lease that could not be released expires."""
    return Decision(Term(), seconds=FOLLOW_SECONDS)


TRANSITIONS: dict[tuple[Phase, type[Input]], Transition] = {
    ("following", Acquired): start_leading,
    ("following", Occupied): keep_following,
    ("following", Unanswered): retry,
    ("leading", Renewed): keep_leading,
    ("leading", Unanswered): await_confirmation,
    ("leading", Lost): step_down,
    ("leading", Finished): release,
    ("finishing", Renewed): keep_finishing,
    ("finishing", Unanswered): await_confirmation,
    ("finishing", Lost): step_down,
    ("finishing", Finished): release,
    ("unconfirmed", Renewed): resume,
    ("unconfirmed", Unanswered): retry,
    ("unconfirmed", Lost): step_down,
    ("releasing", Released): follow,
    ("releasing", Unanswered): follow,
}


def renewal_seconds(lease_seconds: LeaseSeconds) -> float | None:
    """Return the seconds until the next renewal; None for a lease that is never lost."""
    return None if lease_seconds is None else lease_seconds / RENEWALS


def trusted_seconds(lease_seconds: LeaseSeconds, term: Term, now: float) -> float:
    """Return the seconds for which this replica may upload without another confirmation."""
    if lease_seconds is None or term.phase not in UPLOADING:
        return math.inf
    return term.confirmed_at + lease_seconds * TRUSTED_SHARE - now


def advance(lease_seconds: LeaseSeconds, term: Term, result: Input) -> Decision:
    """Return the decision after this input. Raises KeyError if this phase cannot have it."""
    return TRANSITIONS[term.phase, type(result)](lease_seconds, term, result)
