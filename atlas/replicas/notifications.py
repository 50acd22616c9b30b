"""Passes on what other replicas have done: to waiting requests, the uploader and the quarantine."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from atlas.core.errors import ExportErased, Unavailable
from atlas.core.messages import Receipt
from atlas.core.ports import ReplicaPeers, Topic
from atlas.runtime import CompletionRegistry


@dataclass(frozen=True, slots=True)
class NotificationHandler:
    """Handles the notifications of other replicas."""

    peers: ReplicaPeers
    completions: CompletionRegistry[Receipt]
    reload_quarantine: Callable[[], Awaitable[None]]
    wake_uploader: Callable[[], None]
    wake_leader: Callable[[], None]

    async def run(self) -> None:
        await self.peers.listen(self.handle)

    async def handle(self, topic: Topic) -> None:
        """Handle a notification. After a failure of the journal it is repeated."""
        with suppress(Unavailable):
            match topic:
                case "stored":
                    self.wake_uploader()
                case "settled":
                    await self.resolve_completions()
                case "set_aside":
                    await self.reload_quarantine()
                case "lease":
                    self.wake_leader()

    async def resolve_completions(self) -> None:
        """Answer the requests whose exports another replica has committed, set aside or erased."""
        ids = self.completions.list_acknowledged()
        if not ids:
            return
        outcomes = await self.peers.read_outcomes(ids)
        for receipt in outcomes.receipts:
            self.completions.resolve(receipt.id, receipt)
        for id in outcomes.erased:
            self.completions.resolve(id, ExportErased())
