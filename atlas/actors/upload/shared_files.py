"""Files that hold rows of several people, without the rows of one of them."""

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from msgspec import Struct

from atlas.actors.upload.files import FilePolicy, Format
from atlas.core import names
from atlas.core.errors import NOT_JSON, ContentTooLarge, FoundryError
from atlas.core.messages import User
from atlas.core.people import Journaled
from atlas.core.ports import Branch, BranchAccess, Bytes, Compute, Reconciliation

REWRITTEN_MAX = 50  # files of a transaction: in between, the groups of others have their turn


class Owner(Struct):
    """The column of a row that says whose it is."""

    auth0_user_id: str = ""


class Share(NamedTuple):
    """So many rows of a file are of one person, and so many of others."""

    theirs: int
    others: int


@dataclass(slots=True)
class Rewrites:
    """How far an erasure has got: the rows that were taken out, by path, and in which transactions.

    `clean`: files that hold no row of theirs. `unreadable`: files that may, and stay as they are.
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
        """Take rows of this person out of some files; False when there are none any more.

        A file that was rewritten is read again the next time: then it is known to be clean.
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
                raise FoundryError("Foundry serves a shared file as it was before it was replaced.")
            else:
                (partly if share.others else wholly)[path] = share.theirs
        if wholly:
            removed = await access.remove(wholly)
            done.transactions += [removed.transaction] if removed.transaction else []
        if partly:
            replaced = await access.replace(partly, lambda path: self.without(user, path))
            done.transactions += [replaced.transaction] if replaced.transaction else []
        done.rows |= partly | wholly
        return bool(partly or wholly)

    async def suspects(self, journal: Journaled) -> list[str]:
        """The shared files in which rows of theirs may stand.

        A compacted receipt names its transaction only, and a file that was replaced belongs to
        another one since, of which the journal has no export.
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
        """The rows of this person in the file; None if it cannot be read."""
        found = await self.read(path)
        if found is None:
            return None
        content, format = found
        return await self.compute(len(content), count_rows, content, format, user.sub)

    async def without(self, user: User, path: str) -> Bytes | None:
        """The file without the rows of this person; None if there is none to take out."""
        found = await self.read(path)
        if found is None:
            return None
        content, format = found
        return await self.compute(len(content), take_out, content, format, user.sub)

    async def read(self, path: str) -> tuple[bytes, Format] | None:
        owner = await self.branch.file_at(path)
        if owner is None:
            return b"", self.policy.format
        format = self.policy.format_at(path)
        if format is None:
            return None
        try:
            content = await self.branch.content(path, owner.bytes)
        except ContentTooLarge:
            return None
        if len(content) != owner.bytes:
            raise FoundryError("Foundry serves another size of a file than it lists.")
        return content, format


def rows_of(content: bytes, format: Format) -> list[bytes]:
    """The rows of a file; none of a file of another format."""
    try:
        return bytes(format.read(content)).splitlines(keepends=True) if content else []
    except ValueError:
        return []


def count_rows(content: bytes, format: Format, sub: str) -> Share:
    rows = rows_of(content, format)
    theirs = sum(is_of(row, sub) for row in rows)
    return Share(theirs, len(rows) - theirs)


def take_out(content: bytes, format: Format, sub: str) -> Bytes | None:
    rows = rows_of(content, format)
    kept = [row for row in rows if not is_of(row, sub)]
    return format.write(b"".join(kept)) if len(kept) < len(rows) else None


def is_of(row: bytes, sub: str) -> bool:
    """A row that cannot be read is none of ours, and stays."""
    try:
        return _owner.decode(row).auth0_user_id == sub
    except NOT_JSON:
        return False
