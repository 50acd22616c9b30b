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
    413: "REQUEST_ENTITY_TOO_LARGE",
    415: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
}
BODYLESS = {414, 429, 431, 503}
ELSEWHERE = "https://elsewhere.invalid"
CANNED = {"html": (502, "<html>Bad Gateway</html>"), "rubbish": (200, "It works!")}
LAST_HEADERS = ("User-Agent", "X-B3-TraceId")

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
                if scope and self._foundry.behaviour.redirect:
                    return web.Response(
                        status=307, headers={"Location": ELSEWHERE + request.raw_path}
                    )
                if scope:
                    self._foundry.check(request.headers.get("Authorization", ""), scope)
                    self.check_role(call, request)
                return await handler(request)
            except Refused as error:
                return self.refuse(error)

        async def answer(request: web.Request) -> web.StreamResponse:
            minute.at_once += 1
            log.last_headers = {name: request.headers.get(name) for name in LAST_HEADERS}
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
        return await plain(request) if fault is None else await self.play(fault, request, plain)

    async def play(self, fault: Fault, request: web.Request, plain: Handler) -> web.StreamResponse:
        """The answer to a call that a fault befalls; some happen all the same."""
        match fault.kind:
            case "refused":
                return await faults.unheard(request, fault)
            case "status":
                return self.refuse(Refused(fault.status, fault.name), faults.build_headers(fault))
            case "html" | "rubbish":
                status, text = CANNED[fault.kind]
                return web.Response(status=status, text=text)
            case "latency":
                await asyncio.sleep(fault.seconds)
                return await plain(request)
            case "torn":
                return await faults.torn(request, await plain(request))
            case "empty":
                return web.Response(status=(await plain(request)).status)
            case "wrong_types":
                return faults.mistype(await plain(request))
            case "lost":
                await plain(request)
                return await faults.unheard(request, fault)

    def refuse(self, error: Refused, headers: dict[str, str] | None = None) -> web.Response:
        """Answer in Foundry's envelope, which some statuses lack, and remember the error."""
        if error.status in BODYLESS:
            return web.Response(status=error.status, headers=headers)
        instance = str(uuid.uuid4())
        self._foundry.log.errors.append(
            {"name": error.name, "status": error.status, "errorInstanceId": instance}
        )
        code = CODES.get(error.status, "INVALID_ARGUMENT" if error.status < 500 else "INTERNAL")
        envelope = {"errorCode": code, "errorName": error.name, "errorInstanceId": instance}
        answer = json(envelope | {"parameters": error.parameters}, error.status)
        answer.headers.update(headers or {})
        return answer

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
        expires = lasts if self._foundry.behaviour.expires_in == "number" else str(lasts)
        return json({"access_token": token, "token_type": "Bearer", "expires_in": expires})


async def body_of(request: web.Request) -> dict[str, Any]:
    try:
        return msgspec.json.decode(await request.read(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Refused(400, "InvalidParameterCombination") from error
