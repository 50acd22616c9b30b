"""Builds the public application, and the one of the operators."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from starlette.types import ASGIApp

from atlas import __version__
from atlas.core.messages import Export, Part, Receipt, User
from atlas.edge import openapi
from atlas.edge.admission import WAIT_SECONDS_MAX, Admission, LoadShedder, RateLimiter
from atlas.edge.app import build_app
from atlas.edge.authentication import RequestAuthenticator
from atlas.edge.batches import Batches
from atlas.edge.body_reader import BodyReader, MinimumRate
from atlas.edge.error_responses import ErrorResponses
from atlas.edge.exports import Exports
from atlas.edge.flow_client import FlowClient
from atlas.edge.health import Health
from atlas.edge.operator import (
    Guard,
    Live,
    OperatorServices,
    application,
    metrics_route,
    page,
)
from atlas.edge.overload import OverloadGuard
from atlas.edge.receipts import Receipts
from atlas.edge.streams import Recall, Streams
from atlas.outside import metrics
from atlas.runtime import Acknowledgement, Address, OnCrash, Quota
from atlas.service.drain import Drain
from atlas.service.world import World
from atlas.settings import Settings


@dataclass(frozen=True, slots=True)
class Actors:
    """Addresses of the actors that the public application uses."""

    users: Address[str, User]
    exports: Address[Export | Part, Acknowledgement[Receipt]]
    recall: Recall


def admission_of(settings: Settings, elapsed: Callable[[], float]) -> Admission:
    edge = settings.edge
    return Admission(
        LoadShedder(elapsed, min(WAIT_SECONDS_MAX, edge.reply_seconds / 2)),
        RateLimiter(edge.rate_per_minute, elapsed),
        Quota(edge.flight_bytes_max, edge.flight_bytes_max_of_user),
    )


def listener(
    actors: Actors,
    admission: Admission,
    world: World,
    drain: Drain,
    settings: Settings,
    on_crash: OnCrash,
) -> ASGIApp:
    """Build the public application."""
    edge, store, rid = settings.edge, world.store, settings.foundry.dataset_rid
    now, watch, reply_seconds = world.now, world.watch, edge.reply_seconds
    errors = ErrorResponses(now, world.chance.random, watch)
    flow = FlowClient(actors.exports, admission.shedder, reply_seconds, store.is_durable)
    bodies = BodyReader(
        admission.quota,
        edge.body_bytes_max,
        edge.stream_bytes_max,
        MinimumRate(edge.slow_seconds, edge.slow_bytes_per_second),
        reply_seconds,
    )
    authenticator = RequestAuthenticator(
        actors.users, admission, errors, reply_seconds, drain.has_begun
    )
    streams = Streams(flow, bodies, actors.recall, rid, errors, now, watch, drain.has_begun)
    batches = Batches(edge.chunks_max)
    exports = Exports(authenticator, bodies, flow, streams, batches, errors, rid, now, watch)
    checks = {
        "journal": store.ledger.ready,
        "keys": world.identities.ready,
        "draining": drain.check,
    }
    receipts = Receipts(authenticator, store.receipts, rid, now)
    paths = [
        *exports.paths(),
        *receipts.paths(),
        *Health(checks, __version__, now).paths(),
        openapi.path(__version__),
    ]
    uploads = [path.path for path in exports.paths()]
    guard = OverloadGuard(admission, uploads, drain.has_begun, watch)
    return build_app(paths, guard, errors, on_crash, edge.cors_origins, watch, world.readers.sample)


def operator(orders: OperatorServices, live: Live, world: World, settings: Settings) -> ASGIApp:
    """Build the application of the operators."""
    ours = settings.operator
    guard = Guard(ours.token, frozenset({"localhost", "127.0.0.1", "::1", ours.address[0].lower()}))
    metrics_guard = replace(guard, token="") if ours.metrics_open else guard
    exposition = partial(metrics.exposition, world.readers.status)
    return application(
        [
            *page.routes(guard),
            *orders.routes(guard),
            *live.routes(guard),
            metrics_route(metrics_guard, live.gauges, exposition, metrics.CONTENT_TYPE),
        ]
    )
