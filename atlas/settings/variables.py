"""The environment variables of Atlas: their names, values and files."""

import errno
import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from atlas.settings.tokens import split_list

NAMES = {
    "PORT": "edge.port",
    "CORS_ORIGINS": "edge.cors_origins",
    "LOG_LEVEL": "log.level",
    "AUTH0_DOMAIN": "auth0.domain",
    "AUTH0_ISSUER": "auth0.issuer",
    "AUTH0_AUDIENCE": "auth0.audience",
    "AUTH0_ALGORITHMS": "auth0.algorithms",
    "FOUNDRY_HOST": "foundry.host",
    "FOUNDRY_CLIENT_ID": "foundry.client_id",
    "FOUNDRY_CLIENT_SECRET": "foundry.client_secret",
    "FOUNDRY_OAUTH_TOKEN_URL": "foundry.oauth_token_url",
    "FOUNDRY_DATASET_RID": "foundry.dataset_rid",
    "FOUNDRY_BRANCH": "foundry.branch",
    "FOUNDRY_SOLE_WRITER": "foundry.sole_writer",
    "FOUNDRY_STREAM_RID": "stream.rid",
    "ATLAS_HOST": "edge.host",
    "ATLAS_PUBLIC_URL": "edge.public_url",
    "ATLAS_COMMIT_WAIT_SECONDS": "edge.commit_wait_seconds",
    "ATLAS_RATE_PER_MINUTE": "edge.rate_per_minute",
    "ATLAS_REQUIRED_SCOPE": "auth0.required_scope",
    "ATLAS_DPOP": "auth0.dpop",
    "ATLAS_DPOP_SECONDS": "auth0.dpop_seconds",
    "ATLAS_WORKERS": "export.workers",
    "ATLAS_COLUMNS": "export.columns",
    "ATLAS_WHOLE_NUMBERS": "export.whole_numbers",
    "ATLAS_JOURNAL": "journal.url",
    "ATLAS_JOURNAL_KEY": "journal.keys",
    "ATLAS_COMMIT_INTERVAL_SECONDS": "foundry.commit_interval_seconds",
    "ATLAS_FILE_FORMAT": "foundry.file_format",
    "ATLAS_FILE_LAYOUT": "foundry.file_layout",
    "ATLAS_OPERATOR_LISTEN": "operator.listen",
    "ATLAS_OPERATOR_TOKEN": "operator.token",
    "ATLAS_QUIET_DAYS": "operator.quiet_days",
    "ATLAS_LOG_FORMAT": "log.format",
    "ATLAS_LOG_USER_IDS": "log.user_ids",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "traces.endpoint",
    "ATLAS_CA_BUNDLE": "network.ca_bundle",
}
# the variables that name a file with the value of a secret
SECRET_FILES = {
    f"{name}_FILE": name
    for name in (
        "FOUNDRY_CLIENT_SECRET",
        "ATLAS_JOURNAL",  # the URL of a database has a password
        "ATLAS_JOURNAL_KEY",
        "ATLAS_OPERATOR_TOKEN",
    )
}
VARIABLES = frozenset(NAMES) | frozenset(SECRET_FILES)
# names that settings had before the first release
RENAMED = {
    "ATLAS_REPLY_SECONDS": "ATLAS_COMMIT_WAIT_SECONDS",
    "ATLAS_TRACES": "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
}
# Kubernetes sets the last two for a service named atlas.
IGNORED_VARIABLES = re.compile(r"ATLAS_(CONFIG|URL|TOKEN|POSTGRES_BIN|SERVICE_.*|PORT.*)")
# Other programs have variables with these prefixes, too: only a near miss of ours is an error.
SHARED_PREFIXES = ("AUTH0_", "FOUNDRY_")
NEAR_MISS = 0.91  # one or two letters; FOUNDRY_PORT of Kubernetes and FOUNDRY_HOST: 0.83
# The levels of Winston, which the old service used. Those between info and debug become info.
LEVEL_ALIASES = {"warn": "warning", "http": "info", "verbose": "info", "silly": "debug"}
SECRET_BYTES_MAX = 64 * 1024
NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}


class SettingOrigin(NamedTuple):
    """The source of a setting: a variable, or the file that it names, or a line of a file."""

    variable: str = ""
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        position = f"{self.file}:{self.line}" if self.line else self.file
        return ", ".join(each for each in (self.variable, position) if each)


