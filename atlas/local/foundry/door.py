"""What all endpoints have in common: limits, latency, faults, tokens, errors."""

import asyncio
import base64
import binascii
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from atlas.local.foundry import faults
from atlas.local.foundry.branches import Refused
from atlas.local.foundry.faults import Fault
from atlas.local.foundry.state import Foundry
from atlas.local.http import json

READ, WRITE = "api:datasets-read", "api:datasets-write"
CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHORIZED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "CONFLICT",
    415: "INVALID_ARGUMENT",
    500: "INTERNAL",
}

ROLES = {
    "create": "CreateTransactionPermissionDenied",
    "commit": "CommitTransactionPermissionDenied",
    "abort": "AbortTransactionPermissionDenied",
    "upload": "UploadFilePermissionDenied",
}

Handler = Callable[[web.Request], Awaitable[web.Response]]


class Door:
    """Lets calls through to their endpoints, or something befall them."""

    def __init__(self, foundry: Foundry) -> None:
        self._foundry = foundry

    def guarded(self, call: str, scope: str, handler: Handler) -> Callable[..., Any]:
        """The endpoint behind this door; `scope` is what its token must have, "" for no token."""
        minute, log = self._foundry.minute, self._foundry.log

        async def plain(request: web.Request) -> web.Response:
            try:
                if scope:
                    self._foundry.check(request.headers.get("Authorization", ""), scope)
                    self.check_role(call, request)
                return await handler(request)
            except Refused as error:
                return refusal(error)

        async def answer(request: web.Request) -> web.StreamResponse:
            minute.at_once += 1
            try:
                found = await self.misbehave(call, request, plain)
            finally:
                minute.at_once -= 1
            log.calls[f"{call} {found.status}"] += 1
            return found

        return answer

    async def misbehave(
        self, call: str, request: web.Request, plain: Handler
    ) -> web.StreamResponse:
        switches = self._foundry.switches
        if switches.latency_seconds:
            await asyncio.sleep(switches.latency_seconds)
        now = asyncio.get_running_loop().time()
        if switches.has_limits and self._foundry.minute.is_over(now):
            return web.Response(status=429)
        fault = self._foundry.faults.next(call)
        return await plain(request) if fault is None else await befallen(request, fault, plain)

    def check_role(self, call: str, request: web.Request) -> None:
        """Without a role, a dataset is not even there; of writing, Foundry says who may not."""
        switches = self._foundry.switches
        if switches.is_role_revoked or (switches.is_reader and call in ROLES):
            rid, path = request.match_info["rid"], request.match_info.get("path")
            txn = request.match_info.get("txn", request.query.get("transactionRid"))
            if call in ROLES:
                of = {"datasetRid": rid, "transactionRid": txn, "path": path}
                raise Refused(403, ROLES[call], **of)
            raise Refused(404, "DatasetNotFound", datasetRid=rid)

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        client = (str(form.get("client_id", "")), str(form.get("client_secret", "")))
        scheme, _, basic = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                name, _, secret = base64.b64decode(basic, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                name = secret = ""
            client = (name, secret)
        if form.get("grant_type") != "client_credentials":
            return json({"error": "unsupported_grant_type"}, 400)
        if client != self._foundry.client:
            return json({"error": "invalid_client"}, 401)
        scopes = frozenset(str(form.get("scope", f"{READ} {WRITE}")).split())
        lasts = int(self._foundry.switches.token_seconds)
        token = self._foundry.token(scopes)
        return json({"access_token": token, "token_type": "Bearer", "expires_in": lasts})


async def befallen(request: web.Request, fault: Fault, plain: Handler) -> web.StreamResponse:
    """What comes of a call that a fault befalls: some happen all the same."""
    match fault.kind:
        case "refused":
            return await faults.unheard(request, fault)
        case "status":
            return faults.refusal(fault)
        case "html":
            return web.Response(status=502, text="<html>Bad Gateway</html>")
        case "rubbish":
            return web.Response(text="It works!")
        case "latency":
            await asyncio.sleep(fault.seconds)
            return await plain(request)
        case "torn":
            return await faults.torn(request, await plain(request))
        case "lost":
            await plain(request)
            return await faults.unheard(request, fault)


async def body_of(request: web.Request) -> dict[str, Any]:
    try:
        return msgspec.json.decode(await request.read(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Refused(400, "InvalidParameterCombination") from error


def refusal(error: Refused) -> web.Response:
    body = {
        "errorCode": CODES[error.status],
        "errorName": error.name,
        "errorInstanceId": str(uuid.uuid4()),
        "parameters": error.parameters,
    }
    return json(body, error.status)
