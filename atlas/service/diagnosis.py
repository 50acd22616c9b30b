"""`atlas diagnose` inside a running service, and its access to Auth0, Foundry and the listener."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass

from atlas import __version__
from atlas.core import ports
from atlas.core.diagnosis import CheckFailed, Diagnosis, DiagnosisRequest
from atlas.core.errors import FoundryError
from atlas.core.messages import RemovalResult
from atlas.core.status_aggregator import StatusAggregator
from atlas.diagnose import Context, Inspectors, build_target_url, run_checks
from atlas.edge.operator import GaugeReader
from atlas.outside import auth0, foundry, public_endpoint
from atlas.service.dependencies import (
    build_credentials,
    build_stream_target,
    build_target,
    build_token_policy,
    build_transport,
)
from atlas.service.subscribers import utc_now
from atlas.settings import Settings

REFUSALS_MAX = 8  # reported error codes, most frequent first


@dataclass(frozen=True, slots=True)
class DiagnosisService:
    """Diagnoses the running service."""

    settings: Settings
    inspector: ports.JournalInspector
    maintenance: ports.MaintenanceTasks
    status: StatusAggregator
    gauges: GaugeReader
    clock: ports.Clock

    async def diagnose(self, request: DiagnosisRequest) -> Diagnosis:
        verdict = self.status.take_snapshot(await self.gauges.read_with_readiness()).verdict
        async with open_inspectors(
            self.settings, request, self.inspector, self.maintenance, self.clock
        ) as inspectors:
            refusals = tuple(self.status.by_label("atlas_refusals").most_common(REFUSALS_MAX))
            context = Context(
                self.settings,
                request,
                inspectors,
                self.clock,
                is_serving=True,
                refusals=refusals,
                service_verdict=verdict,
            )
            return await run_checks(context, __version__)

    async def remove_old_json(self) -> RemovalResult:
        """Remove the old service's files from the dataset. Raises FoundryError."""
        return await self.maintenance.remove(await list_legacy_files(self.settings, self.clock))


@asynccontextmanager
async def open_inspectors(
    settings: Settings,
    request: DiagnosisRequest,
    journal: ports.JournalInspector,
    maintenance: ports.MaintenanceTasks | None,
    clock: ports.Clock,
) -> AsyncIterator[Inspectors]:
    """Open everything that the checks inspect, over connections of their own."""
    policy, url = build_token_policy(settings), build_target_url(settings, request)
    transport = build_transport(settings)
    async with (
        auth0.open_issuer_inspection(policy, clock, transport) as issuer,
        public_endpoint.open_public_endpoint(url, time.monotonic, transport) as endpoint,
        open_foundry_inspection(settings, clock) as inspection,
        open_stream_inspection(settings) as stream,
    ):
        yield Inspectors(
            issuer,
            endpoint,
            journal,
            inspection,
            inspection.schemas,
            inspection.rows,
            inspection.dataset,
            maintenance,
            stream,
        )


def open_stream_inspection(
    settings: Settings,
) -> AbstractAsyncContextManager[ports.StreamInspection | None]:
    """Open the stream beside the dataset, if there is one. No call is retried."""
    if not settings.stream.rid:
        return nullcontext()
    return foundry.open_stream_inspection(
        build_stream_target(settings), build_credentials(settings), time.monotonic
    )


def open_foundry_inspection(
    settings: Settings, clock: ports.Clock
) -> AbstractAsyncContextManager[foundry.FoundryInspection]:
    return foundry.open_inspection(
        build_target(settings), build_credentials(settings), clock, time.monotonic
    )


async def list_legacy_files(settings: Settings, clock: ports.Clock = utc_now) -> Sequence[str]:
    """Return the paths of the files that the old service wrote. Raises FoundryError."""
    async with open_authorized_inspection(settings, clock) as inspection:
        files = await inspection.dataset.list_files("healthkit/raw/")
        return [file.path for file in files if file.path.endswith(".json")]


@asynccontextmanager
async def open_authorized_inspection(
    settings: Settings, clock: ports.Clock = utc_now
) -> AsyncIterator[foundry.FoundryInspection]:
    """Open an inspection of Foundry with a token. Raises FoundryError that names the remedy."""
    async with open_foundry_inspection(settings, clock) as inspection:
        try:
            await inspection.fetch_token()
            yield inspection
        except CheckFailed as failure:
            raise FoundryError(f"{failure} {failure.outcome.to_do}") from failure
        except FoundryError as error:
            raise FoundryError(f"{error} {error.remedy}".rstrip()) from error
