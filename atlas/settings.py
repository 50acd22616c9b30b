"""Everything that can be set, read once at the start. One struct a room; a room gets its own.

One TOML file, and environment variables over it: NAMES is the whole list of them. What is unknown
or wrong stops the start, with one line that names it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from atlas.core.errors import BadSetting
from atlas.core.messages import FileFormat, FileLayout, Limits

MIB = 1024 * 1024
RID = r"^ri\.[a-z][a-z0-9-]*\.([a-z0-9][a-z0-9\-]*)?\.[a-z][a-z0-9-]*\.[a-zA-Z0-9._-]+$"

Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Filled = Annotated[str, Meta(min_length=1)]


class Secret(str):
    """Text that never prints."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(...)"


class Edge(Struct, frozen=True, forbid_unknown_fields=True):
    """The public listener."""

    host: str = "127.0.0.1"
    port: Port = 8080
    cors_origins: tuple[str, ...] = ()
    reply_seconds: Annotated[float, Meta(gt=0, le=50)] = 25.0
    body_bytes_max: Count = 32 * MIB
    chunks_max: Count = 64
    stream_bytes_max: Count = 4096 * MIB


class Auth0(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose tokens are good. The issuer is a URL with a slash at its end."""

    issuer: str = ""
    domain: str = ""
    audience: Filled = "https://api.atlas.ai"
    required_scope: str = ""


class Export(Struct, frozen=True, forbid_unknown_fields=True):
    """How large one export may be, decoded, and how many processes flatten; -1: by cores."""

    bytes_max: Count = 16 * MIB
    lines_max: Count = 100_000
    workers: Annotated[int, Meta(ge=-1, le=64)] = -1


class Journal(Struct, frozen=True, forbid_unknown_fields=True):
    """Where accepted exports are kept until they are committed, and what they are sealed with.

    The first of the keys seals, all open; each is 32 bytes, as base64. The bounds are of what is
    not committed, `bytes_max` before compression, and of what stays free on the disk; receipts of
    what is committed are kept for so long, and so many.
    """

    url: str = "sqlite:///var/journal.db"
    keys: tuple[str, ...] = ()
    bytes_max: Count = 4096 * MIB
    exports_max: Count = 1_000_000
    free_bytes_min: Annotated[int, Meta(ge=0)] = 256 * MIB
    receipts_days: Annotated[int, Meta(ge=8)] = 30
    receipts_max: Count = 2_000_000

    @property
    def path(self) -> Path | None:
        """None for a journal in memory."""
        return None if self.url == "memory:" else Path(self.url.removeprefix("sqlite:///"))


class Foundry(Struct, frozen=True, forbid_unknown_fields=True):
    """The dataset, who we are there, and how we write to it."""

    host: str = ""
    client_id: str = ""
    client_secret: str = ""
    oauth_token_url: str = ""
    dataset_rid: Annotated[str, Meta(pattern=RID)] = (
        "ri.foundry.main.dataset.19102749-23e6-4fa8-827e-70eae2b94730"
    )
    branch: Filled = "master"
    sole_writer: bool = True
    commit_interval_seconds: Annotated[float, Meta(ge=0)] = 5.0
    call_seconds: Positive = 30.0
    drain_seconds: Annotated[float, Meta(ge=0, le=8)] = 5.0
    uploads_at_once: Annotated[int, Meta(ge=1, le=396)] = 64  # of Foundry's 800 calls, half
    requests_per_minute: Annotated[int, Meta(ge=60)] = 9_000  # of Foundry's 10,000
    file_format: FileFormat = "ndjson"
    file_layout: FileLayout = "auto"
    group: Limits = Limits()


class Log(Struct, frozen=True, forbid_unknown_fields=True):
    """What is told on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    user_ids: bool = False


class Operator(Struct, frozen=True, forbid_unknown_fields=True):
    """The listener for operators, HOST:PORT; on any but loopback addresses a token is required.

    With `metrics_open` the metrics are shown without it, and nothing else.
    """

    listen: Annotated[str, Meta(pattern=r"^(\[[0-9a-fA-F:]+\]|[^:\[\]]+):[0-9]{1,5}$")] = (
        "127.0.0.1:9464"
    )
    token: Annotated[str, Meta(pattern=r"^[!-~]*$")] = ""  # what a header can carry
    metrics_open: bool = False

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class Traces(Struct, frozen=True, forbid_unknown_fields=True):
    """Where traces are sent: a URL of OTLP over HTTP; none, if empty.

    Of the requests whose sender has begun no trace, this share is recorded.
    """

    endpoint: str = ""
    share: Annotated[float, Meta(ge=0, le=1)] = 1.0


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    edge: Edge = Edge()
    auth0: Auth0 = Auth0()
    export: Export = Export()
    journal: Journal = Journal()
    foundry: Foundry = Foundry()
    log: Log = Log()
    operator: Operator = Operator()
    traces: Traces = Traces()


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


def require_systems(settings: Settings) -> None:
    """Auth0 and Foundry must be told: there is no default for those. Raises BadSetting."""
    require("AUTH0_DOMAIN", settings.auth0.issuer)
    require_foundry(settings)


def require_foundry(settings: Settings) -> None:
    require("FOUNDRY_HOST", settings.foundry.host)
    require("FOUNDRY_CLIENT_ID", settings.foundry.client_id)
    require("FOUNDRY_CLIENT_SECRET", settings.foundry.client_secret)


def require(name: str, value: str) -> None:
    if not value:
        raise BadSetting(f"{name} is not set. To try Atlas without any account: atlas local")


def url_of(host: str) -> str:
    """A host is meant as https; whoever wants another scheme says so."""
    return (host if not host or "://" in host else f"https://{host}").rstrip("/")


def is_url(text: str) -> bool:
    try:
        found = urlsplit(text)
        is_one = found.scheme in {"http", "https"} and bool(found.hostname) and found.port != 0
        return is_one and re.fullmatch(r"[!-~]+", text) is not None
    except ValueError:  # what is no port, or no address in brackets
        return False


def is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")
