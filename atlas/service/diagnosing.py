"""The walk through all of it, inside a running service."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from atlas import __version__
from atlas.core import ports
from atlas.core.diagnosis import Amiss, Asked, Diagnosis
from atlas.core.errors import FoundryError
from atlas.core.messages import RemovalResult
from atlas.core.status_aggregator import StatusAggregator
from atlas.diagnose import COLUMNS, Context, Sources, address, walk
from atlas.outside import auth0, foundry, front
from atlas.service.world import transport_of
from atlas.settings import Settings

REFUSALS = 8  # codes that are told, the most frequent first


@dataclass(frozen=True, slots=True)
class Diagnosing:
    """What a running service does of it."""

    settings: Settings
    checkup: ports.Checkup
    maintenance: ports.MaintenanceTasks
    status: StatusAggregator
    now: ports.Clock

    async def diagnose(self, asked: Asked) -> Diagnosis:
        async with sources(self.settings, asked, self.checkup, self.maintenance, self.now) as found:
            refusals = self.status.by_label("atlas_refusals").most_common(REFUSALS)
            given = self.settings, asked, found, self.now
            return await walk(Context(*given, serves=True, refusals=tuple(refusals)), __version__)

    async def remove_old_json(self) -> RemovalResult:
        """Raises FoundryError."""
        return await self.maintenance.remove(await old_json(self.settings, self.now))


def wall() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def sources(
    settings: Settings,
    asked: Asked,
    checkup: ports.Checkup,
    maintenance: ports.MaintenanceTasks | None,
    now: ports.Clock,
) -> AsyncIterator[Sources]:
    """Everybody who is asked, over connections that are there for this walk only."""
    tenant, url = settings.auth0, address(settings, asked)
    transport = transport_of(settings)
    async with (
        auth0.inspected(tenant.issuer, tenant.audience, now, transport) as issuer,
        front.reached(url, time.monotonic, transport) as door,
        inspected(settings, now) as stack,
    ):
        yield Sources(issuer, door, checkup, stack, stack.dataset, maintenance)


@asynccontextmanager
async def inspected(
    settings: Settings, now: ports.Clock = wall
) -> AsyncIterator[foundry.FoundryInspection]:
    stack = settings.foundry
    place = foundry.Target(stack.host, stack.dataset_rid, stack.branch, transport_of(settings))
    client = foundry.Credentials(stack.oauth_token_url, stack.client_id, stack.client_secret)
    async with foundry.open_inspection(place, client, now, time.monotonic) as found:
        yield found


async def old_json(settings: Settings, now: ports.Clock = wall) -> Sequence[str]:
    """Return the files that the service before Atlas wrote. Raises FoundryError."""
    async with granted(settings, now) as stack:
        found = await stack.dataset.files_under("healthkit/raw/")
        return [file.path for file in found if file.path.endswith(".json")]


async def fix_schema(settings: Settings) -> None:
    """Give the dataset the schema of our rows as Parquet. Raises FoundryError."""
    async with granted(settings) as stack:
        await stack.put_schema(COLUMNS)


@asynccontextmanager
async def granted(
    settings: Settings, now: ports.Clock = wall
) -> AsyncIterator[foundry.FoundryInspection]:
    """Open a stack that gives us a token. Raises FoundryError that says what to do."""
    async with inspected(settings, now) as stack:
        try:
            await stack.fetch_token()
            yield stack
        except Amiss as amiss:
            raise FoundryError(f"{amiss} {amiss.finding.to_do}") from amiss
        except FoundryError as error:
            raise FoundryError(f"{error} {error.to_do}") from error
