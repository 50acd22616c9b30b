"""The settings and the messages about invalid ones."""

import base64
import json
import re
import tomllib
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator

from atlas.cli.configuration import load_settings
from atlas.core.errors import ConfigurationError
from atlas.settings import (
    NAMES,
    REQUIRED,
    SECRET_FILES,
    Settings,
    load,
    load_edge,
    read,
    require_auth0_and_foundry,
)
from atlas.settings.schema import build_schema
from atlas.settings.validation import list_settings
from tests.support.environments import ENOUGH
from tests.support.pages import cells_of, codes_in, section_of

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


@pytest.mark.parametrize(
    ("variable", "value", "issuer"),
    [
        ("AUTH0_DOMAIN", "Atlas.EU.Auth0.com", "https://atlas.eu.auth0.com/"),
        (
            "AUTH0_ISSUER",
            "Atlas.EU.Auth0.com/A, https://Login.Example.com",
            "https://atlas.eu.auth0.com/A/, https://Login.Example.com/",
        ),
    ],
)
def test_a_host_may_be_written_in_capitals_and_a_whole_issuer_stays_as_it_is(
    variable, value, issuer
):
    assert load(b"", ENOUGH | {variable: value}).auth0.issuer == issuer


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
        pytest.param({"ATLAS_X\nZ": "25"}, r"'ATLAS_X\\nZ' .* Remove it", id="a line end in it"),
        pytest.param(
            {"FOUNDRY_BRANCH": "a\udcff"}, "FOUNDRY_BRANCH is not valid UTF-8", id="bytes"
        ),
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
        pytest.param({"ATLAS_JOURNAL": "mysql://x"}, "ATLAS_JOURNAL", id="no journal"),
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
        pytest.param(b"[edge]\ncors_origins = 'x'", "edge.cors_origins has the", id="a text"),
        pytest.param(b"[journal]\nkeys = [1]", "journal.keys must be", id="numbers"),
        pytest.param(b"[foundry]\ngroup = 'x'", "foundry.group has the", id="a text as a group"),
        pytest.param(b"[foundry]\nbranch = ''", "foundry.branch is empty", id="empty"),
        pytest.param(b"[foundry]\ngroup = 3", "foundry.group has the", id="no group"),
        pytest.param(b"[foundry.group]\nsize = 3", "foundry.group.size is not", id="unknown below"),
        pytest.param(b"[foundry.group]\nbytes_max = ''", "foundry.group.bytes_max", id="below"),
        pytest.param(
            b"[journal]\nreceipts_days = 60\ndigests_days = 59",
            "journal.digests_days must be at least journal.receipts_days",
            id="digests before receipts",
        ),
        pytest.param(b"[journal]\ndigests_days = -1", "journal.digests_days", id="negative"),
        pytest.param(b"edge", "TOML", id="no TOML"),
        pytest.param(b"\xff", "not valid TOML: it is not UTF-8", id="no UTF-8"),
        pytest.param(b"a = " + b"[" * 99_999, "TOML", id="too deep"),
        pytest.param(b"[[edge]]\nport = 1", "edge is not in a", id="a list of sections"),
        pytest.param(b"[edge.port]\na = 1", "edge.port must be an integer", id="a section below"),
        pytest.param(b"[foundry]\ncall_seconds = inf", "must be a number", id="for ever"),
        pytest.param(b"[edge]\nport = 2020-01-01", "edge.port must be an integer", id="a date"),
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


def test_the_folder_of_postgresql_is_of_commands_and_no_setting_of_the_service():
    load(b"", ENOUGH | {"ATLAS_POSTGRES_BIN": "/usr/lib/postgresql/15/bin"})


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


@pytest.mark.parametrize("days", [0, 60])
def test_digests_are_kept_for_ever_or_for_as_long_as_receipts(days):
    toml = f"[journal]\nreceipts_days = 60\ndigests_days = {days}".encode()
    assert load(toml, {}).journal.digests_days == days


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


