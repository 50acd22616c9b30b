"""`atlas local`: runs the service with emulators of Foundry and Auth0."""

import os
import shlex
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from aiohttp import web

from atlas.cli.behaviour import BehaviourOption, RefuseOption, parse_behaviour
from atlas.cli.configuration import ConfigOption, load_settings
from atlas.cli.emulators import CLIENT, HOST, JOURNAL, STATE
from atlas.cli.serve import print_ready
from atlas.core.identifiers import API_PREFIX
from atlas.local import auth0, foundry
from atlas.local.foundry import Behaviour, EmulatorOptions, PathRefusal
from atlas.server import bind, run
from atlas.settings import Settings

SAMPLE_EXPORT = '{"rawhealthkit": "eyJ1dWlkIjoiZXhhbXBsZSIsInZhbHVlIjo3Mn0K"}'  # one record

PortOption = Annotated[
    int,
    typer.Option(min=1, max=65532, help="Port of Atlas; the next three are used, too."),
]
StateOption = Annotated[
    Path, typer.Option(metavar="FOLDER", help="Folder of the journal and the dataset.")
]
LatencyOption = Annotated[
    float, typer.Option(min=0, help="Duration of every call to Foundry, in seconds.")
]


def local(
    port: PortOption = 8080,
    state: StateOption = STATE,
    foundry_latency: LatencyOption = 0.0,
    foundry_behaviour: BehaviourOption = None,
    foundry_refuse: RefuseOption = None,
    config: ConfigOption = None,
) -> None:
    """Run the service with emulators of Foundry and Auth0. Nothing leaves the machine.

    Example: atlas local --port 9000 --foundry-latency 0.3

    Example: atlas local --foundry-behaviour path_taken=upload
    """
    behaviour = parse_behaviour(foundry_behaviour)
    refusals = tuple(PathRefusal(contains=text) for text in foundry_refuse or ())
    options = EmulatorOptions(latency_seconds=foundry_latency, refusals=refusals)
    ports = Ports(port, port + 1, port + 2, port + 3)
    settings = build_local_settings(load_settings(config, os.environ), ports, state)
    emulators = partial(run_emulators, settings, ports, state, options, behaviour)

    def print_addresses(at: str) -> None:
        typer.echo(render_addresses(settings, ports, state))
        print_ready(at)

    run(settings, emulators, print_addresses)


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of the service and its emulators."""

    atlas: int
    foundry: int
    auth0: int
    operator: int


def build_local_settings(settings: Settings, ports: Ports, state: Path) -> Settings:
    """Replace every setting that names another machine."""
    replace = msgspec.structs.replace
    host = f"http://{HOST}:{ports.foundry}"
    client_id, client_secret = CLIENT
    return replace(
        settings,
        edge=replace(settings.edge, host=HOST, port=ports.atlas),
        auth0=replace(settings.auth0, issuer=f"http://{HOST}:{ports.auth0}/"),
        journal=replace(settings.journal, url=f"sqlite:///{state / JOURNAL}"),
        foundry=replace(
            settings.foundry,
            host=host,
            client_id=client_id,
            client_secret=client_secret,
            oauth_token_url=f"{host}/multipass/api/oauth2/token",
        ),
        operator=replace(settings.operator, listen=f"{HOST}:{ports.operator}"),
        network=replace(settings.network, use_proxy=False),
    )


@asynccontextmanager
async def run_emulators(
    settings: Settings, ports: Ports, state: Path, options: EmulatorOptions, behaviour: Behaviour
) -> AsyncIterator[None]:
    """Serve both emulators over HTTP."""
    foundry_emulator = foundry.FoundryEmulator(
        state / "foundry", (settings.foundry.dataset_rid,), (settings.foundry.branch,), CLIENT
    )
    foundry_emulator.options, foundry_emulator.behaviour = options, behaviour
    keys = state / "auth0.json"
    auth0_emulator = auth0.Auth0Emulator(
        settings.auth0.issuer, settings.auth0.audience, auth0.KeyRing.load(keys), keys
    )
    async with AsyncExitStack() as servers:
        for port, app in (
            (ports.foundry, foundry.build_application(foundry_emulator)),
            (ports.auth0, auth0.build_application(auth0_emulator)),
        ):
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            servers.push_async_callback(runner.cleanup)
            await web.SockSite(runner, bind(HOST, port)).start()
        yield


def render_addresses(settings: Settings, ports: Ports, state: Path) -> str:
    """Render the addresses, and commands to send a first record and a file."""
    dataset, branch = settings.foundry.dataset_rid, settings.foundry.branch
    at = {name: f"http://{HOST}:{getattr(ports, name)}" for name in Ports.__slots__}
    return f"""\
Atlas      {at["atlas"]}
Foundry    {at["foundry"]}  (an emulator; client {CLIENT[0]}, secret {CLIENT[1]})
Auth0      {at["auth0"]}  (an emulator; a token for any user: /stand-in/tokens?sub=...)
Operator   {at["operator"]}
Files      {state / "foundry" / dataset / branch}

One record:
  curl {at["atlas"]}{API_PREFIX}/export \\
    -H "Authorization: Bearer $(curl -s {at["auth0"]}/stand-in/tokens)" \\
    -H 'Content-Type: application/json' -d {shlex.quote(SAMPLE_EXPORT)}
A file of records, from another terminal:
  atlas send FILE.ndjson --to {at["atlas"]}
"""
