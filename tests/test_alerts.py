"""Alerts and the dashboard ask for metrics that there are, and lead to a page that is there."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from atlas.core import events
from atlas.core.messages import Depth
from atlas.outside.metrics import Metrics

ROOT = Path(__file__).parent.parent
ALERTS = yaml.safe_load((ROOT / "config/prometheus/alerts.yaml").read_text(encoding="utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((ROOT / "config/grafana/atlas.json").read_text(encoding="utf-8"))
PANELS = DASHBOARD["panels"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOT_OURS = {"up", "process_start_time_seconds"}  # Prometheus's own
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*"}
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def scraped():
    """A metric of each name, with the labels that it has."""
    metrics = Metrics("1", lambda: NOON)
    for event in (
        events.RequestAnswered("c", "/health", "GET", 200, 0.1),
        events.StageWorked("decode", 0.1),
        events.ActorCrashed("Decode", "ValueError", ()),
        events.GroupCommitted("txn", 1, 1, 0.1, 1, "idle"),
        events.FoundryCalled("put", 200, 0.1, is_retry=True),
    ):
        metrics.watch(event)
    depth = Depth({"accepted": 1}, {"accepted": 1}, NOON, 1, 0)
    text = metrics.text(depth, {"decode": (0, 16)}, is_draining=False).decode()
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


THERE = scraped()


def selectors(expr):
    """Each metric that an expression asks for, and the labels that it selects by."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)

    def walk(node):
        if isinstance(node, promql_parser.VectorSelector):
            yield node.name, {each.name for each in node.matchers.matchers}
        for name in ("expr", "lhs", "rhs", "vector_selector", "args", "param"):
            child = getattr(node, name, None)
            for each in child if isinstance(child, list) else [child]:
                if each is not None and not isinstance(each, str):
                    yield from walk(each)

    return list(walk(promql_parser.parse(expr)))


def anchors():
    """As a reader of Markdown makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


EXPRESSIONS = [pytest.param(rule["expr"], id=rule["alert"]) for rule in RULES] + [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_what_is_asked_for_is_a_metric_of_ours_with_these_labels(expr):
    found = selectors(expr)

    assert found
    for name, labels in found:
        if name not in NOT_OURS:
            assert name in THERE
            assert labels - {"__name__", "instance", "job"} <= THERE[name]


def test_a_metric_that_is_not_there_would_be_noticed():
    assert selectors('sum(rate(atlas_nothing_total{code="x"}[5m])) > 0.5 * up')[0] == (
        "atlas_nothing_total",
        {"code"},
    )
    assert "atlas_nothing_total" not in THERE


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_leads_to_its_page_in_the_runbook(rule):
    page, _, anchor = rule["annotations"]["runbook"].partition("#")

    assert page == "README.md"
    assert anchor in anchors()
    assert f"`{rule['alert']}`" in README


def test_the_dashboard_leads_to_the_page_of_each_alert():
    led_to = {link["url"] for panel in PANELS for link in panel.get("links", ())}
    pages = {rule["annotations"]["runbook"].partition("#")[2] for rule in RULES}

    assert {url.removeprefix("${readme}#") for url in led_to} == pages


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
