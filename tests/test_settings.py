"""The settings and the messages about invalid ones."""

import json
import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from atlas.cli.configuration import load_settings
from atlas.core.errors import ConfigurationError
from atlas.settings import NAMES, Settings, load, require_auth0_and_foundry
from tests.support.environments import ENOUGH

ROOT = Path(__file__).parent.parent
DOCUMENTED = ROOT / "config" / "atlas.toml"


def test_the_old_environment_is_enough():
    settings = load(b"", ENOUGH | {"PORT": "3000", "LOG_LEVEL": "warn", "CORS_ORIGINS": "a, b,"})

    require_auth0_and_foundry(settings)
    assert settings.auth0.issuer == "https://atlas.eu.auth0.com/"
    assert settings.auth0.audience == "https://api.atlas.ai"
    assert settings.foundry.host == "https://atlas.palantirfoundry.com"
    token_url = "https://atlas.palantirfoundry.com/multipass/api/oauth2/token"
    assert settings.foundry.oauth_token_url == token_url
    assert (settings.edge.port, settings.log.level) == (3000, "warning")
    assert settings.edge.cors_origins == ("a", "b")


def test_all_that_an_old_environment_file_holds_is_taken_as_it_was_meant():
    settings = load(
        b"",
        ENOUGH
        | {
            "NODE_ENV": "production",
            "NODE_OPTIONS": "--max-old-space-size=2048",
            "npm_package_version": "1.0.0",
            "FOUNDRY_OAUTH_TOKEN_URL": "https://login.palantirfoundry.com/oauth2/token",
            "AUTH0_AUDIENCE": "https://api.example.com",
            "FOUNDRY_CLIENT_SECRET": "a-secret\n",
        },
    )

    require_auth0_and_foundry(settings)
    assert settings.foundry.oauth_token_url == "https://login.palantirfoundry.com/oauth2/token"
    assert settings.auth0.audience == "https://api.example.com"
    assert settings.foundry.client_secret == "a-secret", "files of secrets end with a line end"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["", " ", "\r"], ids=["empty", "blank", "of a Windows file"])
def test_a_name_without_a_value_counts_as_absent(name, value):
    assert load(b"", ENOUGH | {name: value}) == load(b"", ENOUGH | {name: ""})
    assert load(b"", {name: value}) == load(b"", {})


@pytest.mark.parametrize(
    ("word", "level"),
    [
        ("error", "error"),
        ("warn", "warning"),
        ("warning", "warning"),
        ("info", "info"),
        ("http", "info"),
        ("verbose", "info"),
        ("debug", "debug"),
        ("silly", "debug"),
    ],
)
@pytest.mark.parametrize("spelt", [str.lower, str.upper, str.title])
def test_the_old_services_words_for_levels_are_known(word, level, spelt):
    assert load(b"", {"LOG_LEVEL": spelt(word)}).log.level == level


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("*", ("*",)),
        ("https://a.test", ("https://a.test",)),
        ("https://a.test,https://b.test", ("https://a.test", "https://b.test")),
        (" https://a.test , https://b.test ,", ("https://a.test", "https://b.test")),
        ("https://a.test https://b.test", ("https://a.test", "https://b.test")),
    ],
)
def test_origins_are_a_list_with_commas_and_spaces(text, origins):
    assert load(b"", {"CORS_ORIGINS": text}).edge.cors_origins == origins


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"PORT": "high"}, "PORT must be an integer."),
        ({"PORT": "65536"}, "PORT must be at least 0 and at most 65535."),
        ({"ATLAS_COMMIT_WAIT_SECONDS": "soon"}, "ATLAS_COMMIT_WAIT_SECONDS must be a number."),
        (
            {"ATLAS_COMMIT_WAIT_SECONDS": "0"},
            "ATLAS_COMMIT_WAIT_SECONDS must be more than 0 and at most 50.",
        ),
        ({"FOUNDRY_SOLE_WRITER": "maybe"}, "FOUNDRY_SOLE_WRITER must be true or false."),
        (
            {"FOUNDRY_DATASET_RID": "healthkit"},
            "FOUNDRY_DATASET_RID must be the RID of a dataset: ri.foundry.main.dataset.<uuid>.",
        ),
        ({"ATLAS_OPERATOR_LISTEN": "9464"}, "ATLAS_OPERATOR_LISTEN must be HOST:PORT."),
        ({"FOUNDRY_HOST": "a b"}, "FOUNDRY_HOST must be a host or an http or https URL."),
        ({"AUTH0_ISSUER": "ftp://a"}, "AUTH0_ISSUER must be a host or an http or https URL."),
        (
            {"FOUNDRY_OAUTH_TOKEN_URL": "https://"},
            "FOUNDRY_OAUTH_TOKEN_URL must be a host or an http or https URL.",
        ),
    ],
)
def test_what_is_wrong_is_said_in_words(environ, said):
    with pytest.raises(ConfigurationError) as stopped:
        load(b"", environ)

    assert str(stopped.value) == said


