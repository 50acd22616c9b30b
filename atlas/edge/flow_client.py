"""Submits exports to the flow, and waits for their commit."""

import time
from dataclasses import dataclass

import msgspec

from atlas.core.errors import AtlasError, FoundryError, Unavailable
from atlas.core.messages import RawExport, Receipt, StreamPart
from atlas.edge.admission import LoadShedder
from atlas.edge.context import RequestContext
from atlas.runtime import Acknowledgement, Address


@dataclass(frozen=True, slots=True)
class FlowClient:
    """The flow as the edge uses it. Only a durable journal may answer that an export is safe."""

    exports: Address[RawExport | StreamPart, Acknowledgement[Receipt]]
    shedder: LoadShedder
    reply_seconds: float
    is_durable: bool

    async def submit(self, export: RawExport | StreamPart) -> Acknowledgement[Receipt]:
        """Raises Unavailable if the flow stays full for too long."""
        with self.shedder.track():
            answer = self.exports.ask(export, self.reply_seconds)
            del export  # or this frame keeps its body while it waits
            return await answer

    async def wait_for_commit(
        self, acknowledgement: Acknowledgement[Receipt], until: float
    ) -> Receipt:
        """Wait for the commit. The receipt says only that it is safe if that takes too long.

        `until` is a moment of the monotonic clock. Raises FoundryError if it is not committed and
        the journal is not durable, Forgotten.
        """
        receipt = acknowledgement.receipt
        try:
            completed = await acknowledgement.completion.outcome(until - time.monotonic())
        except (TimeoutError, Unavailable):
            pass
        else:
            receipt = msgspec.structs.replace(completed, replayed=receipt.replayed)
        if receipt.status != "committed" and not self.is_durable:
            raise FoundryError("Not committed in time. The same request joins it.")
        return receipt

    async def wait_for_outcome(
        self, accepted: Acknowledgement[Receipt] | AtlasError, until: float
    ) -> Receipt | AtlasError:
        """Wait for the commit. Returns the receipt, or the error."""
        if isinstance(accepted, AtlasError):
            return accepted
        try:
            return await self.wait_for_commit(accepted, until)
        except AtlasError as error:
            return error.detach()

    def compute_deadline(self, context: RequestContext) -> float:
        """The moment of the monotonic clock until which the sender waits for the commit. Without a
        durable journal its preference does not count.
        """
        seconds = context.wait_seconds
        if seconds is None or not self.is_durable:
            seconds = self.reply_seconds
        return time.monotonic() + seconds
