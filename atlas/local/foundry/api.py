"""Foundry's endpoints about transactions and files."""

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from atlas.local.foundry import control
from atlas.local.foundry.branches import Branch, File, Refused, Transaction
from atlas.local.foundry.door import READ, WRITE, Door, body_of
from atlas.local.foundry.state import Foundry
from atlas.local.foundry.tables import Tables
from atlas.local.http import dated, json

BODY_BYTES_MAX = 256 * 1024 * 1024
PAGE_SIZE, PAGE_SIZE_MAX = 20, 50
FILES_PAGE_SIZE = 1_000


def application(foundry: Foundry) -> web.Application:
    """The stand-in, to be served at one address of its own."""
    api, tables, door = Api(foundry), Tables(foundry), Door(foundry)
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    home, files = "/api/v2/datasets/{rid}", "/api/v2/datasets/{rid}/files"
    txn, file = home + "/transactions/{txn}", files + "/{path:[^/]+}"  # braces and all
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
        ("POST", file + "/upload", "upload", WRITE, api.upload),
        ("GET", file, "file", READ, api.file),
        ("GET", file + "/content", "content", READ, api.content),
        ("DELETE", file, "delete", WRITE, api.delete),
        ("GET", home + "/getSchema", "schema", READ, tables.get_schema),
        ("PUT", home + "/putSchema", "schema", WRITE, tables.put_schema),
        ("GET", home + "/readTable", "table", READ, tables.read_table),
    ):
        app.router.add_route(method, path, door.guarded(call, scope, handler))
    app.router.add_post("/multipass/api/oauth2/token", door.guarded("token", "", door.token))
    control.add_routes(app, foundry)
    app.router.add_route("*", "/{address:.*}", unknown)

    async def set_date(_request: web.Request, answer: web.StreamResponse) -> None:
        await dated(answer, foundry.switches.clock_ahead_seconds)
        if not foundry.behaviour.date_header:
            answer.headers.popall("Date", None)

    app.on_response_prepare.append(set_date)
    app.on_cleanup.append(lambda _: closed(foundry))
    return app


async def unknown(_request: web.Request) -> web.Response:
    """Foundry says nothing at an address that it does not know."""
    return web.Response(status=404)


async def closed(foundry: Foundry) -> None:
    foundry.branches.close()


class Api:
    """One method an endpoint."""

    def __init__(self, foundry: Foundry) -> None:
        self._foundry = foundry
        self._branches = foundry.branches

    async def dataset(self, request: web.Request) -> web.Response:
        rid = request.match_info["rid"]
        self._branches.known(rid)
        return json(
            {"rid": rid, "name": "healthkit", "parentFolderRid": "ri.compass.main.folder.1"}
        )

    async def branch(self, request: web.Request) -> web.Response:
        name = request.match_info["branch"]
        head = self._branches.head(self._branches.branch(request.match_info["rid"], name))
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
        self._commit(found)
        return self._answer_end(found)

    async def abort(self, request: web.Request) -> web.Response:
        found = self.asked(request)
        self.mind_the_owner(found, "aborted")
        self._branches.abort(found)
        return self._answer_end(found)

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
            combinations = [["transactionRid"], ["branchName"], ["branchName", "transactionType"]]
            given = {"validCombinations": combinations, "providedParameters": list(request.query)}
            raise Refused(400, "InvalidParameterCombination", **given)
        content = await request.read()
        if named:
            found = self._branches.find(rid, named)
            self.mind_the_owner(found, "written to")
            return json(self._describe(self._put(found, path, content), found))
        found = self._branches.begin(rid, branch or "master", wanted or "UPDATE")
        try:
            file = self._put(found, path, content)
            self._commit(found)
        except Refused:
            self._branches.abort(found)
            raise
        return json(self._describe(file, found))

    async def delete(self, request: web.Request) -> web.Response:
        rid, path = request.match_info["rid"], request.match_info["path"]
        named = request.query.get("transactionRid")
        if named:
            found = self._branches.find(rid, named)
            self.mind_the_owner(found, "written to")
            self._branches.remove(found, path)
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
            self._describe(file, txn)
            for file, txn in self.seen(request)
            if file.path.startswith(prefix)
        ]
        found.sort(key=lambda each: str(each["path"]))
        return json(page(found, request, number(request, "pageSize", FILES_PAGE_SIZE)))

    async def file(self, request: web.Request) -> web.Response:
        return json(self._describe(*self.one(request)))

    async def content(self, request: web.Request) -> web.Response:
        file, found = self.one(request)
        limit = self._foundry.behaviour.content_bytes_max
        if 0 < limit < file.size:
            sizes = {"fileSizeBytes": str(file.size), "maxFileSizeBytes": str(limit)}
            raise Refused(400, "FileSizeLimitExceeded", path=file.path, **sizes)
        return web.Response(
            body=self._branches.content(found, file.path), content_type="application/octet-stream"
        )

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
        if first is last and first.status == "OPEN":
            found = self._look_into(first)
        else:
            found = [each for each in found if each.status == "COMMITTED"]
        return [(file, txn) for txn in found for file in txn.files.values()]

    def _look_into(self, found: Transaction) -> list[Transaction]:
        """The transactions to look into when one that is open is asked for its files."""
        match self._foundry.behaviour.open_listing:
            case "not_found":
                raise Refused(404, "TransactionNotFound", **identify(found))
            case "not_committed":
                raise Refused(400, "TransactionNotCommitted", **identify(found))
            case "listed":
                return [found]
            case "empty":
                return []

    def one(self, request: web.Request) -> tuple[File, Transaction]:
        path = request.match_info["path"]
        for file, found in self.seen(request):
            if file.path == path:
                return file, found
        rid, branch = request.match_info["rid"], request.query.get("branchName", "master")
        not_there = {"datasetRid": rid, "branchName": branch, "path": path}
        raise Refused(404, "FileNotFoundOnBranch", **not_there)

    def _put(self, found: Transaction, path: str, content: bytes) -> File:
        self._foundry.refuse("upload", [path])
        return self._branches.put(found, path, content)

    def _commit(self, found: Transaction) -> None:
        self._foundry.refuse("commit", found.files)
        self._branches.commit(found)

    def _answer_end(self, found: Transaction) -> web.Response:
        match self._foundry.behaviour.end_answer:
            case "transaction":
                return json(shown(found))
            case "no_content":
                return web.Response(status=204)
            case "empty":
                return web.Response()

    def _describe(self, file: File, found: Transaction) -> dict[str, Any]:
        is_text = self._foundry.behaviour.sizes == "text"
        return {
            "path": file.path,
            "transactionRid": found.rid,
            "sizeBytes": str(file.size) if is_text else file.size,
            "updatedTime": file.at,
        }

    def mind_the_owner(self, found: Transaction, what: str) -> None:
        """Foundry would let a client with a role do it; a good client does not."""
        if found.owner != "client":
            self._foundry.log.complaints.append(f"A foreign transaction was {what}.")


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


def identify(found: Transaction) -> dict[str, str]:
    return {"datasetRid": found.dataset, "transactionRid": found.rid}
