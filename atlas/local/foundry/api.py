"""Foundry's endpoints about transactions and files."""

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from atlas.local.foundry.branches import BranchState, FoundryApiError, StoredFile, Transaction
from atlas.local.foundry.pipeline import read_body
from atlas.local.foundry.state import FoundryEmulator
from atlas.local.foundry.views import FOLDER
from atlas.local.http import json_response

PAGE_SIZE, PAGE_SIZE_MAX = 20, 50
FILES_PAGE_SIZE = 1_000


class FoundryEndpoints:
    """One method for each endpoint."""

    def __init__(self, foundry: FoundryEmulator) -> None:
        self._foundry = foundry
        self._branches = foundry.branches

    async def get_dataset(self, request: web.Request) -> web.Response:
        rid = request.match_info["rid"]
        self._branches.require_dataset(rid)
        return json_response({"rid": rid, "name": "healthkit", "parentFolderRid": FOLDER})

    async def get_branch(self, request: web.Request) -> web.Response:
        name = request.match_info["branch"]
        head = self._branches.find_head(self._branches.get_branch(request.match_info["rid"], name))
        return json_response({"name": name} | ({"transactionRid": head.rid} if head else {}))

    async def create(self, request: web.Request) -> web.Response:
        rid, branch = request.match_info["rid"], request.query.get("branchName", "master")
        body = await read_body(request)
        kind = str(body.get("transactionType", ""))
        return json_response(describe_transaction(self._branches.begin(rid, branch, kind)))

    async def get(self, request: web.Request) -> web.Response:
        return json_response(describe_transaction(self.find_transaction(request)))

    async def commit(self, request: web.Request) -> web.Response:
        transaction = self.find_transaction(request)
        self.check_owner(transaction, "committed")
        self._commit(transaction)
        return self._answer_end(transaction)

    async def abort(self, request: web.Request) -> web.Response:
        transaction = self.find_transaction(request)
        self.check_owner(transaction, "aborted")
        self._branches.abort(transaction)
        return self._answer_end(transaction)

    async def list_transactions(self, request: web.Request) -> web.Response:
        if request.query.get("preview") != "true":
            raise FoundryApiError(400, "ApiFeaturePreviewUsageOnly")
        name = request.match_info.get("branch", "master")
        history = self._branches.get_branch(request.match_info["rid"], name).history
        size = min(read_number(request, "pageSize", PAGE_SIZE), PAGE_SIZE_MAX)
        return json_response(
            paginate([describe_transaction(each) for each in reversed(history)], request, size)
        )

    async def upload(self, request: web.Request) -> web.Response:
        kind = request.headers.get("Content-Type", "")
        if self._foundry.options.is_strict_about_types and kind != "application/octet-stream":
            raise FoundryApiError(415, "UnsupportedMediaType")
        if request.content_length is None:
            raise FoundryApiError(400, "MissingContentLength")
        rid, path = request.match_info["rid"], request.match_info["path"]
        named, branch = request.query.get("transactionRid"), request.query.get("branchName")
        wanted = request.query.get("transactionType")
        if (named and (branch or wanted)) or (wanted and not branch):
            combinations = [["transactionRid"], ["branchName"], ["branchName", "transactionType"]]
            parameters = {
                "validCombinations": combinations,
                "providedParameters": list(request.query),
            }
            raise FoundryApiError(400, "InvalidParameterCombination", **parameters)
        content = await request.read()
        if named:
            transaction = self._branches.find(rid, named)
            self.check_owner(transaction, "written to")
            return json_response(self._describe(self._put(transaction, path, content), transaction))
        transaction = self._branches.begin(rid, branch or "master", wanted or "UPDATE")
        try:
            file = self._put(transaction, path, content)
            self._commit(transaction)
        except FoundryApiError:
            self._branches.abort(transaction)
            raise
        return json_response(self._describe(file, transaction))

    async def delete(self, request: web.Request) -> web.Response:
        rid, path = request.match_info["rid"], request.match_info["path"]
        named = request.query.get("transactionRid")
        if named:
            transaction = self._branches.find(rid, named)
            self.check_owner(transaction, "written to")
            self._branches.remove(transaction, path)
            return web.Response(status=204)
        transaction = self._branches.begin(rid, request.query.get("branchName", "master"), "DELETE")
        try:
            self._branches.remove(transaction, path)
            self._branches.commit(transaction)
        except FoundryApiError:
            self._branches.abort(transaction)
            raise
        return web.Response(status=204)

    async def list_files(self, request: web.Request) -> web.Response:
        prefix = request.query.get("pathPrefix", "")
        listed = [
            self._describe(file, txn)
            for file, txn in self.select_files(request)
            if file.path.startswith(prefix)
        ]
        listed.sort(key=lambda each: str(each["path"]))
        return json_response(
            paginate(listed, request, read_number(request, "pageSize", FILES_PAGE_SIZE))
        )

    async def get_file(self, request: web.Request) -> web.Response:
        return json_response(self._describe(*self.find_file(request)))

    async def get_content(self, request: web.Request) -> web.Response:
        file, transaction = self.find_file(request)
        limit = self._foundry.behaviour.content_bytes_max
        if 0 < limit < file.size:
            sizes = {"fileSizeBytes": str(file.size), "maxFileSizeBytes": str(limit)}
            raise FoundryApiError(400, "FileSizeLimitExceeded", path=file.path, **sizes)
        return web.Response(
            body=self._branches.read_content(transaction, file.path),
            content_type="application/octet-stream",
        )

    def find_transaction(self, request: web.Request) -> Transaction:
        return self._branches.find(request.match_info["rid"], request.match_info["txn"])

    def select_files(self, request: web.Request) -> Iterable[tuple[StoredFile, Transaction]]:
        """List the files of a branch's view, or of the transactions from start to end."""
        start, end = (request.query.get(f"{each}TransactionRid") for each in ("start", "end"))
        rid = request.match_info["rid"]
        branch = self._branches.get_branch(rid, request.query.get("branchName", "master"))
        if start is None and end is None:
            return [
                (transaction.files[path], transaction) for path, transaction in branch.view.items()
            ]
        return self.select_files_between(rid, branch, start, end)

    def select_files_between(
        self, rid: str, branch: BranchState, start: str | None, end: str | None
    ) -> Iterable[tuple[StoredFile, Transaction]]:
        first = self._branches.find(rid, start) if start else branch.history[0]
        last = self._branches.find(rid, end) if end else branch.history[-1]
        selected = branch.history[branch.history.index(first) : branch.history.index(last) + 1]
        if first is last and first.status == "OPEN":
            selected = self._list_transactions_to_search(first)
        else:
            selected = [each for each in selected if each.status == "COMMITTED"]
        return [(file, txn) for txn in selected for file in txn.files.values()]

    def _list_transactions_to_search(self, transaction: Transaction) -> list[Transaction]:
        """List the transactions to search when the files of an open one are requested."""
        match self._foundry.behaviour.open_listing:
            case "not_found":
                raise FoundryApiError(404, "TransactionNotFound", **identify(transaction))
            case "not_committed":
                raise FoundryApiError(400, "TransactionNotCommitted", **identify(transaction))
            case "listed":
                return [transaction]
            case "empty":
                return []

    def find_file(self, request: web.Request) -> tuple[StoredFile, Transaction]:
        path = request.match_info["path"]
        for file, transaction in self.select_files(request):
            if file.path == path:
                return file, transaction
        rid, branch = request.match_info["rid"], request.query.get("branchName", "master")
        not_there = {"datasetRid": rid, "branchName": branch, "path": path}
        raise FoundryApiError(404, "FileNotFoundOnBranch", **not_there)

    def _put(self, transaction: Transaction, path: str, content: bytes) -> StoredFile:
        self._foundry.refuse("upload", [path])
        return self._branches.put(transaction, path, content)

    def _commit(self, transaction: Transaction) -> None:
        self._foundry.refuse("commit", transaction.files)
        self._branches.commit(transaction)

    def _answer_end(self, transaction: Transaction) -> web.Response:
        match self._foundry.behaviour.end_answer:
            case "transaction":
                return json_response(describe_transaction(transaction))
            case "no_content":
                return web.Response(status=204)
            case "empty":
                return web.Response()

    def _describe(self, file: StoredFile, transaction: Transaction) -> dict[str, Any]:
        is_text = self._foundry.behaviour.sizes == "text"
        return {
            "path": file.path,
            "transactionRid": transaction.rid,
            "sizeBytes": str(file.size) if is_text else file.size,
            "updatedTime": file.at,
        }

    def check_owner(self, transaction: Transaction, what: str) -> None:
        """Record a violation if the client changes a foreign transaction, which Foundry permits."""
        if transaction.owner != "client":
            self._foundry.log.violations.append(f"A foreign transaction was {what}.")


def read_number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise FoundryApiError(400, "InvalidPageSize", pageSize=text)
    return int(text)


def paginate(items: list[dict[str, Any]], request: web.Request, size: int) -> dict[str, Any]:
    start = int(request.query.get("pageToken") or 0)
    more = {"nextPageToken": str(start + size)} if start + size < len(items) else {}
    return {"data": items[start : start + size]} | more


def describe_transaction(transaction: Transaction) -> dict[str, Any]:
    closed = {"closedTime": transaction.closed} if transaction.closed else {}
    return {
        "rid": transaction.rid,
        "transactionType": transaction.kind,
        "status": transaction.status,
        "createdTime": transaction.created,
    } | closed


def identify(transaction: Transaction) -> dict[str, str]:
    return {"datasetRid": transaction.dataset, "transactionRid": transaction.rid}
