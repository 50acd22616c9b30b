"""Foundry's endpoints: status codes, envelopes, missing bodies and all."""

import asyncio
import base64
import binascii
import csv
import io
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
from aiohttp import web

from atlas.local.foundry import control, faults
from atlas.local.foundry.branches import Branch, File, Refused, Transaction
from atlas.local.foundry.state import Foundry

READ, WRITE = "api:datasets-read", "api:datasets-write"
BODY_BYTES_MAX = 256 * 1024 * 1024
PAGE_SIZE, PAGE_SIZE_MAX = 20, 50
FILES_PAGE_SIZE = 1_000
CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHORIZED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "CONFLICT",
    415: "INVALID_ARGUMENT",
}

Handler = Callable[[web.Request], Awaitable[web.Response]]


def application(foundry: Foundry) -> web.Application:
    """The stand-in, to be served at one address of its own."""
    api, app = Api(foundry), web.Application(client_max_size=BODY_BYTES_MAX)
    home, files = "/api/v2/datasets/{rid}", "/api/v2/datasets/{rid}/files"
    txn = home + "/transactions/{txn}"
    for method, path, call, scope, handler in (
        ("GET", home, "dataset", READ, api.dataset),
        ("POST", home + "/transactions", "create", WRITE, api.create),
        ("GET", home + "/transactions", "transactions", READ, api.transactions),
        ("GET", txn, "get", READ, api.get),
        ("POST", txn + "/commit", "commit", WRITE, api.commit),
        ("POST", txn + "/abort", "abort", WRITE, api.abort),
        ("GET", home + "/branches/{branch}", "branch", READ, api.branch),
        ("GET", home + "/branches/{branch}/transactions", "transactions", READ, api.transactions),
        ("GET", files, "list", READ, api.files),
        ("POST", files + "/{path}/upload", "upload", WRITE, api.upload),
        ("GET", files + "/{path}", "file", READ, api.file),
        ("GET", files + "/{path}/content", "content", READ, api.content),
        ("DELETE", files + "/{path}", "delete", WRITE, api.delete),
        ("GET", home + "/getSchema", "schema", READ, api.get_schema),
        ("PUT", home + "/putSchema", "schema", WRITE, api.put_schema),
        ("GET", home + "/readTable", "table", READ, api.read_table),
    ):
        app.router.add_route(method, path, api.guarded(call, scope, handler))
    app.router.add_post("/multipass/api/oauth2/token", api.guarded("token", "", api.token))
    control.add_routes(app, foundry)
    app.on_cleanup.append(lambda _: closed(foundry))
    return app


async def closed(foundry: Foundry) -> None:
    foundry.branches.close()


