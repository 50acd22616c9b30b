"""`atlas config`: checks and shows the settings, and prints their schema."""

import base64
import json
import sys
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from atlas.settings import Settings, load
from atlas.settings.schema import build_schema
from tests.support.command_line import Ended
from tests.support.environments import ENOUGH

KEY = base64.b64encode(bytes(32)).decode()


def test_settings_that_are_right_are_said_to_be_ok(atlas):
    ended = atlas("config", "check", **ENOUGH)

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("The settings are OK.")


def test_everything_that_is_missing_is_named_in_one_line(atlas):
    assert atlas("config", "check").in_one_line(78) == (
        "atlas: Not set: AUTH0_DOMAIN, FOUNDRY_HOST, FOUNDRY_CLIENT_ID, FOUNDRY_CLIENT_SECRET. "
        "To try Atlas without accounts: atlas local\n"
    )


def test_a_check_and_a_start_say_the_same_of_all_that_is_wrong(atlas, tmp_path):
    (tmp_path / "atlas.toml").write_text("[edge]\nprot = 1")
    ended = atlas("config", "check", "--config", "atlas.toml", LOG_LEVEL="loud", ATLAS_X="1")

    assert (ended.code, ended.out) == (78, "")
    assert ended.err.splitlines() == [
        "atlas: The settings have 4 problems:",
        "  ATLAS_X is not a setting of Atlas. Remove it.",
        "  edge.prot is not a setting of Atlas. Did you mean edge.port?",
        "  LOG_LEVEL must be debug, error, info or warning.",
        (
            "  Not set: AUTH0_DOMAIN, FOUNDRY_HOST, FOUNDRY_CLIENT_ID, FOUNDRY_CLIENT_SECRET. "
            "To try Atlas without accounts: atlas local"
        ),
    ]
    text = {"ATLAS_LOG_FORMAT": "text"}  # or it is JSON, as the log
    assert atlas("serve", "--config", "atlas.toml", **text) == ended


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        pytest.param({"ATLAS_CA_BUNDLE": "no.pem"}, ["ATLAS_CA_BUNDLE must be"], id="no bundle"),
        pytest.param({"HTTPS_PROXY": "http://"}, ["HTTPS_PROXY must be"], id="no proxy"),
        pytest.param(
            {"ATLAS_JOURNAL": "postgresql://u:s3cr3t@h", "ATLAS_JOURNAL_KEY": KEY},
            ["ATLAS_JOURNAL must be a URL"],
            id="no database",
        ),
        pytest.param(
            {"ATLAS_JOURNAL": "postgresql://u:s3cr3t@h/d"},
            ["ATLAS_JOURNAL_KEY is not set, and replicas need"],
            id="no common key",
        ),
        pytest.param(
            {
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a.test",
                "OTEL_BSP_SCHEDULE_DELAY": "-1",
            },
            ["OTEL_"],
            id="no delay",
        ),
        pytest.param(
            {"ATLAS_CA_BUNDLE": "no.pem", "HTTPS_PROXY": "http://"},
            ["The settings have 2 problems", "ATLAS_CA_BUNDLE", "HTTPS_PROXY"],
            id="both",
        ),
        pytest.param(
            {"ATLAS_CA_BUNDLE": "no.pem", "ATLAS_OPERATOR_LISTEN": "0.0.0.0:9464"},
            ["The settings have 2 problems", "ATLAS_OPERATOR_TOKEN", "ATLAS_CA_BUNDLE"],
            id="a contradiction as well",
        ),
    ],
)
def test_what_would_stop_a_start_is_found_without_the_network(atlas, environ, said):
    ended = atlas("config", "check", **ENOUGH, **environ)

    assert (ended.code, ended.out) == (78, "")
    lines = ended.err.splitlines()
    assert len(lines) == len(said)
    assert all(each in line for each, line in zip(said, lines, strict=True))
    assert "s3cr3t" not in ended.err


def test_a_program_gets_the_problems_as_a_list(atlas):
    wrong = atlas("config", "check", "--json", **ENOUGH, ATLAS_CA_BUNDLE="no.pem")
    assert (wrong.code, wrong.err) == (78, "")
    (problem,) = json.loads(wrong.out)["problems"]
    assert "no.pem" in problem

    right = atlas("config", "check", "--json", **ENOUGH, ATLAS_CA_BUNDLE="")
    assert right == Ended(0, '{"problems":[]}\n', "")


def test_a_format_whose_package_is_missing_is_found(atlas, monkeypatch):
    monkeypatch.setitem(sys.modules, "atlas.outside.parquet", None)
    ended = atlas("config", "check", **ENOUGH, ATLAS_FILE_FORMAT="parquet")

    assert "ATLAS_FILE_FORMAT=parquet needs pyarrow" in ended.in_one_line(78)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[edge", "is not valid TOML"),
        (b"\xff\xfe[\x00e\x00", "is not valid TOML"),
        (b"[edge]\nport = 1\nport = 2", "is not valid TOML"),
        (None, "Is a directory"),
        ("", "No such file or directory"),
    ],
    ids=["no TOML", "UTF-16", "a key twice", "a folder", "nothing"],
)
def test_a_file_that_cannot_be_used_is_named(atlas, tmp_path, content, reason):
    file = tmp_path / "atlas.toml"
    if content is None:
        file.mkdir()
    elif content:
        file.write_bytes(content)

    for command in ("check", "show"):
        line = atlas("config", command, "--config", file).in_one_line(78)
        assert str(file) in line
        assert reason in line


