"""Requests to the emulators of a running `atlas local`. They go to this machine only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
import anyio
import msgspec

from atlas.cli.emulators import HOST, PORT
from atlas.core.errors import JSON_ERRORS, CommandError
from atlas.local.auth0 import Outage
from atlas.local.foundry.faults import Fault

TIMEOUT_SECONDS = 5.0
PORTS_AFTER_ATLAS = {"foundry": 1, "auth0": 2}


@dataclass(frozen=True, slots=True)
class EmulatorRequest:
    """A request to an emulator; `path` is relative to its control endpoints."""

    emulator: Literal["foundry", "auth0"]
    method: Literal["GET", "POST", "DELETE"]
    path: str
    body: object = None


class EmulatorState(msgspec.Struct, frozen=True):
    """Everything in which the emulators can misbehave."""

    faults: list[Fault]
    settings: dict[str, Any]
    outage: Outage


@dataclass(frozen=True, slots=True)
class EmulatorClient:
    """A client of the emulators of the `atlas local` at this port."""

    port: int

    def send(self, *requests: EmulatorRequest) -> EmulatorState:
        """Send them, and return the state afterwards. Raises CommandError.

        Nothing is sent unless both emulators respond.
        """
        return anyio.run(self._send, requests)

    async def _send(self, requests: Sequence[EmulatorRequest]) -> EmulatorState:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        try:
            async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session:
                state = await self._fetch_state(session)
                for request in requests:
                    await self._ask(session, request)
                return await self._fetch_state(session) if requests else state
        except (aiohttp.ClientError, TimeoutError, *JSON_ERRORS) as error:
            option = "" if self.port == PORT else f" --port {self.port}"
            raise CommandError(
                f"No emulators respond at {HOST} ports {self.port + 1} and {self.port + 2}: "
                f"run atlas local{option}, or name its port with --port."
            ) from error

    async def _fetch_state(self, session: aiohttp.ClientSession) -> EmulatorState:
        faults = await self._ask(session, EmulatorRequest("foundry", "GET", "faults"))
        settings = await self._ask(session, EmulatorRequest("foundry", "GET", "settings"))
        outage = await self._ask(session, EmulatorRequest("auth0", "GET", "outage"))
        return EmulatorState(
            msgspec.json.decode(faults, type=list[Fault]),
            msgspec.json.decode(settings, type=dict[str, Any]),
            msgspec.json.decode(outage, type=Outage),
        )

    async def _ask(self, session: aiohttp.ClientSession, request: EmulatorRequest) -> bytes:
        port = self.port + PORTS_AFTER_ATLAS[request.emulator]
        body = None if request.body is None else msgspec.json.encode(request.body)
        url = f"http://{HOST}:{port}/stand-in/{request.path}"
        headers = {} if body is None else {"Content-Type": "application/json"}
        async with session.request(request.method, url, data=body, headers=headers) as response:
            return await response.read()
