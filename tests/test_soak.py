"""The soak test detects leaks, ignores fluctuation, and stops when asked to."""

import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import anyio
import pytest

from tests.chaos import SCALES, Plan, build_soak, run_scenarios
from tests.chaos.soak.gauges import Gauges, Reading
from tests.chaos.trial_environment import MIB, Findings

FLAT = Reading(at=0, memory=100, descriptors=30, tasks=100, journal=8, wal=4, exports=0)


def find_growth(seconds, is_answered=lambda _at: True, **grown):
    """Return the failures found when readings grow by these amounts in this many seconds.

    `is_answered`: whether the metrics respond at a given second.
    """
    gauges = Gauges(SimpleNamespace(findings=Findings()), metrics=None)
    for at in range(seconds):
        share, busy = at / seconds, 40 * (at % 7 == 0)
        more = {name: getattr(FLAT, name) + by * share for name, by in grown.items()}
        found = replace(FLAT, at=at, exports=at * 10, **more)
        tasks = found.tasks + busy if is_answered(at) else None
        gauges.readings.append(replace(found, memory=found.memory + busy, tasks=tasks))
    gauges.check_growth()
    return gauges.testbed.findings.failures


def test_what_comes_and_goes_is_no_leak():
    assert find_growth(1_800) == []


@pytest.mark.parametrize(
    ("grown", "told"),
    [
        ({"memory": 5}, "MiB in ten minutes."),
        ({"descriptors": 300}, "descriptors more"),
        ({"tasks": 200}, "tasks more"),
        ({"wal": 100}, "The WAL grew to 104 MiB."),
        ({"journal": 200}, "The journal grew by 100 MiB."),
    ],
)
def test_what_grows_in_the_second_half_is_told(grown, told):
    (wrong,) = find_growth(1_800, **grown)

    assert told in wrong


def test_where_the_metrics_did_not_answer_now_and_then_a_leak_is_seen_all_the_same():
    assert find_growth(1_800, is_answered=lambda at: at % 90) == []
    (wrong,) = find_growth(1_800, is_answered=lambda at: at % 90, tasks=200)

    assert "tasks more" in wrong


def test_metrics_that_answer_half_of_the_time_are_told():
    (wrong,) = find_growth(1_800, is_answered=lambda at: at % 2)

    assert wrong == "The metrics answered 450 of 900 times."


def test_a_receipt_is_kept_of_each_export_and_is_no_leak():
    assert find_growth(1_800, journal=18_000 * 1_000 / MIB) == []


def test_of_a_minute_only_what_no_warming_up_explains_is_told():
    assert find_growth(60, memory=200) == []
    assert "MiB in 29 s." in find_growth(60, memory=400)[0]


def test_what_is_too_short_is_not_judged():
    assert find_growth(20, memory=500) == []


@pytest.mark.slow
async def test_after_a_minute_of_everything_nothing_is_lost_and_nothing_has_grown():
    trial = build_soak(60, lambda *_: None, anyio.Event())

    (outcome,) = await run_scenarios(Plan([trial], SCALES["full"], 1), lambda _: None)

    assert outcome.verdict == "PASS", outcome


@pytest.mark.slow
def test_ctrl_c_ends_it_with_what_was_found_so_far(tmp_path):
    report = tmp_path / "report.md"
    command = [sys.executable, "-m", "tests.chaos", "soak", "--seed", "7", "--report", report]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr.readline() == "seed 7, 30 minutes\n"
        assert running.stderr.readline() == "Ctrl-C ends it early.\n"
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=300)

    assert running.returncode == 130
    assert "soak" in out
    assert "`just soak --minutes 30 --seed 7`" in report.read_text()
