"""What only a stand-in has: asking it to misbehave, being somebody else, looking inside.

POST, GET, DELETE /stand-in/faults             see faults.py
POST /stand-in/settings                        {"latency_seconds": 0.3, "has_limits": true, ...}
POST /stand-in/foreign                         {"kind": "APPEND", "files": {"path": "text"}}
POST /stand-in/transactions/{rid}/commit       as somebody else; also /abort
POST /stand-in/tokens/revoke                   every token is refused from now on
GET  /stand-in/state                           transactions, calls, complaints
"""

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from atlas.local.foundry.branches import Refused, Transaction
from atlas.local.foundry.faults import Fault
from atlas.local.foundry.state import DATASET, Foundry
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
        switches = self._foundry.switches
        for name, value in (await read(request, dict[str, Any])).items():
            if name not in switches.__slots__:
                raise web.HTTPBadRequest(text=f"There is no switch {name}.")
            try:
                setattr(switches, name, msgspec.convert(value, type(getattr(switches, name))))
            except msgspec.ValidationError as error:
                raise web.HTTPBadRequest(text=str(error)) from error
        return json({name: getattr(switches, name) for name in switches.__slots__})

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
