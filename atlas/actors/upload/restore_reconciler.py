"""Finds committed exports that the journal believes uncommitted, because it is an older copy.

A journal restored from a backup lacks the commits that were made since. So after every start,
before the first group, the uploader checks whether the head of the branch is a transaction that the
journal knows. If not, it searches the dataset for the rows of all uncommitted exports, at the paths
that they can have:

    healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson   an export, at the path reserved for it
    healthkit/groups/2026-01-02T12-00-00-000Z.ndjson    a group, named after its first export

The head is also unknown if others write to the branch, or after an erasure. Then nothing is found,
at the cost of one listing for each user and day.
"""

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from atlas.actors.upload.conflicts import RemoteFiles
from atlas.actors.upload.files import FileBuilder
from atlas.actors.upload.publisher import Publisher
from atlas.core import identifiers
from atlas.core.errors import BranchBusy, ContentTooLarge, CorruptEntry
from atlas.core.messages import BranchSnapshot, ClaimedExport, File, PathOwner, Receipt
from atlas.core.personal_data import DatasetFile
from atlas.core.ports import Branch, Outbox
from atlas.runtime import for_each_concurrently

# a file of the dataset, and the exports whose rows it holds, by id
Match = tuple[DatasetFile, dict[str, ClaimedExport]]
ACCEPTED = re.compile(rb'"ingested_at":"([0-9T:-]{19})')


@dataclass(frozen=True, slots=True)
class RestoreReconciler:
    """Marks exports as committed if their rows are in the dataset.

    Raises FoundryError, and the journal's Unavailable.
    """

    branch: Branch
    outbox: Outbox
    files: FileBuilder
    remote: RemoteFiles
    publisher: Publisher
    concurrency: int

    async def is_up_to_date(self, snapshot: BranchSnapshot, explained: str | None) -> bool:
        """True if the head of the branch is one of the latest commits of the journal.

        `explained` is a transaction of which it knows every file. An empty head is never known:
        Foundry may show none after an abort, and not only in a new dataset. A head that is not
        among the latest costs one search.
        """
        if not snapshot.head:
            return False
        return snapshot.head == explained or await self.outbox.has_committed_lately(snapshot.head)

    async def reconcile(self, head: str, *, is_final: bool) -> int:
        """Search the dataset, mark all exports that are found, and return their number.

        With `is_final`, exports that were doubtful before the search no longer are, and it raises
        BranchBusy while the head is open: another replica, of whose work an older copy of
        the journal knows nothing, may commit it after the search.
        """
        if is_final and head and await self.branch.transaction_status(head) == "OPEN":
            raise BranchBusy
        doubtful = await self.outbox.list_doubtful()
        singles = await self.match_single_files()
        groups = await self.match_group_files(is_complete=bool(doubtful))
        matches = [*singles, *groups]
        exports = {id: export for _, matched in matches for id, export in matched.items()}
        receipts: Sequence[Receipt] = ()
        if exports:
            # all in one step: after a part, the journal would know the head and stop searching
            receipts = await self.outbox.mark_found(
                [(remote_file, list(matched)) for remote_file, matched in matches]
            )
        for receipt in receipts:
            self.publisher.publish(receipt, exports[receipt.id])
        if doubtful and is_final:
            await self.outbox.clear_doubt(doubtful)
        return len(receipts)

    async def match_single_files(self) -> list[Match]:
        matches: list[Match] = []

        async def search_day(dated_files: tuple[str, list[File]]) -> None:
            day, files = dated_files
            remote_files = {each.path: each for each in await self.branch.list_files(day)}
            for file in files:
                for format in identifiers.FORMATS:
                    path = identifiers.change_format(file.path, format)
                    if remote_file := remote_files.get(path):
                        match = await self.match_single(remote_file, file)
                        matches.append((remote_file, match))

        async for page in self.pages():
            days = defaultdict[str, list[File]](list)
            for file in page:
                days[identifiers.truncate_to_day(file.path)].append(file)
            await for_each_concurrently(search_day, days.items(), self.concurrency)
        return matches

    async def match_single(self, remote_file: DatasetFile, file: File) -> dict[str, ClaimedExport]:
        try:
            rows = await self.read(remote_file, file.bytes)
        except ContentTooLarge:  # a file with our size at our path is ours
            is_ours = remote_file.bytes == file.bytes
            return {export.id: export for export in file.exports if is_ours}
        return await self.match(file.exports, remote_file.path, rows)

    async def match_group_files(self, *, is_complete: bool) -> list[Match]:
        """Search the group files that the journal does not know; all of them if `is_complete`.

        The journal may know a group of which it has lost an export. Files are matched by the
        second, because a path that is taken is moved by milliseconds.
        """
        seconds = {
            identifiers.extract_second(file.path) async for page in self.pages() for file in page
        }
        days = {identifiers.truncate_to_day(identifiers.GROUPS + second) for second in seconds}
        matches: list[Match] = []
        for day in sorted(days):
            candidates = [
                each
                for each in await self.branch.list_files(day)
                if identifiers.extract_second(each.path) in seconds
                and self.files.policy.find_format(each.path) is not None
            ]
            transactions = [] if is_complete else [each.transaction for each in candidates]
            own = await self.outbox.filter_own_transactions(transactions)
            unknown = (each for each in candidates if each.transaction not in own)
            matches += [(each, await self.match_group_file(each)) for each in unknown]
        return matches

    async def match_group_file(self, remote_file: DatasetFile) -> dict[str, ClaimedExport]:
        rows = await self.read(remote_file, remote_file.bytes)
        matches, seconds = dict[str, ClaimedExport](), extract_accepted_seconds(rows)
        async for page in self.pages():
            for file in page:
                if identifiers.extract_second(file.path) in seconds:
                    matches |= await self.match(file.exports, remote_file.path, rows)
        return matches

    async def read(self, remote_file: DatasetFile, size: int) -> frozenset[bytes]:
        """Return the rows of a remote file. `size`: the size in bytes of our file at its path."""
        owner = PathOwner(remote_file.transaction, remote_file.bytes)
        return await self.remote.read(File(remote_file.path, size, ()), owner)

    async def match(
        self, exports: Iterable[ClaimedExport], path: str, rows: frozenset[bytes]
    ) -> dict[str, ClaimedExport]:
        return {each.id: each for each in exports if await self.is_present(each, path, rows)}

    async def is_present(self, export: ClaimedExport, path: str, rows: frozenset[bytes]) -> bool:
        try:
            return await self.files.read_export_rows(export, path) <= rows
        except CorruptEntry:
            return False  # the export is set aside when it is claimed

    async def pages(self) -> AsyncIterator[Sequence[File]]:
        """Yield all uncommitted exports, also set-aside ones: they may have been replayed."""
        last = ""
        while page := await self.outbox.list_uncommitted(last):
            yield [file for file in page if file.path]  # no path: the entry is damaged
            last = page[-1].exports[0].id


def extract_accepted_seconds(rows: Iterable[bytes]) -> set[str]:
    """Return the seconds in which the exports of these rows were accepted, as spelled in paths.

    The second after each is included, because a path may have been moved by milliseconds.
    """
    texts = {match[1].decode() for row in rows if (match := ACCEPTED.search(row))}
    seconds = set[str]()
    for text in texts:
        with suppress(ValueError, OverflowError):  # a row that Atlas did not write
            moment = datetime.fromisoformat(text)
            for each in (moment, moment + timedelta(seconds=1)):
                seconds.add(f"{each:%Y-%m-%dT%H-%M-%S}")
    return seconds
