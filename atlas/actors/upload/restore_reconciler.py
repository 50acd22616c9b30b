"""Finds exports in the dataset of which the journal does not know, because it is an older copy.

A disk is put back to what it was yesterday, and the journal with it: it knows nothing of what was
committed since. So before the first group of a life it is asked whether it knows the head of the
branch as a transaction of its own. If not, the rows of all that waits are looked for where they can
stand:

    healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson   an export, at the path that is kept for it
    healthkit/groups/2026-01-02T12-00-00-000Z.ndjson    a group, which is named after its first

If others write to the branch, or somebody was forgotten, nothing is found, and it costs a list of
files for each user and day.
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
from atlas.core import names
from atlas.core.errors import Damaged
from atlas.core.messages import BranchSnapshot, ClaimedExport, File, PathOwner
from atlas.core.people import Standing
from atlas.core.ports import Branch, Outbox
from atlas.runtime import side_by_side

Match = tuple[Standing, dict[str, ClaimedExport]]  # a file, and the exports whose rows are in it
ACCEPTED = re.compile(rb'"ingested_at":"([0-9T:-]{19})')


@dataclass(frozen=True, slots=True)
class RestoreReconciler:
    """Marks as committed what is in the dataset. May raise FoundryError, Unavailable."""

    branch: Branch
    outbox: Outbox
    files: FileBuilder
    remote: RemoteFiles
    publisher: Publisher
    at_once: int

    async def is_up_to_date(self, snapshot: BranchSnapshot, explained: str | None) -> bool:
        """Whether the journal knows the head of the branch.

        `explained` is a transaction of which it knows every file. A branch may have no head behind
        an abort: then an older copy looks as any other.
        """
        if not snapshot.head:
            return not await self.outbox.has_committed()
        is_own = await self.outbox.own_transactions([snapshot.head])
        return snapshot.head == explained or bool(is_own)

    async def reconcile(self) -> int:
        """Return how many exports were found."""
        matches = [*await self.match_single_files(), *await self.match_group_files()]
        exports = {id: export for _, here in matches for id, export in here.items()}
        if not exports:
            return 0
        # All at once: with a part of it the journal would know the head, and look no further.
        receipts = await self.outbox.mark_found([(there, list(here)) for there, here in matches])
        for receipt in receipts:
            self.publisher.publish(receipt, exports[receipt.id])
        return len(receipts)

    async def match_single_files(self) -> list[Match]:
        matches: list[Match] = []

        async def search_day(of_a_day: tuple[str, list[File]]) -> None:
            day, files = of_a_day
            standing = {each.path: each for each in await self.branch.files_under(day)}
            for file in files:
                for path in (names.in_format(file.path, each) for each in names.FORMATS):
                    if there := standing.get(path):
                        rows = await self.read(there, file.bytes)
                        matches.append((there, await self.match(file.exports, path, rows)))

        async for page in self.pages():
            days = defaultdict[str, list[File]](list)
            for file in page:
                days[names.day_of(file.path)].append(file)
            await side_by_side(search_day, days.items(), self.at_once)
        return matches

    async def match_group_files(self) -> list[Match]:
        """In those that the journal does not know. Groups of one millisecond go apart: the second
        is near enough.
        """
        seconds = {names.second_of(file.path) async for page in self.pages() for file in page}
        matches: list[Match] = []
        for day in sorted({names.day_of(names.GROUPS + second) for second in seconds}):
            near = [
                each
                for each in await self.branch.files_under(day)
                if names.second_of(each.path) in seconds
                and self.files.policy.format_at(each.path) is not None
            ]
            own = await self.outbox.own_transactions([each.transaction for each in near])
            unknown = (each for each in near if each.transaction not in own)
            matches += [(each, await self.match_group_file(each)) for each in unknown]
        return matches

    async def match_group_file(self, there: Standing) -> dict[str, ClaimedExport]:
        rows = await self.read(there, there.bytes)
        here, seconds = dict[str, ClaimedExport](), accepted_seconds(rows)
        async for page in self.pages():
            for file in page:
                if names.second_of(file.path) in seconds:
                    here |= await self.match(file.exports, there.path, rows)
        return here

    async def read(self, there: Standing, size: int) -> frozenset[bytes]:
        """The rows of a file of the dataset; `size` is what ours has at that path, in bytes."""
        owner = PathOwner(there.transaction, there.bytes)
        return await self.remote.read(File(there.path, size, ()), owner)

    async def match(
        self, exports: Iterable[ClaimedExport], path: str, rows: frozenset[bytes]
    ) -> dict[str, ClaimedExport]:
        return {each.id: each for each in exports if await self.is_present(each, path, rows)}

    async def is_present(self, export: ClaimedExport, path: str, rows: frozenset[bytes]) -> bool:
        try:
            return await self.files.rows_of_export(export, path) <= rows
        except Damaged:
            return False  # it is set aside when its turn comes

    async def pages(self) -> AsyncIterator[Sequence[File]]:
        """All that is not committed; an operator may have replayed what was set aside, too."""
        last = ""
        while page := await self.outbox.uncommitted(last):
            yield [file for file in page if file.path]  # without a path: its entry is damaged
            last = page[-1].exports[0].id


def accepted_seconds(rows: Iterable[bytes]) -> set[str]:
    """The seconds in which the exports of these rows were accepted, as in paths.

    And the next one each: a path may have been moved on by milliseconds until it was free.
    """
    said = {found[1].decode() for row in rows if (found := ACCEPTED.search(row))}
    seconds = set[str]()
    for text in said:
        with suppress(ValueError, OverflowError):  # a row of somebody else
            moment = datetime.fromisoformat(text)
            for each in (moment, moment + timedelta(seconds=1)):
                seconds.add(f"{each:%Y-%m-%dT%H-%M-%S}")
    return seconds
