"""All steps of `atlas diagnose` against a running service, and the incident page."""

import msgspec
import pytest

from atlas.cli.diagnose import render_markdown
from atlas.core.diagnosis import Diagnosis
from atlas.core.verdict import OK_MEANING, describe
from atlas.diagnose import NAMES
from tests.conftest import an_export
from tests.diagnose.faults import RAW
from tests.support.running_system import CLIENT_SECRET, HOST, first_failing, step

CANARY = "canary-of-a-person"


def render(found: Diagnosis) -> str:
    """Render the diagnosis both as JSON and as Markdown."""
    return msgspec.json.encode(found).decode() + render_markdown(found)


async def test_a_healthy_system_passes_every_step(system):
    async with system.serving() as serving:
        sent = await serving.send(an_export(), system.token(sub="auth0|ada"))
        found = await serving.diagnosed(system.token())

    assert sent.status == 200
    assert [each.verdict for each in found.steps] == ["pass"] * 11, found
    assert found.exit_code == 0
    assert {each.number: each.name for each in found.steps} | {12: "stream"} == NAMES
    assert system.states() == ["COMMITTED", "ABORTED"], "the probe leaves no row"


async def test_the_verdict_is_that_of_the_service_and_of_the_steps_that_fail(system):
    async with system.serving() as serving:
        healthy = await serving.diagnosed(system.token(expires_in=-60))
        nowhere = await serving.diagnosed(url=f"http://{HOST}:1")
        system.foundry.options.is_role_revoked = True
        revoked = await serving.diagnosed()
    stopped = await system.diagnosed()

    assert first_failing(healthy) == 3, "which is about one phone's token"
    assert describe(healthy.verdict) == f"OK: {OK_MEANING}"
    assert describe(nowhere.verdict).startswith(
        f"down: Phones do not reach Atlas at http://{HOST}:1"
    )
    assert revoked.verdict.state == "degraded"
    assert any(each.startswith("Step 7 (dataset): ") for each in revoked.verdict.reasons)
    assert stopped.verdict.state == "down"
    assert stopped.verdict.reasons[0].startswith("No Atlas runs here with these settings")


async def test_its_page_has_the_headings_and_the_last_upload(system):
    async with system.serving() as serving:
        sent = await serving.send(an_export(), system.token(sub="auth0|ada"))
        found = await serving.diagnosed()

    sections = {section.heading: dict(section.facts) for section in found.sections}
    assert list(sections) == [
        *("Service", "Endpoints", "Dataset target", "Authentication", "App"),
        *("Last successful upload", "Gap since", "Next steps"),
    ]
    last = sections["Last successful upload"]
    assert last["transaction"] == sent.body["transaction_rid"]
    assert last["file"].startswith(f"healthkit/raw/{{user {last['user']}}}/")
    assert (last["records"], last["result"]) == ("1, and 0 rejected", "committed")
    assert sections["Gap since"]["waiting"] == "0 exports"


async def test_what_phones_were_refused_with_is_told(system):
    async with system.serving() as serving:
        for expires_in in (-60, -7_200):
            await serving.send(an_export(), system.token(expires_in=expires_in))
        found = await serving.diagnosed()

    app = next(dict(each.facts) for each in found.sections if each.heading == "App")
    assert app["refused since the start"] == "2 TOKEN_EXPIRED"


async def test_bare_settings_fail_at_nothing_and_make_nothing(system):
    found = await system.diagnosed(system.token())

    verdicts = {each.name: each.verdict for each in found.steps}
    assert {name for name, verdict in verdicts.items() if verdict != "pass"} == {"edge", "journal"}
    assert (verdicts["edge"], verdicts["journal"]) == ("unknown", "unknown")
    assert "There is no journal" in step(found, 5).reason
    assert found.exit_code == 0
    assert [each.name for each in system.folder.iterdir()] == ["foundry"]
    assert system.states() == ["ABORTED"]


async def test_neither_the_report_nor_the_json_holds_what_is_secret(system):
    sub, device = f"auth0|{CANARY}", f"{CANARY}-phone"
    system.operator_token = f"{CANARY}-operator"
    operator = {"authorization": f"Bearer {system.operator_token}"}
    token = system.token(sub=sub, claims={"email": f"{CANARY}@a.test", "azp": CANARY})
    async with system.serving() as serving:
        await serving.send(an_export(device=device), token)
        url = f"http://user:{CANARY}@{HOST}:{system.port}"
        found = await serving.diagnosed(token, url, **operator)
        system.foundry.options.is_role_revoked = True
        url = f"http://{HOST}:1/?key={CANARY}"
        failing = await serving.diagnosed(token + "x", url, **operator)

    for each in (found, failing):
        for secret in (CANARY, CLIENT_SECRET, token, token.split(".")[2], sub, "Bearer"):
            assert secret not in render(each)
    assert first_failing(failing) == 3
    assert first_failing(found) == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"nonsense", 400),
        (b"[]", 400),
        (b'{"token": 7}', 400),
        (b'{"tokn": "t"}', 400),
        (b"\xff", 400),
        (b'"' + b"x" * 70_000 + b'"', 413),
    ],
)
async def test_a_question_that_cannot_be_meant_is_refused(system, body, status):
    async with system.serving() as serving:
        answer = await serving.asked("/diagnose", body)

    assert answer.status == status
    assert answer.body.keys() == {"error"}


async def test_whoever_has_not_the_operators_token_cannot_ask(system):
    system.operator_token = "a-secret"
    async with system.serving() as serving:
        answers = [await serving.asked(path) for path in ("/diagnose", "/diagnose/remove-old-json")]

    assert [answer.status for answer in answers] == [401, 401]
    assert system.states() == []


async def test_old_json_files_are_taken_out_in_one_transaction_and_nothing_else(system):
    for number in range(3):
        system.committed(f"{RAW}-{number}.json", b"[]")
    system.committed("elsewhere/a.json", b"[]")
    async with system.serving() as serving:
        await serving.send(an_export(), system.token())
        answer = await serving.asked("/diagnose/remove-old-json")
        found = await serving.diagnosed()

    assert (answer.status, answer.body["files"]) == (200, 3)
    view = system.foundry.branches.get_branch(system.dataset, "master").view
    assert sorted(path.rpartition(".")[2] for path in view) == ["json", "ndjson"]
    assert found.exit_code == 0
