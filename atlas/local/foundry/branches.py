"""Transactions on branches, by Foundry's rules. `disk.py` stores their log and files.

A transaction is committed once its line is in the log. After a kill, the next start completes it.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from atlas.local.foundry.behaviour import Behaviour
from atlas.local.foundry.disk import Disk

BUSY_ERRORS = {
    "named": (409, "OpenTransactionAlreadyExists"),
    "unnamed": (409, "TransactionInProgress"),  # an undocumented name
    "bad_request": (400, "OpenTransactionAlreadyExists"),
}
REPEATED_END_ERRORS = {
    "not_open": (400, "TransactionNotOpen"),
    "not_open_without_status": (400, "TransactionNotOpen"),
    "not_found": (404, "TransactionNotFound"),
    "conflict": (409, "TransactionClosed"),  # an undocumented name
}


class FoundryApiError(Exception):
    """An error response of Foundry: status, name and parameters."""

    def __init__(self, status: int, name: str, **parameters: object) -> None:
        super().__init__(name)
        self.status = status
        self.name = name
        self.parameters = parameters


@dataclass(slots=True)
class StoredFile:
    """A file in a transaction. `staged` is the name of its content while that is open."""

    path: str
    size: int
    at: str
    staged: str


@dataclass(slots=True)
class Transaction:
    rid: str
    dataset: str
    branch: str
    kind: str
    created: str
    owner: str = "client"
    status: str = "OPEN"
    closed: str | None = None
    files: dict[str, StoredFile] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)


@dataclass(slots=True)
class BranchState:
    """A branch. `view` maps each visible path to the transaction that holds it."""

    head: Transaction | None = None
    history: list[Transaction] = field(default_factory=list)
    view: dict[str, Transaction] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """A transaction that has ended, and the paths that it removed from the view."""

    transaction: Transaction
    removed_paths: tuple[str, ...]


class BranchStore:
    """The branches of all datasets."""

    def __init__(
        self,
        state: Path,
        datasets: tuple[str, ...],
        names: tuple[str, ...],
        clock: Callable[[], datetime],
    ) -> None:
        self._disk = Disk(state)
        self._datasets = datasets
        self._names = names
        self._clock = clock
        self.behaviour = Behaviour()
        self._branches: dict[tuple[str, str], BranchState] = {}
        self.transactions: dict[str, Transaction] = {}
        self._replay()

    def close(self) -> None:
        self._disk.close()

    def get_branch(self, dataset: str, name: str) -> BranchState:
        self.require_dataset(dataset)
        if name not in self._names:
            raise FoundryApiError(404, "BranchNotFound", datasetRid=dataset, branchName=name)
        return self._branches.setdefault((dataset, name), BranchState())

    def require_dataset(self, dataset: str) -> None:
        if dataset not in self._datasets:
            raise FoundryApiError(404, "DatasetNotFound", datasetRid=dataset)

    def find(self, dataset: str, rid: str) -> Transaction:
        self.require_dataset(dataset)
        transaction = self.transactions.get(rid)
        if transaction is None or transaction.dataset != dataset:
            raise FoundryApiError(
                404, "TransactionNotFound", datasetRid=dataset, transactionRid=rid
            )
        return transaction

    def begin(self, dataset: str, name: str, kind: str, owner: str = "client") -> Transaction:
        branch = self.get_branch(dataset, name)
        if branch.head is not None and branch.head.status == "OPEN":
            raise FoundryApiError(
                *BUSY_ERRORS[self.behaviour.busy], datasetRid=dataset, branchName=name
            )
        if kind not in {"APPEND", "UPDATE", "SNAPSHOT", "DELETE"}:
            raise FoundryApiError(400, "InvalidTransactionType", transactionType=kind)
        rid = f"ri.foundry.main.transaction.{uuid.uuid4()}"
        event = {"do": "begin", "rid": rid, "dataset": dataset, "branch": name, "kind": kind}
        self._record_event({**event, "owner": owner, "at": self.format_now()})
        return self.transactions[rid]

    def put(self, transaction: Transaction, path: str, content: bytes) -> StoredFile:
        self.require_open(transaction)
        if transaction.kind == "DELETE":
            raise FoundryApiError(
                400, "InvalidTransactionType", **build_error_parameters(transaction)
            )
        if not path or path.startswith("/") or not is_safe_path(path):
            raise FoundryApiError(400, "InvalidFilePath", filePath=path)
        self._refuse_existing(transaction, path)
        former = transaction.files.get(path)
        staged = str(len(transaction.files)) if former is None else f"{former.staged}+"
        self._disk.stage(transaction.rid, staged, content)
        event = {"do": "put", "rid": transaction.rid, "path": path, "size": len(content)}
        self._record_event({**event, "staged": staged, "at": self.format_now()})
        return transaction.files[path]

    def _refuse_existing(self, transaction: Transaction, path: str) -> None:
        mode = self.behaviour.file_exists
        is_refused = path in transaction.files and mode != "overwrites"
        if transaction.kind == "APPEND" and self.behaviour.path_taken == "upload":
            is_refused |= path in self.get_branch(transaction.dataset, transaction.branch).view
        if is_refused:
            status = 404 if mode == "overwrites" else mode
            raise FoundryApiError(
                status, "FileAlreadyExists", **build_error_parameters(transaction), path=path
            )

    def remove(self, transaction: Transaction, path: str) -> None:
        self.require_open(transaction)
        if transaction.kind != "DELETE":
            raise FoundryApiError(
                400, "InvalidTransactionType", **build_error_parameters(transaction)
            )
        dataset, branch = transaction.dataset, transaction.branch
        if path not in self.get_branch(dataset, branch).view:
            not_there = {"datasetRid": dataset, "branchName": branch, "path": path}
            raise FoundryApiError(404, "FileNotFoundOnBranch", **not_there)
        self._record_event({"do": "remove", "rid": transaction.rid, "path": path})

    def commit(self, transaction: Transaction) -> None:
        """Commit. Appending an existing path fails (inferred), and the transaction stays open."""
        self._refuse_repeated_end(transaction)
        view = self.get_branch(transaction.dataset, transaction.branch).view
        appends = transaction.kind == "APPEND" and self.behaviour.path_taken != "never"
        if appends and (taken := transaction.files.keys() & view.keys()):
            raise FoundryApiError(400, "FileAlreadyExistsInView", path=min(taken))
        self._record_event({"do": "commit", "rid": transaction.rid, "at": self.format_now()})

    def abort(self, transaction: Transaction) -> None:
        self._refuse_repeated_end(transaction)
        self._record_event({"do": "abort", "rid": transaction.rid, "at": self.format_now()})

    def require_open(self, transaction: Transaction) -> None:
        if transaction.status != "OPEN":
            raise FoundryApiError(400, "TransactionNotOpen", **build_error_parameters(transaction))

    def _refuse_repeated_end(self, transaction: Transaction) -> None:
        if transaction.status != "OPEN":
            mode = self.behaviour.repeated_end
            status, name = REPEATED_END_ERRORS[mode]
            parameters = build_error_parameters(transaction)
            if mode != "not_open":
                del parameters["transactionStatus"]
            raise FoundryApiError(status, name, **parameters)

    def find_head(self, branch: BranchState) -> Transaction | None:
        """Find the transaction that the branch reports as its latest."""
        last = branch.history[-1] if branch.history else None
        if (
            last is None
            or last.status != "ABORTED"
            or self.behaviour.head_after_abort == "previous"
        ):
            return branch.head
        return last if self.behaviour.head_after_abort == "aborted" else None

    def read_content(self, transaction: Transaction, path: str) -> bytes:
        """Read a file. For a committed path, this is the current content."""
        if transaction.status == "OPEN":
            return self._disk.read_staged(transaction.rid, transaction.files[path].staged)
        return self._disk.read(locate(transaction), path)

    def format_now(self) -> str:
        at = self._clock().astimezone(UTC) + timedelta(seconds=self.behaviour.clock_skew_seconds)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _record_event(self, event: dict[str, Any]) -> None:
        """Log an event, apply it, and publish the files."""
        self._disk.append(event)
        self._publish(self._apply(event))

    def _replay(self) -> None:
        """Apply the log. Only the last change may not have been published."""
        last: Change | None = None
        for event in self._disk.read_log():
            last = self._apply(event) or last
        self._publish(last)

    def _apply(self, event: dict[str, Any]) -> Change | None:
        what, rid = event["do"], event["rid"]
        if what == "begin":
            transaction = Transaction(
                rid, event["dataset"], event["branch"], event["kind"], event["at"], event["owner"]
            )
            branch = self._branches.setdefault(
                (transaction.dataset, transaction.branch), BranchState()
            )
            self.transactions[rid] = branch.head = transaction
            branch.history.append(transaction)
            return None
        transaction = self.transactions[rid]
        if what == "put":
            path = event["path"]
            transaction.files[path] = StoredFile(path, event["size"], event["at"], event["staged"])
        elif what == "remove":
            transaction.removed.add(event["path"])
        else:
            transaction.closed = event["at"]
            return self._end(transaction, is_committed=what == "commit")
        return None

    def _end(self, transaction: Transaction, *, is_committed: bool) -> Change:
        branch = self._branches[transaction.dataset, transaction.branch]
        transaction.status = "COMMITTED" if is_committed else "ABORTED"
        if not is_committed:
            committed = [each for each in branch.history if each.status == "COMMITTED"]
            branch.head = committed[-1] if committed else None
            return Change(transaction, ())
        gone = (
            set(branch.view)
            if transaction.kind == "SNAPSHOT"
            else transaction.removed & branch.view.keys()
        )
        for path in gone:
            del branch.view[path]
        branch.view.update(dict.fromkeys(transaction.files, transaction))
        return Change(transaction, tuple(gone - transaction.files.keys()))

    def _publish(self, change: Change | None) -> None:
        """Move the files to the folder of the branch. Safe to repeat."""
        if change is None:
            return
        transaction = change.transaction
        self._disk.remove(locate(transaction), change.removed_paths)
        if transaction.status == "COMMITTED":
            staged = {file.path: file.staged for file in transaction.files.values()}
            self._disk.publish(transaction.rid, locate(transaction), staged)
        self._disk.discard(transaction.rid)


def locate(transaction: Transaction) -> Path:
    return Path(transaction.dataset, transaction.branch)


def build_error_parameters(transaction: Transaction) -> dict[str, str]:
    """Build the parameters of an error about a transaction."""
    return {
        "datasetRid": transaction.dataset,
        "transactionRid": transaction.rid,
        "transactionType": transaction.kind,
        "transactionStatus": transaction.status,
    }


def is_safe_path(path: str) -> bool:
    """True if no part of the path leads to another folder or is invalid."""
    return "\0" not in path and not any(part in {"", ".", ".."} for part in path.split("/"))
