"""The environment file of the old service starts Atlas unchanged."""

import os
import subprocess

import msgspec
import pytest

from tests.support.processes import COMMAND, HOST, fetched, four_free_ports, killed_at_last

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
    how = {"cwd": tmp_path, "env": environ, "text": True, "stderr": subprocess.PIPE}
    with killed_at_last(
        subprocess.Popen([COMMAND, "serve"], stdout=subprocess.PIPE, **how)
    ) as serving:
        said = serving.stdout.readline()
        answer = msgspec.json.decode(fetched(f"http://{HOST}:{port}/health"))
        serving.terminate()
        _, log = serving.communicate(timeout=20)

    assert said == f"ready http://{HOST}:{port}\n"
    assert (answer["status"], answer["service"]) == ("healthy", "atlas")
    assert (serving.returncode, (tmp_path / "var" / "journal.db").exists()) == (0, True)
    assert "a-client-secret" not in log
