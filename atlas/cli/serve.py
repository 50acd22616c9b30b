"""`atlas serve`: Atlas itself."""

import os
from contextlib import nullcontext

import typer

from atlas.cli.configuration import ConfigOption, configured
from atlas.process import run
from atlas.settings import require_systems


def serve(config: ConfigOption = None) -> None:
    """The service. Settings come from a file, and from the environment over it.

    Example: AUTH0_DOMAIN=x.eu.auth0.com FOUNDRY_HOST=x.palantirfoundry.com
    FOUNDRY_CLIENT_ID=... FOUNDRY_CLIENT_SECRET=... atlas serve
    """
    settings = configured(config, os.environ)
    require_systems(settings)
    run(settings, nullcontext, ready)


def ready(at: str) -> None:
    typer.echo(f"ready {at}")
