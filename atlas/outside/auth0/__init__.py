"""Adapter for Auth0: identifies the user of an access token.

A token must be signed by a key of its issuer's JWKS. Its header is not trusted: the `kid` selects a
key, and headers that would point to another one are rejected. Its `iss` selects one of the
configured issuers.

policy.py      the rules of this service
keys.py        the signing keys of an issuer
tokens.py      validation of tokens
proofs.py      verification of the proofs of bound tokens (DPoP)
claims.py      explanation, claim by claim, of why a token is accepted or rejected
proof_claims.py  the same for a proof
explanations.py  verdicts on single claims, which both use
inspection.py  implements the port IssuerInspector, for `atlas diagnose`
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from atlas.core.events import EventSink
from atlas.core.ports import Clock
from atlas.outside.auth0.inspection import Auth0Inspection
from atlas.outside.auth0.keys import JwksCache
from atlas.outside.auth0.policy import ProofPolicy, TokenPolicy
from atlas.outside.auth0.proofs import derive_nonce_key
from atlas.outside.auth0.tokens import CACHED_TOKENS_MAX, Auth0Identities, TokenCache
from atlas.outside.network import DEFAULT_TRANSPORT, Transport, open_session

__all__ = [
    "CACHED_TOKENS_MAX",
    "Auth0Identities",
    "Auth0Inspection",
    "JwksCache",
    "ProofPolicy",
    "TokenCache",
    "TokenPolicy",
    "derive_nonce_key",
    "open_identities",
    "open_issuer_inspection",
]


@asynccontextmanager
async def open_identities(
    policy: TokenPolicy,
    clock: Clock,
    monotonic: Callable[[], float],
    emit: EventSink,
    transport: Transport = DEFAULT_TRANSPORT,
) -> AsyncIterator[Auth0Identities]:
    """Open the issuers with their own connections. Make no call yet."""
    async with open_session(transport) as session:
        issuers = {issuer: JwksCache(session, issuer, monotonic, emit) for issuer in policy.issuers}
        for keys in issuers.values():
            keys.start()
        try:
            yield Auth0Identities(issuers, policy, clock, monotonic)
        finally:
            for keys in issuers.values():
                keys.close()


@asynccontextmanager
async def open_issuer_inspection(
    policy: TokenPolicy, clock: Clock, transport: Transport = DEFAULT_TRANSPORT
) -> AsyncIterator[Auth0Inspection]:
    """Open the issuers for `atlas diagnose`, with their own connections. Make no call."""
    async with open_session(transport) as session:
        yield Auth0Inspection(session, policy, clock)