class Api:
    """One method an endpoint."""

    def __init__(self, foundry: Foundry) -> None:
        self._foundry = foundry
        self._branches = foundry.branches
        self._schemas: dict[tuple[str, str], dict[str, Any]] = {}

    def guarded(self, call: str, scope: str, handler: Handler) -> Callable[..., Any]:
        """What every endpoint has in common: limits, latency, faults, tokens, errors."""
        foundry = self._foundry

        async def answer(request: web.Request) -> web.StreamResponse:
            foundry.minute.at_once += 1
            try:
                found = await misbehaving(request)
            finally:
                foundry.minute.at_once -= 1
            foundry.log.calls[f"{call} {found.status}"] += 1
            return found

        async def misbehaving(request: web.Request) -> web.StreamResponse:
            if foundry.switches.latency_seconds:
                await asyncio.sleep(foundry.switches.latency_seconds)
            loop = asyncio.get_running_loop()
            if foundry.switches.has_limits and foundry.minute.is_over(loop.time()):
                return web.Response(status=429)
            fault = foundry.faults.next(call)
            if fault is None or fault.kind == "latency":
                await asyncio.sleep(fault.seconds if fault else 0)
                return await plain(request)
            if fault.kind == "refused":
                return await faults.unheard(request, fault)
            if fault.kind == "status":
                return faults.refusal(fault)
            if fault.kind == "html":
                return web.Response(status=502, text="<html>Bad Gateway</html>")
            found = await plain(request)
            if fault.kind == "rubbish":
                return web.Response(text="It works!")
            if fault.kind == "torn":
                return await faults.torn(request, found)
            return await faults.unheard(request, fault)

        async def plain(request: web.Request) -> web.Response:
            try:
                if scope:
                    foundry.check(request.headers.get("Authorization", ""), scope)
                self.check_role(scope, call, request)
                return await handler(request)
            except Refused as error:
                return refusal(error)

        return answer

    def check_role(self, scope: str, call: str, request: web.Request) -> None:
        """Without a role, a dataset is not even there; of writing, Foundry says who may not."""
        if not scope or not self._foundry.switches.is_role_revoked:
            return
        names = {
            "create": "CreateTransactionPermissionDenied",
            "commit": "CommitTransactionPermissionDenied",
            "abort": "AbortTransactionPermissionDenied",
            "upload": "UploadFilePermissionDenied",
        }
        if call in names:
            raise Refused(403, names[call], datasetRid=request.match_info["rid"])
        raise Refused(404, "DatasetNotFound", datasetRid=request.match_info["rid"])

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

    async def dataset(self, request: web.Request) -> web.Response:
        rid = request.match_info["rid"]
        self._branches.known(rid)
        return json(
            {"rid": rid, "name": "healthkit", "parentFolderRid": "ri.compass.main.folder.1"}
        )

    async def branch(self, request: web.Request) -> web.Response:
        name = request.match_info["branch"]
        head = self._branches.branch(request.match_info["rid"], name).head
        return json({"name": name} | ({"transactionRid": head.rid} if head else {}))

    async def create(self, request: web.Request) -> web.Response:
        rid, branch = request.match_info["rid"], request.query.get("branchName", "master")
        asked = await body_of(request)
        kind = str(asked.get("transactionType", ""))
        return json(shown(self._branches.begin(rid, branch, kind)))

    async def get(self, request: web.Request) -> web.Response:
        return json(shown(self.asked(request)))

    async def commit(self, request: web.Request) -> web.Response:
        found = self.asked(request)
        self.mind_the_owner(found, "committed")
        self._branches.commit(found)
        return json(shown(found))

    async def abort(self, request: web.Request) -> web.Response:
        found = self.asked(request)
        self.mind_the_owner(found, "aborted")
        self._branches.abort(found)
        return json(shown(found))

    async def transactions(self, request: web.Request) -> web.Response:
        if request.query.get("preview") != "true":
            raise Refused(400, "ApiFeaturePreviewUsageOnly")
        name = request.match_info.get("branch", "master")
        history = self._branches.branch(request.match_info["rid"], name).history
        size = min(number(request, "pageSize", PAGE_SIZE), PAGE_SIZE_MAX)
        return json(page([shown(each) for each in reversed(history)], request, size))

    async def upload(self, request: web.Request) -> web.Response:
        kind = request.headers.get("Content-Type", "")
        if self._foundry.switches.is_strict_about_types and kind != "application/octet-stream":
            raise Refused(415, "UnsupportedMediaType")
        if request.content_length is None:
            raise Refused(400, "MissingContentLength")
        rid, path = request.match_info["rid"], request.match_info["path"]
        named, branch = request.query.get("transactionRid"), request.query.get("branchName")
        wanted = request.query.get("transactionType")
        if (named and (branch or wanted)) or (wanted and not branch):
            raise Refused(400, "InvalidParameterCombination")
        content = await request.read()
        if named:
            found = self._branches.find(rid, named)
            self.mind_the_owner(found, "written to")
            return json(listed(self._branches.put(found, path, content), found))
        found = self._branches.begin(rid, branch or "master", wanted or "UPDATE")
        try:
            file = self._branches.put(found, path, content)
            self._branches.commit(found)
        except Refused:
            self._branches.abort(found)
            raise
        return json(listed(file, found))

    async def delete(self, request: web.Request) -> web.Response:
        rid, path = request.match_info["rid"], request.match_info["path"]
        named = request.query.get("transactionRid")
        if named:
            self._branches.remove(self._branches.find(rid, named), path)
            return web.Response(status=204)
        found = self._branches.begin(rid, request.query.get("branchName", "master"), "DELETE")
        try:
            self._branches.remove(found, path)
            self._branches.commit(found)
        except Refused:
            self._branches.abort(found)
            raise
        return web.Response(status=204)

    async def files(self, request: web.Request) -> web.Response:
        prefix = request.query.get("pathPrefix", "")
        found = [
            listed(file, txn) for file, txn in self.seen(request) if file.path.startswith(prefix)
        ]
        found.sort(key=lambda each: str(each["path"]))
        return json(page(found, request, number(request, "pageSize", FILES_PAGE_SIZE)))

    async def file(self, request: web.Request) -> web.Response:
        return json(listed(*self.one(request)))

    async def content(self, request: web.Request) -> web.Response:
        file, found = self.one(request)
        return web.Response(
            body=self._branches.content(found, file.path), content_type="application/octet-stream"
        )

    async def get_schema(self, request: web.Request) -> web.Response:
        place = (request.match_info["rid"], request.query.get("branchName", "master"))
        self._branches.branch(*place)
        if place not in self._schemas:
            raise Refused(404, "SchemaNotFound", datasetRid=place[0], branchName=place[1])
        return json(self._schemas[place])

    async def put_schema(self, request: web.Request) -> web.Response:
        asked = await body_of(request)
        rid, name = request.match_info["rid"], str(asked.get("branchName") or "master")
        branch = self._branches.branch(rid, name)
        if branch.head is None:
            raise Refused(404, "DatasetViewNotFound", datasetRid=rid, branch=name)
        if asked.get("dataframeReader", "PARQUET") not in {"AVRO", "CSV", "PARQUET", "DATASOURCE"}:
            raise Refused(400, "InvalidParameterCombination")
        self._schemas[rid, name] = {
            "branchName": name,
            "endTransactionRid": branch.head.rid,
            "schema": asked.get("schema", {}),
            "versionId": str(uuid.uuid4()),
        }
        return json(self._schemas[rid, name])

    async def read_table(self, request: web.Request) -> web.Response:
        """Rows of NDJSON files as CSV; Foundry would need a transform, or a schema put by hand."""
        place = (request.match_info["rid"], request.query.get("branchName", "master"))
        view = self._branches.branch(*place).view
        if place not in self._schemas:
            raise Refused(404, "SchemaNotFound", datasetRid=place[0], branchName=place[1])
        if request.query.get("format") != "CSV":
            raise Refused(400, "InvalidParameterCombination")
        fields = self._schemas[place]["schema"].get("fieldSchemaList", [])
        out = io.StringIO()
        table = csv.DictWriter(out, [each["name"] for each in fields], extrasaction="ignore")
        table.writeheader()
        for path, found in view.items():
            for line in self._branches.content(found, path).splitlines():
                table.writerow(msgspec.json.decode(line))
        return web.Response(text=out.getvalue(), content_type="text/csv")

    def asked(self, request: web.Request) -> Transaction:
        return self._branches.find(request.match_info["rid"], request.match_info["txn"])

    def seen(self, request: web.Request) -> Iterable[tuple[File, Transaction]]:
        """The files of a branch's view, or of the transactions from start to end."""
        start, end = (request.query.get(f"{each}TransactionRid") for each in ("start", "end"))
        rid = request.match_info["rid"]
        branch = self._branches.branch(rid, request.query.get("branchName", "master"))
        if start is None and end is None:
            return [(found.files[path], found) for path, found in branch.view.items()]
        return self.between(rid, branch, start, end)

    def between(
        self, rid: str, branch: Branch, start: str | None, end: str | None
    ) -> Iterable[tuple[File, Transaction]]:
        first = self._branches.find(rid, start) if start else branch.history[0]
        last = self._branches.find(rid, end) if end else branch.history[-1]
        found = branch.history[branch.history.index(first) : branch.history.index(last) + 1]
        opens = self._foundry.switches.lists_open_transactions and first is last
        shown = {"COMMITTED", "OPEN"} if opens else {"COMMITTED"}
        return [(file, txn) for txn in found if txn.status in shown for file in txn.files.values()]

    def one(self, request: web.Request) -> tuple[File, Transaction]:
        path = request.match_info["path"]
        for file, found in self.seen(request):
            if file.path == path:
                return file, found
        raise Refused(404, "FileNotFoundOnBranch", path=path)

    def mind_the_owner(self, found: Transaction, what: str) -> None:
        """Foundry would let a client with a role do it; a good client does not."""
        if found.owner != "client":
            self._foundry.log.complaints.append(f"A foreign transaction was {what}.")


