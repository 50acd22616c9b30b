"""Where settings come from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from atlas.core.errors import BadSetting
from atlas.settings import Settings, load

CONFIG = Path("config/atlas.toml")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help=f"A TOML file; else $ATLAS_CONFIG, else {CONFIG} if there is one."
    ),
]


def configured(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings of this environment, over those of a file. Raises BadSetting."""
    named = path or (Path(environ["ATLAS_CONFIG"]) if environ.get("ATLAS_CONFIG") else None)
    if named is None:
        return load(CONFIG.read_bytes() if CONFIG.exists() else b"", environ)
    try:
        return load(named.read_bytes(), environ)
    except OSError as error:
        raise BadSetting(f"The configuration file {named}: {error.strerror}.") from error
