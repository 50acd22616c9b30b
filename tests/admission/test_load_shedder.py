"""Load shedding: requests are rejected if too many are already in progress."""

import itertools
from contextlib import ExitStack

import pytest

from atlas.core.errors import Overloaded
from atlas.edge.admission import MIN_IN_FLIGHT, WAIT_SECONDS_MAX, LoadShedder
from atlas.service.listeners import build_admission
from atlas.settings import EdgeSettings, Settings
from tests.support.fakes import Time


@pytest.fixture
def time():
    return Time()


def run_requests(shedder: LoadShedder, time: Time, *, seconds: int, per_second: int) -> None:
    """Let `per_second` requests per second start and finish, for `seconds`."""
    for _ in range(seconds * per_second):
        time.now += 1 / per_second
        with shedder.track():
            pass


def is_overloaded(shedder: LoadShedder, before: int) -> bool:
    try:
        shedder.check(before)
    except Overloaded:
        return True
    return False


def test_a_few_are_never_too_many(time):
    shedder = LoadShedder(time)
    with ExitStack() as inside:
        for _ in range(MIN_IN_FLIGHT - 1):
            inside.enter_context(shedder.track())
        time.now += 3_600
        shedder.check(0)


@pytest.mark.parametrize("per_second", [50, 400, 3_000])
def test_how_many_may_wait_follows_our_pace(time, per_second):
    shedder = LoadShedder(time)
    with ExitStack() as inside:
        for _ in range(MIN_IN_FLIGHT):
            inside.enter_context(shedder.track())
        run_requests(shedder, time, seconds=20, per_second=per_second)

        may_wait = next(each for each in itertools.count() if is_overloaded(shedder, each))
    assert may_wait + MIN_IN_FLIGHT == pytest.approx(WAIT_SECONDS_MAX * per_second, rel=0.05)


def test_who_is_turned_away_is_told_how_long_it_takes_to_serve_all_who_were(time):
    shedder = LoadShedder(time)
    retry_delays = []
    with ExitStack() as inside:
        for _ in range(MIN_IN_FLIGHT):
            inside.enter_context(shedder.track())
        run_requests(shedder, time, seconds=20, per_second=100)
        for _ in range(1_000):
            with pytest.raises(Overloaded) as refused:
                shedder.check(400)
            retry_delays.append(refused.value.retry_seconds)
        run_requests(shedder, time, seconds=20, per_second=100)
        with pytest.raises(Overloaded) as refused:
            shedder.check(400)

    assert retry_delays[0] == pytest.approx(4.65, rel=0.05)  # for the requests in progress alone
    assert retry_delays[-1] == pytest.approx(14.6, rel=0.05)  # plus the thousand that will retry
    assert refused.value.retry_seconds == pytest.approx(4.65, rel=0.05)  # the retries are over


def test_nobody_is_sent_away_for_longer_than_half_a_minute(time):
    shedder = LoadShedder(time)
    for _ in range(100_000):
        with pytest.raises(Overloaded) as refused:
            shedder.check(10_000)

    assert refused.value.retry_seconds == 30  # the response adds up to as much again


def test_a_flood_is_forgotten_when_those_whom_we_could_serve_meanwhile_are(time):
    shedder = LoadShedder(time)
    for _ in range(200_000):
        with pytest.raises(Overloaded):
            shedder.check(1_000)
    with ExitStack() as inside:
        for _ in range(MIN_IN_FLIGHT):
            inside.enter_context(shedder.track())
        run_requests(shedder, time, seconds=31, per_second=200)
        with pytest.raises(Overloaded) as refused:
            shedder.check(640)

    assert refused.value.retry_seconds == pytest.approx(3.5, rel=0.1)


def test_a_flow_that_stands_still_takes_no_more(time):
    shedder = LoadShedder(time)
    with ExitStack() as inside:
        for _ in range(MIN_IN_FLIGHT):
            inside.enter_context(shedder.track())
        shedder.check(0)
        time.now += WAIT_SECONDS_MAX + 0.1
        with pytest.raises(Overloaded):
            shedder.check(0)
        with shedder.track():
            pass
        shedder.check(0)


def test_of_those_who_end_together_each_counts(time):
    """All requests of a group finish at the same moment."""
    shedder = LoadShedder(time)
    for _ in range(40):
        with ExitStack() as group:
            for _ in range(MIN_IN_FLIGHT):
                group.enter_context(shedder.track())
            time.now += 0.3

    assert shedder.per_second == pytest.approx(MIN_IN_FLIGHT / 0.3, rel=0.05)


def test_a_quiet_hour_says_nothing_of_our_pace(time):
    shedder = LoadShedder(time)
    for _ in range(60):
        time.now += 60
        with shedder.track():
            pass

    shedder.check(300)  # one per minute came; the flow can do far more


@pytest.mark.parametrize(("reply_seconds", "patience"), [(25.0, 3.0), (2.0, 1.0)])
def test_patience_ends_well_before_a_deadline_does(reply_seconds, patience):
    edge = EdgeSettings(commit_wait_seconds=reply_seconds)
    admission = build_admission(Settings(edge=edge), Time())

    assert admission.shedder.wait_seconds_max == patience
