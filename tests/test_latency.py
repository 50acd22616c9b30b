"""Latency and errors of the last five minutes, as the operator page shows them."""

import random

import pytest

from atlas.core.events import FoundryCalled, RequestAnswered, RequestsShed
from atlas.core.identifiers import build_dataset_url
from atlas.core.recent_calls import BOUNDS_SECONDS, STEPS, RecentLatency
from atlas.core.status import CallStatistics, LatencyStatus


def answered(status: int, seconds: float = 0.1, method: str = "POST") -> RequestAnswered:
    return RequestAnswered("", "/export", method, status, seconds)


def called(status: int, seconds: float = 0.1) -> FoundryCalled:
    return FoundryCalled("put", status, seconds, is_retry=False)


def test_without_a_call_there_is_no_latency():
    assert RecentLatency().summarize() == LatencyStatus(CallStatistics(), CallStatistics())


@pytest.mark.parametrize("seconds", [0.02, 0.3, 7.0, 90.0])
def test_percentiles_are_those_of_the_durations_within_a_tenth(seconds):
    latency, chance = RecentLatency(), random.Random(1)
    durations = sorted(chance.uniform(0, 2 * seconds) for _ in range(2_000))
    for each in durations:
        latency.add_request(answered(200, each))
    phones = latency.summarize().phones
    assert phones.calls == 2_000
    assert phones.p50_seconds == pytest.approx(durations[1_000], rel=0.1)
    expected = min(durations[1_980], BOUNDS_SECONDS[-1])
    assert phones.p99_seconds == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("event", "phones"),
    [
        (answered(200), (1, 0)),
        (answered(202), (1, 0)),
        (answered(207), (1, 0)),
        (answered(500), (1, 1)),
        (answered(503), (1, 1)),
        (answered(401), (0, 0)),
        (answered(0), (0, 0)),
        (answered(200, method="GET"), (0, 0)),
    ],
)
def test_exports_that_were_accepted_count_and_those_that_we_could_not_take(event, phones):
    latency = RecentLatency()
    latency.add_request(event)
    seen = latency.summarize().phones
    assert (seen.calls, seen.failed) == phones
    assert (seen.p50_seconds is None) is (phones != (1, 0))


def test_exports_shed_for_overload_are_errors():
    latency = RecentLatency()
    latency.add_shed_requests(RequestsShed(7, {"/export": 7}))
    assert latency.summarize().phones == CallStatistics(7, 7)


@pytest.mark.parametrize(
    ("status", "failed"), [(200, 0), (204, 0), (404, 0), (400, 1), (429, 1), (503, 1), (0, 1)]
)
def test_a_call_to_foundry_fails_without_an_answer_and_with_an_error(status, failed):
    latency = RecentLatency()
    latency.add_foundry_call(called(status))
    seen = latency.summarize().foundry
    assert (seen.calls, seen.failed) == (1, failed)


def test_calls_of_more_than_five_minutes_ago_are_forgotten():
    latency = RecentLatency()
    latency.add_foundry_call(called(503, 50.0))
    for _ in range(STEPS - 1):
        latency.end_step()
    assert latency.summarize().foundry.failed == 1
    latency.add_foundry_call(called(200, 0.1))
    latency.end_step()
    seen = latency.summarize().foundry
    assert (seen.calls, seen.failed) == (1, 0)
    assert seen.p99_seconds < 0.2


PREVIEW = "https://a.example/workspace/data-integration/dataset/preview/ri.foundry.main.dataset.1"


@pytest.mark.parametrize(
    ("host", "branch", "url"),
    [
        ("https://a.example", "master", f"{PREVIEW}/master"),
        ("https://a.example", "dev/x y", f"{PREVIEW}/dev%2Fx%20y"),
        ("http://127.0.0.1:8081", "master", None),
        ("", "master", None),
    ],
)
def test_the_dataset_has_an_address_in_foundry_and_none_in_an_emulator(host, branch, url):
    assert build_dataset_url(host, "ri.foundry.main.dataset.1", branch) == url