def test_the_settings_of_several_replicas_stand_on_the_page_with_their_defaults():
    rows = cells_of(section_of("config/README.md", "The database"))
    told = {key: default for keys, default, _ in rows for key in codes_in(keys)}
    journal = load(b"", {"ATLAS_JOURNAL": "postgresql://a@b/c"}).journal
    sizes = f"{journal.bytes_max / 1024**3:g} GiB, {journal.exports_max:,}"

    assert told == {
        "lease_seconds": f"{journal.lease_seconds:g}",
        "keep_seconds": f"{journal.keep_seconds:g}",
        "pooled": str(journal.pooled).lower(),
        "standby": journal.standby,
        "bytes_max": sizes,
        "exports_max": sizes,
    }


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
        ConfigurationError, match=r"file_layout must be auto, per-export or per-group"
    ):
        load(b'[foundry]\nfile_layout = "both"', {})


@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes_that_an_env_file_leaves_around_a_value_are_none_of_it(quote):
    said = {name: f"{quote}{value}{quote}" for name, value in ENOUGH.items()}
    assert load(b"", said) == load(b"", ENOUGH)
    assert load(b"", ENOUGH | {"FOUNDRY_CLIENT_SECRET": 'a"'}).foundry.client_secret == 'a"'


def test_all_problems_are_told_at_once_a_line_each():
    toml = b"[edge]\nprot = 1\nchunks_max = 0\n[egde]\nport = 1\n[journal]\ndigests_days = 8"
    environ = {
        "PORT": "high",
        "ATLAS_COMMIT_WAIT_SECOND": "25",
        "FOUNDRY_CLIENTID": "client",
        "FOUNDRY_HOST": "a b",
        "ATLAS_OPERATOR_LISTEN": "0.0.0.0:1",
        "ATLAS_OPERATOR_TOKEN_FILE": "/nowhere",
    }

    with pytest.raises(ConfigurationError) as stopped:
        read(toml, environ, "atlas.toml", REQUIRED)

    assert str(stopped.value).split("\n  ") == [
        "The settings have 10 problems:",
        "ATLAS_OPERATOR_TOKEN_FILE: cannot read /nowhere: No such file or directory.",
        (
            "ATLAS_COMMIT_WAIT_SECOND is not a setting of Atlas. Did you mean "
            "ATLAS_COMMIT_WAIT_SECONDS?"
        ),
        "FOUNDRY_CLIENTID is not a setting of Atlas. Did you mean FOUNDRY_CLIENT_ID?",
        "edge.prot is not a setting of Atlas. Did you mean edge.port?",
        "edge.chunks_max must be at least 1.",
        "PORT must be an integer.",
        "egde is not a setting of Atlas. Did you mean [edge]?",
        "journal.digests_days must be at least journal.receipts_days, or 0 for ever.",
        "FOUNDRY_HOST must be a host or an http or https URL.",
        (
            "Not set: AUTH0_DOMAIN, FOUNDRY_CLIENT_ID, FOUNDRY_CLIENT_SECRET. "
            "To try Atlas without accounts: atlas local"
        ),
    ]
    assert stopped.value.exit_code == 78


def test_what_an_invalid_file_may_hold_is_not_called_missing():
    with pytest.raises(ConfigurationError) as stopped:
        read(b"[edge", {"PORT": "high", "ATLAS_OPERATOR_LISTEN": "h:1"}, "a.toml", REQUIRED)

    first, toml, port = str(stopped.value).split("\n  ")
    assert first == "The settings have 2 problems:"
    assert toml.startswith("a.toml is not valid TOML: ")
    assert port == "PORT must be an integer."


@pytest.mark.parametrize("missing", [*REQUIRED, None])
def test_what_is_missing_is_named_together(missing):
    named = [missing] if missing else list(REQUIRED)
    with pytest.raises(ConfigurationError) as stopped:
        require_auth0_and_foundry(
            load(b"", {name: value for name, value in ENOUGH.items() if name not in named})
        )

    said = f"{missing} is not set." if missing else f"Not set: {', '.join(named)}."
    assert str(stopped.value) == f"{said} To try Atlas without accounts: atlas local"


