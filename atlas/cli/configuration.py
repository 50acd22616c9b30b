"""Where settings come from."""

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
        metavar="FILE", help=f"A TOML file; else $ATLAS_CONFIG, else {CONFIG} if there is one."
    ),
]


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings of this environment, over those of a file. Raises ConfigurationError."""
    named = path or (Path(environ["ATLAS_CONFIG"]) if environ.get("ATLAS_CONFIG") else None)
    file = CONFIG if named is None else named
    try:
        text = file.read_bytes()
    except OSError as error:
        is_absent = isinstance(error, FileNotFoundError | NotADirectoryError)
        if named is not None or not is_absent:
            raise ConfigurationError(f"The configuration file {file}: {error.strerror}.") from error
        text = b""
    return load(text, environ)
