"""Start and size of the next group, and length of a pause."""

import pytest

from atlas.actors.upload.pacing import (
    FAILURES_MAX,
    ISOLATED_SECONDS_MAX,
    PAUSE_SECONDS_MAX,
    Choice,
    choose,
    delay_isolated,
    pause_seconds,
)
from atlas.actors.upload.reports import UploadReport
from atlas.actors.upload.states import Pacing, Work
from atlas.core.commits import Backlog
from atlas.core.errors import FoundryError, Unavailable
from atlas.core.messages import File

NOW = 100.0
FILE = File("a.ndjson", 1, ())
FRESH, FULL = Backlog(fresh=1), Backlog(fresh=1, is_full=True)
FAILED, BOTH, BOTH_FULL = Backlog(failed=1), Backlog(1, 1), Backlog(1, 1, is_full=True)


def pacing(group_in=0.0, isolated_in=0.0, last_lane="normal", trigger="idle"):
    return Pacing(NOW + group_in, NOW + isolated_in, last_lane, trigger)


NOW_BY_IDLE = Choice("normal", 0.0, "idle")
ISOLATED = Choice("isolated", 0.0, "idle")
CHOICES = {
    "a fresh export goes at once when nothing was under way": (FRESH, pacing(), NOW_BY_IDLE),
    "an interval that is over makes no wait": (FRESH, pacing(-9.0), NOW_BY_IDLE),
    "the trigger of an earlier wait is kept": (
        *(FRESH, pacing(trigger="interval")),
        Choice("normal", 0.0, "interval"),
    ),
    "within the interval the journal is asked twice a second": (
        *(FRESH, pacing(5.0)),
        Choice("normal", 0.5, "interval"),
    ),
    "at its end the wait is shorter": (FRESH, pacing(0.25), Choice("normal", 0.25, "interval")),
    "a full group does not wait": (FULL, pacing(5.0), Choice("normal", 0.0, "full")),
    "a full group after the interval is none that was awaited": (FULL, pacing(), NOW_BY_IDLE),
    "failed exports alone go at once": (FAILED, pacing(), Choice("isolated", 0.0, "idle", True)),
    "failed exports alone wait for their turn; a fresh one ends that": (
        *(FAILED, pacing(isolated_in=7.0)),
        Choice("isolated", 7.0, "idle", is_interruptible=True),
    ),
    "they do not wait for the commit interval": (
        *(FAILED, pacing(5.0, last_lane="isolated")),
        Choice("isolated", 0.0, "idle", is_interruptible=True),
    ),
    "after a normal group the isolated lane has its turn": (BOTH, pacing(), ISOLATED),
    "after an isolated group the normal lane has its turn": (
        *(BOTH, pacing(last_lane="isolated")),
        NOW_BY_IDLE,
    ),
    "while the normal lane waits the isolated one goes on": (
        *(BOTH, pacing(5.0, last_lane="isolated")),
        ISOLATED,
    ),
    "a full group ends such a wait": (
        *(BOTH_FULL, pacing(5.0, last_lane="isolated")),
        Choice("normal", 0.0, "full"),
    ),
    "an isolated lane that has to hold off does not delay the others": (
        *(BOTH, pacing(isolated_in=9.0)),
        NOW_BY_IDLE,
    ),
    "both may have to wait": (
        *(BOTH, pacing(5.0, isolated_in=9.0)),
        Choice("normal", 0.5, "interval"),
    ),
}


@pytest.mark.parametrize(("backlog", "so_far", "expected"), CHOICES.values(), ids=CHOICES)
def test_the_next_group(backlog, so_far, expected):
    assert choose(backlog, so_far, NOW) == expected


REFUSED, SILENT = UploadReport(), UploadReport(unanswered=(FILE,))
SHARES = {
    "4 times what a refusal took": (REFUSED, 10.0, 40.0),
    "19 times what a silence took": (SILENT, 10.0, 190.0),
    "at least a second": (REFUSED, 0.01, 1.0),
    "at least a second after a silence, too": (SILENT, 0.0, 1.0),
    "at most an hour": (SILENT, 600.0, ISOLATED_SECONDS_MAX),
    "4 times if nothing was reported": (None, 10.0, 40.0),
}


@pytest.mark.parametrize(("report", "took", "expected"), SHARES.values(), ids=SHARES)
def test_an_isolated_group_that_failed_leaves_time_to_the_others(report, took, expected):
    work = Work(began_at=NOW - took, report=report)
    before = pacing(group_in=3.0, last_lane="isolated", trigger="full")
    after = delay_isolated(work, before, NOW)
    assert after.next_isolated_at == pytest.approx(NOW + expected)
    assert (after.next_group_at, after.last_lane, after.trigger) == (NOW + 3.0, "isolated", "full")


def test_an_isolated_group_that_settled_something_makes_no_wait():
    work = Work(began_at=0.0, report=SILENT, has_progressed=True)
    assert delay_isolated(work, pacing(), NOW) == pacing()


PAUSES = {
    "without jitter at once": (FoundryError(), 0, 0.0, 0.0),
    "the first up to half a second": (FoundryError(), 0, 1.0, 0.5),
    "any time up to that": (FoundryError(), 0, 0.25, 0.125),
    "then twice as long": (FoundryError(), 1, 1.0, 1.0),
    "and so on": (FoundryError(), 4, 1.0, 8.0),
    "but never longer than this": (FoundryError(), 5, 1.0, PAUSE_SECONDS_MAX),
    "however often it fails": (FoundryError(), FAILURES_MAX, 1.0, PAUSE_SECONDS_MAX),
    "Foundry says when": (FoundryError("", 7.0), 0, 0.0, 7.0),
    "and not all at the same moment": (FoundryError("", 7.0), 0, 1.0, 7.5),
    "however long": (FoundryError("", 600.0), FAILURES_MAX, 1.0, 615.0),
    "0 is a time as well": (FoundryError("", 0.0), 0, 1.0, 0.5),
    "the retry time of other errors is meant for phones": (Unavailable(), 0, 0.0, 0.0),
}


@pytest.mark.parametrize(("error", "failures", "jitter", "expected"), PAUSES.values(), ids=PAUSES)
def test_a_pause(error, failures, jitter, expected):
    assert pause_seconds(error, failures, jitter) == pytest.approx(expected)
