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
    """Sends exports into the flow. A response may be "accepted" only if the journal is durable."""

    exports: Address[RawExport | StreamPart, Acknowledgement[Receipt]]
    shedder: LoadShedder
    reply_seconds: float
    is_durable: bool

    async def submit(self, export: RawExport | StreamPart) -> Acknowledgement[Receipt]:
        """Submit an export. Raises Unavailable if the flow stays full for too long."""
        with self.shedder.track():
            acknowledgement = self.exports.ask(export, self.reply_seconds)
            del export  # this frame must not hold the body while it waits
            return await acknowledgement

    async def wait_for_commit(
        self, acknowledgement: Acknowledgement[Receipt], until: float
    ) -> Receipt:
        """Wait for the commit until `until`, a time of the monotonic clock.

        Returns the "accepted" receipt if that takes longer and the journal is durable, and raises
        FoundryError if the journal is not. Raises ExportErased.
        """
        receipt = acknowledgement.receipt
        try:
            completed = await acknowledgement.completion.outcome(until - time.monotonic())
        except (TimeoutError, Unavailable):
            pass
        else:
            receipt = msgspec.structs.replace(completed, replayed=receipt.replayed)
        if receipt.status != "committed" and not self.is_durable:
            raise FoundryError(
                "Not committed in time. Sending the same request again adds nothing twice."
            )
        return receipt

    async def wait_for_outcome(
        self, accepted: Acknowledgement[Receipt] | AtlasError, until: float
    ) -> Receipt | AtlasError:
        """Wait for the commit, and return the receipt or the error."""
        if isinstance(accepted, AtlasError):
            return accepted
        try:
            return await self.wait_for_commit(accepted, until)
        except AtlasError as error:
            return error.detach()

    def compute_deadline(self, context: RequestContext) -> float:
        """Return the time of the monotonic clock until which the sender waits for the commit.

        The preference of the sender counts only with a durable journal.
        """
        seconds = context.wait_seconds
        if seconds is None or not self.is_durable:
            seconds = self.reply_seconds
        return time.monotonic() + seconds
