"""Is the journal older than the dataset? Then what waits in it may be in the dataset by now.

A disk is put back to what it was yesterday, and the journal with it: it knows nothing of what was
committed since. So before the first group of a life it is asked whether it knows the head of the
branch as a transaction of its own. If not, the rows of all that waits are looked for where they can
stand:

    healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson   an export, at the path that is kept for it
    healthkit/groups/2026-01-02T12-00-00-000Z.ndjson    a group, which is called after its first

It may also be that others write to the branch, or that somebody was forgotten: then nothing is
found, and it costs a list of files for each user and day.
"""

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from atlas.actors.upload.layout import Files
from atlas.actors.upload.outcomes import Outcomes
from atlas.core import names
from atlas.core.errors import Damaged
from atlas.core.events import JournalOutdated
from atlas.core.messages import BranchSnapshot, ClaimedExport, File, FileFormat, PathOwner
from atlas.core.people import Standing
from atlas.core.ports import Branch, Outbox
from atlas.runtime import side_by_side

Found = tuple[
    Standing, dict[str, ClaimedExport]
]  # a file, and whose rows stand in it, by their ids
ACCEPTED = re.compile(rb'"ingested_at":"([0-9T:-]{19})')


@dataclass(frozen=True, slots=True)
class Restored:
    """Completes what is in the dataset; the rest goes out as ever. May raise FoundryError."""

    branch: Branch
    outbox: Outbox
    files: Files
    outcomes: Outcomes

    async def compare(self, seen: BranchSnapshot) -> None:
        if not seen.head or await self.outbox.known([seen.head]):
            return
        found = [*await self.in_own_files(), *await self.in_groups()]
        if any(here for _, here in found):
            # All at once: with a part of it the journal would know the head, and look no further.
            receipts = await self.outbox.found([(there, list(here)) for there, here in found])
            exports = {id: export for _, here in found for id, export in here.items()}
            self.outcomes.tell(receipts, exports)
            self.outcomes.watch(JournalOutdated(len(receipts)))

    async def in_own_files(self) -> list[Found]:
        found: list[Found] = []

        async def look_for(of_a_day: tuple[str, list[File]]) -> None:
            day, files = of_a_day
            standing = {each.path: each for each in await self.branch.files_under(day)}
            for file in files:
                there = standing.get(names.in_format(file.path, self.format))
                if there is not None:
                    rows = await self.rows_at(there, file.bytes)
                    found.append((there, await self.those_in(file.exports, rows)))

        async for page in self.pages():
            days = defaultdict[str, list[File]](list)
            for file in page:
                days[names.day_of(file.path)].append(file)
            await side_by_side(look_for, days.items(), self.outcomes.pace.uploads_at_once)
        return found

    async def in_groups(self) -> list[Found]:
        """In those that the journal does not know. Groups of one millisecond go apart: the second
        is near enough.
        """
        seconds = {names.second_of(file.path) async for page in self.pages() for file in page}
        found: list[Found] = []
        for day in sorted({names.day_of(names.GROUPS + second) for second in seconds}):
            near = [
                each
                for each in await self.branch.files_under(day)
                if names.second_of(each.path) in seconds
                and names.format_of(each.path) == self.format
            ]
            known = await self.outbox.known([each.transaction for each in near])
            forgotten = (each for each in near if each.transaction not in known)
            found += [(each, await self.those_of_a_group(each)) for each in forgotten]
        return found

    async def those_of_a_group(self, there: Standing) -> dict[str, ClaimedExport]:
        rows = await self.rows_at(there, there.bytes)
        here, seconds = dict[str, ClaimedExport](), seconds_of(rows)
        async for page in self.pages():
            for file in page:
                if names.second_of(file.path) in seconds:
                    here |= await self.those_in(file.exports, rows)
        return here

    async def rows_at(self, there: Standing, size: int) -> frozenset[bytes]:
        """`size` is what a file of ours has there, in bytes."""
        async with self.outcomes.budget.taken(there.bytes):
            held = PathOwner(there.transaction, there.bytes)
            return await self.outcomes.rows_at(File(there.path, size, ()), held)

    async def those_in(
        self, exports: Iterable[ClaimedExport], rows: frozenset[bytes]
    ) -> dict[str, ClaimedExport]:
        return {export.id: export for export in exports if await self.is_in(export, rows)}

    async def is_in(self, export: ClaimedExport, rows: frozenset[bytes]) -> bool:
        try:
            return await self.files.rows_of(export) <= rows
        except Damaged:
            return False  # the uploader sets it aside

    async def pages(self) -> AsyncIterator[Sequence[File]]:
        """All that waits, or is set aside: an operator may have sent it again since."""
        last = ""
        while page := await self.outbox.unsent(last):
            yield [file for file in page if file.path]  # without: its entry is damaged
            last = page[-1].exports[0].id

    @property
    def format(self) -> FileFormat:
        return self.files.shape.format.name


def seconds_of(rows: Iterable[bytes]) -> set[str]:
    """In which the exports of these rows were accepted, as paths have them.

    And the next one each: a path may have been moved on by milliseconds until it was free.
    """
    said = {found[1].decode() for row in rows if (found := ACCEPTED.search(row))}
    seconds = set[str]()
    for text in said:
        with suppress(ValueError, OverflowError):  # of a row that is none of ours
            moment = datetime.fromisoformat(text)
            for each in (moment, moment + timedelta(seconds=1)):
                seconds.add(f"{each:%Y-%m-%dT%H-%M-%S}")
    return seconds
