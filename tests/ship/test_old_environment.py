"""The environment file of the old service starts Atlas unchanged."""

import os
import subprocess

import msgspec
import pytest

from tests.support.processes import COMMAND, HOST, fetched, four_free_ports, killed_at_last
from tests.support.ready_line import wait_for_url

pytestmark = pytest.mark.slow

OLD = """
NODE_ENV=production
NODE_OPTIONS=--max-old-space-size=2048
npm_config_loglevel=warn
npm_package_name=atlas-backend
AUTH0_DOMAIN={host}
AUTH0_AUDIENCE=https://api.atlas.ai
FOUNDRY_HOST={host}
FOUNDRY_CLIENT_ID=client
FOUNDRY_CLIENT_SECRET=a-client-secret
FOUNDRY_OAUTH_TOKEN_URL={host}/multipass/api/oauth2/token
PORT={port}
LOG_LEVEL={level}
CORS_ORIGINS={origins}
"""


@pytest.mark.parametrize(
    ("host", "level", "origins"),
    [
        pytest.param("127.0.0.1:9", "silly", "*", id="hosts without a scheme"),
        pytest.param("https://127.0.0.1:9", "HTTP", "https://a.test, https://b.test", id="URLs"),
        pytest.param("https://127.0.0.1:9/", "", "", id="names without a value"),
    ],
)
def test_it_starts_a_service_at_its_port(tmp_path, host, level, origins):
    port = four_free_ports()
    text = OLD.format(host=host, port=port, level=level, origins=origins)
    old = dict(line.split("=", 1) for line in text.split("\n") if line)
    # the old service had no operator listener; port 0 avoids conflicts with other tests
    environ = {"PATH": os.environ["PATH"], "ATLAS_OPERATOR_LISTEN": f"{HOST}:0"} | old
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        serving = subprocess.Popen(
            [COMMAND, "serve"],
            cwd=tmp_path,
            env=environ,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    with killed_at_last(serving):
        said = wait_for_url(log)
        answer = msgspec.json.decode(fetched(f"http://{HOST}:{port}/health"))
        serving.terminate()
        serving.wait(20)

    assert said == f"http://{HOST}:{port}"
    assert (answer["status"], answer["service"]) == ("healthy", "atlas")
    assert (serving.returncode, (tmp_path / "var" / "journal.db").exists()) == (0, True)
    assert "a-client-secret" not in log.read_text(encoding="utf-8")
