"""The rate limit per user."""

import itertools

import pytest

from atlas.core.errors import RateLimited
from atlas.edge.admission import USERS_MAX, RateLimiter
from tests.support.fakes import Time


@pytest.fixture
def time():
    return Time()


def counted(rate: RateLimiter, user: str = "ada") -> int:
    """Return the number of requests of a user that are admitted before one is rejected."""
    for passed in itertools.count():
        try:
            rate.acquire(user)
        except RateLimited:
            return passed
    raise AssertionError


def test_a_user_may_send_a_whole_minutes_requests_at_once(time):
    assert counted(RateLimiter(100, time)) == 100


def test_then_one_comes_free_every_so_often(time):
    rate = RateLimiter(100, time)
    counted(rate)

    time.now += 0.61
    assert counted(rate) == 1
    time.now += 6.01
    assert counted(rate) == 10
    time.now += 3_600
    assert counted(rate) == 100


def test_what_is_refused_counts_for_nothing(time):
    rate = RateLimiter(100, time)
    counted(rate)
    for _ in range(1_000):
        with pytest.raises(RateLimited):
            rate.acquire("ada")

    time.now += 0.61
    rate.acquire("ada")


def test_when_to_come_again_is_told_and_true(time):
    rate = RateLimiter(6, time)
    counted(rate)
    with pytest.raises(RateLimited) as refused:
        rate.acquire("ada")

    assert refused.value.retry_seconds == pytest.approx(10)
    time.now += refused.value.retry_seconds
    rate.acquire("ada")


def test_each_user_is_counted_alone(time):
    rate = RateLimiter(100, time)
    counted(rate, "ada")

    assert counted(rate, "grace") == 100


def test_without_a_limit_all_pass(time):
    rate = RateLimiter(0, time)
    for _ in range(10_000):
        rate.acquire("ada")


def test_whoever_was_away_is_forgotten(time):
    rate = RateLimiter(100, time)
    for number in range(1_000):
        rate.acquire(f"user {number}")
        time.now += 1

    assert len(rate._arrival_times) < 3


def test_however_many_come_only_so_many_are_remembered(time):
    rate = RateLimiter(100, time)
    for number in range(USERS_MAX + 1_000):
        rate.acquire(f"user {number}")

    assert len(rate._arrival_times) == USERS_MAX
