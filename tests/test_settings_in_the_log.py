"""The settings in the start line of the log: those that differ from the defaults, no secrets."""

import re

import pytest

from atlas.settings import NAMES, Settings, list_differences, load

SECRETS = {
    "ATLAS_JOURNAL_KEY": "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=",
    "FOUNDRY_CLIENT_SECRET": "a-client-secret",
    "ATLAS_OPERATOR_TOKEN": "an-operator-token",
}
DATABASE = "postgresql://ada:s3cr:t/@a.test:5432/db?schema=atlas&password=s3cret"


def test_settings_that_are_the_defaults_are_not_listed():
    assert list_differences(Settings()) == ()
    assert list_differences(load(b"", {"PORT": "8080", "LOG_LEVEL": "info"})) == ()


def test_a_setting_has_the_name_by_which_it_was_set():
    toml = b"""
        edge = {port = 1, chunks_max = 5}
        log.user_ids = true
        foundry.group.exports_max = 9
    """
    found = list_differences(load(toml, {"CORS_ORIGINS": "https://a.test https://b.test"}))

    assert sorted(found) == [
        "ATLAS_LOG_USER_IDS=true",
        "CORS_ORIGINS=https://a.test,https://b.test",
        "PORT=1",
        "edge.chunks_max=5",
        "foundry.group.exports_max=9",
    ]


def test_what_another_setting_says_is_not_repeated():
    found = list_differences(load(b"", {"AUTH0_DOMAIN": "a.test", "FOUNDRY_HOST": "f.test"}))
    assert found == ("AUTH0_ISSUER=https://a.test/", "FOUNDRY_HOST=https://f.test")

    elsewhere = {"FOUNDRY_OAUTH_TOKEN_URL": "https://t.test/token"}
    assert list_differences(load(b"", elsewhere)) == (
        "FOUNDRY_OAUTH_TOKEN_URL=https://t.test/token",
    )


def test_the_defaults_of_a_shared_journal_are_its_own():
    found = list_differences(load(b"", {"ATLAS_JOURNAL": "postgresql://a.test/db?schema=b"}))

    assert found == ("ATLAS_JOURNAL=postgresql://a.test/db?schema=b",)


@pytest.mark.parametrize("name", [name for name in NAMES if re.search("KEY|SECRET|TOKEN$", name)])
def test_a_secret_is_masked(name):
    (shown,) = list_differences(load(b"", {name: SECRETS[name]}))

    assert shown == f"{name}=***"


def test_a_secret_that_looks_like_a_url_is_masked_as_a_whole():
    assert list_differences(load(b"", {"FOUNDRY_CLIENT_SECRET": "s3cret://a"})) == (
        "FOUNDRY_CLIENT_SECRET=***",
    )


@pytest.mark.parametrize(
    ("name", "url", "shown"),
    [
        (
            "ATLAS_JOURNAL",
            DATABASE,
            "postgresql://ada:***@a.test:5432/db?schema=atlas&password=***",
        ),
        (
            "ATLAS_JOURNAL",
            "postgresql://ada:p@ss@a.test/db?user=u&sslmode=require",
            "postgresql://ada:***@a.test/db?user=u&sslmode=require",
        ),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "https://ada:s3cret@c.test/v1/traces?api-key=s3cret",
            "https://***@c.test/v1/traces?api-key=***",
        ),
        ("FOUNDRY_HOST", "https://ada:s3cret@f.test", "https://***@f.test"),
        ("ATLAS_JOURNAL", "sqlite:////var/lib/atlas.db", "sqlite:////var/lib/atlas.db"),
    ],
)
def test_credentials_in_a_url_are_masked(name, url, shown):
    found = list_differences(load(b"", {name: url}))

    assert f"{name}={shown}" in found
    assert "s3cret" not in str(found)
