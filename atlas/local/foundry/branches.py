"""Transactions on branches, by Foundry's rules; and committed files on disk, as plain files.

    {state}/{dataset rid}/{branch}/{path}   what is committed, to be looked at
    {state}/.log                            what happened, a JSON object a line, replayed at start
    {state}/.open/{transaction rid}/{n}     files of open transactions

A commit is its line in the log: a kill behind it is made up for at the next start.
"""

import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import msgspec


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
        self._state = state
        self._datasets = datasets
        self._names = names
        self._now = now
        self._branches: dict[tuple[str, str], Branch] = {}
        self.transactions: dict[str, Transaction] = {}
        state.mkdir(parents=True, exist_ok=True)
        self._replay()
        self._log: BinaryIO = (state / ".log").open("ab", buffering=0)

    def close(self) -> None:
        self._log.close()

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
            raise Refused(409, "OpenTransactionAlreadyExists", datasetRid=dataset, branchName=name)
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
        if path in transaction.files:
            raise Refused(404, "FileAlreadyExists", **named(transaction), path=path)
        folder = self._state / ".open" / transaction.rid
        staged = str(len(transaction.files))
        if staged == "0":
            folder.mkdir(parents=True, exist_ok=True)
        (folder / staged).write_bytes(content)
        event = {"do": "put", "rid": transaction.rid, "path": path, "size": len(content)}
        self._happen({**event, "staged": staged, "at": self.stamp()})
        return transaction.files[path]

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
        self.still_open(transaction)
        view = self.branch(transaction.dataset, transaction.branch).view
        if transaction.kind == "APPEND" and (taken := transaction.files.keys() & view.keys()):
            raise Refused(400, "FileAlreadyExistsInView", path=min(taken))
        self._happen({"do": "commit", "rid": transaction.rid, "at": self.stamp()})

    def abort(self, transaction: Transaction) -> None:
        self.still_open(transaction)
        self._happen({"do": "abort", "rid": transaction.rid, "at": self.stamp()})

    def still_open(self, transaction: Transaction) -> None:
        if transaction.status != "OPEN":
            raise Refused(400, "TransactionNotOpen", **named(transaction))

    def content(self, transaction: Transaction, path: str) -> bytes:
        """The bytes of a file; of a committed path, those that stand there now."""
        if transaction.status == "OPEN":
            staged = transaction.files[path].staged
            return (self._state / ".open" / transaction.rid / staged).read_bytes()
        return self._place(transaction, path).read_bytes()

    def stamp(self) -> str:
        at = self._now().astimezone(UTC)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _happen(self, event: dict[str, Any]) -> None:
        """Write it down, then let it be so, then show it."""
        self._log.write(msgspec.json.encode(event) + b"\n")
        self._show(self._apply(event))

    def _replay(self) -> None:
        """Files were moved when things happened, but perhaps not for the last of them."""
        log = self._state / ".log"
        text = log.read_bytes() if log.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:  # a kill has cut off the last line: it did not happen
            os.truncate(log, len(whole))
        last: Change | None = None
        for line in whole.splitlines():
            last = self._apply(msgspec.json.decode(line)) or last
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
        folder = self._state / ".open" / found.rid
        for path in change.gone:
            self._place(found, path).unlink(missing_ok=True)
        for file in found.files.values() if found.status == "COMMITTED" else ():
            staged, place = folder / file.staged, self._place(found, file.path)
            if not place.parent.is_dir():
                place.parent.mkdir(parents=True, exist_ok=True)
            if staged.exists():
                staged.replace(place)
        shutil.rmtree(folder, ignore_errors=True)

    def _place(self, transaction: Transaction, path: str) -> Path:
        return self._state / transaction.dataset / transaction.branch / path


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
