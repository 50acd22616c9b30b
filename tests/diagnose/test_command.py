"""`atlas diagnose` as a subprocess."""

import subprocess

import anyio
import msgspec
import pytest

from atlas.core.diagnosis import Diagnosis
from atlas.core.status import ServiceVerdict
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.sqlite.journal import open_journal
from tests.diagnose.faults import RAW, with_parquet
from tests.support.processes import COMMAND, ENVIRON, fetched, local
from tests.support.running_system import CLIENT_SECRET, HOST


async def run_diagnose(system, *arguments, **environ):
    """Run `atlas diagnose` in an empty folder."""
    folder = system.folder / "empty"
    folder.mkdir(exist_ok=True)
    settings = system.settings()
    named = {
        "ATLAS_JOURNAL": f"sqlite:///{system.journal}",
        "AUTH0_ISSUER": settings.auth0.issuer,
        "FOUNDRY_HOST": settings.foundry.host,
        "FOUNDRY_CLIENT_ID": "local",
        "FOUNDRY_CLIENT_SECRET": settings.foundry.client_secret,
        "ATLAS_FILE_FORMAT": settings.foundry.file_format,
        "PORT": str(system.port),
    }
    return await anyio.run_process(
        [COMMAND, "diagnose", *arguments], env=ENVIRON | named | environ, cwd=folder, check=False
    )


@pytest.mark.slow
async def test_on_bare_settings_it_makes_nothing_and_ends_with_0(system):
    ended = await run_diagnose(system, "--token", f"Bearer {system.token()}")

    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.decode().startswith(" 1  clock           pass")
    for heading in ("Service", "Gap since", "Next steps"):
        assert f"\n{heading}\n" in ended.stdout.decode()
    assert b"\x1b" not in ended.stdout, "plain where it is no terminal"
    last = ended.stdout.decode().splitlines()[-1]
    assert last.startswith("down: No Atlas runs here with these settings (http://127.0.0.1:")
    assert {each.name for each in system.folder.iterdir()} == {"foundry", "empty"}
    assert list((system.folder / "empty").iterdir()) == []


@pytest.mark.slow
async def test_the_exit_code_names_the_first_step_that_fails(system):
    system.foundry.options.is_role_revoked = True
    ended = await run_diagnose(system, "--json", "--report", "reports/today.md")
    found = msgspec.json.decode(ended.stdout, type=Diagnosis)
    report = (system.folder / "empty" / "reports" / "today.md").read_text()

    assert (ended.returncode, found.exit_code) == (17, 17)
    assert report.startswith("# Atlas ")
    assert "## 7 dataset: fail" in report
    assert report.splitlines()[2].startswith("down: No Atlas runs here")
    assert system.client_secret not in report + ended.stdout.decode()


@pytest.mark.slow
async def test_a_report_that_cannot_be_written_loses_neither_the_diagnosis_nor_its_exit_code(
    system,
):
    system.foundry.options.is_role_revoked = True
    (system.folder / "empty").mkdir()
    (system.folder / "empty" / "file").touch()
    ended = await run_diagnose(system, "--json", "--report", "file/today.md")

    found = msgspec.json.decode(ended.stdout, type=Diagnosis)

    assert (ended.returncode, found.exit_code) == (17, 17)
    assert ended.stderr.decode().endswith("atlas: Cannot write file/today.md: File exists.\n")


@pytest.mark.slow
async def test_with_no_settings_at_all_the_issuer_is_the_first_to_fail(system):
    ended = await run_diagnose(system, AUTH0_ISSUER="", FOUNDRY_HOST="")

    assert ended.returncode == 12
    assert b"AUTH0_DOMAIN is not set" in ended.stdout
    assert b"FOUNDRY_HOST is not set" in ended.stdout


@pytest.mark.slow
async def test_an_owner_that_hangs_is_looked_at_from_outside(system):
    with open_journal(system.journal, CapacityLimits(free_bytes=0), owner=f"{HOST}:1"):
        ended = await run_diagnose(system)

    assert ended.returncode == 15
    assert b"does not answer" in ended.stdout
    assert system.states() == []