@pytest.mark.parametrize(
    "host", ["https://x.test", "https://x.test/", "x.test", "x.test/"], ids=str
)
def test_a_host_may_be_written_as_people_write_hosts(host):
    settings = load(b"", ENOUGH | {"FOUNDRY_HOST": host, "AUTH0_DOMAIN": host})

    assert (settings.foundry.host, settings.auth0.issuer) == ("https://x.test", "https://x.test/")


@pytest.mark.parametrize("url", ["http://h:4318/v1/traces", "https://[::1]:4318/v1/traces"])
def test_traces_go_to_a_url(url):
    assert load(b"", ENOUGH | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": url}).traces.endpoint == url


@pytest.mark.parametrize(
    "url",
    [
        "collector",
        "https://[bad",
        "http://h:abc/",
        "http:// a b",
        "http://h:99999/",
        "http://h:43\n18/",
        "ftp://h/",
        "http://",
    ],
)
def test_traces_go_nowhere_else(url):
    with pytest.raises(ConfigurationError, match="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        load(b"", ENOUGH | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": url})


def test_a_bundle_of_certificates_is_a_file():
    assert load(b"", ENOUGH).network.ca_bundle == ""
    assert load(b"", {"ATLAS_CA_BUNDLE": "/etc/ca.pem"}).network.ca_bundle == "/etc/ca.pem"
    assert load(b'[network]\nca_bundle = "ca.pem"', {}).network.ca_bundle == "ca.pem"


def test_an_issuer_is_taken_before_a_domain():
    settings = load(b"", ENOUGH | {"AUTH0_ISSUER": "http://127.0.0.1:8082/"})

    assert settings.auth0.issuer == "http://127.0.0.1:8082/"


