"""Whom a walk asks, and what it has learned on its way."""

from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit, urlunsplit

from atlas.core import names, ports
from atlas.core.diagnosis import Amiss, Asked
from atlas.core.sights import Condition, FilesSeen, Issued, TransactionSeen
from atlas.settings import Settings

NOT_SET = "not set"
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where one listens, one is there


@dataclass(frozen=True, slots=True)
class Sources:
    """The rooms, and the systems behind them."""

    issuer: ports.Issuer
    front: ports.Front
    checkup: ports.Checkup
    access: ports.Access
    branches: ports.Branches
    contents: ports.Contents
    schemas: ports.Schemas
    maintenance: ports.MaintenanceTasks | None  # None while another process owns the branch


@dataclass(slots=True)
class Learned:
    """What an earlier step has seen and a later one needs."""

    issued: Issued | Amiss | None = None
    grant_seconds: float | Amiss | None = None
    version: str | None = None
    condition: Condition | None = None
    open: TransactionSeen | None = None
    transactions: tuple[TransactionSeen, ...] = ()
    files: FilesSeen | None = None
    committed: TransactionSeen | None = None  # the last one of ours


@dataclass(frozen=True, slots=True)
class Asking:
    """One walk. `serves` is whether a service runs with these settings; `refusals`, how often it
    has refused what, by code.
    """

    settings: Settings
    asked: Asked
    sources: Sources
    now: ports.Clock
    serves: bool
    refusals: tuple[tuple[str, int], ...] = ()
    learned: Learned = field(default_factory=Learned)

    @property
    def url(self) -> str:
        """The address that phones use, to be shown."""
        return plain(address(self.settings, self.asked))

    def since(self, moment: datetime) -> str:
        """How long that is ago."""
        return names.lasting((self.now() - moment).total_seconds())


def address(settings: Settings, asked: Asked) -> str:
    """The one that phones use; else that of the service itself."""
    if asked.url is not None:
        return asked.url.rstrip("/")
    host = ANYWHERE.get(settings.edge.host, settings.edge.host)
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{settings.edge.port}"


def plain(url: str) -> str:
    """To be shown: without a name and a password in it, and without a query."""
    if not url:
        return NOT_SET
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return "no address"