@pytest.mark.slow
async def test_an_owner_whose_place_another_has_taken_is_looked_at_from_outside(system):
    another = system.stack_host.removeprefix("http://")
    with open_journal(system.journal, CapacityLimits(free_bytes=0), owner=another):
        ended = await run_diagnose(system)

    assert ended.returncode == 15
    assert b"does not answer" in ended.stdout


@pytest.mark.slow
async def test_old_json_files_are_taken_out_after_it_was_asked(system):
    system.committed(f"{RAW}.json", b"[]")
    tried = await run_diagnose(system, "--remove-old-json", "--dry-run")
    not_sure = await run_diagnose(system, "--remove-old-json")
    assert tried.stdout == b"1 .json files under healthkit/raw would be removed.\n"
    assert (not_sure.returncode, system.states()) == (130, ["COMMITTED"])
    assert b"1 .json files" in not_sure.stderr
    sure = await run_diagnose(system, "--remove-old-json", "--yes")
    again = await run_diagnose(system, "--remove-old-json", "--yes")

    assert sure.stdout.startswith(b"1 files removed, in ri.foundry.main.transaction.")
    assert (again.returncode, again.stdout) == (
        0,
        b"There are no .json files under healthkit/raw.\n",
    )
    assert not system.foundry.branches.get_branch(system.dataset, "master").view


@pytest.mark.slow
async def test_a_schema_for_parquet_is_put_after_it_was_asked(system):
    await with_parquet(system)
    before = await run_diagnose(system)
    tried = await run_diagnose(system, "--fix-schema", "--dry-run")
    not_sure = await run_diagnose(system, "--fix-schema")
    fixed = await run_diagnose(system, "--fix-schema", "--yes")
    after = await run_diagnose(system)

    assert tried.stdout == b"The dataset would get the schema of 21 columns, for Parquet.\n"
    assert not_sure.returncode == 130
    assert (before.returncode, fixed.returncode, after.returncode) == (21, 0, 0)
    assert b"The schema matches our rows" in after.stdout


@pytest.mark.slow
async def test_a_failure_of_mending_is_one_line(system):
    system.foundry.options.is_role_revoked = True
    ended = await run_diagnose(system, "--remove-old-json", "--yes")

    assert ended.returncode == 1
    assert ended.stderr.count(b"\n") == 1
    assert b"has no role" in ended.stderr


@pytest.mark.slow
def test_a_running_service_walks_itself_and_removes_what_is_old(tmp_path):
    with local(tmp_path) as running:
        status, _ = running.post("a", "wait=20")
        token = fetched(f"http://{HOST}:{running.port + 2}/stand-in/tokens").decode()
        arguments = ["diagnose", "--token", token, "--json"]
        ended = run(tmp_path, *arguments, ATLAS_JOURNAL=f"sqlite:///{running.journal}")
        nothing = run(
            *(tmp_path, "diagnose", "--remove-old-json"),
            ATLAS_JOURNAL=f"sqlite:///{running.journal}",
            FOUNDRY_HOST=f"http://{HOST}:{running.port + 1}",
            FOUNDRY_CLIENT_ID="local",
            FOUNDRY_CLIENT_SECRET=CLIENT_SECRET,
        )
        states = [each["status"] for each in running.stand_in()["transactions"]]
        complaints = running.stand_in()["complaints"]

    found = msgspec.json.decode(ended.stdout, type=Diagnosis)
    assert (status, ended.returncode) == (200, 0), ended
    assert [each.verdict for each in found.steps] == ["pass"] * 11, found
    assert found.verdict == ServiceVerdict("ok")
    assert token not in ended.stdout + ended.stderr
    assert (states, complaints) == (["COMMITTED", "ABORTED"], [])
    assert nothing.stdout == "There are no .json files under healthkit/raw.\n"


def run(folder, *arguments, **environ):
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        env=ENVIRON | environ,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