async def body_of(request: web.Request) -> dict[str, Any]:
    try:
        return msgspec.json.decode(await request.read(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Refused(400, "InvalidParameterCombination") from error


def number(request: web.Request, name: str, default: int) -> int:
    given = request.query.get(name, str(default))
    if not given.isdecimal() or int(given) < 1:
        raise Refused(400, "InvalidPageSize", pageSize=given)
    return int(given)


def page(found: list[dict[str, Any]], request: web.Request, size: int) -> dict[str, Any]:
    start = int(request.query.get("pageToken") or 0)
    more = {"nextPageToken": str(start + size)} if start + size < len(found) else {}
    return {"data": found[start : start + size]} | more


def shown(found: Transaction) -> dict[str, Any]:
    closed = {"closedTime": found.closed} if found.closed else {}
    return {
        "rid": found.rid,
        "transactionType": found.kind,
        "status": found.status,
        "createdTime": found.created,
    } | closed


def listed(file: File, found: Transaction) -> dict[str, Any]:
    return {
        "path": file.path,
        "transactionRid": found.rid,
        "sizeBytes": str(file.size),
        "updatedTime": file.at,
    }


def refusal(error: Refused) -> web.Response:
    body = {
        "errorCode": CODES[error.status],
        "errorName": error.name,
        "errorInstanceId": str(uuid.uuid4()),
        "parameters": error.parameters,
    }
    return json(body, error.status)


def json(body: object, status: int = 200) -> web.Response:
    text = msgspec.json.encode(body)
    return web.Response(body=text, status=status, content_type="application/json")
