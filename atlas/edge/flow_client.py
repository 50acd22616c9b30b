"""Hands exports to the flow, and waits for their commit."""

import time
from dataclasses import dataclass

import msgspec

from atlas.core.errors import AtlasError, FoundryError, Unavailable
from atlas.core.messages import Export, Part, Receipt
from atlas.edge.admission import LoadShedder
from atlas.edge.context import RequestContext
from atlas.runtime import Acknowledgement, Address


@dataclass(frozen=True, slots=True)
class FlowClient:
    """The flow behind the edge. Only a durable journal may answer that an export is safe."""

    exports: Address[Export | Part, Acknowledgement[Receipt]]
    shedder: LoadShedder
    reply_seconds: float
    is_durable: bool

    async def submit(self, export: Export | Part) -> Acknowledgement[Receipt]:
        """Raises Unavailable when there is no room in the flow for too long."""
        with self.shedder.track():
            answer = self.exports.ask(export, self.reply_seconds)
            del export  # or its body is held for as long as the answer takes
            return await answer

    async def wait_for_commit(self, pending: Acknowledgement[Receipt], until: float) -> Receipt:
        """The receipt; committed, or, when that takes too long or we end, that it is safe.

        `until` is a moment of the monotonic clock. Raises FoundryError where there is no disk to be
        safe on, Forgotten.
        """
        receipt = pending.receipt
        try:
            later = await pending.completion.outcome(until - time.monotonic())
        except (TimeoutError, Unavailable):
            pass
        else:
            receipt = msgspec.structs.replace(later, replayed=receipt.replayed)
        if receipt.status != "committed" and not self.is_durable:
            raise FoundryError("Not committed in time. The same request joins it.")
        return receipt

    async def wait_for_outcome(
        self, accepted: Acknowledgement[Receipt] | AtlasError, until: float
    ) -> Receipt | AtlasError:
        """Committed, or that it is safe, or why it is neither."""
        if isinstance(accepted, AtlasError):
            return accepted
        try:
            return await self.wait_for_commit(accepted, until)
        except AtlasError as error:
            return error.with_traceback(None)

    def deadline(self, context: RequestContext) -> float:
        """Until when the sender waits for the commit, as it prefers or has to: a moment of the
        monotonic clock.
        """
        seconds = context.wait_seconds
        if seconds is None or not self.is_durable:
            seconds = self.reply_seconds
        return time.monotonic() + seconds
