"""`atlas serve`: runs the service."""

import os
from contextlib import nullcontext

import typer

from atlas.cli.configuration import ConfigOption, load_settings
from atlas.server import run
from atlas.settings import require_auth0_and_foundry


def serve(config: ConfigOption = None) -> None:
    """Run the service. Environment variables override the settings of the file.

    Example: AUTH0_DOMAIN=x.eu.auth0.com FOUNDRY_HOST=x.palantirfoundry.com
    FOUNDRY_CLIENT_ID=... FOUNDRY_CLIENT_SECRET=... atlas serve
    """
    settings = load_settings(config, os.environ)
    require_auth0_and_foundry(settings)
    run(settings, nullcontext, print_ready)


def print_ready(at: str) -> None:
    typer.echo(f"ready {at}")
