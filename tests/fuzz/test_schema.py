"""All answers conform to the OpenAPI document.

schemathesis generates valid and invalid requests from the document, always the same ones. The
document says what an app should send. Atlas also takes what older apps send, so these fields and
headers are free here: otherwise schemathesis would expect a 400.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from atlas.edge.openapi import build_document
from tests.chaos.trial_environment import SCALES, open_testbed

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
EXAMPLES = "500" if os.environ.get("TESTS_IN_FULL") else "10"
CHANGES = {"edge": {"rate_per_minute": 0}}
NOT_SAID = "positive_data_acceptance"  # a schema cannot express base64 of lines of JSON
SENDER = "Authorization: Bearer "
LENIENT_FIELDS = "timestamp device recordCount manifest options"
LENIENT_HEADERS = {"X-Correlation-Id", "Atlas-Record-Count"}


def write_lenient_document(folder: Path) -> Path:
    """Write the document with the fields and headers of which Atlas takes any value."""
    document = build_document("1")
    schemas = document["components"]["schemas"]
    for name in ("ExportBody", "BatchBody", "ExportReply"):
        fields = schemas[name]["properties"]
        fields.update((field, {}) for field in LENIENT_FIELDS.split() if field in fields)
    for item in document["paths"].values():
        for operation in item.values():
            for parameter in operation["parameters"]:
                if parameter["name"] in LENIENT_HEADERS:
                    parameter["schema"] = {"type": "string"}
    schemas["ReportBody"]["properties"]["error"] = {}  # null is taken, too
    schemas["ReportErrorBody"]["properties"]["code"] = {}  # a number is taken, too
    file = folder / "lenient.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


def run(url: str, *more: str, folder: Path) -> subprocess.CompletedProcess[str]:
    document = write_lenient_document(folder)
    command = [BIN / "schemathesis", "run", document, "--url", url, "--max-examples", EXAMPLES]
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
    async with open_testbed(SCALES["ci"], "1", CHANGES) as testbed:
        await testbed.atlas.start()
        token = testbed.emulators.issue_token("auth0|ada")
        more = ["--phases", phases, *(["--header", SENDER + token] if is_known else [])]
        found = await anyio.to_thread.run_sync(
            lambda: run(testbed.clients.url, *more, folder=tmp_path)
        )
        await testbed.wait_until_drained()
        bugs, committed = testbed.atlas.count_bugs(), (await testbed.fetch_totals()).committed

    assert found.returncode == 0, found.stdout.replace(token, "...")
    assert bugs == 0
    assert (committed > 0) == is_known
