"""Is it safe with us? From here on a crash loses nothing.

The journal is the mailbox of the uploader: an export that is in the journal and not committed
will be uploaded, whoever asked for it, however often we are restarted in between.
"""

from dataclasses import dataclass

from atlas.core.events import ExportAccepted, ExportReplayed, Watch
from atlas.core.messages import Flattened, Receipt
from atlas.core.ports import Intake
from atlas.runtime import Bell, Pending, Promises


@dataclass(frozen=True, slots=True)
class Journal:
    intake: Intake
    promises: Promises[Receipt]
    bell: Bell
    watch: Watch

    async def handle(self, export: Flattened, /) -> Pending[Receipt]:
        """How it stands now, and the promise of its commit.

        The promise is made first, as the uploader may be quick to keep it.
        """
        promise = self.promises.of(export.id)
        receipt = await self.intake.append(export)
        head, table = export.head, export.table
        if receipt.replayed:
            self.watch(ExportReplayed(export.id, head.correlation_id, head.user.sub))
        else:
            self.bell.ring()
            size = len(table.ndjson)
            self.watch(
                ExportAccepted(
                    export.id,
                    head.correlation_id,
                    head.user.sub,
                    table.ingested,
                    table.rejected,
                    size,
                )
            )
        if receipt.status != "accepted":
            promise.settle(receipt)
        return Pending(receipt, promise)
