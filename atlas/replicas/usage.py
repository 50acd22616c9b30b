"""Exchanges the usage of users near the rate limit, so that it holds at all replicas together."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import anyio

from atlas.core.errors import Unavailable
from atlas.core.ports import ReplicaPeers

EXCHANGE_SECONDS = 1.0


class SharedLimiter(Protocol):
    """The rate limiter of this replica."""

    def take_usage(self) -> Mapping[str, float]: ...

    def raise_debts(self, debts: Mapping[str, float]) -> None: ...


@dataclass(frozen=True, slots=True)
class UsageExchange:
    """Exchanges usage each second, if there is any."""

    peers: ReplicaPeers
    limiter: SharedLimiter

    async def run(self) -> None:
        while True:
            await anyio.sleep(EXCHANGE_SECONDS)
            usage = self.limiter.take_usage()
            if usage:
                with suppress(Unavailable):  # the limit of this replica holds all the same
                    self.limiter.raise_debts(await self.peers.exchange_usage(usage))
