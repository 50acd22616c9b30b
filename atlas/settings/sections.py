"""The sections of the configuration: one struct each, with the defaults and the descriptions."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from atlas.core.messages import FileFormat, FileLayout, GroupLimits
from atlas.settings.tokens import Auth0Settings
from atlas.settings.values import KEY, MIB, RID, NonEmpty, Port, PositiveFloat, PositiveInt


class EdgeSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The public listener."""

    host: Annotated[str, Meta(description="the address of the public listener")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="the port of the public listener")] = 8080
    public_url: Annotated[str, Meta(description="the URL that phones use; DPoP proofs name it")] = (
        ""
    )
    cors_origins: Annotated[tuple[str, ...], Meta(description="allowed origins; * for all")] = ()
    commit_wait_seconds: Annotated[
        float,
        Meta(
            gt=0,
            le=50,
            description="then the answer is 202; at most 50",
        ),
    ] = 25.0
    body_bytes_max: Annotated[
        PositiveInt, Meta(description="one request, compressed and decompressed")
    ] = 32 * MIB
    chunks_max: Annotated[PositiveInt, Meta(description="chunks in one batch")] = 64
    stream_bytes_max: Annotated[
        PositiveInt, Meta(description="one streamed body, decompressed")
    ] = 4096 * MIB
    rate_per_minute: Annotated[int, Meta(ge=0, description="requests per user; 0: no limit")] = 100
    reports_per_hour: Annotated[
        int, Meta(ge=0, description="reports of a user's phones at each replica; 0: no limit")
    ] = 30
    flight_bytes_max: Annotated[
        PositiveInt,
        Meta(description="bodies that are not in the journal yet; JSON counts four times"),
    ] = 96 * MIB
    flight_bytes_max_of_user: Annotated[
        PositiveInt, Meta(description="bodies of one user that are not in the journal yet")
    ] = 48 * MIB
    connections_max: Annotated[
        PositiveInt, Meta(description="open sockets, or fewer if the system allows fewer")
    ] = 10_000
    header_bytes_max: Annotated[
        int, Meta(ge=1024, description="request line and headers; if larger, 431")
    ] = 16 * 1024
    header_seconds: Annotated[
        PositiveFloat,
        Meta(description="for the headers, from their first byte or from the connection"),
    ] = 10.0
    idle_seconds: Annotated[
        PositiveFloat, Meta(description="a connection that is idle for this time is closed")
    ] = 620.0
    slow_seconds: Annotated[
        PositiveFloat, Meta(description="a client that reads nothing for this time is disconnected")
    ] = 10.0
    slow_bytes_per_second: Annotated[
        PositiveInt,
        Meta(description="a slower body gets 408; 32 times that if others wait"),
    ] = 1024


class ExportSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """One export, decoded, and its rows."""

    bytes_max: Annotated[PositiveInt, Meta(description="bytes of one export")] = 16 * MIB
    lines_max: Annotated[PositiveInt, Meta(description="lines of one export")] = 100_000
    workers: Annotated[
        int,
        Meta(
            ge=-1,
            le=64,
            description="worker processes; 0: none; -1: by cores, memory",
        ),
    ] = -1
    columns: Annotated[
        Literal[21, 23],
        Meta(description="23: with sample_key and is_deleted"),
    ] = 21
    whole_numbers: Annotated[
        Literal["double", "integer"],
        Meta(description="60.0, or 60 as the old service"),
    ] = "double"


POSTGRES_SCHEMES = ("postgresql://", "postgres://")


class JournalSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The journal: accepted exports until they are committed, encrypted."""

    url: Annotated[
        str,
        Meta(description="sqlite:///FILE, memory: or postgresql://..."),
    ] = "sqlite:///var/journal.db"
    keys: Annotated[
        tuple[Annotated[str, Meta(pattern=KEY)], ...],
        Meta(description="32 bytes each as base64, the newest first"),
    ] = ()
    bytes_max: Annotated[
        PositiveInt,
        Meta(description="bytes of exports that are not committed; PostgreSQL: 17179869184"),
    ] = 4096 * MIB
    exports_max: Annotated[
        PositiveInt,
        Meta(description="number of exports that are not committed; PostgreSQL: 10000000"),
    ] = 1_000_000
    free_bytes_min: Annotated[
        int, Meta(ge=0, description="free on the disk, to complete the exports that were accepted")
    ] = 256 * MIB
    receipts_days: Annotated[
        int, Meta(ge=8, description="older receipts are reduced to digest, user and transaction")
    ] = 30
    receipts_max: Annotated[
        PositiveInt,
        Meta(description="with more receipts, the oldest are reduced after 8 days"),
    ] = 2_000_000
    digests_days: Annotated[
        int, Meta(ge=0, description="older digests, 250 bytes each, are deleted; 0: never")
    ] = 730
    phones_max: Annotated[
        PositiveInt, Meta(description="phones that are remembered; the least recent are forgotten")
    ] = 200_000
    lease_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=60,
            description="PostgreSQL: another replica uploads that long after a death",
        ),
    ] = 5.0
    keep_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=600,
            description="PostgreSQL: what is stored again after a failover; 0: nothing",
        ),
    ] = 60.0
    pooled: Annotated[
        bool, Meta(description="PostgreSQL: through a pooler in transaction mode")
    ] = False
    standby: Annotated[
        Literal["", "elsewhere"],
        Meta(description="PostgreSQL: elsewhere, if it is replicated out of its sight"),
    ] = ""

    @property
    def is_shared(self) -> bool:
        """True if several replicas share the journal, in PostgreSQL."""
        return self.url.startswith(POSTGRES_SCHEMES)

    @property
    def path(self) -> Path | None:
        """The SQLite file; None for a journal in memory or in PostgreSQL."""
        is_file = not self.is_shared and self.url != "memory:"
        return Path(self.url.removeprefix("sqlite:///")) if is_file else None


class FoundrySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The dataset, the client's credentials, and the limits of the uploads."""

    host: Annotated[str, Meta(description="atlas.palantirfoundry.com")] = ""
    client_id: Annotated[str, Meta(description="the service user of Atlas")] = ""
    client_secret: Annotated[str, Meta(description="its secret; better not in this file")] = ""
    oauth_token_url: Annotated[str, Meta(description="where Foundry issues tokens")] = ""
    dataset_rid: Annotated[str, Meta(pattern=RID, description="the dataset")] = (
        "ri.foundry.main.dataset.19102749-23e6-4fa8-827e-70eae2b94730"
    )
    branch: Annotated[NonEmpty, Meta(description="its branch")] = "master"
    sole_writer: Annotated[bool, Meta(description="false if others write to that branch, too")] = (
        True
    )
    commit_interval_seconds: Annotated[
        float, Meta(ge=0, description="between two transactions")
    ] = 5.0
    call_seconds: Annotated[
        PositiveFloat, Meta(description="timeout of a call, plus one second per MiB")
    ] = 30.0
    drain_seconds: Annotated[
        float, Meta(ge=0, le=8, description="for the open transaction at shutdown; at most 8")
    ] = 5.0
    uploads_at_once: Annotated[  # at most half of Foundry's 800
        int, Meta(ge=1, le=396, description="parallel uploads in a transaction; at most 396")
    ] = 64
    requests_per_minute: Annotated[
        int,
        Meta(ge=60, description="Foundry allows 10,000 per user: less if others use this client"),
    ] = 9_000
    file_format: Annotated[FileFormat, Meta(description="ndjson, or parquet with that extra")] = (
        "ndjson"
    )
    file_layout: Annotated[FileLayout, Meta(description="per-export, per-group or auto")] = "auto"
    group: GroupLimits = GroupLimits()


class StreamSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """A Foundry stream beside the dataset, for readers who cannot wait for a commit."""

    rid: Annotated[str, Meta(pattern=f"^$|{RID}", description="the stream; empty: none")] = ""
    branch: Annotated[NonEmpty, Meta(description="its branch")] = "master"
    records_max: Annotated[PositiveInt, Meta(description="records of one request")] = 500
    bytes_max: Annotated[
        int, Meta(ge=10_000, description="bytes of one request; fewer if Foundry refuses it")
    ] = 1_000_000
    calls_at_once: Annotated[int, Meta(ge=1, le=16, description="parallel requests")] = 2
    requests_per_minute: Annotated[
        int, Meta(ge=60, description="in addition to those of [foundry]")
    ] = 900
    backlog_bytes_max: Annotated[
        PositiveInt, Meta(description="rows that the stream lacks; the oldest are then dropped")
    ] = 1024 * MIB
    backlog_hours: Annotated[
        PositiveFloat, Meta(description="older rows are dropped from the stream")
    ] = 24.0


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The log on stderr."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="debug, info, warning or error"),
    ] = "info"
    format: Annotated[
        Literal["auto", "json", "text"],
        Meta(description="json, text, or auto: text on a terminal"),
    ] = "auto"
    user_ids: Annotated[bool, Meta(description="log each sub in clear, and file paths")] = False


class OperatorSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The listener for operators. Addresses other than loopback require a token."""

    listen: Annotated[
        str,
        Meta(
            pattern=r"^(\[[0-9a-fA-F:]+\]|[^:\[\]]+):[0-9]{1,5}$",
            description="the address of the operator listener",
        ),
    ] = "127.0.0.1:9464"
    token: Annotated[  # printable in a header
        str, Meta(pattern=r"^[!-~]*$", description="required unless it is a loopback address")
    ] = ""
    metrics_open: Annotated[
        bool, Meta(description="true: /metrics, and nothing else, needs no token")
    ] = False
    quiet_days: Annotated[
        int, Meta(ge=1, le=30, description="days without an export; then a phone is quiet")
    ] = 3

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class TracesSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Traces of the requests, with the extra otel."""

    endpoint: Annotated[str, Meta(description="an OTLP/HTTP collector's URL")] = ""
    share: Annotated[
        float,
        Meta(ge=0, le=1, description="sampled share of requests that continue no phone's trace"),
    ] = 1.0


class NetworkSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Connections to other systems."""

    ca_bundle: Annotated[str, Meta(description="PEM certificates besides the system's")] = ""
    use_proxy: Annotated[bool, Meta(description="use HTTPS_PROXY, HTTP_PROXY and NO_PROXY")] = True


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """All settings."""

    edge: EdgeSettings = EdgeSettings()
    auth0: Auth0Settings = Auth0Settings()
    export: ExportSettings = ExportSettings()
    journal: JournalSettings = JournalSettings()
    foundry: FoundrySettings = FoundrySettings()
    stream: StreamSettings = StreamSettings()
    log: LogSettings = LogSettings()
    operator: OperatorSettings = OperatorSettings()
    traces: TracesSettings = TracesSettings()
    network: NetworkSettings = NetworkSettings()
