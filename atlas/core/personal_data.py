"""One person: what is there of them, and what was done to forget it.

`user` is a keyed hash of the sub, the same as in the log. Paths hold the sub: they are told to
whoever asked with it, and stand in no receipt.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from atlas.core.messages import Status


class DatasetFile(Struct, frozen=True):
    """A file on the branch: of this transaction, and there since this moment, if that is told."""

    path: str
    transaction: str
    bytes: int
    at: datetime | None = None


class SharedFile(Struct, frozen=True):
    """A file that holds rows of others, too, and of so many exports of this person."""

    path: str
    exports: int


class SetAsideExport(Struct, frozen=True):
    """An export of theirs that waits for somebody, and why."""

    id: str
    bytes: int
    reason: str


class RewrittenFile(Struct, frozen=True):
    """A file that was replaced without the rows of this person: so many. Others keep theirs."""

    path: str
    rows: int


class JournalHoldings(Struct, frozen=True):
    """What the journal holds of a person.

    `digests` counts the receipts that were shrunk, by the transaction they name: in which file
    their rows stand is known of the others only.
    """

    user: str
    exports: Mapping[Status, int] = {}
    shared: tuple[SharedFile, ...] = ()
    aside: tuple[SetAsideExport, ...] = ()
    digests: Mapping[str, int] = {}


class PurgeResult(Struct, frozen=True):
    """What the journal has forgotten, by kind; and the ids of what somebody may still wait for."""

    user: str
    rows: Mapping[str, int]
    waiting: tuple[str, ...] = ()


class PersonalDataReport(Struct, frozen=True):
    """All that Atlas knows of a person. `listed` names each file, if that was asked for."""

    user: str
    files: int
    bytes: int
    first: datetime | None
    last: datetime | None
    exports: Mapping[Status, int]
    digests: int
    shared: tuple[SharedFile, ...]
    aside: tuple[SetAsideExport, ...]
    listed: tuple[DatasetFile, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.files or self.exports or self.digests or self.shared)


class ErasureReceipt(Struct, frozen=True):
    """The receipt: what was done, and what is still to be done by others.

    `shared` are files with rows of this person that could not be read, and so were left.
    """

    at: datetime
    user: str
    files: int
    bytes: int
    transactions: tuple[str, ...]
    purged: Mapping[str, int]
    shared: tuple[SharedFile, ...]
    to_do: tuple[str, ...]
    rewritten: tuple[RewrittenFile, ...] = ()


def build_report(
    journal: JournalHoldings,
    files: Sequence[DatasetFile],
    shared: tuple[SharedFile, ...],
    *,
    lists: bool,
) -> PersonalDataReport:
    moments = [file.at for file in files if file.at is not None]
    return PersonalDataReport(
        user=journal.user,
        files=len(files),
        bytes=sum(file.bytes for file in files),
        first=min(moments, default=None),
        last=max(moments, default=None),
        exports=journal.exports,
        digests=sum(journal.digests.values()),
        shared=shared,
        aside=journal.aside,
        listed=tuple(files) if lists else (),
    )


def merge_shared_files(
    journal: JournalHoldings, groups: Sequence[DatasetFile]
) -> tuple[SharedFile, ...]:
    """With those that only digests tell of: of a group file they name the transaction."""
    exports: dict[str, int] = {}
    for each in journal.shared:
        exports[each.path] = exports.get(each.path, 0) + each.exports
    for group in groups:
        additional = journal.digests.get(group.transaction, 0)
        if additional:
            exports[group.path] = exports.get(group.path, 0) + additional
    return tuple(SharedFile(path, count) for path, count in sorted(exports.items()))


def list_remaining_steps(
    files: int, shared: Sequence[SharedFile], *, is_folder_escaped: bool
) -> Iterator[str]:
    """Steps left to others, in the order in which to take them; `files` were changed."""
    yield (
        "Stop the app of this person from sending: the journal no longer knows their exports, and"
        " whatever is sent from now on is accepted anew."
    )
    if shared:
        yield (
            "Rewrite the shared files that are named here without their rows: Foundry does not"
            " serve their content, or they are Parquet and pyarrow is not installed. With a larger"
            " limit, or with pyarrow, atlas person erase does it."
        )
    if is_folder_escaped:
        yield (
            "Look for files of the service before Atlas: this sub has characters that it did not"
            " encode in paths, so its folder had another name than ours."
        )
    if files or shared:
        yield (
            "Have Foundry's retention delete what was removed: its bytes stand in the earlier"
            " transactions and views of the dataset until then."
        )
        yield "Build anew every dataset that was made from this one, and its copies elsewhere."
    yield (
        "Delete the backups of the journal, and the copies beside it of when it was damaged: they"
        " hold what was purged, sealed."
    )


def describe_retry(reason: str) -> str:
    return (
        "Run atlas person erase again: the journal could not be written anew, so what was purged"
        f" still stands in free pages of its file, sealed. {reason}"
    )
