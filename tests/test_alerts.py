"""Alerts and the dashboard query existing metrics and link to sections of the runbook."""

import re
import subprocess
from typing import get_args

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from atlas.core import events
from atlas.core.about import About
from atlas.core.identifiers import API_PREFIX
from atlas.core.messages import Status
from atlas.core.status import DatabaseState, JournalTotals, Replica, RuntimeGauges, StreamLag
from atlas.core.status_aggregator import StatusAggregator
from atlas.outside.metrics import exposition
from tests.conftest import needs
from tests.support.exports import NOON
from tests.support.monitoring import DASHBOARD, ROOT, RULES
from tests.support.pages import anchors_in, anchors_of, text_of

PANELS = DASHBOARD["panels"]
RUNBOOK = ROOT / "config/runbook.md"
NOT_OURS = {"up", "process_start_time_seconds"}  # Prometheus's own metrics
PROMETHEUS = {"__name__", "instance", "job"}  # Prometheus's own labels
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*"}


BY_STATUS = dict.fromkeys(get_args(Status), 1)
DATABASE = DatabaseState(1, (Replica("one", "1", NOON),), False, 1, 1, 1.0, 1)
TOTALS = JournalTotals(BY_STATUS, BY_STATUS, NOON, 1, 0, database=DATABASE)


def list_metrics():
    """Map each metric name to its labels and their possible values."""
    about = About("1", "ri.dataset", "master", 100, 10, is_shared=True, is_streamed=True)
    status = StatusAggregator(about, lambda: NOON)
    for event in (
        events.RequestAnswered("c", f"{API_PREFIX}/export", "POST", 200, 0.1),
        events.StageCompleted("decode", 0.1),
        events.StageCrashed("decode", "ValueError", ()),
        events.GroupCommitted("txn", 1, 1, 0.1, 1, "idle"),
        events.FoundryCalled("put", 200, 0.1, is_retry=True),
    ):
        status.handle(event)
    gauges = RuntimeGauges(TOTALS, {"decode": (0, 16)}, stream=StreamLag(1, 1.0))
    text = exposition(status, gauges)
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            values = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                values.setdefault(label, set()).add(value)
    return found


THERE = list_metrics()
SHARED = {
    name
    for name in THERE
    if name.startswith(("atlas_journal_", "atlas_replicas", "atlas_uploader_epoch"))
    and not name.endswith(("_total", "_bucket", "_count", "_sum"))
}


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


