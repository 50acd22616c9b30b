"""The steps that all requests pass: limits, latency, faults, tokens, errors."""

import asyncio
import base64
import binascii
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from atlas.local.foundry import faults
from atlas.local.foundry.branches import FoundryApiError
from atlas.local.foundry.faults import Fault
from atlas.local.foundry.state import FoundryEmulator
from atlas.local.http import json_response

READ, WRITE = "api:datasets-read", "api:datasets-write"
STREAM_READ, STREAM_WRITE = "api:streams-read", "api:streams-write"
SQL_EXECUTE, SQL_READ = "api:sql-queries-execute", "api:sql-queries-read"
ERROR_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHORIZED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "CONFLICT",
    413: "REQUEST_ENTITY_TOO_LARGE",
    415: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
}
STATUSES_WITHOUT_BODY = {414, 429, 431, 503}
REDIRECT_HOST = "https://elsewhere.invalid"
CANNED_RESPONSES = {"html": (502, "<html>Bad Gateway</html>"), "rubbish": (200, "It works!")}
LAST_HEADERS = ("User-Agent", "X-B3-TraceId")

ROLE_ERRORS = {
    "create": "CreateTransactionPermissionDenied",
    "commit": "CommitTransactionPermissionDenied",
    "abort": "AbortTransactionPermissionDenied",
    "upload": "UploadFilePermissionDenied",
    "publish": "PublishRecordsToStreamPermissionDenied",
    "view": "CreateViewPermissionDenied",
}

Handler = Callable[[web.Request], Awaitable[web.Response]]


class RequestPipeline:
    """Passes requests to their endpoints, or applies a fault."""

    def __init__(self, foundry: FoundryEmulator) -> None:
        self._foundry = foundry

    def protect(self, call: str, scope: str, handler: Handler) -> Callable[..., Any]:
        """Wrap an endpoint. Its token must have `scope`; "" means that it needs no token."""
        minute, log = self._foundry.minute, self._foundry.log

        async def call_handler(request: web.Request) -> web.Response:
            try:
                if scope and self._foundry.behaviour.redirect:
                    return web.Response(
                        status=307, headers={"Location": REDIRECT_HOST + request.raw_path}
                    )
                if scope:
                    self._foundry.check_token(request.headers.get("Authorization", ""), scope)
                    self.check_role(call, request)
                return await handler(request)
            except FoundryApiError as error:
                return self.refuse(error)

        async def answer(request: web.Request) -> web.StreamResponse:
            minute.at_once += 1
            log.last_headers = {name: request.headers.get(name) for name in LAST_HEADERS}
            try:
                response = await self.apply_faults(call, request, call_handler)
            finally:
                minute.at_once -= 1
            log.calls[f"{call} {response.status}"] += 1
            return response

        return answer

    async def apply_faults(
        self, call: str, request: web.Request, call_handler: Handler
    ) -> web.StreamResponse:
        switches = self._foundry.options
        if switches.latency_seconds:
            await asyncio.sleep(switches.latency_seconds)
        now = asyncio.get_running_loop().time()
        if switches.has_limits and self._foundry.minute.is_over(now):
            return web.Response(status=429)
        has_content = call == "upload" and self._foundry.faults.needs_content
        content = await request.read() if has_content else b""
        fault = self._foundry.faults.take(call, request.match_info.get("path", ""), content)
        return (
            await call_handler(request)
            if fault is None
            else await self.play_fault(fault, request, call_handler)
        )

    async def play_fault(
        self, fault: Fault, request: web.Request, call_handler: Handler
    ) -> web.StreamResponse:
        """Answer with a fault. Some faults still carry out the call."""
        match fault.kind:
            case "refused":
                return await faults.lose_answer(request, fault)
            case "status":
                await asyncio.sleep(fault.seconds)
                return self.refuse(
                    FoundryApiError(fault.status, fault.name), faults.build_headers(fault)
                )
            case "html" | "rubbish":
                status, text = CANNED_RESPONSES[fault.kind]
                return web.Response(status=status, text=text)
            case "latency":
                await asyncio.sleep(fault.seconds)
                return await call_handler(request)
            case "torn":
                return await faults.truncate(request, await call_handler(request))
            case "empty":
                return web.Response(status=(await call_handler(request)).status)
            case "wrong_types":
                return faults.mistype(await call_handler(request))
            case "lost":
                await call_handler(request)
                return await faults.lose_answer(request, fault)

    def refuse(self, error: FoundryApiError, headers: dict[str, str] | None = None) -> web.Response:
        """Answer with Foundry's error body, which some statuses lack, and record the error."""
        if error.status in STATUSES_WITHOUT_BODY:
            return web.Response(status=error.status, headers=headers)
        instance = str(uuid.uuid4())
        self._foundry.log.errors.append(
            {"name": error.name, "status": error.status, "errorInstanceId": instance}
        )
        code = ERROR_CODES.get(
            error.status, "INVALID_ARGUMENT" if error.status < 500 else "INTERNAL"
        )
        envelope = {"errorCode": code, "errorName": error.name, "errorInstanceId": instance}
        answer = json_response(envelope | {"parameters": error.parameters}, error.status)
        answer.headers.update(headers or {})
        return answer

    def check_role(self, call: str, request: web.Request) -> None:
        """Check the role. Without any, the dataset is not found; writing is denied by name."""
        switches = self._foundry.options
        if switches.is_role_revoked or (switches.is_reader and call in ROLE_ERRORS):
            rid, path = request.match_info.get("rid"), request.match_info.get("path")
            txn = request.match_info.get("txn", request.query.get("transactionRid"))
            if call in ROLE_ERRORS:
                of = {"datasetRid": rid, "transactionRid": txn, "path": path}
                if call == "publish":
                    of = {"datasetRid": rid, "streamBranchName": request.match_info["branch"]}
                raise FoundryApiError(403, ROLE_ERRORS[call], **of)
            if call == "sql":
                raise FoundryApiError(403, "ReadQueryInputsPermissionDenied", rids=[])
            raise FoundryApiError(404, "DatasetNotFound", datasetRid=rid)

    async def issue_token(self, request: web.Request) -> web.Response:
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
            return json_response({"error": "unsupported_grant_type"}, 400)
        if client != self._foundry.client:
            return json_response({"error": "invalid_client"}, 401)
        scopes = frozenset(str(form.get("scope", f"{READ} {WRITE}")).split())
        lasts = int(self._foundry.options.token_seconds)
        token = self._foundry.issue_token(scopes)
        expires = lasts if self._foundry.behaviour.expires_in == "number" else str(lasts)
        return json_response({"access_token": token, "token_type": "Bearer", "expires_in": expires})


async def read_body(request: web.Request) -> dict[str, Any]:
    try:
        return msgspec.json.decode(await request.read(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise FoundryApiError(400, "InvalidParameterCombination") from error
