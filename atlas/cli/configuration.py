"""Finds the configuration file, and loads the settings."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated

import typer

from atlas.core.errors import ConfigurationError
from atlas.settings import EdgeSettings, LoadedSettings, Settings, load_edge, read

CONFIG = Path("config/atlas.toml")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help=f"A TOML file. Default: $ATLAS_CONFIG, else {CONFIG} if it exists."
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only print what would be done.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def load_settings(
    path: Path | None, environ: Mapping[str, str], required: Collection[str] = ()
) -> Settings:
    """Load the settings of a file, overridden by the environment. Raises ConfigurationError."""
    return read_settings(path, environ, required).settings


def read_settings(
    path: Path | None, environ: Mapping[str, str], required: Collection[str] = ()
) -> LoadedSettings:
    """Load the settings with their origins. Raises ConfigurationError."""
    file, toml = read_file(path, environ)
    return read(toml, environ, str(file), required)


def load_edge_settings(path: Path | None, environ: Mapping[str, str]) -> EdgeSettings:
    """Load the settings of the public listener only. Raises ConfigurationError.

    A health check must not fail, and so end a container, because a secret is being replaced.
    """
    file, toml = read_file(path, environ)
    return load_edge(toml, environ, str(file))


def read_file(path: Path | None, environ: Mapping[str, str]) -> tuple[Path, bytes]:
    """Return the configuration file and its content. Raises ConfigurationError."""
    variable = environ.get("ATLAS_CONFIG")
    file = path or (Path(variable) if variable else CONFIG)
    try:
        return file, file.read_bytes()
    except OSError as error:
        is_absent = isinstance(error, FileNotFoundError | NotADirectoryError)
        if path or variable or not is_absent:
            raise ConfigurationError(f"Cannot read {file}: {error.strerror}.") from error
        return file, b""
