"""Calls on one branch of one dataset, and the interpretation of their answers.

Endpoints and error names are those of Foundry's public API, v2. No decision depends on an
undocumented answer: it leaves the outcome open, and a documented call resolves it. README.md lists
all calls and answers.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Literal
from urllib.parse import quote

import msgspec

from atlas.core import identifiers
from atlas.core.commits import CommitResult
from atlas.core.errors import (
    BranchBusy,
    CommitRefused,
    ContentTooLarge,
    FoundryError,
    TransactionEnded,
)
from atlas.core.events import Operation
from atlas.core.messages import BranchSnapshot, PathOwner, TransactionKind
from atlas.core.personal_data import DatasetFile
from atlas.core.ports import SNAPSHOT_MAX_AGE_SECONDS, Bytes, Clock, TransactionState
from atlas.outside.foundry.call_gate import MINUTE_SECONDS
from atlas.outside.foundry.client import ApiCall, FoundryClient
from atlas.outside.foundry.errors import (
    build_error,
    build_typed_error,
    is_about_setup,
    is_about_transaction,
    raise_for_status,
)
from atlas.outside.foundry.listing import NO_VIEW, FilePages
from atlas.outside.foundry.observations import Observations
from atlas.outside.foundry.responses import (
    ApiResponse,
    BranchBody,
    FileBody,
    FilePage,
    OpenedTransaction,
    StatusBody,
    TransactionBody,
)
from atlas.outside.foundry.uploads import ENDED_ERRORS, is_confirmed

NDJSON, OCTETS = "application/x-ndjson", "application/octet-stream"
CLOCK_SKEW_SECONDS_MAX = 600.0  # among Foundry's clocks, and ours if it sends no Date
ATTEMPT_CALLS = 4  # per begin: a token and the call, and both again if the token is rejected
ATTEMPT_WAITS = 2  # for the rate limit, one per begin call
FILE_NOT_FOUND_ERRORS = ("FileNotFound", "FileNotFoundOnBranch")
FILE_TOO_LARGE_ERROR = "FileSizeLimitExceeded"


class FoundryDataset:
    """Implements `ports.Branch`."""

    def __init__(
        self,
        client: FoundryClient,
        location: tuple[str, str],
        call_seconds: float,
        clock: Clock,
        observations: Observations,
    ) -> None:
        """`location` is the RID of the dataset and the name of the branch."""
        rid, branch = location
        self._attempt_max = timedelta(
            seconds=SNAPSHOT_MAX_AGE_SECONDS
            + ATTEMPT_CALLS * call_seconds
            + ATTEMPT_WAITS * MINUTE_SECONDS
            + CLOCK_SKEW_SECONDS_MAX
        )
        self._client = client
        self._path = f"/datasets/{quote(rid, safe='')}"
        self._branch_path = f"/branches/{quote(branch, safe='')}"
        self._branch_query = {"branchName": branch}
        self._listing = FilePages(client, rid, branch)
        self._clock = clock
        self._observations = observations
        self._content_type = NDJSON
        self._last_begun = ""  # the transaction that we began last, until a commit is sent

    async def take_snapshot(self) -> BranchSnapshot:
        response = await self._get("look", self._branch_path)
        body = raise_for_status(response).read(BranchBody)
        self._observations.note_date(response)
        self._observations.note_head(body.transaction_rid or "")
        return BranchSnapshot(body.transaction_rid or "", response.answered_at or self._clock())

    async def begin(self, kind: TransactionKind = "APPEND") -> str:
        """Open a transaction in one attempt. `find_orphan` finds it if the response is lost."""
        body = msgspec.json.encode({"transactionType": kind})
        path = f"{self._path}/transactions"
        call = ApiCall("begin", "POST", path, self._branch_query, body, "application/json")
        response = await self._client.request_once(call)
        if response.has_error("OpenTransactionAlreadyExists"):
            raise build_typed_error(
                BranchBusy, response, "another transaction is open on the branch"
            )
        opened = raise_for_status(response).read(OpenedTransaction)
        self._observations.note_created(opened.created_time, response)
        self._last_begun = opened.rid
        return opened.rid

    def count_remaining_calls(self) -> int:
        return self._client.count_remaining_calls()

    async def put(self, transaction: str, path: str, content: Bytes) -> bool:
        response = await self._upload(transaction, path, content)
        if response.status == 415 and self._content_type != OCTETS:
            self._content_type = OCTETS
            again = await self._upload(transaction, path, content)
            response = replace(again, is_repeat=response.is_repeat or again.is_repeat)
        self._observations.note_upload(response)
        return is_confirmed(response, transaction, path, len(content))

    def content_type(self) -> str:
        return self._content_type

    def observations(self) -> Mapping[str, str]:
        return self._observations.get_latest()

    async def describe_open(self, transaction: str) -> str:
        await self._list_open(transaction)
        return self._observations.get_latest()["open transaction's listing"]

    async def remove(self, transaction: str, path: str) -> bool:
        """Delete a file. After an unanswered attempt, a missing file counts as deleted by it."""
        address = f"{self._path}/files/{quote(path, safe='')}"
        response = await self._client.request(
            ApiCall("remove", "DELETE", address, {"transactionRid": transaction})
        )
        if response.has_error(*FILE_NOT_FOUND_ERRORS):
            return response.is_repeat
        if response.has_error(*ENDED_ERRORS):
            raise build_typed_error(TransactionEnded, response)
        raise_for_status(response)
        return True

    async def commit(self, transaction: str) -> CommitResult:
        is_first_attempt, self._last_begun = transaction == self._last_begun, ""
        response = await self._close_transaction(transaction, "commit")
        status = await self._resolve_status(transaction, response)
        is_refusal = not (
            response.is_success
            or response.has_error(*ENDED_ERRORS)
            or is_about_transaction(response)
        )
        if status == "ABORTED" and is_refusal:
            raise build_typed_error(
                CommitRefused, response, "it aborted the transaction instead of committing it"
            )
        if status == "ABORTED":
            raise build_typed_error(TransactionEnded, response, "it is ABORTED, not committed")
        if status == "OPEN" and (response.is_success or response.has_error(*ENDED_ERRORS)):
            raise build_typed_error(FoundryError, response, "it is still OPEN, not committed")
        if status == "OPEN":
            raise build_typed_error(CommitRefused, response, "it does not commit the transaction")
        answered_at = response.answered_at
        if is_first_attempt and response.is_success and not response.is_repeat:
            return CommitResult(transaction, answered_at or self._clock())
        snapshot = await self.take_snapshot()  # the head may have moved since the commit
        return CommitResult(snapshot.head, snapshot.at, is_confirmed=False)

    async def abort(self, transaction: str) -> None:
        response = await self._close_transaction(transaction, "abort")
        status = await self._resolve_status(transaction, response)
        if status == "OPEN":
            raise build_typed_error(FoundryError, response, "it is still OPEN, not aborted")
        if status == "ABORTED":
            self._observations.note_abort(transaction)

    async def transaction_status(self, transaction: str) -> TransactionState:
        response = await self._get("transaction", f"/transactions/{quote(transaction, safe='')}")
        if response.has_error("TransactionNotFound"):
            return "ABORTED"
        return raise_for_status(response).read(StatusBody).status

    async def list_transaction_files(self, transaction: str) -> Mapping[str, int]:
        return {
            file.path: file.bytes for file in await self._listing.transaction_files(transaction)
        }

    async def find_file(self, path: str) -> PathOwner | None:
        response = await self._get("file", f"/files/{quote(path, safe='')}", self._branch_query)
        if response.has_error(*FILE_NOT_FOUND_ERRORS, NO_VIEW):
            return None
        file = raise_for_status(response).read(FileBody)
        return PathOwner(file.transaction_rid, file.bytes)

    async def read_file(self, path: str, size: int) -> bytes:
        address = f"{self._path}/files/{quote(path, safe='')}/content"
        call = ApiCall("content", "GET", address, self._branch_query, response_bytes=size)
        response = await self._client.request(call)
        if response.has_error(FILE_TOO_LARGE_ERROR) or response.status == 413:
            raise build_typed_error(ContentTooLarge, response)
        if raise_for_status(response).status != 200:
            raise build_typed_error(FoundryError, response, "that is not the content of a file")
        return response.body

    async def find_orphan(
        self, snapshot: BranchSnapshot, paths: Collection[str], kind: TransactionKind = "APPEND"
    ) -> str | None:
        head = (await self.take_snapshot()).head
        if head in {"", snapshot.head}:
            return None
        response = await self._get("transaction", f"/transactions/{quote(head, safe='')}")
        if response.has_error("TransactionNotFound"):
            return None
        if raise_for_status(response).read(StatusBody).status != "OPEN":
            return None
        transaction = response.read(TransactionBody)
        # no lower bound is needed: the head has moved since the snapshot, so it is newer
        is_in_time = transaction.created_time <= snapshot.at + self._attempt_max
        if transaction.transaction_type != kind or not is_in_time:
            return None
        is_foreign = kind != "DELETE" and await self._has_other_files(head, paths)
        return None if is_foreign else head

    async def list_files(self, prefix: str, files_max: int | None = None) -> Sequence[DatasetFile]:
        files = [
            DatasetFile(file.path, file.transaction_rid, file.bytes, file.updated_time)
            for file in await self._listing.branch_files(prefix, files_max)
            if file.path.startswith(prefix)  # Foundry may define a prefix differently
        ]
        return sorted(files, key=lambda file: file.path)

    async def _has_other_files(self, transaction: str, paths: Collection[str]) -> bool:
        """True if the listing of an open transaction shows a file outside `paths`.

        Foundry does not document such a listing, so any other answer proves nothing.
        """
        try:
            files = await self._list_open(transaction)
        except FoundryError:
            return False
        return not {file.path for file in files} <= set(paths)

    async def _list_open(self, transaction: str) -> list[FileBody]:
        """List the files of an open transaction in one attempt, and record how Foundry answers."""
        response = await self._listing.first_page(transaction)
        page = response.read_if_valid(FilePage)
        files = [file for file in page.data if file.transaction_rid == transaction] if page else []
        self._observations.note_open_listing(response, page, len(files))
        return files

    async def _upload(self, transaction: str, path: str, content: Bytes) -> ApiResponse:
        address = f"{self._path}/files/{quote(path, safe='')}/upload"
        query = {"transactionRid": transaction}
        kind = self._content_type if identifiers.detect_format(path) == "ndjson" else OCTETS
        return await self._client.request(ApiCall("put", "POST", address, query, content, kind))

    async def _close_transaction(
        self, transaction: str, action: Literal["commit", "abort"]
    ) -> ApiResponse:
        path = f"{self._path}/transactions/{quote(transaction, safe='')}/{action}"
        response = await self._client.request(ApiCall(action, "POST", path))
        self._observations.note_close(action, response, read_closed_status(response))
        return response

    async def _resolve_status(self, transaction: str, response: ApiResponse) -> TransactionState:
        """Return the status after a commit or an abort, from the response or from a GET."""
        status = read_closed_status(response)
        if status is not None:
            return status
        is_refusal = not response.is_success and not response.has_error(*ENDED_ERRORS)
        if is_refusal and is_about_setup(response):
            raise build_error(response)
        return await self.transaction_status(transaction)

    async def _get(
        self, operation: Operation, path: str, query: Mapping[str, str] | None = None
    ) -> ApiResponse:
        return await self._client.request(ApiCall(operation, "GET", self._path + path, query))


def read_closed_status(response: ApiResponse) -> TransactionState | None:
    """Return the status in the response to a commit or an abort; None if there is none.

    The error TransactionNotOpen has it as a parameter, where OPEN would contradict the error.
    """
    if response.is_success:
        body = response.read_if_valid(StatusBody)
        return None if body is None else body.status
    if not response.has_error("TransactionNotOpen"):
        return None
    status = response.error.parameters.get("transactionStatus")
    return status if status in ("COMMITTED", "ABORTED") else None
