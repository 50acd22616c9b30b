"""Loads settings from a TOML file and the environment, and checks that they are consistent."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from atlas.core.errors import ConfigurationError
from atlas.settings.addresses import is_loopback, is_url, normalize_url
from atlas.settings.sections import Secret, Settings

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
    "ATLAS_COMMIT_WAIT_SECONDS": "edge.commit_wait_seconds",
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
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "traces.endpoint",
    "ATLAS_CA_BUNDLE": "network.ca_bundle",
}
# names that settings had before the first release
RENAMED = {
    "ATLAS_REPLY_SECONDS": "ATLAS_COMMIT_WAIT_SECONDS",
    "ATLAS_TRACES": "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
}
# Kubernetes sets the last two for a service named atlas.
IGNORED_VARIABLES = re.compile(r"ATLAS_(CONFIG|URL|TOKEN|SERVICE_.*|PORT.*)")
# The levels of Winston, which the old service used. Those between info and debug become info.
LEVEL_ALIASES = {"warn": "warning", "http": "info", "verbose": "info", "silly": "debug"}
VALUE_ERRORS = {
    "foundry.dataset_rid": "must be the RID of a dataset: ri.foundry.main.dataset.<uuid>",
    "operator.listen": "must be HOST:PORT",
    "operator.token": "must be printable ASCII without spaces: it is sent in a header",
}


def describe_unknown_variable(name: str) -> str:
    known = {each.removeprefix("ATLAS_"): each for each in (*NAMES, "ATLAS_CONFIG")}
    nearest = get_close_matches(name.removeprefix("ATLAS_"), known, 1)
    suggestion = RENAMED.get(name) or (known[nearest[0]] if nearest else None)
    hint = f"Did you mean {suggestion}?" if suggestion else "Remove it."
    return f"{name} is not a setting of Atlas. {hint}"


def load(toml: bytes, environ: Mapping[str, str]) -> Settings:
    """Load the settings of a file, overridden by the environment. Raises ConfigurationError."""
    for name in environ:
        is_known = name in NAMES or IGNORED_VARIABLES.fullmatch(name)
        if name.startswith("ATLAS_") and not is_known:
            raise ConfigurationError(describe_unknown_variable(name))
    try:
        sections = msgspec.toml.decode(toml, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The configuration file is not valid TOML: {error}") from error
    merged = dict[str, dict[str, object]]()
    for section, keys in sections.items():
        if not isinstance(keys, dict):
            raise ConfigurationError(f"{section} is not in a [section] of the configuration file.")
        merged[section] = keys
    for name, path in NAMES.items():
        value = get_variable(environ, name)
        if value:
            section, _, key = path.partition(".")
            merged.setdefault(section, {})[key] = parse_value(key, value)
    try:
        settings = msgspec.convert(merged, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(describe_error(merged, environ)) from error
    return complete(settings)


def get_variable(environ: Mapping[str, str], name: str) -> str:
    """Return a variable without surrounding whitespace and quotes; "" if it is absent.

    Secret files end with a newline, docker and podman keep the quotes of an env file, and compose
    files write NAME= for an absent value.
    """
    value = environ.get(name, "").strip()
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if is_quoted else value


def parse_value(key: str, value: str) -> object:
    """Parse a variable's text. The items of a list are separated by commas or spaces."""
    if key in {"cors_origins", "keys"}:
        return value.replace(",", " ").split()
    if key == "level":
        return LEVEL_ALIASES.get(value.lower(), value.lower())
    return value


def describe_error(merged: Mapping[str, object], environ: Mapping[str, str]) -> str:
    """Describe the first invalid setting in one line, by its variable if that is set."""
    path, kind, value = find_invalid(merged, Settings)
    variables = (name for name, at in NAMES.items() if at == path and get_variable(environ, name))
    name = next(variables, path)
    match kind and msgspec.inspect.type_info(kind):
        case None:
            return f"{name} is not a setting of Atlas."
        case msgspec.inspect.LiteralType(values=words):
            return f"{name} must be {' or '.join(map(str, words))}."
        case msgspec.inspect.BoolType():
            return f"{name} must be true or false."
        case msgspec.inspect.IntType() if not is_convertible(value, int):
            return f"{name} must be an integer."
        case msgspec.inspect.FloatType() if not is_convertible(value, float):
            return f"{name} must be a number."
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType() as number:
            bounds = {"at least": number.ge, "more than": number.gt, "at most": number.le}
            limits = [f"{word} {bound}" for word, bound in bounds.items() if bound is not None]
            return f"{name} must be {' and '.join(limits)}."
        case msgspec.inspect.StrType() if isinstance(value, str):
            return f"{name} {VALUE_ERRORS.get(path, 'is empty')}."
    return f"{name} has the wrong type."


def find_invalid(values: Mapping[str, object], struct: type) -> tuple[str, Any, object]:
    """Return the path, type and value of the first invalid setting; type None if unknown."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
    for key, value in values.items():
        kind = fields.get(key)
        if kind is not None and is_convertible(value, kind):
            continue
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict):
            path, inner_kind, inner_value = find_invalid(value, kind)
            return f"{key}.{path}", inner_kind, inner_value
        return key, kind, value
    raise AssertionError("every setting is valid, but not all together")


def is_convertible(value: object, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        return False
    return True


def complete(settings: Settings) -> Settings:
    """Fill in settings derived from others. Raises ConfigurationError on a contradiction."""
    auth0, foundry, journal = settings.auth0, settings.foundry, settings.journal
    if journal.url != "memory:" and not journal.url.removeprefix("sqlite:///").strip("/"):
        raise ConfigurationError("ATLAS_JOURNAL must name a file.")
    if journal.url != "memory:" and not journal.url.startswith("sqlite:///"):
        raise ConfigurationError(
            "ATLAS_JOURNAL must be sqlite:///relative/path, sqlite:////absolute/path or memory:."
        )
    operator = settings.operator
    if not is_loopback(operator.address[0]) and not operator.token:
        raise ConfigurationError(
            "ATLAS_OPERATOR_LISTEN is not a loopback address: set ATLAS_OPERATOR_TOKEN."
        )
    if settings.traces.endpoint and not is_url(settings.traces.endpoint):
        raise ConfigurationError(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT must be the URL of a collector: "
            "http://collector:4318/v1/traces"
        )
    issuer, host = normalize_url(auth0.issuer or auth0.domain), normalize_url(foundry.host)
    token_url = normalize_url(foundry.oauth_token_url)
    for name, url in {
        "AUTH0_ISSUER" if auth0.issuer else "AUTH0_DOMAIN": issuer,
        "FOUNDRY_HOST": host,
        "FOUNDRY_OAUTH_TOKEN_URL": token_url,
    }.items():
        if url and not is_url(url):
            raise ConfigurationError(f"{name} must be a host or an http or https URL.")
    replace = msgspec.structs.replace
    return replace(
        settings,
        auth0=replace(auth0, issuer=issuer and f"{issuer}/"),
        journal=replace(journal, keys=tuple(map(Secret, journal.keys))),
        foundry=replace(
            foundry,
            host=host,
            client_secret=Secret(foundry.client_secret),
            oauth_token_url=token_url or (host and f"{host}/multipass/api/oauth2/token"),
        ),
        operator=replace(operator, token=Secret(operator.token)),
    )
