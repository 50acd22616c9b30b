"""The rate limit per user."""

import itertools

import pytest

from atlas.core.errors import RateLimited
from atlas.edge.admission import USERS_MAX, RateLimiter
from tests.support.fakes import Time


@pytest.fixture
def time():
    return Time()


def count_admitted(limiter: RateLimiter, user: str = "ada") -> int:
    """Return the number of requests of a user that are admitted before one is rejected."""
    for passed in itertools.count():
        try:
            limiter.acquire(user)
        except RateLimited:
            return passed
    raise AssertionError


def test_a_user_may_send_a_whole_minutes_requests_at_once(time):
    assert count_admitted(RateLimiter(100, time)) == 100


def test_then_one_comes_free_every_so_often(time):
    limiter = RateLimiter(100, time)
    count_admitted(limiter)

    time.now += 0.61
    assert count_admitted(limiter) == 1
    time.now += 6.01
    assert count_admitted(limiter) == 10
    time.now += 3_600
    assert count_admitted(limiter) == 100


def test_what_is_refused_counts_for_nothing(time):
    limiter = RateLimiter(100, time)
    count_admitted(limiter)
    for _ in range(1_000):
        with pytest.raises(RateLimited):
            limiter.acquire("ada")

    time.now += 0.61
    limiter.acquire("ada")


def test_when_to_come_again_is_told_and_true(time):
    limiter = RateLimiter(6, time)
    count_admitted(limiter)
    with pytest.raises(RateLimited) as refused:
        limiter.acquire("ada")

    assert refused.value.retry_seconds == pytest.approx(10)
    time.now += refused.value.retry_seconds
    limiter.acquire("ada")


def test_each_user_is_counted_alone(time):
    limiter = RateLimiter(100, time)
    count_admitted(limiter, "ada")

    assert count_admitted(limiter, "grace") == 100


def test_without_a_limit_all_pass(time):
    limiter = RateLimiter(0, time)
    for _ in range(10_000):
        limiter.acquire("ada")


def test_whoever_was_away_is_forgotten(time):
    limiter = RateLimiter(100, time)
    for number in range(1_000):
        limiter.acquire(f"user {number}")
        time.now += 1

    assert len(limiter._arrival_times) < 3


def test_however_many_come_only_so_many_are_remembered(time):
    limiter = RateLimiter(100, time)
    for number in range(USERS_MAX + 1_000):
        limiter.acquire(f"user {number}")

    assert len(limiter._arrival_times) == USERS_MAX
