"""Announces that the service is ready."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

from atlas.core.events import EventSink, ReadinessDelayed
from atlas.server.service_manager import ServiceManager

POLL_SECONDS = 0.25
QUIET_SECONDS = 2.0  # of waiting before it is logged


@dataclass(frozen=True, slots=True)
class Readiness:
    """Announces once that the service is ready, and until then the reason why it is not.

    `explain_unready` returns the reason, None if it is ready.
    """

    explain_unready: Callable[[], Awaitable[str | None]]
    on_ready: Callable[[], None]
    manager: ServiceManager
    emit: EventSink

    async def announce(self) -> None:
        began_at, logged_reason, notified_reason = anyio.current_time(), "", ""
        while (reason := await self.explain_unready()) is not None:
            if reason != notified_reason:
                notified_reason = reason
                self.manager.notify(f"STATUS=Not ready. {reason}")
            has_waited = anyio.current_time() - began_at >= QUIET_SECONDS
            if has_waited and reason != logged_reason:
                logged_reason = reason
                self.emit(ReadinessDelayed(reason))
            await anyio.sleep(POLL_SECONDS)
        self.on_ready()
        self.manager.notify("READY=1", "STATUS=Ready.")