def find_sums(expr):
    """Yield each metric that all replicas report, and that an expression adds up over them."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)

    def walk(node, is_added):
        if isinstance(node, promql_parser.VectorSelector) and is_added and node.name in SHARED:
            yield node.name
        if isinstance(node, promql_parser.AggregateExpr):
            is_added = str(node.op) == "sum"
        for name in ("expr", "lhs", "rhs", "vector_selector", "args"):
            child = getattr(node, name, None)
            for each in child if isinstance(child, list) else [child]:
                if each is not None and not isinstance(each, str):
                    yield from walk(each, is_added)

    return list(walk(promql_parser.parse(expr), is_added=False))


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_what_all_replicas_report_is_not_added_up(expr):
    assert not find_sums(expr)


@pytest.mark.parametrize("metric", sorted(SHARED))
def test_a_sum_over_replicas_is_noticed(metric):
    assert find_sums(f"sum by (job) ({metric}) > 0") == [metric]
    assert find_sums(f"max by (job) ({metric}) > 0") == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_what_all_replicas_report_alerts_once(rule):
    """An alert without `max` fires once for each replica. The disk is one of a single replica."""
    shared = {name for name, _ in selectors(rule["expr"])} & SHARED
    if shared - {"atlas_journal_disk_free_bytes"}:
        assert re.search(r"(max|count) by \(job\)", rule["expr"])


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
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")

    assert re.fullmatch(r"https://\S+/config/runbook\.md", page)
    assert anchor in anchors_of(RUNBOOK)
    assert f"`{rule['alert']}`" in section_at(anchor)


def section_at(anchor):
    """Return the section of the runbook with this anchor."""
    sections = re.split(r"(?m)^(?=## )", text_of(RUNBOOK))
    (found,) = [each for each in sections if anchor in anchors_in(each)]
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_then_what_that_means_and_what_to_do(rule):
    annotations = rule["annotations"]

    assert list(annotations) == ["summary", "description", "runbook_url"]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert len(annotations["summary"]) < 100 < len(annotations["description"]) < 300
    assert all(annotations[name].endswith(".") for name in ("summary", "description"))
    assert set(re.findall(r"atlas_\w+", annotations["description"])) <= THERE.keys()


def test_the_dashboard_leads_to_the_page_of_each_alert():
    led_to = {link["url"] for panel in PANELS for link in panel.get("links", ())}
    pages = {rule["annotations"]["runbook_url"].partition("#")[2] for rule in RULES}

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


# Prometheus itself evaluates the rules, with a sample every 15 s

ONE, TWO = '{job="atlas", instance="one"}', '{job="atlas", instance="two"}'
WAITING = 'atlas_journal_exports{status="accepted", job="atlas", instance="%s"}'
AWAY = 'atlas_refusals_total{code="JOURNAL_AWAY", job="atlas", instance="one"}'
VERSIONS = 'atlas_replicas{version="%s", job="atlas", instance="%s"}'
LOST = 'atlas_stream_rows_total{outcome="%s", job="atlas", instance="one"}'
COMMITTED, BEGAN = "atlas_last_commit_timestamp_seconds", "process_start_time_seconds"


def phones(active, quiet):
    states = {"active": active, "quiet": quiet}.items()
    series = {
        f'atlas_phones{{state="{state}", {ONE[1:]}': f"{count}x999" for state, count in states
    }
    return series | {f"atlas_phones_quiet{ONE}": f"{quiet}x999"}


CASES = [
    (
        "AtlasNoLeader",
        2,
        {f"atlas_uploader_leads{ONE}": "0x99", f"atlas_uploader_leads{TWO}": "0x99"},
    ),
    ("AtlasLeaderFlaps", 5, {f"atlas_uploader_epoch{ONE}": "3x7 5x5 8x99"}),
    ("AtlasJournalFailedOver", 5, {f"atlas_journal_failovers_total{ONE}": "0x9 1x99"}),
    (
        "AtlasNotificationsDelayed",
        6,
        {f"atlas_notifications_delayed{ONE}": "1x99", f"atlas_notifications_delayed{TWO}": "0x99"},
    ),
    ("AtlasDatabaseAway", 4, {AWAY: "0+1x99"}),
    ("AtlasDatabaseAway", 12, {f"atlas_uploader_leads{ONE}": "1x99", WAITING % "one": "0x9"}),
    (
        "AtlasVersionsDiffer",
        62,
        {VERSIONS % ("1", "one"): "1x999", VERSIONS % ("2", "one"): "1x999"},
    ),
    ("AtlasReplicationLags", 12, {f"atlas_journal_replication_lag_bytes{ONE}": "0+67108864x99"}),
    ("AtlasVacuumBlocked", 12, {f"atlas_journal_oldest_transaction_seconds{ONE}": "0+60x99"}),
    ("AtlasStreamBehind", 11, {f"atlas_stream_oldest_seconds{ONE}": "400x99"}),
    ("AtlasStreamRowsLost", 10, {LOST % "dropped": "0x9 5x99"}),
    ("AtlasStreamRowsLost", 10, {LOST % "refused": "0x9 1x99"}),
    ("AtlasPhonesQuiet", 62, phones(active=0, quiet=1)),
    ("AtlasPhonesQuiet", 62, phones(active=7, quiet=2)),
    ("AtlasNoCommit", 20, {WAITING % "one": "1x99", BEGAN + ONE: "0x99", COMMITTED + ONE: "0x99"}),
]
QUIET = [
    ("AtlasPhonesQuiet", 62, phones(active=0, quiet=0)),
    ("AtlasPhonesQuiet", 62, phones(active=2, quiet=1)),
    ("AtlasPhonesQuiet", 62, phones(active=8, quiet=2)),
    ("AtlasStreamBehind", 20, {f"atlas_stream_oldest_seconds{ONE}": "2x99"}),
    ("AtlasStreamRowsLost", 20, {LOST % "published": "0+100x99", LOST % "dropped": "0x99"}),
    (
        "AtlasNoLeader",
        20,
        {f"atlas_uploader_leads{ONE}": "0x99", f"atlas_uploader_leads{TWO}": "1x99"},
    ),
    ("AtlasNoLeader", 20, {f"atlas_uploader_leads{ONE}": "1x20 0x1 1x99"}),
    ("AtlasLeaderFlaps", 20, {f"atlas_uploader_epoch{ONE}": "3x9 4x9 5x9 6x99"}),
    ("AtlasJournalFailedOver", 90, {f"atlas_journal_failovers_total{ONE}": "0x9 1x999"}),
    ("AtlasNotificationsDelayed", 20, {f"atlas_notifications_delayed{ONE}": "1x9 0x99"}),
    ("AtlasDatabaseAway", 20, {f"atlas_uploader_leads{ONE}": "1x99", WAITING % "one": "0x99"}),
    (
        "AtlasVersionsDiffer",
        62,
        {VERSIONS % ("1", "one"): "1x999", VERSIONS % ("1", "two"): "1x999"},
    ),
    ("AtlasVersionsDiffer", 62, {VERSIONS % ("1", "one"): "1x9", VERSIONS % ("2", "one"): "1x999"}),
    ("AtlasReplicationLags", 20, {f"atlas_journal_replication_lag_bytes{ONE}": "60000000x99"}),
    ("AtlasVacuumBlocked", 20, {f"atlas_journal_oldest_transaction_seconds{ONE}": "500x99"}),
    # the follower commits nothing
    (
        "AtlasNoCommit",
        20,
        {
            WAITING % "one": "1x99",
            WAITING % "two": "1x99",
            BEGAN + ONE: "0x99",
            BEGAN + TWO: "0x99",
            COMMITTED + ONE: "0x99",
            COMMITTED + TWO: "1+15x99",
        },
    ),
]


def find_fired(folder, alert, minutes, series):
    """Let promtool evaluate the rules; return what it says of an alert that fires, or ""."""
    test = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": f"{minutes}m", "alertname": alert, "exp_alerts": []}],
    }
    rules = str(ROOT / "config/prometheus/alerts.yaml")
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [rules], "tests": [test]}))
    command = ["promtool", "test", "rules", file]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    return "" if run.returncode == 0 else run.stdout + run.stderr


@pytest.mark.parametrize(("alert", "minutes", "series"), CASES)
def test_an_alert_fires_once_for_all_replicas(tmp_path, alert, minutes, series):
    needs("promtool", "--version")
    fired = find_fired(tmp_path, alert, minutes, series)

    assert fired.count(f'alertname="{alert}"') == 1, fired
    assert "error expanding template" not in fired


@pytest.mark.parametrize(("alert", "minutes", "series"), QUIET)
def test_an_alert_is_quiet_while_nothing_is_wrong(tmp_path, alert, minutes, series):
    needs("promtool", "--version")
    assert find_fired(tmp_path, alert, minutes, series) == ""
