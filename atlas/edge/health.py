"""Health and readiness, for people, orchestrators and load balancers."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive

from atlas.core import names
from atlas.core.errors import AtlasError
from atlas.core.ports import Clock
from atlas.edge import wire
from atlas.edge.app import Path
from atlas.edge.context import RequestContext
from atlas.edge.error_responses import json

Checks = Mapping[str, Callable[[], Awaitable[None]]]


@dataclass(frozen=True, slots=True)
class Health:
    """The routes. Each of `checks`, by name, raises why no export can be accepted."""

    checks: Checks
    version: str
    now: Clock

    def paths(self) -> list[Path]:
        return [
            *(Path(path, GET=self.healthy) for path in ("/", "/health", "/health/live")),
            Path("/health/ready", GET=self.ready),
        ]

    async def healthy(self, context: RequestContext, _receive: Receive) -> Response:
        """Answer if the loop turns. Nothing is checked: a restart does not help a full journal."""
        reply = wire.HealthReply(
            status="healthy",
            service="atlas",
            timestamp=names.timestamp(self.now()),
            version=self.version,
            correlation_id=context.correlation_id,
        )
        return json(reply, 200)

    async def ready(self, context: RequestContext, _receive: Receive) -> Response:
        """Whether an export can be accepted now; Foundry being down does not matter to that."""
        found: dict[str, wire.Check] = {}
        for name, check in self.checks.items():
            try:
                await check()
                found[name] = wire.Check(ok=True)
            except AtlasError as error:
                found[name] = wire.Check(ok=False, reason=str(error))
        is_ready = all(check.ok for check in found.values())
        reply = wire.ReadyReply(
            status="ready" if is_ready else "not ready",
            checks=found,
            timestamp=names.timestamp(self.now()),
            correlation_id=context.correlation_id,
        )
        return json(reply, 200 if is_ready else 503)
