"""What `atlas local` adds: Foundry and Auth0 beside the service, and where everything is."""

import shlex
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from atlas.core.errors import CannotStart
from atlas.local import auth0, foundry
from atlas.process import bind
from atlas.settings import Settings

HOST = "127.0.0.1"
STATE = Path("var/local")
JOURNAL = "journal.db"
CLIENT = ("local", "local-secret")
SUB = "auth0|local"
AUTH0, OPERATOR = f"http://{HOST}:8082", f"http://{HOST}:8083"
ANSWER_SECONDS = 5.0
AN_EXPORT = '{"rawhealthkit": "eyJ1dWlkIjoiZXhhbXBsZSIsInZhbHVlIjo3Mn0K"}'  # one record


@dataclass(frozen=True, slots=True)
class Ports:
    """One behind the other, so that one number tells them all."""

    atlas: int
    foundry: int
    auth0: int
    operator: int

    @classmethod
    def after(cls, port: int) -> "Ports":
        return cls(port, port + 1, port + 2, port + 3)


def localised(settings: Settings, ports: Ports, state: Path) -> Settings:
    """The same settings, with nothing in them that leads out of this machine."""
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
    )


@asynccontextmanager
async def running(
    settings: Settings, ports: Ports, state: Path, latency_seconds: float
) -> AsyncIterator[None]:
    """Both stand-ins, over real HTTP."""
    stack = foundry.Foundry(
        state / "foundry", (settings.foundry.dataset_rid,), (settings.foundry.branch,), CLIENT
    )
    stack.switches.latency_seconds = latency_seconds
    keys = state / "auth0.json"
    tenant = auth0.Auth0(
        settings.auth0.issuer, settings.auth0.audience, auth0.Ring.kept_in(keys), keys
    )
    async with AsyncExitStack() as stand_ins:
        for port, app in (
            (ports.foundry, foundry.application(stack)),
            (ports.auth0, auth0.application(tenant)),
        ):
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            stand_ins.push_async_callback(runner.cleanup)
            await web.SockSite(runner, bind(HOST, port)).start()
        yield


def introduction(settings: Settings, ports: Ports, state: Path) -> str:
    """For whoever has just started it."""
    dataset, branch = settings.foundry.dataset_rid, settings.foundry.branch
    at = {name: f"http://{HOST}:{getattr(ports, name)}" for name in Ports.__slots__}
    return f"""\
Atlas      {at["atlas"]}
Foundry    {at["foundry"]}  (a stand-in; client {CLIENT[0]}, secret {CLIENT[1]})
Auth0      {at["auth0"]}  (a stand-in; a token of anybody: /stand-in/tokens?sub=...)
Operator   {at["operator"]}
Files      {state / "foundry" / dataset / branch}

One record:
  curl {at["atlas"]}/api/v1/healthkit/export \\
    -H "Authorization: Bearer $(curl -s {at["auth0"]}/stand-in/tokens)" \\
    -H 'Content-Type: application/json' -d {shlex.quote(AN_EXPORT)}
A whole export, from another terminal:
  atlas send FILE.ndjson --to {at["atlas"]}
"""


async def token(auth0_url: str, sub: str) -> str:
    """A token of the stand-in. Raises CannotStart when none runs there."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session:
            url = f"{auth0_url.rstrip('/')}/stand-in/tokens"
            async with session.get(url, params={"sub": sub}) as answer:
                return await answer.text()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise CannotStart(
            f"No stand-in of Auth0 answers at {auth0_url}: run atlas local."
        ) from error
