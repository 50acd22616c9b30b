"""Health and readiness, for people, orchestrators and load balancers."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive

from atlas.core import identifiers
from atlas.core.errors import AtlasError
from atlas.core.ports import Clock
from atlas.edge.api_types import Check, HealthReply, ReadyReply
from atlas.edge.app import EdgeRoute
from atlas.edge.context import RequestContext
from atlas.edge.error_responses import build_json_response
from atlas.runtime import OnCrash, answer_crashes

Checks = Mapping[str, Callable[[], Awaitable[None]]]


@dataclass(frozen=True, slots=True)
class HealthRoutes:
    """The health routes. Each of `checks` raises an AtlasError if no export can be accepted."""

    checks: Checks
    version: str
    clock: Clock

    def build_routes(self) -> list[EdgeRoute]:
        return [
            *(EdgeRoute(path, GET=self.get_health) for path in ("/", "/health", "/health/live")),
            EdgeRoute("/health/ready", GET=self.get_readiness),
        ]

    async def get_health(self, context: RequestContext, _receive: Receive) -> Response:
        """Respond while the event loop runs. Checks nothing that a restart would not repair."""
        reply = HealthReply(
            status="healthy",
            service="atlas",
            timestamp=identifiers.format_timestamp(self.clock()),
            version=self.version,
            correlation_id=context.correlation_id,
        )
        return build_json_response(reply, 200)

    async def get_readiness(self, context: RequestContext, _receive: Receive) -> Response:
        """Respond with 503 if no export can be accepted now. Foundry being down does not matter."""
        results = await run_checks(self.checks)
        is_ready = all(check.ok for check in results.values())
        reply = ReadyReply(
            status="ready" if is_ready else "not ready",
            checks=results,
            timestamp=identifiers.format_timestamp(self.clock()),
            correlation_id=context.correlation_id,
        )
        return build_json_response(reply, 200 if is_ready else 503)


async def run_checks(checks: Checks) -> dict[str, Check]:
    results: dict[str, Check] = {}
    for name, check in checks.items():
        try:
            await check()
            results[name] = Check(ok=True)
        except AtlasError as error:
            results[name] = Check(ok=False, reason=str(error))
    return results


async def explain_unready(checks: Checks, on_crash: OnCrash) -> str | None:
    """Return the checks that fail, with the reasons; None if Atlas is ready."""
    try:
        results = await answer_crashes("edge", run_checks(checks), on_crash)
    except AtlasError as error:
        return str(error)
    reasons = [f"{name}: {check.reason}" for name, check in results.items() if not check.ok]
    return " ".join(reasons) or None