def test_issuers_and_audiences_are_one_or_several():
    environ = {
        "AUTH0_ISSUER": "login.example.com, https://atlas.eu.auth0.com/  http://127.0.0.1:8082",
        "AUTH0_AUDIENCE": "https://api.atlas.ai,https://old.atlas.ai",
    }
    auth0 = load(b"", environ).auth0

    assert auth0.issuers == (
        "https://login.example.com/",
        "https://atlas.eu.auth0.com/",
        "http://127.0.0.1:8082/",
    )
    assert auth0.audiences == ("https://api.atlas.ai", "https://old.atlas.ai")
    assert load(b"", {"AUTH0_DOMAIN": "a.test"}).auth0.issuers == ("https://a.test/",)
    assert load(b"", {"AUTH0_ISSUER": "a.test, https://A.test/"}).auth0.issuers == (
        "https://a.test/",
        "https://A.test/",
    )
    assert load(b"", {"AUTH0_ISSUER": "a.test,A.test/"}).auth0.issuers == ("https://a.test/",)
    assert load(b"", {}).auth0.issuers == ()
    assert load(b'[auth0]\nissuer = "a.test b.test"', {}).auth0.issuers == (
        "https://a.test/",
        "https://b.test/",
    )


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"AUTH0_ISSUER": "a.test,no url"}, None),  # two hosts
        ({"AUTH0_ISSUER": "a.test,ftp://b"}, "AUTH0_ISSUER must be a host or an http"),
        ({"AUTH0_DOMAIN": "a.test 'b.test'"}, "AUTH0_DOMAIN must be a host or an http"),
        ({"AUTH0_AUDIENCE": ", ,"}, "AUTH0_AUDIENCE names no audience."),
        ({"AUTH0_ALGORITHMS": "RS256 PS256"}, None),
        ({"AUTH0_ALGORITHMS": "HS256"}, "AUTH0_ALGORITHMS must be RS256, PS256 or both"),
        ({"AUTH0_ALGORITHMS": "none"}, "AUTH0_ALGORITHMS must be RS256, PS256 or both"),
        ({"AUTH0_ALGORITHMS": ","}, "AUTH0_ALGORITHMS must be RS256, PS256 or both"),
        ({"ATLAS_DPOP": "maybe"}, "ATLAS_DPOP must be allowed, off or required."),
        ({"ATLAS_DPOP_SECONDS": "0"}, "ATLAS_DPOP_SECONDS must be at least 1"),
        ({"ATLAS_DPOP_SECONDS": "86401"}, "ATLAS_DPOP_SECONDS must be at least 1 and at most"),
        ({"ATLAS_PUBLIC_URL": "https://a.test/atlas/"}, None),
        ({"ATLAS_PUBLIC_URL": "a.test"}, "ATLAS_PUBLIC_URL must be the URL that phones use"),
        ({"ATLAS_PUBLIC_URL": "https://a.test?b"}, "ATLAS_PUBLIC_URL must be the URL that"),
    ],
)
def test_a_setting_of_tokens_that_is_wrong_is_named(variables, reason):
    if reason is None:
        load(b"", variables)
        return
    with pytest.raises(ConfigurationError) as stopped:
        load(b"", variables)
    assert str(stopped.value).startswith(reason)
    assert "\n" not in str(stopped.value)


def test_a_list_of_issuers_is_told_how_to_be_written():
    with pytest.raises(ConfigurationError, match=r"auth0\.issuer must be one string; commas"):
        load(b"[auth0]\nissuer = ['a.test', 'b.test']", {})


