"""The settings, read once at startup: one struct per section.

They come from a TOML file; the environment variables in NAMES override it. An unknown or invalid
setting stops the start with one line that names it.
"""

from atlas.core.errors import ConfigurationError
from atlas.settings.addresses import is_loopback, is_url
from atlas.settings.loading import NAMES, load
from atlas.settings.sections import (
    Auth0Settings,
    EdgeSettings,
    ExportSettings,
    FoundrySettings,
    JournalSettings,
    LogSettings,
    NetworkSettings,
    OperatorSettings,
    Secret,
    Settings,
    TracesSettings,
)

__all__ = [
    "NAMES",
    "Auth0Settings",
    "EdgeSettings",
    "ExportSettings",
    "FoundrySettings",
    "JournalSettings",
    "LogSettings",
    "NetworkSettings",
    "OperatorSettings",
    "Secret",
    "Settings",
    "TracesSettings",
    "is_loopback",
    "is_url",
    "load",
    "require_auth0_and_foundry",
    "require_foundry",
]


def require_auth0_and_foundry(settings: Settings) -> None:
    """Raise ConfigurationError if a setting without a default is missing."""
    require("AUTH0_DOMAIN", settings.auth0.issuer)
    require_foundry(settings)


def require_foundry(settings: Settings) -> None:
    require("FOUNDRY_HOST", settings.foundry.host)
    require("FOUNDRY_CLIENT_ID", settings.foundry.client_id)
    require("FOUNDRY_CLIENT_SECRET", settings.foundry.client_secret)


def require(name: str, value: str) -> None:
    if not value:
        raise ConfigurationError(f"{name} is not set. To try Atlas without accounts: atlas local")
