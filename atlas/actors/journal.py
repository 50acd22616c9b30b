"""Stores exports in the journal and returns their receipts. From then on a crash loses nothing.

The journal is the queue of the uploader: every export in it will be committed or set aside, even
if the sender disconnects or the process restarts.
"""

from dataclasses import dataclass

from atlas.core.events import EventSink, ExportAccepted, ExportReplayed
from atlas.core.messages import ExportMetadata, FlattenedExport, Receipt
from atlas.core.ports import Intake
from atlas.runtime import Acknowledgement, Completion, CompletionRegistry, Wakeup


@dataclass(frozen=True, slots=True)
class Journal:
    """Stage that stores an export and acknowledges it."""

    intake: Intake
    completions: CompletionRegistry[Receipt]
    wakeup: Wakeup
    emit: EventSink

    async def handle(self, export: FlattenedExport, /) -> Acknowledgement[Receipt]:
        """Store an export, and return its receipt and the completion of its commit.

        The completion is created first, or a fast uploader would not find it.
        """
        completion = self.completions.get(export.id)
        receipt = await self.intake.append(export)
        head, table = export.head, export.table
        if receipt.replayed:
            self.emit(ExportReplayed(export.id, head.correlation_id, head.user.sub))
        else:
            self.wakeup.notify()
            self.emit(
                ExportAccepted(
                    export.id,
                    head.correlation_id,
                    head.user.sub,
                    table.ingested,
                    table.rejected,
                    table.size,
                    table.reasons,
                )
            )
        return self.acknowledge(receipt, completion)

    async def find_existing(self, head: ExportMetadata, id: str) -> Acknowledgement[Receipt] | None:
        """Acknowledge an export that is already stored. None if it must be sent again."""
        completion = self.completions.get(id)
        receipt = await self.intake.find_existing(head, id)
        if receipt is None:
            return None
        self.emit(ExportReplayed(id, head.correlation_id, head.user.sub))
        return self.acknowledge(receipt, completion)

    def acknowledge(
        self, receipt: Receipt, completion: Completion[Receipt]
    ) -> Acknowledgement[Receipt]:
        if receipt.status == "accepted":
            completion.is_acknowledged = True
        else:
            completion.resolve(receipt)
        return Acknowledgement(receipt, completion)
