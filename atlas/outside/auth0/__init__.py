"""Auth0: whose token is it?

Only RS256 by a key of the issuer's JWKS counts. A header is not believed: it names a key by `kid`,
and nothing else in it is followed.

keys.py        the keys of the issuer
tokens.py      what must hold of a token
claims.py      the same, taken apart for whoever wants to know why a token is refused
inspection.py  the issuer, looked at
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from atlas.core.events import EventSink
from atlas.core.ports import Clock
from atlas.outside.auth0.inspection import Auth0Inspection
from atlas.outside.auth0.keys import JwksCache
from atlas.outside.auth0.tokens import CACHED_TOKENS_MAX, Auth0Identities, TokenCache
from atlas.outside.network import DEFAULT_TRANSPORT, Transport, open_session

__all__ = [
    "CACHED_TOKENS_MAX",
    "Auth0Identities",
    "Auth0Inspection",
    "JwksCache",
    "TokenCache",
    "open_identities",
    "open_issuer_inspection",
]


@asynccontextmanager
async def open_identities(
    issuer: str,
    audience: str,
    clock: Clock,
    monotonic: Callable[[], float],
    emit: EventSink,
    transport: Transport = DEFAULT_TRANSPORT,
) -> AsyncIterator[Auth0Identities]:
    """Open the issuer, over connections of its own. No call is made yet."""
    async with open_session(transport) as session:
        yield Auth0Identities(JwksCache(session, issuer, monotonic, emit), issuer, audience, clock)


@asynccontextmanager
async def open_issuer_inspection(
    issuer: str, audience: str, clock: Clock, transport: Transport = DEFAULT_TRANSPORT
) -> AsyncIterator[Auth0Inspection]:
    """Open the same for inspections."""
    async with open_session(transport) as session:
        yield Auth0Inspection(session, issuer, audience, clock)
