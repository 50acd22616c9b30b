"""Stores exports in the journal: rows in, a receipt out. From then on a crash loses nothing.

The journal is the mailbox of the uploader: an export that is in the journal and not committed
will be uploaded, whoever asked for it, however often we are restarted in between.
"""

from dataclasses import dataclass

from atlas.core.events import ExportAccepted, ExportReplayed, Watch
from atlas.core.messages import Flattened, Head, Receipt
from atlas.core.ports import Intake
from atlas.runtime import Acknowledgement, Completion, CompletionRegistry, Wakeup


@dataclass(frozen=True, slots=True)
class Journal:
    """Stores exports, and acknowledges them."""

    intake: Intake
    completions: CompletionRegistry[Receipt]
    wakeup: Wakeup
    watch: Watch

    async def handle(self, export: Flattened, /) -> Acknowledgement[Receipt]:
        """Store an export. Returns its receipt and the completion of its commit.

        The completion is made first, or a quick uploader would not find it.
        """
        completion = self.completions.get(export.id)
        receipt = await self.intake.append(export)
        head, table = export.head, export.table
        if receipt.replayed:
            self.watch(ExportReplayed(export.id, head.correlation_id, head.user.sub))
        else:
            self.wakeup.notify()
            size = table.bytes
            self.watch(
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

    async def recall(self, head: Head, id: str) -> Acknowledgement[Receipt] | None:
        """Acknowledge an export that is stored already. None if it must be sent again."""
        completion = self.completions.get(id)
        receipt = await self.intake.recall(head, id)
        if receipt is None:
            return None
        self.watch(ExportReplayed(id, head.correlation_id, head.user.sub))
        return self.acknowledge(receipt, completion)

    def acknowledge(
        self, receipt: Receipt, completion: Completion[Receipt]
    ) -> Acknowledgement[Receipt]:
        if receipt.status != "accepted":
            completion.resolve(receipt)
        return Acknowledgement(receipt, completion)
