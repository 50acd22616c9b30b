"""The check of a token that is known already: with a DPoP proof, and without.

Both are measured in turn in the same process, in CPU time; the best round of each counts.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial

from joserfc.jwk import RSAKey

from atlas.core.credentials import Proof
from atlas.local.auth0 import Auth0Emulator, TokenRequest
from atlas.outside.auth0 import Auth0Identities, TokenPolicy
from tests.support.dpop import TARGET, Phone

ROUNDS, CHECKS = 40, 50


class KnownKeys:
    """The keys of a tenant, at hand."""

    has_keys = True

    def __init__(self, tenant: Auth0Emulator) -> None:
        self._tenant = tenant

    async def get(self, _kid: str) -> RSAKey:
        return self._tenant.ring.current


def measure_best(check: Callable[[int], object]) -> float:
    """Return the CPU time of a check in microseconds, in the best round."""
    best = float("inf")
    for _ in range(ROUNDS):
        started_at = time.process_time()
        for number in range(CHECKS):
            check(number)
        best = min(best, (time.process_time() - started_at) / CHECKS)
    return best * 1e6


def measure() -> Iterator[tuple[str, str, str]]:
    tenant = Auth0Emulator("https://a.test/")
    phone, plain = Phone(tenant), tenant.issue_token(TokenRequest())
    proofs = [Proof(phone.prove(), "POST", TARGET) for _ in range(CHECKS)]
    policy = TokenPolicy((tenant.issuer,), (tenant.audience,))
    clock = partial(datetime.now, UTC)
    identities = Auth0Identities({tenant.issuer: KnownKeys(tenant)}, policy, clock, time.monotonic)
    loop = asyncio.new_event_loop()
    identify = identities.identify_user
    without = measure_best(lambda _: loop.run_until_complete(identify(plain)))
    with_proof = measure_best(
        lambda number: loop.run_until_complete(identify(phone.token, proofs[number]))
    )
    loop.close()
    yield "checking a DPoP proof, beside the token", f"{with_proof - without:.0f} µs", "150 or less"


def measure_quickly() -> Iterator[tuple[str, str, str]]:
    return measure()
