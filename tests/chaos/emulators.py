"""Foundry and Auth0 in the process of the proof, over real HTTP, and a word in every call."""

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from msgspec.structs import asdict

from atlas.local import auth0, foundry
from atlas.local.auth0 import Auth0Emulator, TokenRequest
from atlas.local.foundry import FoundryEmulator
from atlas.local.foundry.behaviour import Behaviour
from atlas.local.foundry.branches import Transaction
from atlas.local.foundry.faults import Fault
from atlas.local.foundry.state import DATASET
from atlas.local.http import drop_connection
from atlas.server import bind, format_address
from tests.chaos.oracle import BRANCH

HOST = "127.0.0.1"
TOKEN_SECONDS = 3 * 24 * 3600  # outlives a clock that jumps a day
DOWN = Fault(call="any", kind="refused", count=0)  # Foundry is away

Before = Callable[[str, web.Request], web.Response | None]
After = Callable[[str, web.Request, web.StreamResponse], None]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of ours to Foundry; `at` is when it was answered, on the monotonic clock.

    The status of an answer that was cut is 0.
    """

    at: float
    what: str
    path: str
    status: int
    retry_after: str


@dataclass(slots=True)
class Emulators:
    """Both of them. `before` may answer a call in Foundry's place, `after` act upon one.

    An upload whose content has `refused_rows` in it is refused, by a name that nobody knows.
    """

    foundry: FoundryEmulator
    tenant: Auth0Emulator
    foundry_url: str = ""
    calls: list[Call] = field(default_factory=list)
    before: Before | None = None
    after: After | None = None
    refused_rows: bytes = b""
    listeners: "Listeners | None" = None  # of Foundry
    tokens: dict[str, str] = field(default_factory=dict)

    def issue_token(self, sub: str) -> str:
        if sub not in self.tokens:
            self.tokens[sub] = self.tenant.issue_token(
                TokenRequest(sub=sub, expires_in=TOKEN_SECONDS)
            )
        return self.tokens[sub]

    def set_faults(self, *faults: Fault) -> None:
        for fault in faults:
            self.foundry.faults.add(fault)

    def draw_modes(self, seed: str) -> str:
        """Let this Foundry behave as the seed says where nobody has documented it; say how.

        Modes are no faults: a Foundry is as it is for the whole trial. The two that are not drawn
        stop every upload, or what a trial is about.
        """
        rng = random.Random(seed)
        self.foundry.behaviour = Behaviour.draw(rng, redirect=False, content_bytes_max=0)
        return describe_modes(self.foundry.behaviour)

    async def clear_faults(self) -> None:
        """All faults are over."""
        self.foundry.faults.clear()
        self.foundry.options.is_role_revoked = False
        self.foundry.options.refusals = ()
        self.before = self.after = None
        self.refused_rows = b""
        await self.open()

    async def close(self) -> None:
        """Nobody listens where Foundry was."""
        if self.listeners is not None:
            await self.listeners.stop()

    async def open(self) -> None:
        if self.listeners is not None:
            await self.listeners.start()

    def list_transactions(self) -> list[Transaction]:
        return list(self.foundry.branches.transactions.values())

    def open_foreign(self, kind: str = "APPEND") -> Transaction:
        """Somebody else opens a transaction. Raises Refused while one is open."""
        return self.foundry.branches.begin(DATASET, BRANCH, kind, owner="foreign")

    def list_open(self) -> list[str]:
        transactions = self.list_transactions()
        return [
            each.rid for each in transactions if each.owner == "client" and each.status == "OPEN"
        ]

    async def refuse(self, request: web.Request) -> web.Response | None:
        """Refuse an upload for its content."""
        if self.refused_rows not in await request.read():
            return None
        return web.json_response({"errorName": "FileContentRefused"}, status=400)

    @web.middleware
    async def record_calls(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        what = get_call_name(request)
        answer: web.StreamResponse | None = self.before(what, request) if self.before else None
        if answer is None and what == "upload" and self.refused_rows:
            answer = await self.refuse(request)
        if answer is None:
            answer = await ignore_disconnect(handler, request)
        after = answer.headers.get("Retry-After", "")
        is_cut = request.transport is None or request.transport.is_closing()
        status = 0 if is_cut else answer.status
        self.calls.append(Call(time.monotonic(), what, request.path, status, after))
        if self.after is not None:
            self.after(what, request, answer)
        return answer


def describe_modes(behaviour: Behaviour) -> str:
    """Name the modes that differ from the likeliest guess."""
    usual, modes = asdict(Behaviour()), asdict(behaviour)
    differing = [f"{name}={value}" for name, value in modes.items() if value != usual[name]]
    return f"modes: {', '.join(differing) or 'the defaults'}"


async def ignore_disconnect(handler: Handler, request: web.Request) -> web.StreamResponse:
    """A service that was killed hears no answer, and that is no news."""
    try:
        return await handler(request)
    except ConnectionResetError:
        return drop_connection(request)


def get_call_name(request: web.Request) -> str:
    """create, upload, commit, abort, token; what is only read is a get."""
    last = request.path.rpartition("/")[2]
    return "get" if request.method == "GET" else {"transactions": "create"}.get(last, last)


@dataclass(slots=True)
class Listeners:
    """Where Foundry can be reached, as long as it can."""

    runner: web.AppRunner
    port: int = 0
    site: web.SockSite | None = None

    async def start(self) -> None:
        if self.site is None:
            bound = bind(HOST, self.port)
            self.port = bound.getsockname()[1]
            self.site = web.SockSite(self.runner, bound)
            await self.site.start()

    async def stop(self) -> None:
        if self.site is not None:
            await self.site.stop()
            self.site = None


@asynccontextmanager
async def open_emulators(state: Path) -> AsyncIterator[Emulators]:
    """At ports that are free."""
    emulators = Emulators(FoundryEmulator(state), Auth0Emulator(""))
    app = foundry.build_application(emulators.foundry)
    app.middlewares.append(emulators.record_calls)
    async with AsyncExitStack() as exit_stack:
        emulators.listeners = Listeners(await serve_app(app, exit_stack))
        await emulators.open()
        emulators.foundry_url = f"http://{HOST}:{emulators.listeners.port}"
        bound = bind(HOST, 0)
        await web.SockSite(
            await serve_app(auth0.build_application(emulators.tenant), exit_stack), bound
        ).start()
        emulators.tenant.issuer = f"{format_address(bound)}/"
        yield emulators


async def serve_app(app: Any, exit_stack: AsyncExitStack) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    exit_stack.push_async_callback(runner.cleanup)
    return runner
