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

from atlas.core.events import Watch
from atlas.core.ports import Clock
from atlas.outside.auth0.inspection import Auth0Inspection
from atlas.outside.auth0.keys import Keys
from atlas.outside.auth0.tokens import REMEMBERED_MAX, Auth0Identities, Remembered
from atlas.outside.network import DEFAULT, Transport, open_session

__all__ = [
    "REMEMBERED_MAX",
    "Auth0Identities",
    "Auth0Inspection",
    "Keys",
    "Remembered",
    "connected",
    "inspected",
]


@asynccontextmanager
async def connected(
    issuer: str,
    audience: str,
    now: Clock,
    elapsed: Callable[[], float],
    watch: Watch,
    transport: Transport = DEFAULT,
) -> AsyncIterator[Auth0Identities]:
    """Open the issuer, over connections of its own. No call is made yet."""
    async with open_session(transport) as session:
        yield Auth0Identities(Keys(session, issuer, elapsed, watch), issuer, audience, now)


@asynccontextmanager
async def inspected(
    issuer: str, audience: str, now: Clock, transport: Transport = DEFAULT
) -> AsyncIterator[Auth0Inspection]:
    """Open the same for inspections."""
    async with open_session(transport) as session:
        yield Auth0Inspection(session, issuer, audience, now)
