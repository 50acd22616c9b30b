"""The settings that differ from the defaults, for the log: without secrets."""

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from atlas.settings.loading import SHARED_JOURNAL
from atlas.settings.masking import hide
from atlas.settings.sections import JournalSettings, Settings
from atlas.settings.variables import NAMES

USUAL_ENDPOINT = "/multipass/api/oauth2/token"  # of the token URL, unless it is set
VARIABLES = {path: name for name, path in NAMES.items()}


def list_differences(settings: Settings) -> tuple[str, ...]:
    """Return NAME=value of each setting that differs from its default, secrets masked.

    NAME is the variable, or the key in the configuration file if there is none.
    """
    defaults = Settings()
    if settings.journal.is_shared:
        shared = {**SHARED_JOURNAL, "url": defaults.journal.url}
        defaults = replace(defaults, journal=JournalSettings(**shared))  # type: ignore[arg-type]
    return tuple(
        f"{VARIABLES.get(path, path)}={format_value(path, value)}"
        for path, value in walk(settings, defaults)
        if not is_derived(settings, path)
    )


def is_derived(settings: Settings, path: str) -> bool:
    """True if another setting says the same."""
    foundry = settings.foundry
    is_usual_url = foundry.oauth_token_url == foundry.host + USUAL_ENDPOINT
    return path == "auth0.domain" or (path == "foundry.oauth_token_url" and is_usual_url)


def walk(struct: Struct, defaults: Struct, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the path and the value of each field that differs."""
    for name in struct.__struct_fields__:
        value, default = getattr(struct, name), getattr(defaults, name)
        if isinstance(value, Struct):
            yield from walk(value, default, f"{prefix}{name}.")
        elif value != default:
            yield f"{prefix}{name}", value


def format_value(path: str, value: object) -> str:
    shown = hide(path, value)
    if isinstance(shown, list | tuple):
        return ",".join(str(hide(path, each)) for each in shown)
    return str(shown).lower() if isinstance(shown, bool) else str(shown)
