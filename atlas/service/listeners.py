"""Builds the public application and the operator application."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from starlette.types import ASGIApp

from atlas import __version__
from atlas.core.messages import RawExport, Receipt, StreamPart, User
from atlas.edge import openapi
from atlas.edge.admission import WAIT_SECONDS_MAX, Admission, LoadShedder, RateLimiter
from atlas.edge.app import build_app
from atlas.edge.authentication import RequestAuthenticator
from atlas.edge.batches import BatchParser
from atlas.edge.body_reader import BodyReader, MinimumRate
from atlas.edge.error_responses import ErrorResponses
from atlas.edge.exports import ExportRoutes
from atlas.edge.flow_client import FlowClient
from atlas.edge.health import HealthRoutes
from atlas.edge.operator import (
    Guard,
    OperatorServices,
    StatusStream,
    build_application,
    metrics_route,
    page,
)
from atlas.edge.overload import OverloadGuard
from atlas.edge.receipts import ReceiptRoutes
from atlas.edge.streams import FindExisting, StreamRoute
from atlas.outside import metrics
from atlas.runtime import Acknowledgement, Address, OnCrash, Quota
from atlas.service.dependencies import Dependencies
from atlas.service.shutdown import Shutdown
from atlas.settings import Settings


@dataclass(frozen=True, slots=True)
class FlowAddresses:
    """Addresses of the actors that the public application uses."""

    users: Address[str, User]
    exports: Address[RawExport | StreamPart, Acknowledgement[Receipt]]
    find_existing: FindExisting


def build_admission(settings: Settings, monotonic: Callable[[], float]) -> Admission:
    edge = settings.edge
    return Admission(
        LoadShedder(monotonic, min(WAIT_SECONDS_MAX, edge.commit_wait_seconds / 2)),
        RateLimiter(edge.rate_per_minute, monotonic),
        Quota(edge.flight_bytes_max, edge.flight_bytes_max_of_user),
    )


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
    errors = ErrorResponses(clock, dependencies.timing.random, emit)
    flow = FlowClient(addresses.exports, admission.shedder, reply_seconds, store.is_durable)
    bodies = BodyReader(
        admission.quota,
        edge.body_bytes_max,
        edge.stream_bytes_max,
        MinimumRate(edge.slow_seconds, edge.slow_bytes_per_second),
        reply_seconds,
    )
    authenticator = RequestAuthenticator(
        addresses.users, admission, errors, reply_seconds, shutdown.has_begun
    )
    streams = StreamRoute(
        flow, bodies, addresses.find_existing, rid, errors, clock, emit, shutdown.has_begun
    )
    batches = BatchParser(edge.chunks_max)
    exports = ExportRoutes(authenticator, bodies, flow, streams, batches, errors, rid, clock, emit)
    checks = {
        "journal": store.ledger.check_ready,
        "keys": dependencies.identities.check_ready,
        "draining": shutdown.check,
    }
    receipts = ReceiptRoutes(authenticator, store.receipts, rid, clock)
    routes = [
        *exports.build_routes(),
        *receipts.build_routes(),
        *HealthRoutes(checks, __version__, clock).build_routes(),
        openapi.build_route(__version__),
    ]
    export_paths = [route.path for route in exports.build_routes()]
    guard = OverloadGuard(admission, export_paths, shutdown.has_begun, emit)
    return build_app(
        routes, guard, errors, on_crash, edge.cors_origins, emit, dependencies.subscribers.sample
    )


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
            *services.routes(guard),
            *live.routes(guard),
            metrics_route(metrics_guard, live.gauges, exposition, metrics.CONTENT_TYPE),
        ]
    )
