"""The promises of Atlas under each fault of the table, as in `just prove`, at a small size."""

import secrets

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from atlas.local.foundry import FoundryEmulator
from atlas.local.foundry.state import DATASET
from tests.chaos import SCALES, SCENARIOS, Plan, Scenario, render_markdown, run_scenarios
from tests.chaos.__main__ import app
from tests.chaos.oracle import BRANCH, Oracle, Reply
from tests.chaos.service_process import Skipped
from tests.conftest import cannot_run

pytestmark = pytest.mark.slow

AN_ACCEPTANCE = Reply("receipt", "accepted", None, None, "2025-09-26T06:30:00.000Z", False)
ON_POSTGRES = (
    "kill -9",
    "kill points",
    "unknown outcome, shared files",
    "twins",
    "poison",
    "stream: killed while it publishes",
)
A_COMMITMENT = replace(AN_ACCEPTANCE, status="committed")


@pytest.fixture
def foundry(tmp_path):
    found = FoundryEmulator(tmp_path)
    yield found
    found.branches.close()


@pytest.mark.parametrize("trial", SCENARIOS, ids=lambda trial: trial.name)
async def test_the_balance_is_even(trial):
    plan = Plan([trial], SCALES["ci"], secrets.randbits(32))

    (outcome,) = await run_scenarios(plan, lambda _: None)

    if outcome.verdict == "skipped":
        cannot_run(outcome.facts[0])
    assert outcome.verdict == "PASS", f"seed {plan.seed}: {outcome}"


@pytest.mark.parametrize("name", ON_POSTGRES)
async def test_the_balance_is_even_on_postgresql(name):
    trials = [trial for trial in SCENARIOS if trial.name == name]
    plan = Plan(trials, SCALES["ci"], secrets.randbits(32), "postgres")

    (outcome,) = await run_scenarios(plan, lambda _: None)

    if outcome.verdict == "skipped":
        cannot_run(outcome.facts[0])
    assert outcome.verdict == "PASS", f"seed {plan.seed}: {outcome}"


async def test_a_trial_about_the_file_of_sqlite_is_skipped_on_postgresql():
    trial = Scenario("x", lambda _: None, needs_sqlite=True)

    (outcome,) = await run_scenarios(Plan([trial], SCALES["ci"], 1, "postgres"), lambda _: None)

    assert outcome.verdict == "skipped"


async def test_the_oracle_sees_what_is_lost_and_what_stands_there_twice(foundry):
    oracle = Oracle()
    for name in ("kept", "lost", "torn"):
        oracle.record_sent(name, lines=2)
        oracle.record_answer(name, AN_ACCEPTANCE)
    put(foundry, "kept/0 kept/1 torn/0")
    put(foundry, "kept/1 nobody/0")

    balance = oracle.draw_balance(foundry)

    assert (balance.accepted, balance.committed) == (3, 1)
    assert balance.lost == ("lost", "torn")
    assert balance.twice == ("kept/1",)
    assert balance.strange == ("nobody/0",)


async def test_what_was_turned_away_and_given_up_may_stand_there_but_not_twice(foundry):
    oracle = Oracle()
    for name in ("once", "never", "twice"):
        oracle.record_sent(name, lines=1)
        oracle.given_up.add(name)
    put(foundry, "once/0 twice/0")
    put(foundry, "twice/0")

    balance = oracle.draw_balance(foundry)

    assert balance.twice == ("twice/0",)
    assert (balance.lost, balance.strange) == ((), ())
    assert oracle.list_unanswered() == []


async def test_a_receipt_that_says_committed_is_looked_up(foundry):
    oracle = Oracle()
    rid = put(foundry, "there/0 liar/0")
    for name, path in (("there", "1.ndjson"), ("liar", "2.ndjson")):
        oracle.record_sent(name, lines=1)
        oracle.record_answer(name, replace(A_COMMITMENT, transaction_rid=rid, file_path=path))

    assert oracle.draw_balance(foundry).untrue == ("liar",)


def put(foundry, uuids):
    found = foundry.branches.begin(DATASET, BRANCH, "APPEND")
    text = "".join(f'{{"uuid":"{uuid}"}}\n' for uuid in uuids.split())
    foundry.branches.put(found, f"{len(foundry.branches.transactions)}.ndjson", text.encode())
    foundry.branches.commit(found)
    return found.rid


def test_a_trial_that_does_not_exist_is_wrong_usage():
    outcome = CliRunner().invoke(app, ["prove", "--only", "kill -8"])

    assert outcome.exit_code == 2
    assert "kill -9" in outcome.output


async def test_what_cannot_be_made_here_is_skipped_and_says_why():
    async def run(_bench):
        raise Skipped("needs a larger laptop")

    (outcome,) = await run_scenarios(Plan([Scenario("x", run)], SCALES["ci"], 1), lambda _: None)

    assert (outcome.verdict, outcome.facts) == ("skipped", ("needs a larger laptop",))


async def test_what_a_trial_expected_and_did_not_meet_is_not_even_and_stands_in_the_report():
    async def run(bench):
        await bench.atlas.start()
        bench.findings.check(False, "the moon is round")

    plan = Plan([Scenario("x", run)], SCALES["ci"], 7)
    outcomes = await run_scenarios(plan, lambda _: None)

    assert outcomes[0].verdict == "FAIL"
    report = render_markdown("just prove --seed 7", outcomes)
    assert "the moon is round" in report
    assert "--seed 7" in report


def test_the_report_goes_into_a_folder_that_is_made_for_it(tmp_path):
    report = tmp_path / "var" / "report.md"
    arguments = ["prove", "--only", "wrong key", "--size", "ci", "--report", str(report)]

    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert "| wrong key |" in report.read_text()


def test_a_report_that_cannot_be_written_is_told_before_anything_is_proven(tmp_path):
    (tmp_path / "taken").touch()
    report = str(tmp_path / "taken" / "report.md")
    outcome = CliRunner().invoke(app, ["prove", "--only", "wrong key", "--report", report])

    assert isinstance(outcome.exception, OSError)
    assert "wrong key" not in outcome.output
