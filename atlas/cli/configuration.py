"""Finds the configuration file, and loads the settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from atlas.core.errors import ConfigurationError
from atlas.settings import Settings, load

CONFIG = Path("config/atlas.toml")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help=f"A TOML file. Default: $ATLAS_CONFIG, else {CONFIG} if it exists."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Load the settings of a file, overridden by the environment. Raises ConfigurationError."""
    variable = environ.get("ATLAS_CONFIG")
    file = path or (Path(variable) if variable else CONFIG)
    try:
        text = file.read_bytes()
    except OSError as error:
        is_absent = isinstance(error, FileNotFoundError | NotADirectoryError)
        if path or variable or not is_absent:
            raise ConfigurationError(f"Cannot read {file}: {error.strerror}.") from error
        text = b""
    return load(text, environ)
