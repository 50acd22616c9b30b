"""What is served where: to phones in public, to operators behind their token."""

from starlette.types import ASGIApp

from atlas import __version__
from atlas.actors.quarantine import Replay
from atlas.edge import openapi
from atlas.edge.app import Errors, public
from atlas.edge.exports import Exports, Terms
from atlas.edge.health import Health
from atlas.edge.operator import Operator
from atlas.service.drain import Drain
from atlas.service.store import Store
from atlas.service.world import World
from atlas.settings import Settings


def listener(
    exports: Exports, errors: Errors, world: World, drain: Drain, settings: Settings
) -> ASGIApp:
    checks = {
        "journal": world.store.ledger.ready,
        "keys": world.identities.ready,
        "draining": drain.check,
    }
    health = Health(checks, __version__, world.now)
    routes = [*exports.routes(), *health.routes(), openapi.route(__version__)]
    return public(list(routes), errors, settings.edge.cors_origins)


def operator(store: Store, replay: Replay, settings: Settings) -> ASGIApp:
    hosts = frozenset({"localhost", "127.0.0.1", "::1", settings.operator.address[0]})
    return Operator(store.ledger, store.aside, replay, settings.operator.token, hosts).app()


def terms(settings: Settings, *, is_durable: bool) -> Terms:
    edge = settings.edge
    return Terms(
        dataset_rid=settings.foundry.dataset_rid,
        reply_seconds=edge.reply_seconds,
        body_bytes_max=edge.body_bytes_max,
        chunks_max=edge.chunks_max,
        is_durable=is_durable,
    )
