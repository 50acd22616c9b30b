"""The context of one diagnosis: what it asks, and what its steps have learned so far."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit, urlunsplit

from atlas.core import identifiers, ports
from atlas.core.diagnosis import CheckFailed, DiagnosisRequest
from atlas.core.inspection import IssuerKeys, JournalHealth, TransactionInfo
from atlas.settings import Settings

NOT_SET = "not set"
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a listener there is here, too


@dataclass(frozen=True, slots=True)
class Inspectors:
    """Ports to the systems that are diagnosed."""

    issuer: ports.IssuerInspector
    front: ports.PublicEndpoint
    checkup: ports.JournalInspector
    foundry: ports.DatasetInspection
    branch: ports.Branch
    maintenance: ports.MaintenanceTasks | None  # None while another process owns the branch


@dataclass(slots=True)
class Facts:
    """Results of earlier steps that later ones need."""

    issued: IssuerKeys | CheckFailed | None = None
    token_seconds: int | CheckFailed | None = None
    version: str | None = None
    condition: JournalHealth | None = None
    open: TransactionInfo | None = None
    transactions: tuple[TransactionInfo, ...] = ()
    endings: Counter[str] = field(default_factory=Counter)  # of our files' names, and how many
    committed: TransactionInfo | None = None  # the last one of ours


@dataclass(slots=True)
class Context:
    """`serves`: a service runs with these settings. `refusals`: their number by code.

    `evidence` is what the current step has seen so far.
    """

    settings: Settings
    asked: DiagnosisRequest
    sources: Inspectors
    now: ports.Clock
    serves: bool
    refusals: tuple[tuple[str, int], ...] = ()
    learned: Facts = field(default_factory=Facts)
    evidence: list[tuple[str, str]] = field(default_factory=list)

    def note(self, *facts: tuple[str, str]) -> None:
        """Add evidence to the current step, each fact with its name."""
        self.evidence += facts

    @property
    def url(self) -> str:
        """The address that phones use, to be shown."""
        return redact_url(build_target_url(self.settings, self.asked))

    def since(self, moment: datetime) -> str:
        """Return the time since then, in words."""
        return identifiers.format_duration((self.now() - moment).total_seconds())


def build_target_url(settings: Settings, request: DiagnosisRequest) -> str:
    """Return the address that phones use, or else that of the service itself."""
    if request.url is not None:
        return request.url.rstrip("/")
    host = ANYWHERE.get(settings.edge.host, settings.edge.host)
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{settings.edge.port}"


def redact_url(url: str) -> str:
    """Return a URL without the parts that may be secret: user, password and query."""
    if not url:
        return NOT_SET
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return "no address"
