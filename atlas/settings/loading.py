"""Loads settings from a TOML file and the environment. All problems are one error."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from atlas.core.errors import JSON_ERRORS, ConfigurationError
from atlas.settings.addresses import normalize_url
from atlas.settings.sections import EdgeSettings, JournalSettings, Settings
from atlas.settings.tokens import split_list
from atlas.settings.validation import describe_invalid, find_contradictions, remove_invalid
from atlas.settings.values import MIB, Secret
from atlas.settings.variables import (
    NAMES,
    SettingOrigin,
    UnreadableSecret,
    describe_unknown_variables,
    get_variable,
    is_unicode,
    parse_value,
    read_secret,
)

# Defaults of [journal] for PostgreSQL, which has more room than a disk in a container.
SHARED_JOURNAL: dict[str, object] = {"bytes_max": 16_384 * MIB, "exports_max": 10_000_000}
# The settings of a service that have no default, and the setting that each of them results in.
REQUIRED = {
    "AUTH0_DOMAIN": "auth0.issuer",
    "FOUNDRY_HOST": "foundry.host",
    "FOUNDRY_CLIENT_ID": "foundry.client_id",
    "FOUNDRY_CLIENT_SECRET": "foundry.client_secret",
}
SECTION_LINE = re.compile(r"\s*\[([\w.]+)\]\s*(#.*)?")
KEY_LINE = re.compile(r"\s*(\w+)\s*=.*")


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings, and the origins of those that do not have their default."""

    settings: Settings
    origins: Mapping[str, SettingOrigin]


@dataclass(slots=True)
class Draft:
    """Values of all sources with their origins, and the problems found so far.

    `faulty` are the settings that a problem names, so that none is named twice.
    """

    file: str
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    origins: dict[str, SettingOrigin] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    faulty: set[str] = field(default_factory=set)
    is_parsed: bool = True

    def add_file(self, toml: bytes) -> None:
        try:
            text = toml.decode("utf-8-sig")
            sections = msgspec.toml.decode(text, type=dict[str, object])
        except JSON_ERRORS as error:
            reason = "it is not UTF-8." if isinstance(error, UnicodeDecodeError) else error
            self.is_parsed = False
            self.add_problem(f"{self.file} is not valid TOML: {reason}")
            return
        lines = find_lines(text)
        for section, keys in sections.items():
            if not isinstance(keys, dict):
                self.add_problem(f"{section} is not in a [section] of the configuration file.")
                continue
            self.values[section] = keys
            for path, _ in iterate_paths(keys, f"{section}."):
                self.origins[path] = SettingOrigin(file=self.file, line=lines.get(path, 0))

    def add_variables(self, environ: Mapping[str, str]) -> None:
        for name, path in NAMES.items():
            try:
                secret, file = read_secret(environ, name)
            except UnreadableSecret as error:
                self.add_problem(str(error), path)
                continue
            value = secret or get_variable(environ, name)
            if not is_unicode(value):
                self.add_problem(f"{name} is not valid UTF-8.", path)
            elif value:
                section, _, key = path.partition(".")
                self.values.setdefault(section, {})[key] = parse_value(path, value)
                self.origins[path] = file if secret else SettingOrigin(name)
        self.problems.extend(describe_unknown_variables(environ, self.origins))

    def validate(self) -> Settings:
        """Convert the valid values, and add a problem for each of the others."""
        for invalid in remove_invalid(self.values):
            variable = self.origins.get(invalid.path, SettingOrigin()).variable
            self.add_problem(describe_invalid(invalid, variable), invalid.path)
        if JournalSettings(url=str(self.values.get("journal", {}).get("url", ""))).is_shared:
            self.values["journal"] = SHARED_JOURNAL | self.values["journal"]
        return msgspec.convert(self.values, Settings, strict=False)

    def has_fault(self, variable: str) -> bool:
        """True if a required variable has a problem already."""
        return not self.faulty.isdisjoint({NAMES[variable], REQUIRED[variable]})

    def add_problem(self, message: str, *paths: str) -> None:
        if self.faulty.isdisjoint(paths):
            self.problems.append(message)
        self.faulty.update(paths)


def load(toml: bytes, environ: Mapping[str, str]) -> Settings:
    """Load the settings of a file, overridden by the environment. Raises ConfigurationError."""
    return read(toml, environ).settings