@pytest.mark.parametrize(
    ("toml", "meant"),
    [
        (b"[edge]\nprot = 1", "Did you mean edge.port?"),
        (b"[edgee]\nport = 1", "Did you mean [edge]?"),
        (b"[foundry.group]\nexport_max = 1", "Did you mean foundry.group.exports_max?"),
        (b"[edge]\naudience = ''", "Did you mean auth0.audience?"),
        (b"[edge]\nxyz = 1", "edge.xyz is not a setting of Atlas."),
        (b"[zzzz]\nxyz = 1", "zzzz is not a setting of Atlas."),
        (b"[edge]\n'a.b' = 1", "edge.a.b is not a setting of Atlas."),
        (b'[edge]\n"a\\nb" = 1', r"edge.'a\nb' is not a setting of Atlas."),
    ],
)
def test_an_unknown_key_is_told_the_nearest_one(toml, meant):
    with pytest.raises(ConfigurationError) as stopped:
        load(toml, ENOUGH)

    assert str(stopped.value).endswith(meant)
    assert "\n" not in str(stopped.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("AUTH0_DOMIAN", "AUTH0_DOMAIN"),
        ("AUTH0_AUDIANCE", "AUTH0_AUDIENCE"),
        ("FOUNDRY_CLIENTID", "FOUNDRY_CLIENT_ID"),
        ("FOUNDRY_CLIENT_SECRETS", "FOUNDRY_CLIENT_SECRET"),
        ("FOUNDRY_DATSET_RID", "FOUNDRY_DATASET_RID"),
        ("FOUNDRY_BRNACH", "FOUNDRY_BRANCH"),
        ("FOUNDRY_HOSTS", "FOUNDRY_HOST"),
    ],
)
def test_a_slip_in_a_name_without_our_prefix_is_an_error_unless_the_right_one_is_set(name, meant):
    environ = {each: value for each, value in ENOUGH.items() if each != meant}
    with pytest.raises(ConfigurationError) as stopped:
        load(b"", environ | {name: "x"})

    assert str(stopped.value) == f"{name} is not a setting of Atlas. Did you mean {meant}?"
    right = (
        ENOUGH.get(meant)
        or msgspec.to_builtins(Settings())[NAMES[meant].split(".")[0]][NAMES[meant].split(".")[1]]
    )
    load(b"", environ | {name: "x", meant: right})
    load(b"", environ | {name: ""})
    section, _, key = NAMES[meant].partition(".")
    load(f"[{section}]\n{key} = {json.dumps(right)}".encode(), environ | {name: "x"})


@pytest.mark.parametrize(
    "name",
    """
    FOUNDRY_PORT FOUNDRY_PORT_80_TCP FOUNDRY_SERVICE_HOST FOUNDRY_SERVICE_PORT AUTH0_PORT
    AUTH0_SERVICE_HOST FOUNDRY_TOKEN FOUNDRY_HOSTNAME FOUNDRY_PROFILE FOUNDRY_DATASET FOUNDRY_URL
    FOUNDRY_CLIENT AUTH0_CLIENT_ID AUTH0_CLIENT_SECRET AUTH0_SECRET AUTH0_BASE_URL AUTH0_TENANT
    AUTH0_ISSUER_BASE_URL AUTH0_JWKS_URI LOG_FORMAT PORTS HOST NODE_ENV CORS_ORIGIN LOG_FILE
    """.split(),
)
def test_variables_of_kubernetes_and_of_other_programs_are_no_slips(name):
    load(b"", {name: "x"})


@pytest.mark.parametrize("name", ["ATLAS_HOST_FILE", "FOUNDRY_HOST_FILE", "AUTH0_DOMAIN_FILE"])
def test_only_secrets_are_read_from_files(name):
    with pytest.raises(ConfigurationError, match=f"^{name} is not .*: only secrets are read"):
        load(b"", {name: "/run/secrets/host"})


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte order mark"])
def test_a_file_may_begin_with_a_byte_order_mark(mark):
    assert load(mark + b"[edge]\r\nport = 1\r\n", {}).edge.port == 1


