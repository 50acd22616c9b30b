"""`atlas config`: checks and shows the settings, and prints their schema."""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import typer

from atlas import service
from atlas.cli.configuration import ConfigOption, JsonOption, read_file, read_settings
from atlas.cli.main import build_group
from atlas.cli.schema import format_json
from atlas.core.errors import ConfigurationError
from atlas.settings import REQUIRED, LoadedSettings
from atlas.settings.loading import inspect, iterate_paths, raise_problems
from atlas.settings.masking import HIDDEN, hide
from atlas.settings.schema import build_schema

DERIVED = {"auth0.issuer": "auth0.domain", "foundry.oauth_token_url": "foundry.host"}

app = build_group(
    """Check or show the settings, or print their JSON Schema.

    Example: atlas config check
    """
)


class ShownSetting(NamedTuple):
    """A setting with its origin. A secret is hidden."""

    path: str
    value: Any
    origin: str

    @property
    def is_hidden(self) -> bool:
        return HIDDEN in str(self.value)


@app.command()
def check(json: JsonOption = False, config: ConfigOption = None) -> None:
    """Check all settings of a service, and name all that is wrong.

    Sends nothing, and does not open the journal. Exits with 0, or with 78 and the problems.

    Example: atlas config check --config config/atlas.toml
    """
    file, toml = read_file(config, os.environ)
    loaded, problems = inspect(toml, os.environ, str(file), REQUIRED)
    problems += service.find_start_problems(loaded.settings)
    if json:
        typer.echo(msgspec.json.encode({"problems": problems}))
        raise typer.Exit(ConfigurationError.exit_code if problems else 0)
    raise_problems(problems)
    typer.echo("The settings are OK. To check the systems that they name: atlas diagnose")


@app.command()
def show(json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show all settings in force, and where each comes from.

    The output is a TOML file. Secrets are hidden.

    Example: atlas config show
    """
    settings = list(list_shown(read_settings(config, os.environ)))
    if json:
        shown = {path: {"value": value, "origin": origin} for path, value, origin in settings}
        typer.echo(format_json(shown))
    else:
        typer.echo(render(settings))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file.

    Editors that know it complete and check the file; the first line of config/atlas.toml names it.

    Example: atlas config schema > settings.schema.json
    """
    typer.echo(format_json(build_schema()))


def list_shown(loaded: LoadedSettings) -> Iterator[ShownSetting]:
    values: dict[str, Any] = msgspec.to_builtins(loaded.settings, enc_hook=str)
    for path, value in iterate_paths(values):
        origin = str(loaded.origins.get(path, "default"))
        source = DERIVED.get(path)
        if path not in loaded.origins and source in loaded.origins:
            origin = f"from {source}"
        yield ShownSetting(path, hide(path, value), origin)


def render(settings: list[ShownSetting]) -> str:
    """Render settings as TOML, with the origins as comments. A hidden value is a comment, too."""
    lines, section = list[str](), ""
    texts = [render_value(each) for each in settings]
    width = min(max(map(len, texts)), 50)
    for setting, text in zip(settings, texts, strict=True):
        header = setting.path.rpartition(".")[0]
        if header != section:
            lines += ["", f"[{header}]"] if lines else [f"[{header}]"]
            section = header
        lines.append(f"{text:<{width}}  # {setting.origin}")
    return "\n".join(lines)


def render_value(setting: ShownSetting) -> str:
    key = setting.path.rpartition(".")[2]
    value = msgspec.json.encode(setting.value).decode()
    return f"{'# ' if setting.is_hidden else ''}{key} = {value}"
