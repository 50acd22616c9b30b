"""One branch of one dataset: what is asked of it, and what its answers mean.

Endpoints and error names are those of Foundry's public API, v2. FileAlreadyExists is 404 there,
sizes are strings, and a repeated commit answers TransactionNotOpen with the status it found.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal
from urllib.parse import quote

import msgspec
from msgspec import Meta, Struct

from atlas.core import names
from atlas.core.errors import BranchBusy, CommitRefused, FileRefused, FoundryError
from atlas.core.events import Operation
from atlas.core.messages import BranchSnapshot, LeftOpen, PathOwner, TransactionKind
from atlas.core.people import Standing
from atlas.core.ports import SNAPSHOT_MAX_AGE_SECONDS, Bytes, TransactionState
from atlas.outside.foundry.calls import Answer, Call, Calls
from atlas.outside.foundry.door import MINUTE_SECONDS
from atlas.outside.foundry.refusals import expect

NDJSON, OCTETS = "application/x-ndjson", "application/octet-stream"
CLOCKS_SECONDS = 10.0  # how far Foundry's clocks may be apart; and a Date has whole seconds
ATTEMPT_CALLS = 4  # to begin: a token and the call, and both again when the token was refused
ATTEMPT_TURNS = 2  # and each time it may have to wait for a call that is allowed
PAGE_SIZE = "1000"
NO_FILE = frozenset({"FileNotFound", "FileNotFoundOnBranch"})
OF_ONE_FILE = "InvalidFilePath"  # what else is refused would be so of any file


class Branch(Struct, frozen=True):
    transaction_rid: str = msgspec.field(name="transactionRid", default="")


class Transaction(Struct, frozen=True, rename="camel"):
    rid: str
    transaction_type: str
    status: TransactionState
    created_time: Annotated[datetime, Meta(tz=True)]


class File(Struct, frozen=True, rename="camel"):
    path: str
    transaction_rid: str
    size_bytes: Annotated[str, Meta(pattern="^[0-9]{1,18}$")]
    updated_time: Annotated[datetime, Meta(tz=True)] | None = None


class Files(Struct, frozen=True):
    data: tuple[File, ...]
    next_page_token: str | None = msgspec.field(name="nextPageToken", default=None)


class FoundryDataset:
    """Answers `ports.Branch`."""

    def __init__(self, calls: Calls, rid: str, branch: str, call_seconds: float) -> None:
        at_the_door = ATTEMPT_TURNS * MINUTE_SECONDS
        self._attempt_seconds = (
            SNAPSHOT_MAX_AGE_SECONDS + ATTEMPT_CALLS * call_seconds + at_the_door
        )
        self._calls = calls
        self._home = f"/datasets/{quote(rid, safe='')}"
        self._branch = branch
        self._content_type = NDJSON

    async def branch_snapshot(self) -> BranchSnapshot:
        answer = await self._get("look", f"/branches/{quote(self._branch, safe='')}")
        return BranchSnapshot(answer.read(Branch).transaction_rid, answer.at)

    async def begin(self, kind: TransactionKind = "APPEND") -> str:
        """Asked once: whether a lost answer has opened a transaction is found out by looking."""
        body = msgspec.json.encode({"transactionType": kind})
        address = self._home + "/transactions"
        call = Call("begin", "POST", address, self._on_branch(), body, "application/json")
        answer = await self._calls.ask_once(call)
        if answer.error.error_name == "OpenTransactionAlreadyExists":
            raise BranchBusy
        return expect(answer).read(Transaction).rid

    def calls_remaining(self) -> int:
        return self._calls.left()

    async def put(self, transaction: str, path: str, content: Bytes) -> None:
        answer = await self._upload(transaction, path, content)
        if answer.status == 415 and self._content_type != OCTETS:
            self._content_type = OCTETS
            answer = await self._upload(transaction, path, content)
        name = answer.error.error_name
        if name == "FileAlreadyExists":  # our first try, of which the answer was lost
            if await self._size_in(transaction, path) != len(content):
                raise FoundryError("A file of another size stands where we put ours.")
        elif name == OF_ONE_FILE or answer.status == 413:
            raise FileRefused(f"Foundry refuses the file ({answer.status}).")
        elif int(expect(answer).read(File).size_bytes) != len(content):
            raise FoundryError("Foundry kept another size of a file than we sent.")

    def content_type(self) -> str:
        return self._content_type

    async def remove(self, transaction: str, path: str) -> bool:
        address = f"{self._home}/files/{quote(path, safe='')}"
        answer = await self._calls.ask(
            Call("remove", "DELETE", address, {"transactionRid": transaction})
        )
        if answer.error.error_name in NO_FILE:
            return False
        expect(answer)
        return True

    async def commit(self, transaction: str) -> BranchSnapshot:
        answer = await self._end(transaction, "commit")
        name = answer.error.error_name
        if name == "TransactionNotOpen":
            if answer.error.parameters.get("transactionStatus") != "COMMITTED":
                raise FoundryError("The transaction was ended by somebody else.")
            return (
                await self.branch_snapshot()
            )  # it was committed a while ago: the head may have moved on
        if answer.status in {400, 409} or name == "FileAlreadyExists":
            raise CommitRefused(f"Foundry refuses the commit ({answer.status}).")
        if expect(answer).read(Transaction).status != "COMMITTED":
            raise FoundryError("Foundry answers a commit and has not committed.")
        return BranchSnapshot(transaction, answer.at)

    async def abort(self, transaction: str) -> None:
        answer = await self._end(transaction, "abort")
        if answer.error.error_name in {"TransactionNotOpen", "TransactionNotFound"}:
            return
        if expect(answer).read(Transaction).status == "OPEN":
            raise FoundryError("Foundry answers an abort and has not aborted.")

    async def transaction_status(self, transaction: str) -> TransactionState:
        answer = await self._ask_get("transaction", f"/transactions/{quote(transaction, safe='')}")
        if answer.error.error_name == "TransactionNotFound":
            return "ABORTED"
        return expect(answer).read(Transaction).status

    async def files_of(self, transaction: str) -> Mapping[str, int]:
        return {file.path: int(file.size_bytes) async for file in self._files(transaction)}

    async def file_at(self, path: str) -> PathOwner | None:
        answer = await self._ask_get("file", f"/files/{quote(path, safe='')}", self._on_branch())
        if answer.error.error_name in NO_FILE:
            return None
        file = expect(answer).read(File)
        return PathOwner(file.transaction_rid, int(file.size_bytes))

    async def content(self, path: str, size: int) -> bytes:
        address = f"{self._home}/files/{quote(path, safe='')}/content"
        call = Call("content", "GET", address, self._on_branch(), answer_bytes=size)
        return expect(await self._calls.ask(call)).body

    async def find_orphan(
        self, seen: BranchSnapshot, paths: Collection[str], kind: TransactionKind = "APPEND"
    ) -> LeftOpen | None:
        head = (await self.branch_snapshot()).head
        if head in {"", seen.head}:
            return None
        answer = await self._get("transaction", f"/transactions/{quote(head, safe='')}")
        found = answer.read(Transaction)
        # the head has moved since we looked, so it was created later, whatever two clocks say
        earliest = seen.at - timedelta(seconds=CLOCKS_SECONDS)
        latest = seen.at + timedelta(seconds=self._attempt_seconds)
        is_like_ours = found.status == "OPEN" and found.transaction_type == kind
        if not is_like_ours or not earliest <= found.created_time <= latest:
            return None
        files = {} if kind == "DELETE" else await self.files_of(head)  # it takes out, and adds none
        return LeftOpen(head, is_empty=not files) if files.keys() <= set(paths) else None

    async def files_under(self, folder: str) -> Sequence[Standing]:
        found = [
            Standing(file.path, file.transaction_rid, int(file.size_bytes), file.updated_time)
            async for file in self._pages({}, folder)
            if file.path.startswith(folder)  # whatever else Foundry may call a prefix
        ]
        return sorted(found, key=lambda file: file.path)

    async def _upload(self, transaction: str, path: str, content: Bytes) -> Answer:
        address = f"{self._home}/files/{quote(path, safe='')}/upload"
        query = {"transactionRid": transaction}
        kind = self._content_type if names.format_of(path) == "ndjson" else OCTETS
        return await self._calls.ask(Call("put", "POST", address, query, content, kind))

    async def _end(self, transaction: str, how: Literal["commit", "abort"]) -> Answer:
        address = f"{self._home}/transactions/{quote(transaction, safe='')}/{how}"
        return await self._calls.ask(Call(how, "POST", address))

    async def _size_in(self, transaction: str, path: str) -> int | None:
        async for file in self._files(transaction, path):
            if file.path == path:
                return int(file.size_bytes)
        return None

    async def _files(self, transaction: str, prefix: str = "") -> AsyncIterator[File]:
        """The files of one transaction."""
        query = {"startTransactionRid": transaction, "endTransactionRid": transaction}
        async for file in self._pages(query, prefix):
            yield file

    async def _pages(self, query: Mapping[str, str], prefix: str) -> AsyncIterator[File]:
        """Files page by page; pages may be of any length."""
        query = {**query, **self._on_branch(), "pageSize": PAGE_SIZE}
        if prefix:
            query["pathPrefix"] = prefix
        more = True
        while more:
            page = (await self._get("files", "/files", query)).read(Files)
            for file in page.data:
                yield file
            more = bool(page.next_page_token)
            query["pageToken"] = page.next_page_token or ""

    async def _get(
        self, operation: Operation, path: str, query: Mapping[str, str] | None = None
    ) -> Answer:
        return expect(await self._ask_get(operation, path, query))

    async def _ask_get(
        self, operation: Operation, path: str, query: Mapping[str, str] | None = None
    ) -> Answer:
        return await self._calls.ask(Call(operation, "GET", self._home + path, query))

    def _on_branch(self) -> dict[str, str]:
        return {"branchName": self._branch}