def load_edge(toml: bytes, environ: Mapping[str, str], file: str) -> EdgeSettings:
    """Load the settings of the public listener, without the others and the files of secrets.

    Raises ConfigurationError.
    """
    draft = Draft(file)
    draft.add_file(toml)
    draft.values = {section: keys for section, keys in draft.values.items() if section == "edge"}
    names = [name for name, path in NAMES.items() if path.startswith("edge.")]
    draft.add_variables({name: environ[name] for name in names if name in environ})
    edge = draft.validate().edge
    raise_problems(draft.problems)
    return edge


def read(
    toml: bytes,
    environ: Mapping[str, str],
    file: str = "The configuration file",
    required: Collection[str] = (),
) -> LoadedSettings:
    """Load settings with their origins. Raises one ConfigurationError that has all problems.

    `required` are those of the variables in REQUIRED that must be set.
    """
    loaded, problems = inspect(toml, environ, file, required)
    raise_problems(problems)
    return loaded


def inspect(
    toml: bytes, environ: Mapping[str, str], file: str, required: Collection[str]
) -> tuple[LoadedSettings, list[str]]:
    """Load settings, with the defaults of those that are wrong, and return all problems."""
    draft = Draft(file)
    draft.add_file(toml)
    draft.add_variables(environ)
    settings = draft.validate()
    completed = complete(settings)
    if draft.is_parsed:
        for contradiction in find_contradictions(settings):
            draft.add_problem(contradiction.message, *contradiction.paths)
        missing = find_missing(completed, [each for each in required if not draft.has_fault(each)])
        if missing:
            draft.add_problem(describe_missing(missing))
    return LoadedSettings(completed, draft.origins), draft.problems


def find_missing(settings: Settings, required: Collection[str]) -> list[str]:
    values = msgspec.to_builtins(settings, enc_hook=str)
    paths = {name: REQUIRED[name].split(".") for name in required}
    return [name for name, (section, key) in paths.items() if not values[section][key]]


def require(settings: Settings, names: Collection[str]) -> None:
    """Raise ConfigurationError if some of these variables in REQUIRED are not set."""
    missing = find_missing(settings, names)
    if missing:
        raise ConfigurationError(describe_missing(missing))


def describe_missing(names: list[str]) -> str:
    what = f"{names[0]} is not set." if len(names) == 1 else f"Not set: {', '.join(names)}."
    return f"{what} To try Atlas without accounts: atlas local"


def raise_problems(problems: list[str]) -> None:
    """Raise ConfigurationError if there are problems: one line, if it is one."""
    if len(problems) == 1:
        raise ConfigurationError(problems[0])
    if problems:
        lines = [f"The settings have {len(problems)} problems:", *problems]
        raise ConfigurationError("\n  ".join(lines))


def complete(settings: Settings) -> Settings:
    """Fill in settings derived from others, and protect the secrets."""
    auth0, foundry, journal = settings.auth0, settings.foundry, settings.journal
    hosts = split_list(auth0.issuer or auth0.domain)
    issuers = dict.fromkeys(f"{normalize_url(each)}/" for each in hosts)
    host, token_url = normalize_url(foundry.host), normalize_url(foundry.oauth_token_url)
    replace = msgspec.structs.replace
    return replace(
        settings,
        auth0=replace(auth0, issuer=", ".join(issuers)),
        edge=replace(settings.edge, public_url=normalize_url(settings.edge.public_url)),
        journal=replace(journal, url=Secret(journal.url), keys=tuple(map(Secret, journal.keys))),
        foundry=replace(
            foundry,
            host=host,
            client_secret=Secret(foundry.client_secret),
            oauth_token_url=token_url or (host and f"{host}/multipass/api/oauth2/token"),
        ),
        operator=replace(settings.operator, token=Secret(settings.operator.token)),
    )


def iterate_paths(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of each setting."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from iterate_paths(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def find_lines(toml: str) -> dict[str, int]:
    """Return the line of each key; of those that are written `key = value` below a [section]."""
    lines, section = dict[str, int](), ""
    for number, line in enumerate(toml.splitlines(), 1):
        if header := SECTION_LINE.fullmatch(line):
            section = header[1]
        elif key := KEY_LINE.fullmatch(line):
            lines.setdefault(f"{section}.{key[1]}", number)
    return lines
