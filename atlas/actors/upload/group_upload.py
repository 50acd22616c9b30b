"""Uploads the files of a group into its transaction."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from atlas.actors.upload.files import FileBuilder, split_into_batches
from atlas.actors.upload.reports import FileRefusal, UploadReport
from atlas.core.errors import (
    CorruptEntry,
    FileInvalid,
    FileRefused,
    FileSpoiled,
    FoundryError,
    PathTaken,
    TransactionEnded,
)
from atlas.core.messages import ClaimedExport, CommitGroup, File
from atlas.core.ports import Branch, Bytes
from atlas.runtime import Quota, for_each_concurrently

SILENT_MAX = 8  # consecutive uploads without a response, after which Foundry counts as down


class UploadStopped(Exception):
    """Stops the upload, because Foundry is down or the transaction has ended."""


@dataclass(slots=True)
class UploadTally:
    """Collects the outcomes for an `UploadReport`. `started`: files without an outcome yet."""

    stored: list[File] = field(default_factory=list)
    unconfirmed: list[File] = field(default_factory=list)
    taken: list[File] = field(default_factory=list)
    refused: list[FileRefusal] = field(default_factory=list)
    unanswered: list[File] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)
    started: dict[str, File] = field(default_factory=dict)
    consecutive_silences: int = 0
    is_ended: bool = False
    is_spoiled: bool = False
    last_error: FoundryError | None = None

    def build_report(self) -> UploadReport:
        return UploadReport(
            stored=tuple(self.stored),
            unconfirmed=tuple(self.unconfirmed),
            taken=tuple(self.taken),
            refused=tuple(self.refused),
            unanswered=tuple(self.unanswered),
            interrupted=tuple(self.started.values()),
            corrupt=tuple(self.corrupt),
            is_ended=self.is_ended,
            is_spoiled=self.is_spoiled,
            last_error=self.last_error,
        )


@dataclass(frozen=True, slots=True)
class GroupUploader:
    """Uploads the files of groups, `concurrency` at a time and within the memory `quota`."""

    branch: Branch
    files: FileBuilder
    quota: Quota
    concurrency: int

    async def upload(self, transaction: str, group: CommitGroup) -> UploadReport:
        """Upload every file, and report the outcomes. Raises the journal's Unavailable."""
        tally = UploadTally()
        shared, singles = self.files.plan(group)
        with suppress(UploadStopped):
            if shared:
                await self.put_shared(tally, transaction, shared)
            for batch in split_into_batches(singles):
                await self.put_singles(tally, transaction, batch)
        return tally.build_report()

    async def put_singles(
        self, tally: UploadTally, transaction: str, files: Sequence[File]
    ) -> None:
        packed = await self.files.outbox.read([file.exports[0].id for file in files])

        async def put_single(file: File) -> None:
            id = file.exports[0].id
            try:
                built, content = await self.files.build_single(file, packed.get(id))
            except CorruptEntry:
                tally.corrupt.append(id)
            else:
                await self.put(tally, transaction, built, content)

        await for_each_concurrently(
            put_single, files, self.concurrency, lambda file: self.quota.hold(file.bytes)
        )

    async def put_shared(
        self, tally: UploadTally, transaction: str, exports: Sequence[ClaimedExport]
    ) -> None:
        built = await self.files.build_shared(exports)
        readable = {export.id for export in built[0].exports} if built else set[str]()
        tally.corrupt += [export.id for export in exports if export.id not in readable]
        if built:
            await self.put(tally, transaction, *built)

    async def put(self, tally: UploadTally, transaction: str, file: File, content: Bytes) -> None:
        tally.started[file.path] = file
        try:
            is_confirmed = await self.branch.put(transaction, file.path, content)
        except FileRefused as error:
            tally.refused.append(FileRefusal(file, str(error), isinstance(error, FileInvalid)))
            tally.is_spoiled |= isinstance(error, FileSpoiled)
        except PathTaken:
            tally.taken.append(file)
        except TransactionEnded as error:
            tally.is_ended, tally.last_error = True, error
            raise UploadStopped from error
        except FoundryError as error:
            tally.last_error = error
            tally.unanswered.append(file)
            del tally.started[file.path]
            tally.consecutive_silences += 1
            if tally.consecutive_silences >= SILENT_MAX:
                raise UploadStopped from error
            return
        else:
            (tally.stored if is_confirmed else tally.unconfirmed).append(file)
        del tally.started[file.path]
        tally.consecutive_silences = 0