class UnreadableSecret(ValueError):
    """A file has no usable secret. The message has the path and the reason, no content."""


def describe_unknown_variables(
    environ: Mapping[str, str], configured: Collection[str]
) -> Iterator[str]:
    """Describe each unknown variable. `configured` are the paths of the settings that are set."""
    for name in environ:
        if name in VARIABLES or IGNORED_VARIABLES.fullmatch(name):
            continue
        if name.removesuffix("_FILE") in NAMES and name.startswith(("ATLAS_", *SHARED_PREFIXES)):
            yield f"{name} is not a setting of Atlas: only secrets are read from files."
        elif name.startswith("ATLAS_"):
            yield describe_unknown_variable(name)
        elif name.startswith(SHARED_PREFIXES) and get_variable(environ, name):
            for meant in get_close_matches(name, VARIABLES, 1, NEAR_MISS):
                if NAMES[SECRET_FILES.get(meant, meant)] not in configured:
                    yield f"{name} is not a setting of Atlas. Did you mean {meant}?"


def describe_unknown_variable(name: str) -> str:
    """Describe a variable that begins with ATLAS_, with the nearest one."""
    known = {each.removeprefix("ATLAS_"): each for each in (*VARIABLES, "ATLAS_CONFIG")}
    nearest = get_close_matches(name.removeprefix("ATLAS_"), known, 1)
    suggestion = RENAMED.get(name) or (known[nearest[0]] if nearest else None)
    hint = f"Did you mean {suggestion}?" if suggestion else "Remove it."
    shown = name if name.isprintable() else ascii(name)
    return f"{shown} is not a setting of Atlas. {hint}"


def get_variable(environ: Mapping[str, str], name: str) -> str:
    """Return a variable without surrounding whitespace and quotes; "" if it is absent.

    Docker and podman keep the quotes of an env file, and compose files write NAME= for an absent
    value.
    """
    value = environ.get(name, "").strip()
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if is_quoted else value


def is_unicode(value: str) -> bool:
    """False if the bytes of a variable are not valid UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def read_secret(environ: Mapping[str, str], name: str) -> tuple[str, SettingOrigin]:
    """Return the text of the file that NAME_FILE names, and that file; "" if it names none.

    Raises UnreadableSecret, also if NAME is set, too.
    """
    variable = f"{name}_FILE"
    file = get_variable(environ, variable) if variable in SECRET_FILES else ""
    if not file:
        return "", SettingOrigin()
    if get_variable(environ, name):
        raise UnreadableSecret(f"{name} and {variable} are both set: remove one of them.")
    try:
        value = read_secret_file(Path(file), is_list=NAMES[name] == "journal.keys")
    except OSError as error:
        if not Path(file).is_absolute() and error.errno in NO_SUCH_FILE:
            # not shown: it may be the secret itself
            raise UnreadableSecret(
                f"{variable} names no file: it must be a path, not the secret itself."
            ) from error
        raise UnreadableSecret(f"{variable}: cannot read {file}: {error.strerror}.") from error
    except UnreadableSecret as error:
        raise UnreadableSecret(f"{variable}: {file} {error}.") from error
    return value, SettingOrigin(variable, file)


def read_secret_file(path: Path, *, is_list: bool) -> str:
    """Return a file's text without the line end.

    Raises OSError, and UnreadableSecret with the reason only.
    """
    with path.open("rb") as file:
        content = file.read(SECRET_BYTES_MAX + 1)
    if len(content) > SECRET_BYTES_MAX:
        raise UnreadableSecret(f"is larger than {SECRET_BYTES_MAX // 1024} KiB")
    try:
        text = content.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UnreadableSecret("is not a text file in UTF-8") from error
    lines = text.splitlines()
    if not text.strip():
        raise UnreadableSecret("is empty")
    if not all(map(str.isprintable, lines)):
        raise UnreadableSecret("is not a text file in UTF-8")
    if len(lines) > 1 and not is_list:
        raise UnreadableSecret(f"has {len(lines)} lines instead of one")
    return text


def parse_value(path: str, value: str) -> object:
    """Parse a variable's text. The items of a list are separated by commas or spaces."""
    if path in {"edge.cors_origins", "journal.keys", "auth0.algorithms"}:
        return split_list(value)
    if path == "log.level":
        return LEVEL_ALIASES.get(value.lower(), value.lower())
    return value
