"""Stores exports in the journal: rows in, a receipt out. From then on a crash loses nothing.

The journal is the mailbox of the uploader: an export that is in the journal and not committed
will be uploaded, whoever asked for it, however often we are restarted in between.
"""

from dataclasses import dataclass

from atlas.core.events import EventSink, ExportAccepted, ExportReplayed
from atlas.core.messages import ExportMetadata, FlattenedExport, Receipt
from atlas.core.ports import Intake
from atlas.runtime import Acknowledgement, Completion, CompletionRegistry, Wakeup


@dataclass(frozen=True, slots=True)
class Journal:
    """Stores exports, and acknowledges them."""

    intake: Intake
    completions: CompletionRegistry[Receipt]
    wakeup: Wakeup
    emit: EventSink

    async def handle(self, export: FlattenedExport, /) -> Acknowledgement[Receipt]:
        """Store an export. Returns its receipt and the completion of its commit.

        The completion is made first, or a quick uploader would not find it.
        """
        completion = self.completions.get(export.id)
        receipt = await self.intake.append(export)
        head, table = export.head, export.table
        if receipt.replayed:
            self.emit(ExportReplayed(export.id, head.correlation_id, head.user.sub))
        else:
            self.wakeup.notify()
            size = table.size
            self.emit(
                ExportAccepted(
                    export.id,
                    head.correlation_id,
                    head.user.sub,
                    table.ingested,
                    table.rejected,
                    size,
                    table.reasons,
                )
            )
        return self.acknowledge(receipt, completion)

    async def find_existing(self, head: ExportMetadata, id: str) -> Acknowledgement[Receipt] | None:
        """Acknowledge an export that is stored already. None if it must be sent again."""
        completion = self.completions.get(id)
        receipt = await self.intake.find_existing(head, id)
        if receipt is None:
            return None
        self.emit(ExportReplayed(id, head.correlation_id, head.user.sub))
        return self.acknowledge(receipt, completion)

    def acknowledge(
        self, receipt: Receipt, completion: Completion[Receipt]
    ) -> Acknowledgement[Receipt]:
        if receipt.status != "accepted":
            completion.resolve(receipt)
        return Acknowledgement(receipt, completion)
