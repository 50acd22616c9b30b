"""What can be set, a struct for each room."""

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
    """Text that never prints."""

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
    rate_per_minute: Annotated[int, Meta(ge=0)] = 100  # requests of one user; 0: no limit
    flight_bytes_max: PositiveInt = (
        96 * MIB
    )  # of bodies that are read and not yet safe, of all users
    flight_bytes_max_of_user: PositiveInt = 48 * MIB
    connections_max: PositiveInt = 10_000
    header_bytes_max: Annotated[int, Meta(ge=1024)] = 16 * 1024
    header_seconds: PositiveFloat = 10.0
    slow_seconds: PositiveFloat = 10.0  # over so long, a body comes at
    slow_bytes_per_second: PositiveInt = 1024  # ... or is too slow


class Auth0Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose tokens are good. The issuer is a URL with a slash at its end."""

    issuer: str = ""
    domain: str = ""
    audience: NonEmpty = "https://api.atlas.ai"
    required_scope: str = ""


class ExportSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How large one export may be, decoded, and how many processes flatten.

    With -1 those go by cores and memory.
    """

    bytes_max: PositiveInt = 16 * MIB
    lines_max: PositiveInt = 100_000
    workers: Annotated[int, Meta(ge=-1, le=64)] = -1


class JournalSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where accepted exports are kept until they are committed, and what they are sealed with.

    The first of the keys seals, all open; each is 32 bytes, as base64. The bounds are of what is
    not committed, `bytes_max` before compression, and of what stays free on the disk; receipts of
    what is committed are kept for so long, and so many.
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
        """None for a journal in memory."""
        return None if self.url == "memory:" else Path(self.url.removeprefix("sqlite:///"))


class FoundrySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The dataset, who we are there, and how we write to it."""

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
    uploads_at_once: Annotated[int, Meta(ge=1, le=396)] = 64  # of Foundry's 800 calls, half
    requests_per_minute: Annotated[int, Meta(ge=60)] = 9_000  # of Foundry's 10,000
    file_format: FileFormat = "ndjson"
    file_layout: FileLayout = "auto"
    group: GroupLimits = GroupLimits()


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What is told on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    user_ids: bool = False


class OperatorSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The listener for operators, HOST:PORT; on any but loopback addresses a token is required.

    With `metrics_open` the metrics are shown without it, and nothing else.
    """

    listen: Annotated[str, Meta(pattern=r"^(\[[0-9a-fA-F:]+\]|[^:\[\]]+):[0-9]{1,5}$")] = (
        "127.0.0.1:9464"
    )
    token: Annotated[str, Meta(pattern=r"^[!-~]*$")] = ""  # what a header can carry
    metrics_open: bool = False

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class TracesSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where traces are sent: a URL of OTLP over HTTP; none, if empty.

    Of the requests whose sender has begun no trace, this share is recorded.
    """

    endpoint: str = ""
    share: Annotated[float, Meta(ge=0, le=1)] = 1.0


class NetworkSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of connections to other systems.

    `ca_bundle` is a file of PEM certificates that are trusted beside the system's own. `use_proxy`:
    through the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name.
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
