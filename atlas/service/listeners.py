"""What is served where: to phones in public, to operators behind their token."""

from dataclasses import dataclass, replace

import anyio
from starlette.types import ASGIApp

from atlas import __version__
from atlas.actors.quarantine import Replay
from atlas.core import ports
from atlas.core.messages import Export, Part, Receipt, User
from atlas.edge import openapi
from atlas.edge.admission import PATIENCE_SECONDS, Admission, Crowd, Flight, Rate
from atlas.edge.app import Errors, public
from atlas.edge.bodies import Bodies
from atlas.edge.bodies.batches import Batches
from atlas.edge.bodies.body import Slowest
from atlas.edge.exports import Exports
from atlas.edge.health import Health
from atlas.edge.operator import Diagnosis as OperatorDiagnosis
from atlas.edge.operator import Exports as OperatorExports
from atlas.edge.operator import Guard, Live, People, Scrapes, application, page
from atlas.edge.receipts import Receipts
from atlas.edge.refusals import Refusals
from atlas.edge.senders import Senders
from atlas.edge.streams import Recall, Streams
from atlas.edge.waiting import Waiting
from atlas.outside import metrics
from atlas.runtime import Address, OnCrash, Pending
from atlas.service.diagnosing import Diagnosing
from atlas.service.drain import Drain
from atlas.service.world import World
from atlas.settings import Settings


@dataclass(frozen=True, slots=True)
class Actors:
    """Those that the public listener asks."""

    users: Address[str, User]
    exports: Address[Export | Part, Pending[Receipt]]
    recall: Recall


def admission_of(settings: Settings) -> Admission:
    edge, elapsed = settings.edge, anyio.current_time
    flight = Flight(edge.flight_bytes_max, edge.flight_bytes_max_of_user)
    crowd = Crowd(elapsed, min(PATIENCE_SECONDS, edge.reply_seconds / 2))
    return Admission(crowd, Rate(edge.rate_per_minute, elapsed), flight)


def listener(
    actors: Actors,
    admission: Admission,
    world: World,
    drain: Drain,
    settings: Settings,
    on_crash: OnCrash,
) -> ASGIApp:
    """The public one."""
    edge, receipts, rid = settings.edge, world.store.receipts, settings.foundry.dataset_rid
    now, watch = world.now, world.watch
    refusals = Refusals(now, world.chance.random, watch)
    flow = Waiting(actors.exports, admission.crowd, edge.reply_seconds, world.store.is_durable)
    slowest = Slowest(edge.slow_seconds, edge.slow_bytes_per_second)
    bodies = Bodies(flow, admission.flight, edge.body_bytes_max, edge.stream_bytes_max, slowest)

    def is_draining() -> bool:
        return drain.has_begun

    senders = Senders(actors.users, flow, admission, is_draining)
    streams = Streams(flow, bodies, actors.recall, rid, refusals, now, watch, is_draining)
    batches = Batches(edge.chunks_max)
    exports = Exports(senders, bodies, flow, streams, batches, refusals, rid, now, watch)
    checks = {
        "journal": world.store.ledger.ready,
        "keys": world.identities.ready,
        "draining": drain.check,
    }
    health = Health(checks, __version__, now)
    kept = Receipts(senders, receipts, rid, now)
    routes = [*exports.routes(), *kept.routes(), *health.routes(), openapi.route(__version__)]
    return public(
        routes, Errors(refusals, on_crash), edge.cors_origins, watch, world.readers.sample
    )


@dataclass(frozen=True, slots=True)
class Orders:
    """Those that the operator listener asks, and who obey it."""

    replay: Replay
    people: ports.People
    live: Live
    diagnosing: Diagnosing


def operator(orders: Orders, world: World, settings: Settings) -> ASGIApp:
    """The other one."""
    ours, store, live = settings.operator, world.store, orders.live
    guard = Guard(ours.token, frozenset({"localhost", "127.0.0.1", "::1", ours.address[0].lower()}))
    without_token = replace(guard, token="")
    scrapes = Scrapes(live.lookout, world.readers.metrics.text, metrics.CONTENT_TYPE)
    walks = orders.diagnosing
    return application(
        [
            *page.routes(guard),
            *OperatorExports(store.ledger, store.aside, orders.replay).routes(guard),
            *People(orders.people).routes(guard),
            *OperatorDiagnosis(walks.diagnose, walks.old_json, walks.remove).routes(guard),
            *live.routes(guard),
            *scrapes.routes(without_token if ours.metrics_open else guard),
        ]
    )