def test_every_setting_has_its_origin():
    toml = b'[edge]\nport = 1\nhost = "h"\n\n[foundry.group] # limits\n  bytes_max = 9\n'
    toml += b'[log]\nlevel = "info"\n[export]\nworkers = 1\n'
    loaded = read(toml, {"PORT": "2", "LOG_LEVEL": "warn"}, "a.toml")

    assert {path: str(origin) for path, origin in loaded.origins.items()} == {
        "edge.port": "PORT",
        "edge.host": "a.toml:3",
        "foundry.group.bytes_max": "a.toml:6",
        "log.level": "LOG_LEVEL",
        "export.workers": "a.toml:10",
    }


# secrets in files

KEY = base64.b64encode(bytes(32)).decode()
OTHER_KEY = base64.b64encode(bytes([255] * 32)).decode()
SECRETS = {
    "FOUNDRY_CLIENT_SECRET": ("foundry.client_secret", "a' secret", "a' secret"),
    "ATLAS_OPERATOR_TOKEN": ("operator.token", "a-token", "a-token"),
    "ATLAS_JOURNAL_KEY": ("journal.keys", f"{KEY}\n{OTHER_KEY}", (KEY, OTHER_KEY)),
    "ATLAS_JOURNAL": ("journal.url", "postgresql://a:b@c/d", "postgresql://a:b@c/d"),
}


def test_every_secret_may_be_in_a_file():
    assert set(SECRET_FILES.values()) == SECRETS.keys()
    page = section_of("config/README.md", "Settings")
    assert all(f"`{name}`" in page for name in SECRET_FILES)


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"], ids=repr)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte order mark"])
def test_a_secret_is_the_text_of_its_file_without_the_line_end(name, end, mark, tmp_path):
    path, text, value = SECRETS[name]
    file = tmp_path / "secret"
    file.write_bytes(mark + text.encode() + end.encode())

    loaded = read(b"", ENOUGH | {name: "", f"{name}_FILE": f" {file} "})

    section, _, key = path.partition(".")
    assert getattr(getattr(loaded.settings, section), key) == value
    assert str(loaded.origins[path]) == f"{name}_FILE, {file}"
    assert text not in repr(loaded.settings)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\r\n \n", "is empty"),
        (b"secr\x00et", "is not a text file in UTF-8"),
        (b"secr\x1b[0met", "is not a text file in UTF-8"),
        (b"secr\xffet", "is not a text file in UTF-8"),
        ("secret".encode("utf-16"), "is not a text file in UTF-8"),
        (b"secret" * 20_000, "is larger than 64 KiB"),
        (b"A=secret\nB=secret\n", "has 2 lines instead of one"),
    ],
    ids=["empty", "blank", "NUL", "escape", "Latin", "UTF-16", "large", "an env file"],
)
def test_a_wrong_file_of_a_secret_is_one_line_with_its_path_and_without_its_content(
    content, reason, tmp_path
):
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError) as stopped:
        load(b"", {"ATLAS_OPERATOR_TOKEN_FILE": str(file)})

    assert str(stopped.value) == f"ATLAS_OPERATOR_TOKEN_FILE: {file} {reason}."


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("ATLAS_OPERATOR_TOKEN", "two words", "must be printable ASCII"),
        ("ATLAS_JOURNAL_KEY", "c2hvcnQ=", "32 bytes each, as base64"),
    ],
)
def test_an_invalid_secret_is_named_by_the_variable_of_its_file(name, content, said, tmp_path):
    (tmp_path / "file").write_text(content)
    with pytest.raises(ConfigurationError) as stopped:
        load(b"", {f"{name}_FILE": str(tmp_path / "file")})

    assert str(stopped.value).startswith(f"{name}_FILE must be ")
    assert said in str(stopped.value)
    assert content not in str(stopped.value)


def test_a_folder_or_nothing_in_place_of_a_secrets_file_is_said(tmp_path):
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "no", "No such file")):
        with pytest.raises(ConfigurationError, match=f"cannot read {path}: {reason}"):
            load(b"", {"FOUNDRY_CLIENT_SECRET_FILE": str(path)})


