"""`atlas local`: runs the service with emulators of Foundry and Auth0."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Annotated

import msgspec
import typer
from aiohttp import web

from atlas import __version__
from atlas.cli.behaviour import BehaviourOption, RefuseOption, parse_behaviour
from atlas.cli.configuration import ConfigOption, load_settings
from atlas.cli.emulators import CLIENT, HOST, JOURNAL, PORT, STATE
from atlas.cli.local_demo import PHONES, run_demo
from atlas.cli.local_folder import hold_folder, load_journal_key, write_settings
from atlas.cli.local_ports import Ports, require_free_ports, suggest_folder
from atlas.cli.local_replicas import run_replicas
from atlas.cli.program import render_path, render_program
from atlas.cli.serve import report_ready
from atlas.local import auth0, foundry
from atlas.local.foundry import Behaviour, EmulatorOptions, PathRefusal
from atlas.server import bind, run
from atlas.settings import Settings

SAMPLE = Path("config/sample.ndjson")
SETTINGS = "atlas.toml"

PortOption = Annotated[
    int,
    typer.Option(
        min=1, max=65532, metavar="N", help="Port of Atlas; the next three are used, too."
    ),
]
StateOption = Annotated[
    Path, typer.Option(metavar="FOLDER", help="Folder of the journal and the dataset.")
]
LatencyOption = Annotated[
    float,
    typer.Option(min=0, metavar="SECONDS", help="Every call to Foundry takes this long."),
]

DemoOption = Annotated[
    bool, typer.Option("--demo", help="Synthetic phones send exports all the time.")
]
ReplicasOption = Annotated[
    int,
    typer.Option(
        min=1, max=16, metavar="N", help="Several replicas on a real PostgreSQL, if more than one."
    ),
]


def local(
    port: PortOption = PORT,
    replicas: ReplicasOption = 1,
    state: StateOption = STATE,
    demo: DemoOption = False,
    foundry_latency: LatencyOption = 0.0,
    foundry_behaviour: BehaviourOption = None,
    foundry_refuse: RefuseOption = None,
    config: ConfigOption = None,
) -> None:
    """Run the service with emulators of Foundry and Auth0. Nothing leaves the machine.

    Example: atlas local --demo

    Example: atlas local --port 9000 --state var/other --foundry-latency 0.3

    Example: atlas local --foundry-behaviour path_taken=upload

    Example: atlas local --replicas 2
    """
    behaviour = parse_behaviour(foundry_behaviour)
    refusals = tuple(PathRefusal(contains=text) for text in foundry_refuse or ())
    options = EmulatorOptions(latency_seconds=foundry_latency, refusals=refusals)
    ports = Ports.count_from(port)
    settings = build_local_settings(load_settings(config, os.environ), ports, state)
    companions = partial(run_companions, settings, ports, state, options, behaviour, demo)

    def print_start(at: str, replicas_text: str = "") -> None:
        start = render_start(settings, ports, state, demo=demo, is_single=replicas == 1)
        texts = [start, replicas_text, "Ctrl-C ends it."]
        typer.echo("\n".join(filter(None, texts)))
        # its other lines are text
        report_ready("json" if settings.log.format == "json" else "text", at)

    with hold_folder(state, format_url(port), partial(suggest_folder, state)):
        require_free_ports(ports, state)
        if replicas == 1:
            settings = add_journal_key(settings)
            write_settings(state / SETTINGS, settings)
            run(settings, companions, print_start)
        else:
            run_replicas(settings, ports.operator, state, replicas, companions, print_start)


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


def add_journal_key(settings: Settings) -> Settings:
    """Add the key of the journal, unless the settings have one."""
    journal = settings.journal
    if journal.keys or journal.path is None:
        return settings
    keys = load_journal_key(journal.path)
    return msgspec.structs.replace(settings, journal=msgspec.structs.replace(journal, keys=keys))


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


@asynccontextmanager
async def run_companions(
    settings: Settings,
    ports: Ports,
    state: Path,
    options: EmulatorOptions,
    behaviour: Behaviour,
    demo: bool,
) -> AsyncIterator[None]:
    """Run the emulators and, in a demo, the phones."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(run_emulators(settings, ports, state, options, behaviour))
        if demo:
            phones = run_demo(format_url(ports.atlas), format_url(ports.auth0), Random())  # noqa: S311
            await stack.enter_async_context(phones)
        yield


def format_url(port: int) -> str:
    return f"http://{HOST}:{port}"


def render_start(
    settings: Settings, ports: Ports, state: Path, *, demo: bool, is_single: bool
) -> str:
    """Render the addresses, the folder of the rows, and the next command.

    `is_single`: there is one process, so its settings serve other commands, too.
    """
    configuration = (
        f"  Settings       --config {render_path(state / SETTINGS)}\n" if is_single else ""
    )
    rows = render_path(state / "foundry" / settings.foundry.dataset_rid / settings.foundry.branch)
    client_id, client_secret = CLIENT
    return f"""\
Atlas {__version__} with emulators of Foundry and Auth0. Nothing leaves this machine.

  Atlas          {format_url(ports.atlas)}
  Operator page  {format_url(ports.operator)}/
  API page       {format_url(ports.operator)}/docs
  Foundry        {format_url(ports.foundry)}  client {client_id}, secret {client_secret}
  Auth0          {format_url(ports.auth0)}  tokens: /stand-in/tokens?sub=USER
  Rows           {rows}
{configuration}
{render_demo(ports) if demo else render_next_step(ports)}
"""


def render_demo(ports: Ports) -> str:
    port = "" if ports.atlas == PORT else f" --port {ports.atlas}"
    return f"""\
{len(PHONES)} synthetic phones send exports. From another terminal in this folder, let Foundry fail:

  {render_program()} misbehave foundry --status 503 --times 20{port}"""


def render_next_step(ports: Ports) -> str:
    """Render a command that sends the sample file if it is here, else synthetic samples."""
    program, to = render_program(), f" --to {format_url(ports.atlas)}"
    to = "" if ports.atlas == PORT else to
    command = f"{program} sample --days 7 | {program} send -{to}"
    if SAMPLE.is_file():
        command = f"{program} send {SAMPLE}{to}"
    return f"""\
Send samples as a phone does, from another terminal in this folder:

  {command}"""