def test_the_settings_in_force_are_shown_with_their_origins(atlas, tmp_path):
    (tmp_path / "atlas.toml").write_text('[edge]\n\nhost = "0.0.0.0"\n')
    (tmp_path / "token").write_text("s3cr3t\n")
    ended = atlas(
        "config", "show", "--config", "atlas.toml", PORT="81", ATLAS_OPERATOR_TOKEN_FILE="token",
        AUTH0_DOMAIN="a.test", FOUNDRY_HOST="f.test",
    )  # fmt: skip

    assert (ended.code, ended.err) == (0, "")
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert 'host = "0.0.0.0" # atlas.toml:3' in lines
    assert "port = 81 # PORT" in lines
    assert "chunks_max = 64 # default" in lines
    assert '# token = "***" # ATLAS_OPERATOR_TOKEN_FILE, token' in lines
    assert 'issuer = "https://a.test/" # from auth0.domain' in lines
    token_url = "https://f.test/multipass/api/oauth2/token"
    assert f'oauth_token_url = "{token_url}" # from foundry.host' in lines


def test_what_is_shown_is_a_configuration_file_of_the_same_settings(atlas):
    environ = {"PORT": "81", "CORS_ORIGINS": "https://a.test,*", "ATLAS_LOG_USER_IDS": "true"}
    ended = atlas("config", "show", **environ, AUTH0_DOMAIN="a.test")

    assert load(ended.out.encode(), {}) == load(b"", environ | {"AUTH0_DOMAIN": "a.test"})
    assert tomllib.loads(ended.out).keys() >= set(Settings.__struct_fields__)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("FOUNDRY_CLIENT_SECRET", "s3cr3t", '# client_secret = "***"'),
        ("ATLAS_OPERATOR_TOKEN", "s3cr3t", '# token = "***"'),
        ("ATLAS_JOURNAL_KEY", f"{KEY},{KEY}", '# keys = ["***","***"]'),
        ("ATLAS_JOURNAL", "postgresql://u:s3cr3t@h/d", "postgresql://u:***@h/d"),
        ("ATLAS_JOURNAL", "postgresql://u:s3c/r3t@x@h/d", "postgresql://u:***@h/d"),
        ("ATLAS_JOURNAL", "postgresql://h/d?user=u&password=s3cr3t&a=b", "password=***&a=b"),
        ("ATLAS_JOURNAL", "postgresql://u@h/d?sslpassword=s3cr3t", "u@h/d?sslpassword=***"),
        ("ATLAS_JOURNAL", "postgresql://u:s3c\nr3t@h/d", "postgresql://u:***@h/d"),
        ("FOUNDRY_HOST", "https://u:s3cr3t@f.test", '# host = "https://***@f.test"'),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "https://s3cr3t@c.test/v1",
            '# endpoint = "https://***@c.test/v1"',
        ),
    ],
)
def test_no_secret_is_shown(atlas, name, value, shown):
    text, as_json = (atlas("config", "show", *how, **{name: value}) for how in ([], ["--json"]))

    assert (text.code, as_json.code) == (0, 0)
    assert shown in text.out
    for ended in (text, as_json):
        assert not any(each in ended.out + ended.err for each in ("s3c", "r3t", KEY))


def test_programs_get_values_and_origins(atlas):
    shown = json.loads(atlas("config", "show", "--json", PORT="81", CORS_ORIGINS="*").out)

    assert shown["edge.port"] == {"value": 81, "origin": "PORT"}
    assert shown["edge.cors_origins"] == {"value": ["*"], "origin": "CORS_ORIGINS"}
    assert shown["foundry.group.exports_max"] == {"value": 1000, "origin": "default"}


def test_settings_are_shown_although_some_are_missing_but_not_if_one_is_wrong(atlas):
    assert atlas("config", "show").code == 0
    assert "PORT must be" in atlas("config", "show", PORT="high").in_one_line(78)


def test_the_schema_is_printed(atlas):
    assert json.loads(atlas("config", "schema").out) == json.loads(json.dumps(build_schema()))


class Listener(BaseHTTPRequestHandler):
    """Tells everybody which token was sent."""

    def do_GET(self):
        body = json.dumps({"error": self.headers["Authorization"]}).encode()
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Write nothing to stderr."""


def test_a_command_sends_the_operator_token_of_a_file(atlas, tmp_path):
    (tmp_path / "token").write_text("a-token\n")
    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        Thread(target=server.handle_request).start()
        at = f"http://127.0.0.1:{server.server_port}"
        line = atlas(
            "top", "--once", "--operator", at, ATLAS_OPERATOR_TOKEN_FILE="token"
        ).in_one_line(1)

    assert "Bearer a-token" in line
