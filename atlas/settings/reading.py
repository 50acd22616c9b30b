"""From a file and the environment to settings that fit together."""

import re
from collections.abc import Mapping
from typing import get_args

import msgspec

from atlas.core.errors import BadSetting
from atlas.settings.addresses import is_loopback, is_url, url_of
from atlas.settings.rooms import Secret, Settings

NAMES = {
    "PORT": "edge.port",
    "CORS_ORIGINS": "edge.cors_origins",
    "LOG_LEVEL": "log.level",
    "AUTH0_DOMAIN": "auth0.domain",
    "AUTH0_ISSUER": "auth0.issuer",
    "AUTH0_AUDIENCE": "auth0.audience",
    "FOUNDRY_HOST": "foundry.host",
    "FOUNDRY_CLIENT_ID": "foundry.client_id",
    "FOUNDRY_CLIENT_SECRET": "foundry.client_secret",
    "FOUNDRY_OAUTH_TOKEN_URL": "foundry.oauth_token_url",
    "FOUNDRY_DATASET_RID": "foundry.dataset_rid",
    "FOUNDRY_BRANCH": "foundry.branch",
    "FOUNDRY_SOLE_WRITER": "foundry.sole_writer",
    "ATLAS_HOST": "edge.host",
    "ATLAS_REPLY_SECONDS": "edge.reply_seconds",
    "ATLAS_RATE_PER_MINUTE": "edge.rate_per_minute",
    "ATLAS_REQUIRED_SCOPE": "auth0.required_scope",
    "ATLAS_WORKERS": "export.workers",
    "ATLAS_JOURNAL": "journal.url",
    "ATLAS_JOURNAL_KEY": "journal.keys",
    "ATLAS_COMMIT_INTERVAL_SECONDS": "foundry.commit_interval_seconds",
    "ATLAS_FILE_FORMAT": "foundry.file_format",
    "ATLAS_FILE_LAYOUT": "foundry.file_layout",
    "ATLAS_OPERATOR_LISTEN": "operator.listen",
    "ATLAS_OPERATOR_TOKEN": "operator.token",
    "ATLAS_LOG_USER_IDS": "log.user_ids",
    "ATLAS_TRACES": "traces.endpoint",
}
NOT_SETTINGS = re.compile(r"ATLAS_(CONFIG|URL|TOKEN|SERVICE_.*|PORT.*)")  # the last two: Kubernetes
LEVELS = {"warn": "warning", "verbose": "debug", "http": "info", "trace": "debug"}


def load(toml: bytes, environ: Mapping[str, str]) -> Settings:
    """The file, with the environment over it, checked and filled in. Raises BadSetting."""
    for name in environ:
        if name.startswith("ATLAS_") and name not in NAMES and not NOT_SETTINGS.fullmatch(name):
            raise BadSetting(f"{name} is no setting of Atlas; the README lists them all.")
    try:
        found = msgspec.toml.decode(toml, type=dict[str, dict[str, object]])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadSetting(
            f"The configuration file is no TOML of [room] key = value: {error}"
        ) from error
    for name, place in NAMES.items():
        if environ.get(name):  # empty is absent: compose files and dashboards write NAME=
            room, _, key = place.partition(".")
            found.setdefault(room, {})[key] = read(key, environ[name])
    try:
        settings = msgspec.convert(found, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise BadSetting(explain(str(error), environ)) from error
    return completed(settings)


def read(key: str, value: str) -> object:
    """A variable is text; a list in it has commas."""
    if key in {"cors_origins", "keys"}:
        return [each.strip() for each in value.split(",") if each.strip()]
    if key == "level":
        return LEVELS.get(value.lower(), value.lower())  # the old service's words for the same
    return value


def explain(message: str, environ: Mapping[str, str]) -> str:
    """One line that names the setting as whoever set it would know it."""
    what, _, place = message.partition(" - at `$.")
    place = place.rstrip("`")
    named = next((name for name, at in NAMES.items() if at == place and environ.get(name)), place)
    if what.startswith("Invalid enum value"):
        what += f"; it is {' or '.join(choices(place))}"
    return f"{named or 'The configuration file'}: {what}." if place else f"{what}."


def choices(place: str) -> tuple[str, ...]:
    """The words that a setting may be."""
    kind: type = Settings
    for name in place.split("."):
        kind = next(field.type for field in msgspec.structs.fields(kind) if field.name == name)
    return get_args(kind)


def completed(settings: Settings) -> Settings:
    """What follows from other settings, filled in; what does not fit together, refused."""
    auth0, foundry, journal = settings.auth0, settings.foundry, settings.journal
    if journal.url != "memory:" and not journal.url.removeprefix("sqlite:///").strip("/"):
        raise BadSetting("ATLAS_JOURNAL names no file.")
    if journal.url != "memory:" and not journal.url.startswith("sqlite:///"):
        raise BadSetting("ATLAS_JOURNAL is sqlite:///relative/path, sqlite:////path or memory:.")
    operator = settings.operator
    if not is_loopback(operator.address[0]) and not operator.token:
        raise BadSetting("ATLAS_OPERATOR_LISTEN is no loopback address: set ATLAS_OPERATOR_TOKEN.")
    if settings.traces.endpoint and not is_url(settings.traces.endpoint):
        raise BadSetting("ATLAS_TRACES is no URL of a collector: http://collector:4318/v1/traces")
    issuer, host = url_of(auth0.issuer or auth0.domain), url_of(foundry.host)
    replace = msgspec.structs.replace
    return replace(
        settings,
        auth0=replace(auth0, issuer=issuer and f"{issuer}/"),
        journal=replace(journal, keys=tuple(map(Secret, journal.keys))),
        foundry=replace(
            foundry,
            host=host,
            client_secret=Secret(foundry.client_secret),
            oauth_token_url=foundry.oauth_token_url
            or (host and f"{host}/multipass/api/oauth2/token"),
        ),
        operator=replace(operator, token=Secret(operator.token)),
    )
