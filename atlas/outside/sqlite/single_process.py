"""Leadership in a service of one process: it always leads, and has no peers."""

from collections.abc import Collection, Mapping

import anyio

from atlas.core.ports import HandleNotification, Outcomes


class SoleLeader:
    """Implements `ports.Leadership`: the lock on the journal is the lease."""

    lease_seconds = None

    async def acquire(self, *, is_urgent: bool = False) -> int | None:  # noqa: ARG002
        return 1

    async def renew(self) -> bool:
        return False

    async def release(self) -> None:
        """Do nothing: the lock is released with the journal."""


class NoPeers:
    """Implements `ports.ReplicaPeers`."""

    async def listen(self, handle: HandleNotification) -> None:  # noqa: ARG002
        await anyio.sleep_forever()

    async def read_outcomes(self, ids: Collection[str]) -> Outcomes:  # noqa: ARG002
        return Outcomes()

    async def exchange_usage(self, usage: Mapping[str, float]) -> Mapping[str, float]:  # noqa: ARG002
        return {}
