"""Context of one diagnosis: its inputs, and the facts that its steps have found so far."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit, urlunsplit

from atlas.core import identifiers, ports
from atlas.core.diagnosis import CheckFailed, DiagnosisRequest
from atlas.core.inspection import IssuerKeys, JournalHealth, TransactionInfo
from atlas.core.status import ServiceVerdict
from atlas.settings import Settings

NOT_SET = "not set"
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - reaches a wildcard listener


@dataclass(frozen=True, slots=True)
class Inspectors:
    """Ports to the systems that are diagnosed."""

    issuer: ports.IssuerInspector
    endpoint: ports.PublicEndpoint
    journal: ports.JournalInspector
    foundry: ports.DatasetInspection
    schemas: ports.SchemaInspection
    rows: ports.RowCounter
    branch: ports.Branch
    maintenance: ports.MaintenanceTasks | None  # None while another process owns the branch
    stream: ports.StreamInspection | None = None  # None if none is configured


@dataclass(slots=True)
class Facts:
    """Results of earlier steps that later steps need. `last_commit` is the last one of ours."""

    issuer_keys: dict[str, IssuerKeys | CheckFailed] = field(default_factory=dict)  # by issuer
    token_seconds: int | CheckFailed | None = None
    version: str | None = None
    journal: JournalHealth | None = None
    open_transaction: TransactionInfo | None = None
    transactions: tuple[TransactionInfo, ...] = ()
    file_counts: Counter[str] = field(default_factory=Counter)  # of our files, by extension
    last_commit: TransactionInfo | None = None


@dataclass(slots=True)
class Context:
    """Inputs and state of a diagnosis.

    `is_serving` is true if a service runs with these settings. `refusals` are its rejected requests
    by error code, `service_verdict` is its verdict on itself. `evidence` belongs to the current
    step.
    """

    settings: Settings
    request: DiagnosisRequest
    inspectors: Inspectors
    clock: ports.Clock
    is_serving: bool
    refusals: tuple[tuple[str, int], ...] = ()
    service_verdict: ServiceVerdict | None = None
    facts: Facts = field(default_factory=Facts)
    evidence: list[tuple[str, str]] = field(default_factory=list)

    def note(self, *evidence: tuple[str, str]) -> None:
        """Add evidence to the current step, as pairs of a name and a value."""
        self.evidence += evidence

    @property
    def url(self) -> str:
        """The address that phones use, without secrets."""
        return redact_url(build_target_url(self.settings, self.request))

    def format_age(self, moment: datetime) -> str:
        """Return the time since then, in words."""
        return identifiers.format_duration((self.clock() - moment).total_seconds())


def build_target_url(settings: Settings, request: DiagnosisRequest) -> str:
    """Return the requested address, or that of the service on this machine."""
    if request.url is not None:
        return request.url.rstrip("/")
    host = LOOPBACK.get(settings.edge.host, settings.edge.host)
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
        return "not an address"
