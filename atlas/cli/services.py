"""`atlas serve` and `atlas local`: Atlas itself, with the real systems or with stand-ins."""

import os
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import typer

from atlas.cli import standins
from atlas.cli.configuration import CONFIG, configured
from atlas.process import run
from atlas.settings import require_systems

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help=f"A TOML file; else $ATLAS_CONFIG, else {CONFIG} if there is one."
    ),
]
PortOption = Annotated[
    int, typer.Option(min=1, max=65532, help="Atlas; the stand-ins take the three after it.")
]
StateOption = Annotated[
    Path, typer.Option(metavar="FOLDER", help="The folder of the journal and the dataset.")
]
LatencyOption = Annotated[
    float, typer.Option(min=0, help="How long Foundry takes for every call, in seconds.")
]
SubOption = Annotated[str, typer.Option(help="Whose token.")]
Auth0Option = Annotated[str, typer.Option(metavar="URL", help="The stand-in that gives it.")]


def serve(config: ConfigOption = None) -> None:
    """The service. Settings come from a file, and from the environment over it.

    Example: AUTH0_DOMAIN=x.eu.auth0.com FOUNDRY_HOST=x.palantirfoundry.com
    FOUNDRY_CLIENT_ID=... FOUNDRY_CLIENT_SECRET=... atlas serve
    """
    settings = configured(config, os.environ)
    require_systems(settings)
    run(settings, nullcontext, ready)


def local(
    port: PortOption = 8080,
    state: StateOption = standins.STATE,
    foundry_latency: LatencyOption = 0.0,
    config: ConfigOption = None,
) -> None:
    """The service with stand-ins of Foundry and Auth0: no account, nothing leaves the machine.

    Example: atlas local --port 9000 --foundry-latency 0.3
    """
    ports = standins.Ports.after(port)
    settings = standins.localised(configured(config, os.environ), ports, state)
    beside = partial(standins.running, settings, ports, state, foundry_latency)

    def tell(at: str) -> None:
        typer.echo(standins.introduction(settings, ports, state))
        ready(at)

    run(settings, beside, tell)


def token(sub: SubOption = standins.SUB, auth0: Auth0Option = standins.AUTH0) -> None:
    """A token from the stand-in of Auth0 that `atlas local` runs.

    Example: export ATLAS_TOKEN=$(atlas token --sub 'auth0|ada')
    """
    typer.echo(anyio.run(standins.token, auth0, sub))


def ready(at: str) -> None:
    typer.echo(f"ready {at}")
