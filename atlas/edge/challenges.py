"""Challenges of requests without sufficient credentials: WWW-Authenticate and DPoP-Nonce."""

from dataclasses import dataclass
from typing import Literal

from atlas.core.errors import (
    AtlasError,
    InsufficientScope,
    InvalidProof,
    ProofNonceRequired,
    Unauthenticated,
)

REALM = 'realm="atlas"'
PROOF_ERRORS = ((ProofNonceRequired, "use_dpop_nonce"), (InvalidProof, "invalid_dpop_proof"))


@dataclass(frozen=True, slots=True)
class Challenges:
    """Builds challenges (RFC 6750, section 3; RFC 9449, section 7.1) for the accepted schemes."""

    dpop: Literal["allowed", "required", "off"]
    algorithms: tuple[str, ...] = ()

    def build(self, error: AtlasError, authorization: str) -> dict[str, str]:
        """Build the headers. The challenge of the scheme that was used says what is wrong."""
        if not isinstance(error, Unauthenticated | InsufficientScope):
            return {}
        details = describe_error(error)
        is_proven = authorization[:5].lower() == "dpop "
        bearer, dpop = [REALM], [f'algs="{" ".join(self.algorithms)}"']
        is_for_dpop = self.dpop == "required" or (is_proven and self.dpop == "allowed")
        (dpop if is_for_dpop else bearer).extend(details)
        challenges = []
        if self.dpop != "required":
            challenges.append(f"Bearer {', '.join(bearer)}")
        if self.dpop != "off":
            challenges.append(f"DPoP {', '.join(dpop)}")
        headers = {"WWW-Authenticate": ", ".join(challenges)}
        if isinstance(error, ProofNonceRequired):
            headers["DPoP-Nonce"] = error.nonce
        return headers


def describe_error(error: Unauthenticated | InsufficientScope) -> list[str]:
    """Return the parameters that name the error; none if there were no credentials."""
    if isinstance(error, InsufficientScope):
        return ['error="insufficient_scope"', f'scope="{error.scope}"']
    if error.code == Unauthenticated.code:
        return []
    names = (name for kind, name in PROOF_ERRORS if isinstance(error, kind))
    return [f'error="{next(names, "invalid_token")}"', f'error_description="{error}"']
