"""The verdict on a service: one rule, for the operator page, `atlas top` and `atlas diagnose`."""

import pytest
from anyio import sleep_forever

from atlas.core.about import About
from atlas.core.errors import Unavailable
from atlas.core.events import UploadPaused
from atlas.core.status import (
    DatabaseState,
    JournalTotals,
    Replica,
    RuntimeGauges,
    ServiceVerdict,
)
from atlas.core.status_aggregator import StatusAggregator
from atlas.core.verdict import OLDEST_SECONDS_MAX, describe
from atlas.edge.operator import GaugeReader, gauge_reader
from tests.support.exports import NOON
from tests.support.monitoring import RULES

PAUSED = UploadPaused("Foundry answers 503.", 1.0)


def judge(gauges: RuntimeGauges, *events):
    status = StatusAggregator(About("1", "ri.dataset", "master", 100, 10), lambda: NOON)
    for event in events:
        status.handle(event)
    return status.take_snapshot(gauges).verdict


def with_totals(accepted: int = 0, set_aside: int = 0, **fields) -> RuntimeGauges:
    return RuntimeGauges(
        JournalTotals({"accepted": accepted, "set_aside": set_aside}, {}, **fields)
    )


def with_replicas(*epochs) -> RuntimeGauges:
    replicas = tuple(Replica(f"r{number}", "1", NOON, each) for number, each in enumerate(epochs))
    return with_totals(database=DatabaseState(1, replicas))


@pytest.mark.parametrize(
    ("gauges", "events", "state", "told"),
    [
        pytest.param(with_totals(3), [], "ok", "OK: Exports are", id="exports that wait are fine"),
        pytest.param(RuntimeGauges(is_draining=True), [], "down", "Shutting down", id="draining"),
        pytest.param(
            RuntimeGauges(not_ready={"keys": "No keys."}),
            *([PAUSED], "down", "No export can be accepted (keys): No keys. Uploads are paused"),
            id="not ready and paused",
        ),
        pytest.param(with_totals(1), [PAUSED], "degraded", "paused: Foundry answers", id="paused"),
        pytest.param(
            with_totals(1, failed=1),
            *([PAUSED], "degraded", "degraded: 1 export has failed and is retried apart"),
            id="a pause for nothing but what Foundry refuses",
        ),
        pytest.param(
            with_totals(1, oldest=NOON.replace(hour=11)),
            *([], "degraded", "The oldest export has waited for 60 min"),
            id="old",
        ),
        pytest.param(
            with_totals(1, oldest=NOON.replace(hour=11, minute=50)),
            *([], "ok", "OK"),
            id="not so old",
        ),
        pytest.param(
            with_totals(0, 2), [], "degraded", "2 exports are set aside, for an", id="set aside"
        ),
        pytest.param(with_totals(imbalance=1), [], "degraded", "not balance", id="imbalance"),
        pytest.param(with_replicas(None, 4), [], "ok", "OK", id="a leader and a follower"),
        pytest.param(with_replicas(None, None), [], "degraded", "No replica uploads.", id="none"),
    ],
)
def test_a_service_is_judged_by_what_senders_and_operators_must_know(gauges, events, state, told):
    verdict = judge(gauges, *events)

    assert verdict.state == state
    assert told in describe(verdict)


def test_an_export_is_old_for_the_verdict_when_it_is_for_the_alert():
    (alert,) = [each for each in RULES if each.get("alert") == "AtlasJournalAge"]
    assert alert["expr"].endswith(f"> {OLDEST_SECONDS_MAX:.0f}")


class Silent:
    """A ledger that does not answer."""

    async def read_totals(self):
        raise Unavailable


async def test_a_journal_or_a_check_that_does_not_answer_makes_the_service_down(monkeypatch):
    monkeypatch.setattr(gauge_reader, "CHECK_SECONDS_MAX", 0.05)
    checks = {"journal": sleep_forever, "keys": sleep_forever}
    gauges = await GaugeReader(Silent(), dict, lambda: False, checks=checks).read_with_readiness()

    assert judge(gauges) == ServiceVerdict(
        "down",
        (
            "No export can be accepted (journal): It does not respond.",
            "No export can be accepted (keys): It does not respond.",
        ),
    )
