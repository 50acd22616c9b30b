"""In-memory fakes of the external systems: strict, with fault injection."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import anyio
import msgspec
from anyio.lowlevel import checkpoint

from atlas.computing import WorkerExecutor
from atlas.core.commits import CommitResult
from atlas.core.credentials import Proof
from atlas.core.errors import (
    AuthUnavailable,
    BranchBusy,
    CommitRefused,
    FileInvalid,
    FoundryError,
    InvalidToken,
    MissingIdentity,
    PathTaken,
    TokenExpired,
    TransactionEnded,
)
from atlas.core.messages import BranchSnapshot, PathOwner, User
from atlas.core.personal_data import DatasetFile
from atlas.core.ports import Bytes, TransactionState

Mishap = Callable[[], Awaitable[object]]
MOMENTS = [f"{side} {call}" for call in ("begin", "put", "commit") for side in ("before", "after")]


@dataclass
class KnownUsers:
    """token-of-ada is Ada's, "expired" and "nobody" are as named; all others are invalid."""

    down: bool = False

    async def identify_user(self, token: str, proof: Proof | None = None) -> User:
        await self.check_ready()
        if token == "expired":
            raise TokenExpired
        if token == "nobody":
            raise MissingIdentity
        if not token.startswith("token-of-"):
            raise InvalidToken
        sub, _, scopes = token.removeprefix("token-of-").partition(" ")
        return User(sub, frozenset(scopes.split()))

    async def check_ready(self) -> None:
        if self.down:
            raise AuthUnavailable


@dataclass
class Transaction:
    at: datetime
    is_ours: bool = True
    kind: str = "APPEND"
    state: TransactionState = "OPEN"
    files: dict[str, bytes] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)


