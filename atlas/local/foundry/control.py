"""What only a stand-in has: asking it to misbehave, being somebody else, looking inside.

POST, GET, DELETE /stand-in/faults             see faults.py
POST /stand-in/settings                        {"latency_seconds": 0.3, "has_limits": true, ...},
                                               the modes of behaviour.py, and refusals of paths:
                                               {"refusals": [{"contains": "a/", "at": "upload"}]}
POST /stand-in/foreign                         {"kind": "APPEND", "files": {"path": "text"}}
POST /stand-in/transactions/{rid}/commit       as somebody else; also /abort
POST /stand-in/tokens/revoke                   every token is refused from now on
GET  /stand-in/state                           transactions, calls, complaints, last errors
"""

import asyncio
from typing import Any

import msgspec
from aiohttp import web
from msgspec.structs import asdict

from atlas.local.foundry.behaviour import BadMode
from atlas.local.foundry.branches import Refused, Transaction
from atlas.local.foundry.faults import Fault
from atlas.local.foundry.state import DATASET, Foundry, Switches
from atlas.local.http import json, read


class Foreign(msgspec.Struct, forbid_unknown_fields=True):
    """A transaction of somebody else; it ends by itself after so many seconds, if any are given."""

    kind: str = "APPEND"
    dataset: str = DATASET
    branch: str = "master"
    files: dict[str, str] = {}
    seconds: float | None = None
    commits: bool = False


def add_routes(app: web.Application, foundry: Foundry) -> None:
    control = Control(foundry)
    app.router.add_get("/stand-in/state", control.state)
    app.router.add_post("/stand-in/faults", control.misbehave)
    app.router.add_get("/stand-in/faults", control.asked)
    app.router.add_delete("/stand-in/faults", control.behave)
    app.router.add_post("/stand-in/settings", control.set)
    app.router.add_post("/stand-in/foreign", control.foreign)
    app.router.add_post("/stand-in/transactions/{rid}/{how}", control.end)
    app.router.add_post("/stand-in/tokens/revoke", control.revoke)
    app.on_cleanup.append(control.stop)


class Control:
    def __init__(self, foundry: Foundry) -> None:
        self._foundry = foundry
        self._timers: set[asyncio.TimerHandle] = set()

    async def stop(self, _app: web.Application) -> None:
        for timer in self._timers:
            timer.cancel()

    async def state(self, _request: web.Request) -> web.Response:
        log = self._foundry.log
        return json(
            {
                "transactions": [
                    seen(each) for each in self._foundry.branches.transactions.values()
                ],
                "calls": log.calls,
                "complaints": log.complaints,
                "last_headers": log.last_headers,
                "errors": list(log.errors),
            }
        )

    async def misbehave(self, request: web.Request) -> web.Response:
        self._foundry.faults.ask(await read(request, Fault))
        return json({})

    async def asked(self, _request: web.Request) -> web.Response:
        return json(self._foundry.faults.asked)

    async def behave(self, _request: web.Request) -> web.Response:
        self._foundry.faults.clear()
        return json({})

    async def set(self, request: web.Request) -> web.Response:
        """Change switches and modes: all that are named, or none if one is not valid."""
        switches, wish = asdict(self._foundry.switches), await read(request, dict[str, Any])
        modes = {name: value for name, value in wish.items() if name not in switches}
        try:
            behaviour = self._foundry.behaviour.change(modes)
            changed = {name: value for name, value in wish.items() if name in switches}
            self._foundry.switches = msgspec.convert(switches | changed, Switches)
        except (BadMode, msgspec.ValidationError) as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        self._foundry.behaviour = behaviour
        return json(asdict(self._foundry.switches) | asdict(behaviour))

    async def foreign(self, request: web.Request) -> web.Response:
        asked = await read(request, Foreign)
        branches = self._foundry.branches
        try:
            found = branches.begin(asked.dataset, asked.branch, asked.kind, owner="foreign")
        except Refused as error:
            raise web.HTTPConflict(text=error.name) from error
        for path, text in asked.files.items():
            branches.put(found, path, text.encode())
        if asked.seconds is not None:
            end = branches.commit if asked.commits else branches.abort
            loop = asyncio.get_running_loop()
            self._timers.add(loop.call_later(asked.seconds, end, found))
        return json(seen(found))

    async def end(self, request: web.Request) -> web.Response:
        found = self._foundry.branches.transactions[request.match_info["rid"]]
        ways = {"commit": self._foundry.branches.commit, "abort": self._foundry.branches.abort}
        try:
            ways[request.match_info["how"]](found)
        except Refused as error:
            raise web.HTTPConflict(text=error.name) from error
        return json(seen(found))

    async def revoke(self, _request: web.Request) -> web.Response:
        self._foundry.revoke_tokens()
        return json({})


def seen(found: Transaction) -> dict[str, Any]:
    return {
        "rid": found.rid,
        "kind": found.kind,
        "status": found.status,
        "owner": found.owner,
        "created": found.created,
        "closed": found.closed,
        "files": {path: file.size for path, file in found.files.items()},
    }
