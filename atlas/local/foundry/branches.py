"""Transactions on branches, by Foundry's rules; `disk.py` holds their log and their files.

A commit is its line in the log: a kill behind it is made up for at the next start.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from atlas.local.foundry.behaviour import Behaviour
from atlas.local.foundry.disk import Disk

BUSY = {
    "named": (409, "OpenTransactionAlreadyExists"),
    "unnamed": (409, "TransactionInProgress"),  # a name that no documentation knows
    "bad_request": (400, "OpenTransactionAlreadyExists"),
}
REPEATED_END = {
    "not_open": (400, "TransactionNotOpen"),
    "not_open_without_status": (400, "TransactionNotOpen"),
    "not_found": (404, "TransactionNotFound"),
    "conflict": (409, "TransactionClosed"),  # a name that no documentation knows
}


class Refused(Exception):
    """An error of Foundry's: its status, its name, and the parameters it tells."""

    def __init__(self, status: int, name: str, **parameters: object) -> None:
        super().__init__(name)
        self.status = status
        self.name = name
        self.parameters = parameters


@dataclass(slots=True)
class File:
    """A file in a transaction; where its bytes are while that is open."""

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
    files: dict[str, File] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Branch:
    """`view` is what a reader sees: each path, and the transaction that holds it."""

    head: Transaction | None = None
    history: list[Transaction] = field(default_factory=list)
    view: dict[str, Transaction] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """A transaction that ended, and the paths that are no more with it."""

    transaction: Transaction
    gone: tuple[str, ...]


