"""The data of one person: reports of it, and receipts of its erasure.

`user` is a keyed hash of the sub, the same as in the log. Paths contain the sub: they are returned
only to the operator who named it, and are in no receipt.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from atlas.core.messages import Status


class DatasetFile(Struct, frozen=True):
    """A file on the branch. `at` is its time of creation, if Foundry reported it."""

    path: str
    transaction: str
    bytes: int
    at: datetime | None = None


class SharedFile(Struct, frozen=True):
    """A file with rows of several people, among them `exports` exports of this person."""

    path: str
    exports: int


class SetAsideExport(Struct, frozen=True):
    """A set-aside export of this person, and the reason."""

    id: str
    bytes: int
    reason: str


class RewrittenFile(Struct, frozen=True):
    """A file that was replaced by one without this person's `rows`. Other people's rows remain."""

    path: str
    rows: int


class KnownPhone(Struct, frozen=True):
    """A phone of this person that the journal remembers. `types` is the number of sample types."""

    device: str
    last_export_at: datetime | None
    types: int


class JournalHoldings(Struct, frozen=True):
    """A person's data in the journal.

    `digests` is the number of compacted receipts by transaction. Compacted receipts no longer
    record the file of their rows. Once old ones were deleted, the person may have rows in
    transactions that the journal no longer knows, and in the `incomplete` ones; until then it is
    None. `reports` is the number of reports that the person's phones have sent.
    """

    user: str
    exports: Mapping[Status, int] = {}
    shared: tuple[SharedFile, ...] = ()
    aside: tuple[SetAsideExport, ...] = ()
    digests: Mapping[str, int] = {}
    incomplete: frozenset[str] | None = None
    phones: tuple[KnownPhone, ...] = ()
    reports: int = 0


class PurgeResult(Struct, frozen=True):
    """The rows deleted from the journal, by kind.

    `waiting` are the ids of deleted exports for which a request may still be waiting.
    """

    user: str
    rows: Mapping[str, int]
    waiting: tuple[str, ...] = ()


class PersonalDataReport(Struct, frozen=True):
    """All data of a person that Atlas has stored. `listed` has each file, if that was requested."""

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
    phones: tuple[KnownPhone, ...] = ()
    reports: int = 0

    @property
    def is_empty(self) -> bool:
        stored = self.files or self.exports or self.digests or self.shared
        return not (stored or self.phones or self.reports)


class ErasureReceipt(Struct, frozen=True):
    """The receipt of an erasure: the changes made, and the steps left to others.

    `shared` are files with rows of this person that could not be read, and so were not changed.
    `known`: there were data of this person, in the dataset or in the journal.
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
    known: bool = True


def build_report(
    journal: JournalHoldings,
    files: Sequence[DatasetFile],
    shared: tuple[SharedFile, ...],
    *,
    lists: bool,
) -> PersonalDataReport:
    times = [file.at for file in files if file.at is not None]
    return PersonalDataReport(
        user=journal.user,
        files=len(files),
        bytes=sum(file.bytes for file in files),
        first=min(times, default=None),
        last=max(times, default=None),
        exports=journal.exports,
        digests=sum(journal.digests.values()),
        shared=shared,
        aside=journal.aside,
        listed=tuple(files) if lists else (),
        phones=journal.phones,
        reports=journal.reports,
    )


def merge_shared_files(
    journal: JournalHoldings, groups: Sequence[DatasetFile]
) -> tuple[SharedFile, ...]:
    """Return the shared files with this person's rows, and the number of exports in each.

    A compacted receipt names a transaction instead of a file: it counts for the file in `groups`
    that has this transaction.
    """
    exports = Counter[str]()
    for file in journal.shared:
        exports[file.path] += file.exports
    for group in groups:
        if compacted := journal.digests.get(group.transaction):
            exports[group.path] += compacted
    return tuple(SharedFile(path, count) for path, count in sorted(exports.items()))


def list_remaining_steps(
    files: int, shared: Sequence[SharedFile], *, is_folder_escaped: bool
) -> Iterator[str]:
    """Yield the steps left to others, in order. `files` is the number of changed files."""
    yield (
        "Stop this person's app from sending: their exports are deleted from the journal, so it"
        " accepts as new everything that is sent from now on."
    )
    if shared:
        yield (
            "Rewrite the shared files listed here without this person's rows: Foundry does not"
            " serve their content, or they are Parquet and pyarrow is not installed. With a larger"
            " limit, or with pyarrow, atlas person erase rewrites them."
        )
    if is_folder_escaped:
        yield (
            "Look for files of the service before Atlas: it did not encode some characters of this"
            " sub in paths, so its folder has a different name."
        )
    if files or shared:
        yield (
            "Have Foundry's retention delete the removed data: until then, earlier transactions and"
            " views of the dataset still contain it."
        )
        yield "Rebuild every dataset that was made from this one, and its copies elsewhere."
    yield (
        "Delete the backups of the journal, and the copies next to it from times when it was"
        " damaged: they contain the purged data, encrypted."
    )


def describe_retry(reason: str) -> str:
    return (
        "Run atlas person erase again: the journal could not be rewritten, so free pages of its"
        f" file still contain the purged data, encrypted. {reason}"
    )
