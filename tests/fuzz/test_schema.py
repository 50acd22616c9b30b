"""Whatever the description of the service has words for, it answers as is described there.

schemathesis makes requests of the OpenAPI document, good ones and bad ones, always the same.
"""

import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from tests.chaos.trial_environment import SCALES, open_testbed

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
EXAMPLES = "500" if os.environ.get("TESTS_IN_FULL") else "10"
CHANGES = {"edge": {"rate_per_minute": 0}}
NOT_SAID = "positive_data_acceptance"  # no schema says that a text is base64 of lines of JSON
SENDER = "Authorization: Bearer "


def run(url: str, *more: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [BIN / "schemathesis", "run", f"{url}/openapi.json", "--max-examples", EXAMPLES]
    command += ["--generation-deterministic", "--exclude-checks", NOT_SAID, "--no-color", *more]
    env = os.environ | {"SCHEMATHESIS_HOOKS": "tests.fuzz.ndjson", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("is_known", "phases"),
    [
        pytest.param(True, "examples,coverage,fuzzing", id="a sender"),
        pytest.param(False, "examples,fuzzing", id="a stranger"),
    ],
)
async def test_every_answer_is_one_of_the_description(tmp_path, is_known, phases):
    async with open_testbed(SCALES["ci"], "1", CHANGES) as bench:
        await bench.atlas.start()
        token = bench.emulators.issue_token("auth0|ada")
        more = ["--phases", phases, *(["--header", SENDER + token] if is_known else [])]
        found = await anyio.to_thread.run_sync(
            lambda: run(bench.clients.url, *more, folder=tmp_path)
        )
        await bench.wait_until_drained()
        bugs, committed = bench.atlas.count_bugs(), (await bench.fetch_totals()).committed

    assert found.returncode == 0, found.stdout.replace(token, "...")
    assert bugs == 0
    assert (committed > 0) == is_known
