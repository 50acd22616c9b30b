"""Adapter for Auth0: identifies the user of an access token.

A token must be signed with RS256 by a key of the issuer's JWKS. Its header is not trusted: the
`kid` selects a key, and headers that would point to another one are rejected.

keys.py        the signing keys of the issuer
tokens.py      validation of tokens
claims.py      explanation, claim by claim, of why a token is accepted or rejected
inspection.py  implements the port IssuerInspector, for `atlas diagnose`
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
    """Open the issuer with its own connections. Make no call."""
    async with open_session(transport) as session:
        yield Auth0Identities(JwksCache(session, issuer, monotonic, emit), issuer, audience, clock)


@asynccontextmanager
async def open_issuer_inspection(
    issuer: str, audience: str, clock: Clock, transport: Transport = DEFAULT_TRANSPORT
) -> AsyncIterator[Auth0Inspection]:
    """Open the issuer for `atlas diagnose`, with its own connections. Make no call."""
    async with open_session(transport) as session:
        yield Auth0Inspection(session, issuer, audience, clock)
