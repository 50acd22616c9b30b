"""The settings, read once at startup: one struct per section.

They come from a TOML file; the environment variables in NAMES override it, and those in
SECRET_FILES name files with secrets. Unknown and invalid settings stop the start with a line each.

sections.py     the settings: types, defaults, descriptions; those of tokens in tokens.py
variables.py    the environment variables, and the files that they name
validation.py   invalid values and contradictions, in words
loading.py      all of them together
masking.py      secrets, hidden wherever settings are shown
differences.py  the settings that differ from the defaults, for the log
schema.py       the JSON Schema of the file
"""

from atlas.settings.addresses import is_loopback, is_url
from atlas.settings.differences import list_differences
from atlas.settings.loading import REQUIRED, LoadedSettings, load, load_edge, read, require
from atlas.settings.sections import (
    EdgeSettings,
    ExportSettings,
    FoundrySettings,
    JournalSettings,
    LogSettings,
    NetworkSettings,
    OperatorSettings,
    Settings,
    StreamSettings,
    TracesSettings,
)
from atlas.settings.tokens import Auth0Settings
from atlas.settings.values import Secret
from atlas.settings.variables import NAMES, SECRET_FILES, VARIABLES

__all__ = [
    "NAMES",
    "REQUIRED",
    "SECRET_FILES",
    "VARIABLES",
    "Auth0Settings",
    "EdgeSettings",
    "ExportSettings",
    "FoundrySettings",
    "JournalSettings",
    "LoadedSettings",
    "LogSettings",
    "NetworkSettings",
    "OperatorSettings",
    "Secret",
    "Settings",
    "StreamSettings",
    "TracesSettings",
    "is_loopback",
    "is_url",
    "list_differences",
    "load",
    "load_edge",
    "read",
    "require_auth0_and_foundry",
    "require_foundry",
]


def require_auth0_and_foundry(settings: Settings) -> None:
    """Raise ConfigurationError if settings without a default are missing."""
    require(settings, REQUIRED)


def require_foundry(settings: Settings) -> None:
    require(settings, [name for name in REQUIRED if name.startswith("FOUNDRY_")])