def test_the_environment_stands_over_the_file():
    toml = b'[edge]\nport = 1\ncommit_wait_seconds = 2.5\n[foundry]\nbranch = "develop"'

    settings = load(toml, {"PORT": "2", "FOUNDRY_BRANCH": ""})

    assert (settings.edge.port, settings.edge.commit_wait_seconds) == (2, 2.5)
    assert settings.foundry.branch == "develop"  # an empty variable counts as unset


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        pytest.param(
            {"ATLAS_COMMIT_WAIT_SECOND": "25"}, "ATLAS_COMMIT_WAIT_SECOND ", id="unknown name"
        ),
        pytest.param(
            {"ATLAS_COMMIT_WAIT_SECOND": "25"},
            r"mean ATLAS_COMMIT_WAIT_SECONDS\?",
            id="its nearest",
        ),
        pytest.param({"ATLAS_FOUNDRY_HOST": "h"}, r"mean FOUNDRY_HOST\?", id="without a prefix"),
        pytest.param(
            {"ATLAS_REPLY_SECONDS": "25"}, r"mean ATLAS_COMMIT_WAIT_SECONDS\?", id="renamed"
        ),
        pytest.param(
            {"ATLAS_TRACES": "http://h"},
            r"mean OTEL_EXPORTER_OTLP_TRACES_ENDPOINT\?",
            id="renamed to what OpenTelemetry calls it",
        ),
        pytest.param({"ATLAS_XYZ": "25"}, "ATLAS_XYZ .* Remove it", id="no name is near"),
        pytest.param(
            {"ATLAS_COMMIT_WAIT_SECONDS": "51"}, "ATLAS_COMMIT_WAIT_SECONDS", id="iOS sends again"
        ),
        pytest.param(
            {"ATLAS_COMMIT_WAIT_SECONDS": "soon"}, "ATLAS_COMMIT_WAIT_SECONDS", id="no number"
        ),
        pytest.param({"PORT": "65536"}, "PORT", id="no port"),
        pytest.param({"LOG_LEVEL": "loud"}, "LOG_LEVEL", id="no level"),
        pytest.param({"FOUNDRY_DATASET_RID": "healthkit"}, "FOUNDRY_DATASET_RID", id="no RID"),
        pytest.param({"FOUNDRY_SOLE_WRITER": "maybe"}, "FOUNDRY_SOLE_WRITER", id="no boolean"),
        pytest.param({"ATLAS_JOURNAL": "postgres://x"}, "ATLAS_JOURNAL", id="no journal"),
        pytest.param({"ATLAS_JOURNAL": "sqlite:///"}, "ATLAS_JOURNAL", id="no file"),
        pytest.param({"ATLAS_OPERATOR_LISTEN": "9464"}, "ATLAS_OPERATOR_LISTEN", id="no host"),
        pytest.param(
            {"ATLAS_OPERATOR_LISTEN": "0.0.0.0:9464"}, "ATLAS_OPERATOR_TOKEN", id="open operator"
        ),
        pytest.param({"ATLAS_OPERATOR_TOKEN": "pässword"}, "ATLAS_OPERATOR_TOKEN", id="no header"),
        pytest.param({"ATLAS_OPERATOR_TOKEN": "two words"}, "ATLAS_OPERATOR_TOKEN", id="a space"),
        pytest.param({"ATLAS_OPERATOR_TOKEN": "a\nb"}, "ATLAS_OPERATOR_TOKEN", id="a line end"),
    ],
)
def test_a_bad_variable_stops_the_start_with_a_line_that_names_it(environ, named):
    with pytest.raises(ConfigurationError, match=named) as stopped:
        load(b"", ENOUGH | environ)

    assert "\n" not in str(stopped.value)
    assert stopped.value.exit_code == 78


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        pytest.param(b"[edge]\nprot = 8080", "prot", id="unknown key"),
        pytest.param(b"[egde]\nport = 8080", "egde", id="unknown room"),
        pytest.param(b"[edge]\nport = 'high'", "edge.port", id="wrong type"),
        pytest.param(b"[edge]\ncors_origins = 3", "edge.cors_origins has the", id="no list"),
        pytest.param(b"[foundry]\nbranch = ''", "foundry.branch is empty", id="empty"),
        pytest.param(b"[foundry]\ngroup = 3", "foundry.group has the", id="no group"),
        pytest.param(b"[foundry.group]\nsize = 3", "foundry.group.size is not", id="unknown below"),
        pytest.param(b"[foundry.group]\nbytes_max = ''", "foundry.group.bytes_max", id="below"),
        pytest.param(b"edge", "TOML", id="no TOML"),
        pytest.param(b"\xff", "TOML", id="no UTF-8"),
        pytest.param(b"port = 8080", "port is not in a", id="no room"),
    ],
)
def test_a_bad_file_stops_the_start_with_a_line_that_names_the_place(toml, named):
    with pytest.raises(ConfigurationError, match=named) as stopped:
        load(toml, ENOUGH)

    assert "\n" not in str(stopped.value)


