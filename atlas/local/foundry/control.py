"""Endpoints of the emulator only: faults, settings, foreign transactions, and its state.

POST, GET, DELETE /stand-in/faults             see faults.py; ?first=1 puts one before the others
POST /stand-in/settings                        {"latency_seconds": 0.3, "has_limits": true, ...},
                                               the modes of behaviour.py, and refusals of paths:
                                               {"refusals": [{"contains": "a/", "at": "upload"}]};
                                               GET returns them, DELETE restores those at the start
POST /stand-in/foreign                         {"kind": "APPEND", "files": {"path": "text"}}
POST /stand-in/transactions/{rid}/commit       as another client; also /abort
POST /stand-in/tokens/revoke                   all tokens become invalid
GET  /stand-in/folder                          the folder of the datasets, as text
GET  /stand-in/state                           transactions, calls, complaints, last errors
"""

import asyncio
from typing import Any

import msgspec
from aiohttp import web
from msgspec.structs import asdict, replace

from atlas.local.foundry.behaviour import InvalidMode
from atlas.local.foundry.branches import FoundryApiError, Transaction
from atlas.local.foundry.faults import Fault
from atlas.local.foundry.state import DATASET, EmulatorOptions, FoundryEmulator
from atlas.local.http import json_response, parse_request


class ForeignTransaction(msgspec.Struct, forbid_unknown_fields=True):
    """A transaction of another client. If `seconds` is given, it ends by itself after that."""

    kind: str = "APPEND"
    dataset: str = DATASET
    branch: str = "master"
    files: dict[str, str] = {}
    seconds: float | None = None
    commits: bool = False


def add_routes(app: web.Application, foundry: FoundryEmulator) -> None:
    control = ControlEndpoints(foundry)
    app.router.add_get("/stand-in/state", control.get_state)
    app.router.add_get("/stand-in/folder", control.get_folder)
    app.router.add_post("/stand-in/faults", control.set_fault)
    app.router.add_get("/stand-in/faults", control.list_faults)
    app.router.add_delete("/stand-in/faults", control.clear_faults)
    app.router.add_post("/stand-in/settings", control.change_settings)
    app.router.add_get("/stand-in/settings", control.get_settings)
    app.router.add_delete("/stand-in/settings", control.restore_settings)
    app.router.add_post("/stand-in/foreign", control.begin_foreign)
    app.router.add_post("/stand-in/transactions/{rid}/{how}", control.end_foreign)
    app.router.add_post("/stand-in/tokens/revoke", control.revoke_tokens)
    app.on_cleanup.append(control.stop)


class ControlEndpoints:
    """One method for each endpoint."""

    def __init__(self, foundry: FoundryEmulator) -> None:
        self._foundry = foundry
        self._timers: set[asyncio.TimerHandle] = set()
        self._initial = foundry.options, foundry.behaviour

    async def stop(self, _app: web.Application) -> None:
        for timer in self._timers:
            timer.cancel()

    async def get_state(self, _request: web.Request) -> web.Response:
        log = self._foundry.log
        return json_response(
            {
                "transactions": [
                    describe_transaction(each)
                    for each in self._foundry.branches.transactions.values()
                ],
                "calls": log.calls,
                "complaints": log.violations,
                "last_headers": log.last_headers,
                "errors": list(log.errors),
            }
        )

    async def get_folder(self, _request: web.Request) -> web.Response:
        return web.Response(text=str(self._foundry.folder))

    async def set_fault(self, request: web.Request) -> web.Response:
        fault = await parse_request(request, Fault)
        self._foundry.faults.add(fault, is_first="first" in request.query)
        return json_response({})

    async def list_faults(self, _request: web.Request) -> web.Response:
        return json_response(self._foundry.faults.pending)

    async def clear_faults(self, _request: web.Request) -> web.Response:
        self._foundry.faults.clear()
        return json_response({})

    async def change_settings(self, request: web.Request) -> web.Response:
        """Change options and modes: all that are named, or none if one is invalid."""
        switches, changes = (
            asdict(self._foundry.options),
            await parse_request(request, dict[str, Any]),
        )
        modes = {name: value for name, value in changes.items() if name not in switches}
        try:
            behaviour = self._foundry.behaviour.change(modes)
            changed = {name: value for name, value in changes.items() if name in switches}
            self._foundry.options = msgspec.convert(switches | changed, EmulatorOptions)
        except (InvalidMode, msgspec.ValidationError) as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        self._foundry.behaviour = behaviour
        return await self.get_settings(request)

    async def get_settings(self, _request: web.Request) -> web.Response:
        return json_response(asdict(self._foundry.options) | asdict(self._foundry.behaviour))

    async def restore_settings(self, request: web.Request) -> web.Response:
        """Restore what the emulator began with, but end its refusals: they are failures."""
        options, self._foundry.behaviour = self._initial
        self._foundry.options = replace(options, refusals=())
        return await self.get_settings(request)

    async def begin_foreign(self, request: web.Request) -> web.Response:
        order = await parse_request(request, ForeignTransaction)
        branches = self._foundry.branches
        try:
            transaction = branches.begin(order.dataset, order.branch, order.kind, owner="foreign")
        except FoundryApiError as error:
            raise web.HTTPConflict(text=error.name) from error
        for path, text in order.files.items():
            branches.put(transaction, path, text.encode())
        if order.seconds is not None:
            end = branches.commit if order.commits else branches.abort
            loop = asyncio.get_running_loop()
            self._timers.add(loop.call_later(order.seconds, end, transaction))
        return json_response(describe_transaction(transaction))

    async def end_foreign(self, request: web.Request) -> web.Response:
        transaction = self._foundry.branches.transactions[request.match_info["rid"]]
        ways = {"commit": self._foundry.branches.commit, "abort": self._foundry.branches.abort}
        try:
            ways[request.match_info["how"]](transaction)
        except FoundryApiError as error:
            raise web.HTTPConflict(text=error.name) from error
        return json_response(describe_transaction(transaction))

    async def revoke_tokens(self, _request: web.Request) -> web.Response:
        self._foundry.revoke_tokens()
        return json_response({})


def describe_transaction(transaction: Transaction) -> dict[str, Any]:
    return {
        "rid": transaction.rid,
        "kind": transaction.kind,
        "status": transaction.status,
        "owner": transaction.owner,
        "created": transaction.created,
        "closed": transaction.closed,
        "files": {path: file.size for path, file in transaction.files.items()},
    }
