"""Builds the public application and the operator application."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from starlette.types import ASGIApp

from atlas import __version__
from atlas.core.credentials import RequestCredentials
from atlas.core.messages import RawExport, Receipt, StreamPart, User
from atlas.edge import openapi
from atlas.edge.admission import WAIT_SECONDS_MAX, Admission, LoadShedder, RateLimiter
from atlas.edge.app import build_app
from atlas.edge.authentication import RequestAuthenticator
from atlas.edge.batches import BatchParser
from atlas.edge.body_reader import BodyReader, MinimumRate
from atlas.edge.challenges import Challenges
from atlas.edge.error_responses import ErrorResponses
from atlas.edge.exports import ExportRoutes
from atlas.edge.flow_client import FlowClient
from atlas.edge.health import Checks, HealthRoutes
from atlas.edge.operator import (
    Guard,
    JournalHold,
    OperatorServices,
    PhoneRoutes,
    StatusStream,
    build_application,
    docs,
    metrics_route,
    page,
)
from atlas.edge.overload import OverloadGuard
from atlas.edge.receipts import ReceiptRoutes
from atlas.edge.reports import REPORT_BYTES_MAX, ReportRoute
from atlas.edge.streams import FindExisting, StreamRoute
from atlas.edge.used_proofs import UsedProofs
from atlas.outside import metrics
from atlas.runtime import Acknowledgement, Address, OnCrash, Quota
from atlas.service.dependencies import Dependencies
from atlas.service.shutdown import Shutdown
from atlas.settings import Settings

HOUR_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class FlowAddresses:
    """Addresses of the actors that the public application uses."""

    users: Address[RequestCredentials, User]
    exports: Address[RawExport | StreamPart, Acknowledgement[Receipt]]
    find_existing: FindExisting


def build_admission(settings: Settings, monotonic: Callable[[], float]) -> Admission:
    edge = settings.edge
    return Admission(
        LoadShedder(monotonic, min(WAIT_SECONDS_MAX, edge.commit_wait_seconds / 2)),
        RateLimiter(edge.rate_per_minute, monotonic, settings.journal.is_shared),
        Quota(edge.flight_bytes_max, edge.flight_bytes_max_of_user),
    )


def build_checks(dependencies: Dependencies) -> Checks:
    """Build the readiness checks, except that of a shutdown."""
    return {
        "journal": dependencies.store.ledger.check_ready,
        "keys": dependencies.identities.check_ready,
    }


def build_readiness_checks(dependencies: Dependencies, shutdown: Shutdown) -> Checks:
    """Build the checks that all pass if an export can be accepted now."""
    return {**build_checks(dependencies), "draining": shutdown.check}


def build_public_app(
    addresses: FlowAddresses,
    admission: Admission,
    dependencies: Dependencies,
    shutdown: Shutdown,
    settings: Settings,
    on_crash: OnCrash,
) -> ASGIApp:
    edge, store, rid = settings.edge, dependencies.store, settings.foundry.dataset_rid
    clock, emit, reply_seconds = dependencies.clock, dependencies.emit, edge.commit_wait_seconds
    challenges = Challenges(settings.auth0.dpop, settings.auth0.dpop_algorithms)
    errors = ErrorResponses(clock, dependencies.timing.random, emit, challenges)
    flow = FlowClient(addresses.exports, admission.shedder, reply_seconds, store.is_durable)
    bodies = BodyReader(
        admission.quota,
        edge.body_bytes_max,
        edge.stream_bytes_max,
        MinimumRate(edge.slow_seconds, edge.slow_bytes_per_second),
        reply_seconds,
    )
    authenticator = RequestAuthenticator(
        addresses.users,
        admission,
        errors,
        reply_seconds,
        shutdown.has_begun,
        UsedProofs(settings.auth0.dpop_seconds, dependencies.timing.monotonic),
        edge.public_url,
    )
    streams = StreamRoute(
        flow, bodies, addresses.find_existing, rid, errors, clock, emit, shutdown.has_begun
    )
    batches = BatchParser(edge.chunks_max)
    exports = ExportRoutes(authenticator, bodies, flow, streams, batches, errors, rid, clock, emit)
    checks = build_readiness_checks(dependencies, shutdown)
    receipts = ReceiptRoutes(authenticator, store.receipts, rid, clock)
    reports = ReportRoute(
        authenticator,
        replace(bodies, json_bytes_max=REPORT_BYTES_MAX),
        RateLimiter(
            edge.reports_per_hour, dependencies.timing.monotonic, window_seconds=HOUR_SECONDS
        ),
        store.phones,
        clock,
    )
    routes = [
        *exports.build_routes(),
        *receipts.build_routes(),
        *reports.build_routes(),
        *HealthRoutes(checks, __version__, clock).build_routes(),
        openapi.build_route(describe_public_app(settings)),
    ]
    export_paths = [route.path for route in exports.build_routes()]
    guard = OverloadGuard(admission, export_paths, shutdown.has_begun, emit)
    return build_app(
        routes, guard, errors, on_crash, edge.cors_origins, emit, dependencies.subscribers.sample
    )


def describe_public_app(settings: Settings) -> dict[str, object]:
    edge = settings.edge
    return openapi.build_document(__version__, edge.chunks_max, edge.body_bytes_max)


def build_operator_app(
    services: OperatorServices, live: StatusStream, dependencies: Dependencies, settings: Settings
) -> ASGIApp:
    operator = settings.operator
    hosts = frozenset({"localhost", "127.0.0.1", "::1", operator.address[0].lower()})
    guard = Guard(operator.token, hosts)
    metrics_guard = replace(guard, token="") if operator.metrics_open else guard
    exposition = partial(metrics.exposition, dependencies.subscribers.status)
    return build_application(
        [
            *page.build_routes(guard),
            *docs.build_routes(
                guard, openapi.build_operator_document(__version__), describe_public_app(settings)
            ),
            *services.routes(guard),
            *PhoneRoutes(dependencies.store.phones, dependencies.clock, operator.quiet_days).routes(
                guard
            ),
            *live.routes(guard),
            *JournalHold(dependencies.store.file, live.gauges.is_draining).routes(guard),
            metrics_route(metrics_guard, live.gauges, exposition, metrics.CONTENT_TYPE),
        ],
        dependencies.emit,
    )