class Branches:
    """Every branch of every dataset that this Foundry knows."""

    def __init__(
        self,
        state: Path,
        datasets: tuple[str, ...],
        names: tuple[str, ...],
        now: Callable[[], datetime],
    ) -> None:
        self._disk = Disk(state)
        self._datasets = datasets
        self._names = names
        self._now = now
        self.behaviour = Behaviour()
        self._branches: dict[tuple[str, str], Branch] = {}
        self.transactions: dict[str, Transaction] = {}
        self._replay()

    def close(self) -> None:
        self._disk.close()

    def branch(self, dataset: str, name: str) -> Branch:
        self.known(dataset)
        if name not in self._names:
            raise Refused(404, "BranchNotFound", datasetRid=dataset, branchName=name)
        return self._branches.setdefault((dataset, name), Branch())

    def known(self, dataset: str) -> None:
        if dataset not in self._datasets:
            raise Refused(404, "DatasetNotFound", datasetRid=dataset)

    def find(self, dataset: str, rid: str) -> Transaction:
        self.known(dataset)
        found = self.transactions.get(rid)
        if found is None or found.dataset != dataset:
            raise Refused(404, "TransactionNotFound", datasetRid=dataset, transactionRid=rid)
        return found

    def begin(self, dataset: str, name: str, kind: str, owner: str = "client") -> Transaction:
        branch = self.branch(dataset, name)
        if branch.head is not None and branch.head.status == "OPEN":
            raise Refused(*BUSY[self.behaviour.busy], datasetRid=dataset, branchName=name)
        if kind not in {"APPEND", "UPDATE", "SNAPSHOT", "DELETE"}:
            raise Refused(400, "InvalidTransactionType", transactionType=kind)
        rid = f"ri.foundry.main.transaction.{uuid.uuid4()}"
        event = {"do": "begin", "rid": rid, "dataset": dataset, "branch": name, "kind": kind}
        self._happen({**event, "owner": owner, "at": self.stamp()})
        return self.transactions[rid]

    def put(self, transaction: Transaction, path: str, content: bytes) -> File:
        self.still_open(transaction)
        if transaction.kind == "DELETE":
            raise Refused(400, "InvalidTransactionType", **named(transaction))
        if not path or path.startswith("/") or not is_plain(path):
            raise Refused(400, "InvalidFilePath", filePath=path)
        self._refuse_existing(transaction, path)
        former = transaction.files.get(path)
        staged = str(len(transaction.files)) if former is None else f"{former.staged}+"
        self._disk.stage(transaction.rid, staged, content)
        event = {"do": "put", "rid": transaction.rid, "path": path, "size": len(content)}
        self._happen({**event, "staged": staged, "at": self.stamp()})
        return transaction.files[path]

    def _refuse_existing(self, transaction: Transaction, path: str) -> None:
        mode = self.behaviour.file_exists
        is_refused = path in transaction.files and mode != "overwrites"
        if transaction.kind == "APPEND" and self.behaviour.path_taken == "upload":
            is_refused |= path in self.branch(transaction.dataset, transaction.branch).view
        if is_refused:
            status = 404 if mode == "overwrites" else mode
            raise Refused(status, "FileAlreadyExists", **named(transaction), path=path)

    def remove(self, transaction: Transaction, path: str) -> None:
        self.still_open(transaction)
        if transaction.kind != "DELETE":
            raise Refused(400, "InvalidTransactionType", **named(transaction))
        dataset, branch = transaction.dataset, transaction.branch
        if path not in self.branch(dataset, branch).view:
            not_there = {"datasetRid": dataset, "branchName": branch, "path": path}
            raise Refused(404, "FileNotFoundOnBranch", **not_there)
        self._happen({"do": "remove", "rid": transaction.rid, "path": path})

    def commit(self, transaction: Transaction) -> None:
        """Appending what is there already fails (inferred): the transaction stays open."""
        self._refuse_repeated_end(transaction)
        view = self.branch(transaction.dataset, transaction.branch).view
        appends = transaction.kind == "APPEND" and self.behaviour.path_taken != "never"
        if appends and (taken := transaction.files.keys() & view.keys()):
            raise Refused(400, "FileAlreadyExistsInView", path=min(taken))
        self._happen({"do": "commit", "rid": transaction.rid, "at": self.stamp()})

    def abort(self, transaction: Transaction) -> None:
        self._refuse_repeated_end(transaction)
        self._happen({"do": "abort", "rid": transaction.rid, "at": self.stamp()})

    def still_open(self, transaction: Transaction) -> None:
        if transaction.status != "OPEN":
            raise Refused(400, "TransactionNotOpen", **named(transaction))

    def _refuse_repeated_end(self, transaction: Transaction) -> None:
        if transaction.status != "OPEN":
            mode = self.behaviour.repeated_end
            status, name = REPEATED_END[mode]
            parameters = named(transaction)
            if mode != "not_open":
                del parameters["transactionStatus"]
            raise Refused(status, name, **parameters)

    def head(self, branch: Branch) -> Transaction | None:
        """The transaction that the branch names as its own."""
        last = branch.history[-1] if branch.history else None
        if (
            last is None
            or last.status != "ABORTED"
            or self.behaviour.head_after_abort == "previous"
        ):
            return branch.head
        return last if self.behaviour.head_after_abort == "aborted" else None

    def content(self, transaction: Transaction, path: str) -> bytes:
        """The bytes of a file; of a committed path, those that stand there now."""
        if transaction.status == "OPEN":
            return self._disk.read_staged(transaction.rid, transaction.files[path].staged)
        return self._disk.read(locate(transaction), path)

    def stamp(self) -> str:
        at = self._now().astimezone(UTC) + timedelta(seconds=self.behaviour.clock_skew_seconds)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _happen(self, event: dict[str, Any]) -> None:
        """Write it down, then let it be so, then show it."""
        self._disk.append(event)
        self._show(self._apply(event))

    def _replay(self) -> None:
        """Files were moved when things happened, but perhaps not for the last of them."""
        last: Change | None = None
        for event in self._disk.read_log():
            last = self._apply(event) or last
        self._show(last)

    def _apply(self, event: dict[str, Any]) -> Change | None:
        what, rid = event["do"], event["rid"]
        if what == "begin":
            found = Transaction(
                rid, event["dataset"], event["branch"], event["kind"], event["at"], event["owner"]
            )
            branch = self._branches.setdefault((found.dataset, found.branch), Branch())
            self.transactions[rid] = branch.head = found
            branch.history.append(found)
            return None
        found = self.transactions[rid]
        if what == "put":
            path = event["path"]
            found.files[path] = File(path, event["size"], event["at"], event["staged"])
        elif what == "remove":
            found.removed.add(event["path"])
        else:
            found.closed = event["at"]
            return self._end(found, is_committed=what == "commit")
        return None

    def _end(self, found: Transaction, *, is_committed: bool) -> Change:
        branch = self._branches[found.dataset, found.branch]
        found.status = "COMMITTED" if is_committed else "ABORTED"
        if not is_committed:
            committed = [each for each in branch.history if each.status == "COMMITTED"]
            branch.head = committed[-1] if committed else None
            return Change(found, ())
        gone = set(branch.view) if found.kind == "SNAPSHOT" else found.removed & branch.view.keys()
        for path in gone:
            del branch.view[path]
        branch.view.update(dict.fromkeys(found.files, found))
        return Change(found, tuple(gone - found.files.keys()))

    def _show(self, change: Change | None) -> None:
        """Make the folder show what a reader of the branch sees now. Harmless to repeat."""
        if change is None:
            return
        found = change.transaction
        self._disk.remove(locate(found), change.gone)
        if found.status == "COMMITTED":
            staged = {file.path: file.staged for file in found.files.values()}
            self._disk.publish(found.rid, locate(found), staged)
        self._disk.discard(found.rid)


def locate(transaction: Transaction) -> Path:
    return Path(transaction.dataset, transaction.branch)


def named(transaction: Transaction) -> dict[str, str]:
    """What an error about a transaction tells of it."""
    return {
        "datasetRid": transaction.dataset,
        "transactionRid": transaction.rid,
        "transactionType": transaction.kind,
        "transactionStatus": transaction.status,
    }


def is_plain(path: str) -> bool:
    """No part of a path means another folder, or cannot be a file."""
    return "\0" not in path and not any(part in {"", ".", ".."} for part in path.split("/"))