@dataclass
class MemoryDataset:
    """One branch with Foundry's rules and other writers, which no mishap affects.

    A mishap has a moment, such as "after commit", and happens once. `open_listing` is how the files
    of an open transaction are listed, which Foundry does not document.
    """

    transactions: dict[str, Transaction] = field(default_factory=dict)
    mishaps: dict[str, Mishap] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    down: bool = False
    refuses: set[str] = field(default_factory=set)
    poisons: dict[str, Exception] = field(default_factory=dict)  # by path: raised at every put
    calls: int = 9_000  # remaining calls
    open_listing: Literal["empty", "listed", "not_found"] = "empty"
    seen: dict[str, str] = field(default_factory=dict)  # undocumented behavior
    now: datetime = datetime(2026, 1, 2, 12, 30, tzinfo=UTC)  # its clock differs from ours

    async def take_snapshot(self) -> BranchSnapshot:
        async with self.call("branch_snapshot"):
            return BranchSnapshot(self.head(), self.now)

    async def begin(self, kind: str = "APPEND") -> str:
        async with self.call("begin"):
            if self.open_now():
                raise BranchBusy
            return self.opened(kind=kind)

    def count_remaining_calls(self) -> int:
        return self.calls

    async def put(self, transaction: str, path: str, content: Bytes) -> bool:
        async with self.call("put"):
            if self.state(transaction) != "OPEN":
                raise TransactionEnded
            found = self.open_and_ours(transaction)
            if path in self.poisons:
                raise self.poisons[path]
            if path in self.refuses:
                raise FileInvalid
            if path in found.files:
                raise PathTaken
            found.files[path] = bytes(content)
        return True

    def content_type(self) -> str:
        return "application/x-ndjson"

    def observations(self) -> dict[str, str]:
        return self.seen

    async def describe_open(self, transaction: str) -> str:
        async with self.call("describe_open"):
            self.open_and_ours(transaction)
            return self.open_listing

    async def remove(self, transaction: str, path: str) -> bool:
        async with self.call("remove"):
            found = self.open_and_ours(transaction)
            if found.kind != "DELETE":
                raise FoundryError("The transaction is of another type.")
            if path not in self.files():
                return False
            found.removed.add(path)
            return True

    async def commit(self, transaction: str) -> CommitResult:
        async with self.call("commit"):
            if self.state(transaction) == "ABORTED":
                raise TransactionEnded
            is_confirmed = self.state(transaction) == "OPEN"
            if is_confirmed:
                ending = self.open_and_ours(transaction)
                if ending.kind == "APPEND" and ending.files.keys() & self.files():
                    raise CommitRefused
                ending.state = "COMMITTED"
            return CommitResult(self.head(), self.now, is_confirmed)

    async def abort(self, transaction: str) -> None:
        async with self.call("abort"):
            if self.state(transaction) == "OPEN":
                self.open_and_ours(transaction).state = "ABORTED"

    async def transaction_status(self, transaction: str) -> TransactionState:
        async with self.call("transaction_status"):
            return self.state(transaction)

    async def list_transaction_files(self, transaction: str) -> dict[str, int]:
        async with self.call("files_of"):
            found = self.known(transaction)
            if found.state == "OPEN" and self.open_listing == "not_found":
                raise FoundryError("There is no such transaction.")
            return {path: len(file) for path, file in self.listed(found).items()}

    async def find_file(self, path: str) -> PathOwner | None:
        async with self.call("file_at"):
            for rid, each in reversed(self.transactions.items()):
                if each.state == "COMMITTED" and path in each.removed:
                    return None
                if each.state == "COMMITTED" and path in each.files:
                    return PathOwner(rid, len(each.files[path]))
            return None

    async def list_files(self, folder: str) -> list[DatasetFile]:
        async with self.call("files_under"):
            if not folder.startswith("healthkit/"):
                self.complaints.append(f"All files of the dataset are asked for: {folder}")
            held = {
                path: (rid, each.at)
                for rid, each in self.transactions.items()
                if each.state == "COMMITTED"
                for path in each.files
            }
            found = [
                DatasetFile(path, held[path][0], len(file), held[path][1])
                for path, file in self.files().items()
                if path.startswith(folder)
            ]
            return sorted(found, key=lambda file: file.path)

    async def read_file(self, path: str, size: int) -> bytes:
        async with self.call("content"):
            if path not in self.files():
                raise FoundryError("There is no such file.")
            return self.files()[path]

    async def find_orphan(
        self, snapshot: BranchSnapshot, paths: Collection[str], kind: str = "APPEND"
    ) -> str | None:
        async with self.call("find_orphan"):
            if self.head() == snapshot.head or self.head() not in self.open_now():
                return None
            found = self.transactions[self.head()]
            is_in_time = found.at <= snapshot.at + timedelta(minutes=15)
            files = {} if kind == "DELETE" else self.listed(found)
            is_ours = is_in_time and found.kind == kind and files.keys() <= set(paths)
            return self.head() if is_ours else None

    def listed(self, found: Transaction) -> dict[str, bytes]:
        """Return the files that a listing of this transaction shows."""
        shows = found.state == "COMMITTED" or (
            found.state == "OPEN" and self.open_listing == "listed"
        )
        return found.files if shows else {}

    def opened(self, is_ours: bool = True, kind: str = "APPEND", **files: bytes) -> str:
        rid = f"ri.foundry.main.transaction.{len(self.transactions) + 1}"
        self.transactions[rid] = Transaction(self.now, is_ours, kind, files=files)
        return rid

    def head(self) -> str:
        rids = [rid for rid, each in self.transactions.items() if each.state != "ABORTED"]
        return rids[-1] if rids else ""

    def known(self, rid: str) -> Transaction:
        if rid not in self.transactions:
            raise FoundryError("There is no such transaction.")
        return self.transactions[rid]

    def state(self, rid: str) -> TransactionState:
        return self.transactions[rid].state if rid in self.transactions else "ABORTED"

    def open_and_ours(self, rid: str) -> Transaction:
        found = self.known(rid)
        if not found.is_ours:
            self.complaints.append("A transaction of somebody else was touched.")
        if found.state != "OPEN":
            raise TransactionEnded
        return found

    def open_now(self) -> list[str]:
        return [rid for rid, each in self.transactions.items() if each.state == "OPEN"]

    def files(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for each in self.transactions.values():
            if each.state == "COMMITTED":
                found |= each.files
                found = {path: file for path, file in found.items() if path not in each.removed}
        return found

    def rows(self) -> list[dict[str, Any]]:
        """Return every row that a reader of the dataset sees, in the order of commit."""
        lines = b"".join(self.files().values()).split(b"\n")[:-1]
        return [msgspec.json.decode(line) for line in lines]

    def uuids(self) -> list[str]:
        return sorted(row["uuid"] for row in self.rows())

    @asynccontextmanager
    async def call(self, name: str) -> AsyncIterator[None]:
        self.now += timedelta(seconds=1)
        await self.mishaps.pop(f"before {name}", nothing)()
        if self.down:
            raise FoundryError("Foundry is down.")
        yield
        await self.mishaps.pop(f"after {name}", nothing)()


async def nothing() -> None: ...


async def no_answer() -> None:
    raise FoundryError("No answer.")


class Barrier:
    """A mishap that blocks until it is opened."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self.opened = anyio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.opened.wait()


@dataclass
class BlockingExecutor:
    """An executor that blocks until it is released."""

    inside: WorkerExecutor = field(default_factory=WorkerExecutor)
    released: anyio.Event = field(default_factory=anyio.Event)

    async def __call__(self, size, work, /, *args):
        await self.released.wait()
        return await self.inside(size, work, *args)


@dataclass
class Time:
    """A clock that is moved by hand."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


async def at_once(_seconds: float) -> None:
    """Sleep without waiting."""
    await checkpoint()
