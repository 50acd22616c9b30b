"""The walk through all of it, inside a running service."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from atlas import __version__
from atlas.core import ports
from atlas.core.diagnosis import CheckFailed, Diagnosis, DiagnosisRequest
from atlas.core.errors import FoundryError
from atlas.core.messages import RemovalResult
from atlas.core.status_aggregator import StatusAggregator
from atlas.diagnose import COLUMNS, Context, Inspectors, build_target_url, run_checks
from atlas.outside import auth0, foundry, public_endpoint
from atlas.service.dependencies import build_transport
from atlas.settings import Settings

REFUSALS_MAX = 8  # codes that are told, the most frequent first


@dataclass(frozen=True, slots=True)
class DiagnosisService:
    """What a running service does of it."""

    settings: Settings
    checkup: ports.JournalInspector
    maintenance: ports.MaintenanceTasks
    status: StatusAggregator
    clock: ports.Clock

    async def diagnose(self, request: DiagnosisRequest) -> Diagnosis:
        async with open_inspectors(
            self.settings, request, self.checkup, self.maintenance, self.clock
        ) as inspectors:
            refusals = self.status.by_label("atlas_refusals").most_common(REFUSALS_MAX)
            given = self.settings, request, inspectors, self.clock
            return await run_checks(
                Context(*given, serves=True, refusals=tuple(refusals)), __version__
            )

    async def remove_old_json(self) -> RemovalResult:
        """Raises FoundryError."""
        return await self.maintenance.remove(await list_legacy_files(self.settings, self.clock))


def utc_now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def open_inspectors(
    settings: Settings,
    request: DiagnosisRequest,
    checkup: ports.JournalInspector,
    maintenance: ports.MaintenanceTasks | None,
    clock: ports.Clock,
) -> AsyncIterator[Inspectors]:
    """Everybody who is asked, over connections that are there for this walk only."""
    tenant, url = settings.auth0, build_target_url(settings, request)
    transport = build_transport(settings)
    async with (
        auth0.open_issuer_inspection(tenant.issuer, tenant.audience, clock, transport) as issuer,
        public_endpoint.open_public_endpoint(url, time.monotonic, transport) as endpoint,
        open_foundry_inspection(settings, clock) as inspection,
    ):
        yield Inspectors(issuer, endpoint, checkup, inspection, inspection.dataset, maintenance)


@asynccontextmanager
async def open_foundry_inspection(
    settings: Settings, clock: ports.Clock = utc_now
) -> AsyncIterator[foundry.FoundryInspection]:
    foundry_settings = settings.foundry
    target = foundry.FoundryTarget(
        foundry_settings.host,
        foundry_settings.dataset_rid,
        foundry_settings.branch,
        build_transport(settings),
    )
    client = foundry.Credentials(
        foundry_settings.oauth_token_url, foundry_settings.client_id, foundry_settings.client_secret
    )
    async with foundry.open_inspection(target, client, clock, time.monotonic) as inspection:
        yield inspection


async def list_legacy_files(settings: Settings, clock: ports.Clock = utc_now) -> Sequence[str]:
    """Return the files that the service before Atlas wrote. Raises FoundryError."""
    async with open_authorized_inspection(settings, clock) as inspection:
        found = await inspection.dataset.list_files("healthkit/raw/")
        return [file.path for file in found if file.path.endswith(".json")]


async def fix_schema(settings: Settings) -> None:
    """Give the dataset the schema of our rows as Parquet. Raises FoundryError."""
    async with open_authorized_inspection(settings) as inspection:
        await inspection.put_schema(COLUMNS)


@asynccontextmanager
async def open_authorized_inspection(
    settings: Settings, clock: ports.Clock = utc_now
) -> AsyncIterator[foundry.FoundryInspection]:
    """Open a stack that gives us a token. Raises FoundryError that says what to do."""
    async with open_foundry_inspection(settings, clock) as inspection:
        try:
            await inspection.fetch_token()
            yield inspection
        except CheckFailed as amiss:
            raise FoundryError(f"{amiss} {amiss.finding.to_do}") from amiss
        except FoundryError as error:
            raise FoundryError(f"{error} {error.remedy}") from error