@pytest.mark.parametrize("name", ENOUGH)
def test_what_has_no_default_must_be_there(name):
    settings = load(b"", {each: value for each, value in ENOUGH.items() if each != name})

    with pytest.raises(ConfigurationError, match=name):
        require_auth0_and_foundry(settings)


def test_what_kubernetes_puts_there_is_no_setting_of_ours():
    load(b"", ENOUGH | {"ATLAS_SERVICE_HOST": "10.0.0.1", "ATLAS_PORT_8080_TCP": "tcp://10.0.0.1"})


def test_a_secret_never_prints():
    settings = load(b"", ENOUGH | {"ATLAS_OPERATOR_TOKEN": "a-token"})

    for shown in (repr(settings), str(settings), f"{settings}"):
        assert "a-secret" not in shown
        assert "a-token" not in shown


def test_a_wrong_secret_is_not_told_either():
    with pytest.raises(ConfigurationError) as stopped:
        load(b'[foundry]\nclient_secret = ["a-secret"]', ENOUGH | {"FOUNDRY_CLIENT_SECRET": ""})

    assert "a-secret" not in str(stopped.value)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///var/journal.db", Path("var/journal.db")),
        ("sqlite:////var/lib/atlas/journal.db", Path("/var/lib/atlas/journal.db")),
        ("memory:", None),
    ],
)
def test_a_journal_is_a_file_or_memory(url, path):
    assert load(b"", {"ATLAS_JOURNAL": url}).journal.path == path


def test_the_documented_file_holds_every_key_with_its_default():
    """Every commented line is a key with its default; loading it changes nothing."""
    text = DOCUMENTED.read_text(encoding="utf-8")
    uncommented = re.sub(r"(?m)^# (?=\w+ = )", "", text)

    assert tomllib.loads(uncommented) == json.loads(msgspec.json.encode(Settings()))


def test_every_variable_names_a_key_and_stands_in_the_documents():
    page, toml = (ROOT / "config/README.md").read_text(), DOCUMENTED.read_text()
    for name, place in NAMES.items():
        room, _, key = place.partition(".")
        assert key in msgspec.to_builtins(Settings())[room]
        assert f"`{name}`" in page, f"{name} is missing from config/README.md"
        assert name in toml, f"{name} is missing from config/atlas.toml"


def test_the_file_is_the_one_that_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("config", "a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "atlas.toml").write_text(f'[foundry]\nbranch = "{folder}"')

    by_default = load_settings(None, {})
    by_variable = load_settings(None, {"ATLAS_CONFIG": "a/atlas.toml"})
    by_option = load_settings(tmp_path / "b" / "atlas.toml", {"ATLAS_CONFIG": "a/atlas.toml"})

    found = [each.foundry.branch for each in (by_default, by_variable, by_option)]
    assert found == ["config", "a", "b"]
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml"):
        load_settings(Path("nowhere.toml"), {})


def test_a_word_that_is_none_of_a_settings_words_is_told_which_there_are():
    with pytest.raises(
        ConfigurationError, match=r"^ATLAS_FILE_FORMAT must be ndjson or parquet\.$"
    ):
        load(b"", {"ATLAS_FILE_FORMAT": "csv"})
    with pytest.raises(
        ConfigurationError, match=r"file_layout must be auto or per-export or per-group"
    ):
        load(b'[foundry]\nfile_layout = "both"', {})


@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes_that_an_env_file_leaves_around_a_value_are_none_of_it(quote):
    said = {name: f"{quote}{value}{quote}" for name, value in ENOUGH.items()}
    assert load(b"", said) == load(b"", ENOUGH)
    assert load(b"", ENOUGH | {"FOUNDRY_CLIENT_SECRET": 'a"'}).foundry.client_secret == 'a"'
