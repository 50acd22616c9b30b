"""Is the journal older than the dataset? Then what waits in it may be in the dataset by now.

A disk is put back to what it was yesterday, and the journal with it: it knows nothing of what was
committed since. So before the first group of a life the head of the branch is compared with the
last transaction that the journal knows. If that is another, the rows of all that waits are looked
for where they can stand:

    healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson   an export, at the path that is kept for it
    healthkit/groups/2026-01-02T12-00-00-000Z.ndjson    a group, which is called after its first

It may also be that others write to the branch, or that somebody was forgotten: then nothing is
found, and it costs a list of files for each user and day. Each group near a waiting export is
compared with all that waits: it costs the product of both.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from atlas.actors.upload.layout import Files
from atlas.actors.upload.outcomes import Outcomes
from atlas.core import names
from atlas.core.errors import Damaged
from atlas.core.events import JournalOutdated
from atlas.core.messages import Claimed, File, Held, Seen
from atlas.core.people import Standing
from atlas.core.ports import Branch, Outbox
from atlas.runtime import side_by_side


@dataclass(frozen=True, slots=True)
class Restored:
    """Completes what is in the dataset; the rest goes out as ever. May raise FoundryError."""

    branch: Branch
    outbox: Outbox
    files: Files
    outcomes: Outcomes

    async def compare(self, seen: Seen) -> None:
        if seen.head in {"", await self.outbox.last()}:
            return
        found = await self.look_for_all()
        if found:
            self.outcomes.watch(JournalOutdated(found))

    async def look_for_all(self) -> int:
        """How many are found. Groups of one millisecond go apart: the second is near enough."""
        found, seconds = 0, set[str]()
        format = self.files.shape.format.name

        async def look_for(of_a_day: tuple[str, list[File]]) -> None:
            nonlocal found
            day, files = of_a_day
            standing = {each.path: each for each in await self.branch.files_under(day)}
            for file in files:
                there = standing.get(names.in_format(file.path, format))
                if there is not None:
                    here = await self.look_into(there, file)
                    found += here  # only now: others count, too

        async for page in self.pages():
            days = defaultdict[str, list[File]](list)
            for file in page:
                days[names.day_of(file.path)].append(file)
                seconds.add(names.second_of(file.path))
            await side_by_side(look_for, days.items(), self.outcomes.pace.uploads_at_once)
        for day in sorted({names.day_of(names.GROUPS + second) for second in seconds}):
            for there in await self.branch.files_under(day):
                is_near = names.second_of(there.path) in seconds
                if is_near and names.format_of(there.path) == format:
                    found += await self.look_into(there)
        return found

    async def look_into(self, there: Standing, own: File | None = None) -> int:
        """Complete those whose rows stand in this file: the one whose own it is, or any."""
        held = Held(there.transaction, there.bytes)
        file = File(there.path, there.bytes if own is None else own.bytes, ())
        async with self.outcomes.budget.taken(there.bytes):
            rows = await self.outcomes.rows_at(file, held)
            if own is not None:
                return await self.complete(own.exports, rows, there)
            found = 0
            async for page in self.pages():
                exports = [export for each in page for export in each.exports]
                found += await self.complete(exports, rows, there)
            return found

    async def complete(
        self, exports: Sequence[Claimed], rows: frozenset[bytes], there: Standing
    ) -> int:
        here = {export.id: export for export in exports if await self.is_in(export, rows)}
        receipts = await self.outbox.found(here.keys(), there)
        self.outcomes.tell(receipts, here, there.transaction)
        return len(receipts)

    async def is_in(self, export: Claimed, rows: frozenset[bytes]) -> bool:
        try:
            return await self.files.rows_of(export) <= rows
        except Damaged:
            return False  # the uploader sets it aside

    async def pages(self) -> AsyncIterator[Sequence[File]]:
        """All that waits, or is set aside: an operator may have sent it again since."""
        last = ""
        while page := await self.outbox.unsent(last):
            yield page
            last = page[-1].exports[0].id
