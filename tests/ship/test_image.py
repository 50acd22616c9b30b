"""The shipped image: contents, requirements, start, stop and crash."""

import json
import os
import sys
from importlib.metadata import version as installed
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.conftest import cannot_run, needs
from tests.ship import sbom
from tests.ship.container import JOURNAL, SMALL, open_container_testbed, run_inside
from tests.ship.image import ROOT, Failed, build_image, podman, run, version

BIN = Path(sys.executable).parent
pytestmark = pytest.mark.slow
EXPORTS_PER_SECOND = 200
EXPORTS, DEPLOYS = (20_000, 20) if os.environ.get("TESTS_IN_FULL") else (2_000, 3)
PROMISED = {"no answer", "503 DRAINING"}  # permitted outcomes other than 200 and 202


@pytest.fixture(scope="module")
def image():
    if reason := os.environ.get("TESTS_SKIP_IMAGE"):
        pytest.skip(reason)
    for tool in ("podman", "mmdebstrap"):
        needs(tool, "--version")
    try:
        return build_image("debian")
    except Failed as failed:
        cannot_run(f"no image can be built here: {failed}")


def test_it_is_small_and_has_no_compiler_no_pip_and_none_of_our_tests(image):
    assert image.bytes - image.base_bytes < 150_000_000
    found = run_inside(image, "python", "-c", PROBE)
    assert json.loads(found) == {"pip": False, "tests": False, "pytest": False, "cc": False}


PROBE = """
import importlib.util, json, shutil
found = {name: bool(importlib.util.find_spec(name)) for name in ("pip", "tests", "pytest")}
print(json.dumps(found | {"cc": bool(shutil.which("cc"))}))
"""


def test_its_label_its_command_and_the_project_have_one_version(image):
    assert image.labels["org.opencontainers.image.version"] == version()
    assert run_inside(image, "atlas", "--version") == f"atlas {version()}"
    assert installed("atlas-healthkit") == version()


def test_what_is_in_it_is_written_down_and_valid(image):
    written = sbom.render_sbom(image)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written) is None
    names = {each["name"] for each in json.loads(written)["components"]}
    assert {"python", "atlas-healthkit", "aiohttp", "msgspec", "libc6"} <= names


def test_it_runs_as_nobody_and_asks_itself_how_it_is(image):
    (found,) = json.loads(podman("image", "inspect", image.name))
    assert found["Config"]["User"] == "10001:10001"
    assert found["Healthcheck"]["Test"] == ["CMD", "atlas", "health"]
    assert list(found["Config"]["Volumes"]) == ["/var/lib/atlas"]
    assert f"ATLAS_JOURNAL={JOURNAL}" in found["Config"]["Env"]


async def test_an_accepted_export_survives_the_container(image):
    async with open_container_testbed(image, "survives", *SMALL) as (bench, container):
        await bench.emulators.close()
        await container.start()
        reply = await bench.clients.deliver(bench.clients.next_export(), Prefer="respond-async")
        await container.kill()
        await bench.emulators.open()
        await container.start()
        await bench.wait_until_drained()

        assert reply.status == "accepted"
        assert list((await bench.draw_balance()).list_failures()) == []


async def test_a_deploy_under_load_loses_and_doubles_nothing(image):
    """The old container is stopped and a new one started on the same volume."""
    async with open_container_testbed(image, "deploy", *SMALL) as (bench, container):
        codes = []
        await container.start()
        async with bench.clients.keep_sending(EXPORTS, phones=32, per_second=EXPORTS_PER_SECOND):
            for _ in range(DEPLOYS):
                await bench.wait_until_committed(
                    (await bench.fetch_totals()).committed + EXPORTS_PER_SECOND
                )
                code, _ = await container.end()
                codes.append(code)
                await container.start()
        await bench.settle()

        assert codes == [0] * DEPLOYS
        assert bench.findings.failures == []
        assert set(bench.clients.refused) <= PROMISED


async def test_the_check_of_a_running_container_is_good_and_of_a_dead_one_bad(image):
    async with open_container_testbed(image, "health", *SMALL) as (bench, container):
        await container.start()
        url = f"http://127.0.0.1:{container.settings['edge']['port']}"

        assert run_inside(image, "atlas", "health", "--to", url) == "healthy"
        async with bench.clients.session.get(f"{url}/health") as answer:
            assert (await answer.json())["version"] == version()
        await container.kill()
        with pytest.raises(Failed, match="Cannot connect to"):
            run_inside(image, "atlas", "health", "--to", url)


def test_the_containerfile_has_nothing_that_hadolint_finds():
    assert run(str(BIN / "hadolint"), str(ROOT / "Containerfile")) == ""
