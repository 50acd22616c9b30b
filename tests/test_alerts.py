"""Alerts and the dashboard query existing metrics and link to sections of the runbook."""

import re
from typing import get_args

import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families

from atlas.core import events
from atlas.core.identifiers import API_PREFIX
from atlas.core.messages import Status
from atlas.core.status import JournalTotals, RuntimeGauges
from atlas.core.status_aggregator import About, StatusAggregator
from atlas.outside.metrics import exposition
from tests.support.exports import NOON
from tests.support.monitoring import DASHBOARD, ROOT, RULES
from tests.support.pages import anchors_of, text_of

PANELS = DASHBOARD["panels"]
RUNBOOK = ROOT / "config/runbook.md"
NOT_OURS = {"up", "process_start_time_seconds"}  # Prometheus's own metrics
PROMETHEUS = {"__name__", "instance", "job"}  # Prometheus's own labels
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*"}


def list_metrics():
    """Map each metric name to its labels and their possible values."""
    status = StatusAggregator(About("1", "ri.dataset", "master", 100, 10), lambda: NOON)
    for event in (
        events.RequestAnswered("c", f"{API_PREFIX}/export", "POST", 200, 0.1),
        events.StageCompleted("decode", 0.1),
        events.StageCrashed("decode", "ValueError", ()),
        events.GroupCommitted("txn", 1, 1, 0.1, 1, "idle"),
        events.FoundryCalled("put", 200, 0.1, is_retry=True),
    ):
        status.handle(event)
    by_status = dict.fromkeys(get_args(Status), 1)
    text = exposition(
        status, RuntimeGauges(JournalTotals(by_status, by_status, NOON, 1, 0), {"decode": (0, 16)})
    )
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            values = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                values.setdefault(label, set()).add(value)
    return found


THERE = list_metrics()


def selectors(expr):
    """Yield each metric of an expression with the values it selects by label; ".+" matches any.

    The alternatives of a regular expression are all selected.
    """
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)

    def walk(node, by=()):
        if isinstance(node, promql_parser.VectorSelector):
            values = {each.name: each.value.split("|") for each in node.matchers.matchers}
            yield node.name, dict.fromkeys(by, (".+",)) | values
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            by = node.modifier.labels
        for name in ("expr", "lhs", "rhs", "vector_selector", "args", "param"):
            child = getattr(node, name, None)
            for each in child if isinstance(child, list) else [child]:
                if each is not None and not isinstance(each, str):
                    yield from walk(each, by)

    return list(walk(promql_parser.parse(expr)))


EXPRESSIONS = [pytest.param(rule["expr"], id=rule["alert"]) for rule in RULES] + [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]


def find_unknown(expr):
    """Yield the metrics, labels and label values of an expression that Atlas does not export."""
    for name, selected in selectors(expr):
        if name not in THERE and name not in NOT_OURS:
            yield name
        for label in selected.keys() - PROMETHEUS:
            told = THERE.get(name, {}).get(label, ())
            for value in selected[label]:
                if not any(re.fullmatch(value, each) for each in told):
                    yield f"{name}{{{label}={value}}}"


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_what_is_asked_for_is_a_metric_of_ours_with_these_labels_and_values(expr):
    assert selectors(expr)
    assert not list(find_unknown(expr))


@pytest.mark.parametrize(
    "expr",
    [
        "sum(rate(atlas_nothing_total[5m])) > 0.5 * up",
        'atlas_refusals_total{colour="JOURNAL_FULL"}',
        'atlas_refusals_total{code=~"JOURNAL_FULL|JOURNAL_EMPTY"}',
        "sum by (colour) (rate(atlas_refusals_total[5m]))",
    ],
)
def test_what_is_not_there_is_noticed(expr):
    assert list(find_unknown(expr))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_leads_to_its_page_in_the_runbook(rule):
    page, _, anchor = rule["annotations"]["runbook"].partition("#")

    assert page == "config/runbook.md"
    assert anchor in anchors_of(RUNBOOK)
    assert f"`{rule['alert']}`" in text_of(RUNBOOK)


def test_the_dashboard_leads_to_the_page_of_each_alert():
    led_to = {link["url"] for panel in PANELS for link in panel.get("links", ())}
    pages = {rule["annotations"]["runbook"].partition("#")[2] for rule in RULES}

    assert {url.removeprefix("${runbook}#") for url in led_to} == pages


def test_panels_have_names_of_their_own_and_do_not_overlap():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    places = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not places & cells
        assert all(x < 24 for x, _ in cells)
        places |= cells
