"""The sections of the configuration: one struct each, with the defaults."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from atlas.core.messages import FileFormat, FileLayout, GroupLimits

MIB = 1024 * 1024
RID = r"^ri\.[a-z][a-z0-9-]*\.([a-z0-9][a-z0-9\-]*)?\.[a-z][a-z0-9-]*\.[a-zA-Z0-9._-]+$"

Port = Annotated[int, Meta(ge=0, le=65535)]
PositiveFloat = Annotated[float, Meta(gt=0)]
PositiveInt = Annotated[int, Meta(ge=1)]
NonEmpty = Annotated[str, Meta(min_length=1)]


class Secret(str):
    """Text that `repr` does not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(...)"


class EdgeSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The public listener."""

    host: str = "127.0.0.1"
    port: Port = 8080
    cors_origins: tuple[str, ...] = ()
    commit_wait_seconds: Annotated[float, Meta(gt=0, le=50)] = 25.0
    body_bytes_max: PositiveInt = 32 * MIB
    chunks_max: PositiveInt = 64
    stream_bytes_max: PositiveInt = 4096 * MIB
    rate_per_minute: Annotated[int, Meta(ge=0)] = 100  # requests per user; 0: no limit
    # bodies that are not in the journal yet, of all users and of each
    flight_bytes_max: PositiveInt = 96 * MIB
    flight_bytes_max_of_user: PositiveInt = 48 * MIB
    connections_max: PositiveInt = 10_000
    header_bytes_max: Annotated[int, Meta(ge=1024)] = 16 * 1024
    header_seconds: PositiveFloat = 10.0
    # minimum rate of a body, averaged over `slow_seconds`
    slow_seconds: PositiveFloat = 10.0
    slow_bytes_per_second: PositiveInt = 1024


class Auth0Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """The issuer and audience of accepted tokens. The issuer is a URL that ends with a slash."""

    issuer: str = ""
    domain: str = ""
    audience: NonEmpty = "https://api.atlas.ai"
    required_scope: str = ""


class ExportSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The size limits of a decoded export, and the number of worker processes.

    -1 workers: as many as processors and memory allow.
    """

    bytes_max: PositiveInt = 16 * MIB
    lines_max: PositiveInt = 100_000
    workers: Annotated[int, Meta(ge=-1, le=64)] = -1


class JournalSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The journal: accepted exports until they are committed, encrypted.

    The first key encrypts, all keys decrypt; each is 32 bytes in base64. `bytes_max` (before
    compression) and `exports_max` limit the exports that are not committed; `free_bytes_min` stays
    free on the disk; `receipts_*` limit the receipts of committed exports.
    """

    url: str = "sqlite:///var/journal.db"
    keys: tuple[str, ...] = ()
    bytes_max: PositiveInt = 4096 * MIB
    exports_max: PositiveInt = 1_000_000
    free_bytes_min: Annotated[int, Meta(ge=0)] = 256 * MIB
    receipts_days: Annotated[int, Meta(ge=8)] = 30
    receipts_max: PositiveInt = 2_000_000

    @property
    def path(self) -> Path | None:
        """The database file, or None for a journal in memory."""
        return None if self.url == "memory:" else Path(self.url.removeprefix("sqlite:///"))


class FoundrySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The dataset, the client's credentials, and the limits of the uploads."""

    host: str = ""
    client_id: str = ""
    client_secret: str = ""
    oauth_token_url: str = ""
    dataset_rid: Annotated[str, Meta(pattern=RID)] = (
        "ri.foundry.main.dataset.19102749-23e6-4fa8-827e-70eae2b94730"
    )
    branch: NonEmpty = "master"
    sole_writer: bool = True
    commit_interval_seconds: Annotated[float, Meta(ge=0)] = 5.0
    call_seconds: PositiveFloat = 30.0
    drain_seconds: Annotated[float, Meta(ge=0, le=8)] = 5.0
    uploads_at_once: Annotated[int, Meta(ge=1, le=396)] = 64  # max: half of Foundry's 800
    requests_per_minute: Annotated[int, Meta(ge=60)] = 9_000  # of Foundry's 10,000
    file_format: FileFormat = "ndjson"
    file_layout: FileLayout = "auto"
    group: GroupLimits = GroupLimits()


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The log on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    user_ids: bool = False


class OperatorSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The operator listener, HOST:PORT. Addresses other than loopback require a token.

    `metrics_open` serves the metrics, and nothing else, without the token.
    """

    listen: Annotated[str, Meta(pattern=r"^(\[[0-9a-fA-F:]+\]|[^:\[\]]+):[0-9]{1,5}$")] = (
        "127.0.0.1:9464"
    )
    token: Annotated[str, Meta(pattern=r"^[!-~]*$")] = ""  # printable in a header
    metrics_open: bool = False

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class TracesSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The OTLP/HTTP URL that traces are sent to; empty: no traces.

    `share` is the recorded share of the requests that do not continue a trace of their sender.
    """

    endpoint: str = ""
    share: Annotated[float, Meta(ge=0, le=1)] = 1.0


class NetworkSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Connections to other systems.

    `ca_bundle` is a PEM file of certificates to trust in addition to the system's. `use_proxy`
    honours HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
    """

    ca_bundle: str = ""
    use_proxy: bool = True


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    edge: EdgeSettings = EdgeSettings()
    auth0: Auth0Settings = Auth0Settings()
    export: ExportSettings = ExportSettings()
    journal: JournalSettings = JournalSettings()
    foundry: FoundrySettings = FoundrySettings()
    log: LogSettings = LogSettings()
    operator: OperatorSettings = OperatorSettings()
    traces: TracesSettings = TracesSettings()
    network: NetworkSettings = NetworkSettings()
