"""Chooses the next group and its time, and the length of a pause. Pure."""

from msgspec import Struct
from msgspec.structs import replace

from atlas.actors.upload.states import Pacing, Work
from atlas.core.commits import Backlog, Lane
from atlas.core.errors import FoundryError, Unavailable
from atlas.core.events import GroupTrigger

PAUSE_SECONDS, PAUSE_SECONDS_MAX, FAILURES_MAX = 0.5, 15.0, 10
POLL_SECONDS = 0.5  # interval at which the journal is checked for a full group
ISOLATED_SECONDS_MIN, ISOLATED_SECONDS_MAX = 1.0, 3_600.0
# wait after a failed isolated group, as a multiple of the time it took
REFUSED_FACTOR, SILENT_FACTOR = 4, 19


class Choice(Struct, frozen=True):
    """The lane of the next group, the seconds until it starts, and its trigger.

    `is_interruptible`: a newly accepted export ends the wait.
    """

    lane: Lane
    seconds: float
    trigger: GroupTrigger
    is_interruptible: bool = False


def choose(backlog: Backlog, pacing: Pacing, now: float) -> Choice:
    """Choose the next group.

    A fresh export is uploaded at once if the uploader was idle. Otherwise it waits until the commit
    interval is over, or until there is a full group, because waiting longer would not save a
    transaction. Isolated groups alternate with groups of fresh exports, and are less frequent after
    a failure, so that they do not slow down the others.
    """
    isolated_wait = max(pacing.next_isolated_at - now, 0.0)
    if not backlog.fresh:
        return Choice("isolated", isolated_wait, pacing.trigger, is_interruptible=True)
    seconds = max(pacing.next_group_at - now, 0.0)
    trigger: GroupTrigger = pacing.trigger
    if seconds and backlog.is_full:
        seconds, trigger = 0.0, "full"
    has_turn = pacing.last_lane == "normal" or seconds > 0
    if backlog.failed and not isolated_wait and has_turn:
        return Choice("isolated", 0.0, trigger)
    return Choice("normal", min(seconds, POLL_SECONDS), "interval" if seconds else trigger)


def delay_isolated(work: Work, pacing: Pacing, now: float) -> Pacing:
    """Delay the next isolated group after a failure, by a multiple of the time it took."""
    if work.has_progressed:
        return pacing
    was_silent = work.report is not None and bool(work.report.unanswered)
    factor = SILENT_FACTOR if was_silent else REFUSED_FACTOR
    seconds = max(factor * (now - work.began_at), ISOLATED_SECONDS_MIN)
    return replace(pacing, next_isolated_at=now + min(seconds, ISOLATED_SECONDS_MAX))


def pause_seconds(error: Unavailable, failures: int, jitter: float) -> float:
    """Return the length of a pause: Foundry's Retry-After, plus capped backoff with full jitter.

    The retry time of other errors is ignored, because it is meant for clients.
    """
    retry_after = error.retry_seconds if isinstance(error, FoundryError) else None
    backoff_max = min(PAUSE_SECONDS_MAX, PAUSE_SECONDS * 2.0**failures)
    return (0.0 if retry_after is None else retry_after) + jitter * backoff_max
