"""Removes the rows of one person from files that hold rows of several people."""

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from msgspec import Struct

from atlas.actors.upload.conflicts import read_content
from atlas.actors.upload.files import FilePolicy, Format
from atlas.core import names
from atlas.core.errors import NOT_JSON, ContentTooLarge, FoundryError
from atlas.core.messages import User
from atlas.core.people import Journaled
from atlas.core.ports import Branch, BranchAccess, Bytes, Compute, Reconciliation

UNCHANGED = "Foundry returned a shared file as it was before its replacement. Repeat the command."
REWRITTEN_MAX = 50  # files per step, so that groups of others can go in between


class Owner(Struct):
    """The column of a row that names its owner."""

    auth0_user_id: str = ""


class Share(NamedTuple):
    """The numbers of rows in a file: of one person, and of others."""

    theirs: int
    others: int


@dataclass(slots=True)
class Rewrites:
    """The progress of an erasure: the number of removed rows by path, and the transactions.

    `clean`: files without rows of the person. `unreadable`: files that may hold some, and are left
    as they are.
    """

    rows: dict[str, int] = field(default_factory=dict)
    transactions: list[str] = field(default_factory=list)
    clean: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)


_owner = msgspec.json.Decoder(Owner)


@dataclass(frozen=True, slots=True)
class SharedFiles:
    """Reads and rewrites shared files. Raises FoundryError."""

    branch: Branch
    reconciliation: Reconciliation
    policy: FilePolicy
    compute: Compute

    async def rewrite_some(
        self, user: User, journal: Journaled, access: BranchAccess, done: Rewrites
    ) -> bool:
        """Remove rows of this person from some files; return False once no file holds any.

        The next call reads rewritten files again, to be sure that they are clean. Raises
        FoundryError if one is not.
        """
        partly, wholly = dict[str, int](), dict[str, int]()
        for path in await self.suspects(journal):
            if path in done.clean | done.unreadable or len(partly) + len(wholly) == REWRITTEN_MAX:
                continue
            share = await self.share_of(user, path)
            if share is None:
                done.unreadable.add(path)
            elif not share.theirs:
                done.clean.add(path)
            elif path in done.rows:
                raise FoundryError(UNCHANGED)
            else:
                (partly if share.others else wholly)[path] = share.theirs
        if wholly:
            removed = await access.remove(wholly)
            done.transactions += [removed.transaction] if removed.transaction else []
        if partly:
            replaced = await access.replace(partly, lambda path: self.rewrite(user, path))
            done.transactions += [replaced.transaction] if replaced.transaction else []
        done.rows |= partly | wholly
        return bool(partly or wholly)

    async def suspects(self, journal: Journaled) -> list[str]:
        """Return the paths of shared files that may hold rows of the person.

        A compacted receipt names only its transaction, and a file that was replaced since belongs
        to another transaction, which the journal does not know as its own.
        """
        paths = {each.path for each in journal.shared}
        if journal.digests:
            groups = await self.branch.files_under(names.GROUPS)
            own = await self.reconciliation.own_transactions([each.transaction for each in groups])
            paths |= {
                each.path
                for each in groups
                if each.transaction in journal.digests or each.transaction not in own
            }
        return sorted(paths)

    async def share_of(self, user: User, path: str) -> Share | None:
        """Count the rows of this person and of others; None if the file cannot be read."""
        found = await self.read(path)
        if found is None:
            return None
        content, format = found
        try:
            return await self.compute(len(content), count_rows, content, format, user.sub)
        except ValueError:
            return None

    async def rewrite(self, user: User, path: str) -> Bytes | None:
        """Return the file without rows of this person; None if it has none, or is unreadable."""
        found = await self.read(path)
        if found is None:
            return None
        content, format = found
        return await self.compute(len(content), remove_rows, content, format, user.sub)

    async def read(self, path: str) -> tuple[bytes, Format] | None:
        owner = await self.branch.file_at(path)
        if owner is None:
            return b"", self.policy.format
        format = self.policy.format_at(path)
        if format is None:
            return None
        try:
            return await read_content(self.branch, path, owner), format
        except ContentTooLarge:
            return None


def rows_of(content: bytes, format: Format) -> list[bytes]:
    """Return the rows of a file. Raises ValueError if it is in another format."""
    return bytes(format.read(content)).splitlines(keepends=True) if content else []


def count_rows(content: bytes, format: Format, sub: str) -> Share:
    rows = rows_of(content, format)
    theirs = sum(is_row_of(row, sub) for row in rows)
    return Share(theirs, len(rows) - theirs)


def remove_rows(content: bytes, format: Format, sub: str) -> Bytes | None:
    rows = rows_of(content, format)
    kept = [row for row in rows if not is_row_of(row, sub)]
    return format.write(b"".join(kept)) if len(kept) < len(rows) else None


def is_row_of(row: bytes, sub: str) -> bool:
    """Whether a row is of this person. A row that cannot be read is not, and stays."""
    try:
        return _owner.decode(row).auth0_user_id == sub
    except NOT_JSON:
        return False