@pytest.mark.parametrize(
    "secret", ["s3cr3t", f"x/{KEY}", "postgresql://u:s3cr3t@h/d", "s3cr3t" * 100]
)
def test_a_secret_in_place_of_the_path_of_its_file_is_not_told(secret):
    with pytest.raises(ConfigurationError) as stopped:
        load(b"", {"FOUNDRY_CLIENT_SECRET_FILE": secret})

    assert str(stopped.value) == (
        "FOUNDRY_CLIENT_SECRET_FILE names no file: it must be a path, not the secret itself."
    )


def test_a_secret_whose_file_cannot_be_read_is_not_called_missing():
    environ = ENOUGH | {"FOUNDRY_CLIENT_SECRET": "", "FOUNDRY_CLIENT_SECRET_FILE": "/nowhere"}
    with pytest.raises(ConfigurationError, match=r"^FOUNDRY_CLIENT_SECRET_FILE: cannot read"):
        read(b"", environ, "a.toml", REQUIRED)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_and_its_file_are_not_both_set(name, tmp_path):
    (tmp_path / "file").write_text(SECRETS[name][1])
    with pytest.raises(ConfigurationError) as stopped:
        load(b"", {name: SECRETS[name][1], f"{name}_FILE": str(tmp_path / "file")})

    assert str(stopped.value) == f"{name} and {name}_FILE are both set: remove one of them."


# the schema


def test_the_schema_in_the_repository_is_that_of_the_code():
    """To renew it: atlas config schema > config/settings.schema.json"""
    schema = build_schema()
    assert json.loads((ROOT / "config/settings.schema.json").read_text()) == json.loads(
        msgspec.json.encode(schema)
    )
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("name", ["atlas.toml", "local.toml"])
def test_the_files_name_the_schema_and_fit_it(name):
    text = (ROOT / "config" / name).read_text(encoding="utf-8")
    uncommented = re.sub(r"(?m)^# (?=\w+ = )", "", text)
    schema = Draft202012Validator(build_schema())

    assert text.startswith("#:schema ./settings.schema.json\n")
    for each in (text, uncommented):
        assert list(schema.iter_errors(tomllib.loads(each))) == []


@pytest.mark.parametrize(
    "toml",
    [
        "[edge]\nprot = 1",
        "[egde]\nport = 1",
        "[edge]\nport = 65536",
        "[log]\nlevel = 'loud'",
        "[journal]\nkeys = ['short']",
        "[foundry.group]\nexports_max = 0",
    ],
)
def test_the_schema_refuses_what_a_start_refuses(toml):
    assert list(Draft202012Validator(build_schema()).iter_errors(tomllib.loads(toml)))
    with pytest.raises(ConfigurationError):
        load(toml.encode(), {})


def test_every_setting_is_described_in_the_file_as_in_the_schema():
    """The comment of a key is its variable and its description."""
    variables = {path: name for name, path in NAMES.items()}
    expected = {}
    for path, kind in list_settings():
        description = msgspec.inspect.type_info(kind).extra_json_schema["description"]
        expected[path] = ": ".join(filter(None, [variables.get(path), description]))

    comments, section = {}, ""
    for line in DOCUMENTED.read_text(encoding="utf-8").splitlines():
        if header := re.fullmatch(r"\[([\w.]+)\]", line):
            section = header[1]
        elif setting := re.fullmatch(r'# (\w+) = (?:".*?"|\S+) +# (.*)', line):
            comments[f"{section}.{setting[1]}"] = setting[2]

    assert comments == expected


def test_a_health_check_needs_the_settings_of_the_listener_only():
    toml = b"[edge]\nport = 1\n[egde]\n[operator]\nlisten = 'h:1'"
    environ = {"ATLAS_HOST": "h", "ATLAS_X": "1", "ATLAS_JOURNAL_KEY_FILE": "/nowhere"}

    edge = load_edge(toml, environ, "a.toml")

    assert (edge.port, edge.host) == (1, "h")
    with pytest.raises(ConfigurationError, match=r"^PORT must be an integer\.$"):
        load_edge(toml, environ | {"PORT": "high"}, "a.toml")
