"""Everything that can be set, read once at the start. One struct a room; a room gets its own.

One TOML file, and environment variables over it: NAMES is the whole list of them. What is unknown
or wrong stops the start, with one line that names it.
"""

from atlas.core.errors import BadSetting
from atlas.settings.addresses import is_loopback, is_url
from atlas.settings.reading import NAMES, load
from atlas.settings.rooms import (
    Auth0,
    Edge,
    Export,
    Foundry,
    Journal,
    Log,
    Network,
    Operator,
    Secret,
    Settings,
    Traces,
)

__all__ = [
    "NAMES",
    "Auth0",
    "Edge",
    "Export",
    "Foundry",
    "Journal",
    "Log",
    "Network",
    "Operator",
    "Secret",
    "Settings",
    "Traces",
    "is_loopback",
    "is_url",
    "load",
    "require_foundry",
    "require_systems",
]


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
