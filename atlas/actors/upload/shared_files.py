"""Removes one person's rows from files that hold rows of several people."""

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from msgspec import Struct

from atlas.actors.upload.conflicts import read_if_served, require_size
from atlas.actors.upload.files import FilePolicy, Format
from atlas.core import identifiers
from atlas.core.errors import JSON_ERRORS, FoundryError
from atlas.core.messages import User
from atlas.core.personal_data import JournalHoldings
from atlas.core.ports import Branch, BranchAccess, Bytes, CpuExecutor, Reconciliation

UNCHANGED = "Foundry still returns the old content of a replaced file. Repeat the command."
REWRITTEN_MAX = 50  # files per step, so that groups can be uploaded in between


class RowOwner(Struct):
    """The column of a row that names its owner."""

    auth0_user_id: str = ""


class OwnerRowCounts(NamedTuple):
    """The number of rows of one person in a file, and the number of all other rows."""

    own: int
    other: int


@dataclass(slots=True)
class Rewrites:
    """The progress of an erasure: the number of removed rows by path, and the transactions.

    `clean`: files without rows of the person. `unreadable`: files that may hold such rows, but
    cannot be read and stay unchanged.
    """

    rows: dict[str, int] = field(default_factory=dict)
    transactions: list[str] = field(default_factory=list)
    clean: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)


OWNER_DECODER = msgspec.json.Decoder(RowOwner)


@dataclass(frozen=True, slots=True)
class SharedFiles:
    """Reads and rewrites shared files. Raises FoundryError."""

    branch: Branch
    reconciliation: Reconciliation
    policy: FilePolicy
    compute: CpuExecutor

    async def rewrite_some(
        self, user: User, journal: JournalHoldings, access: BranchAccess, progress: Rewrites
    ) -> bool:
        """Remove rows of this person from some files. Return False once no file holds any.

        The next call reads the rewritten files again, and raises FoundryError if one still holds
        such rows.
        """
        to_rewrite, to_remove = dict[str, int](), dict[str, int]()
        for path in await self.list_suspects(journal):
            if (
                path in progress.clean | progress.unreadable
                or len(to_rewrite) + len(to_remove) == REWRITTEN_MAX
            ):
                continue
            counts = await self.count_rows(user, path)
            if counts is None:
                progress.unreadable.add(path)
            elif not counts.own:
                progress.clean.add(path)
            elif path in progress.rows:
                raise FoundryError(UNCHANGED)
            else:
                (to_rewrite if counts.other else to_remove)[path] = counts.own
        if to_remove:
            removed = await access.remove(to_remove)
            progress.transactions += [removed.transaction] if removed.transaction else []
        if to_rewrite:
            replaced = await access.replace(to_rewrite, lambda path: self.rewrite(user, path))
            progress.transactions += [replaced.transaction] if replaced.transaction else []
        progress.rows |= to_rewrite | to_remove
        return bool(to_rewrite or to_remove)

    async def list_suspects(self, journal: JournalHoldings) -> list[str]:
        """Return the paths of shared files that may hold rows of the person.

        A compacted receipt records only its transaction. A file that was replaced later belongs to
        another transaction, which the journal does not know. Neither does it know those whose
        digests it has deleted.
        """
        paths = {each.path for each in journal.shared}
        if journal.digests or journal.incomplete is not None:
            doubtful = journal.digests.keys() | (journal.incomplete or ())
            groups = await self.branch.list_files(identifiers.GROUPS)
            own = await self.reconciliation.filter_own_transactions(
                [each.transaction for each in groups]
            )
            paths |= {
                each.path
                for each in groups
                if each.transaction in doubtful or each.transaction not in own
            }
        return sorted(paths)

    async def count_rows(self, user: User, path: str) -> OwnerRowCounts | None:
        """Count the rows of this person and of others, or return None for an unreadable file."""
        file = await self.read(path)
        if file is None:
            return None
        content, format = file
        try:
            return await self.compute(len(content), count_rows, content, format, user.sub)
        except ValueError:
            return None

    async def rewrite(self, user: User, path: str) -> Bytes | None:
        """Return the file without the person's rows; None if it has none, or is unreadable."""
        file = await self.read(path)
        if file is None:
            return None
        content, format = file
        return await self.compute(len(content), remove_rows, content, format, user.sub)

    async def read(self, path: str) -> tuple[bytes, Format] | None:
        owner = await self.branch.find_file(path)
        if owner is None:
            return b"", self.policy.format
        format = self.policy.find_format(path)
        if format is None:
            return None
        content = await read_if_served(self.branch, path, owner.bytes)
        return None if content is None else (require_size(content, owner), format)


def split_rows(content: bytes, format: Format) -> list[bytes]:
    """Return the rows of a file. Raises ValueError if the file is in another format."""
    return bytes(format.read(content)).splitlines(keepends=True) if content else []


def count_rows(content: bytes, format: Format, sub: str) -> OwnerRowCounts:
    rows = split_rows(content, format)
    own = sum(is_owned(row, sub) for row in rows)
    return OwnerRowCounts(own, len(rows) - own)


def remove_rows(content: bytes, format: Format, sub: str) -> Bytes | None:
    rows = split_rows(content, format)
    remaining = [row for row in rows if not is_owned(row, sub)]
    return format.write(b"".join(remaining)) if len(remaining) < len(rows) else None


def is_owned(row: bytes, sub: str) -> bool:
    """True if a row belongs to this person; False if it cannot be read."""
    try:
        return OWNER_DECODER.decode(row).auth0_user_id == sub
    except JSON_ERRORS:
        return False
