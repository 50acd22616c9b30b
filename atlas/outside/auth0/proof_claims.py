"""Explanation, claim by claim, of why a DPoP proof is accepted or rejected."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from atlas.core.errors import InvalidProof
from atlas.core.identifiers import format_duration
from atlas.core.inspection import TokenClaim
from atlas.core.ports import Clock
from atlas.outside.auth0.explanations import (
    accept_claim,
    check_claim,
    decode_json_part,
    format_time,
    is_time,
    reject_claim,
    to_printable,
)
from atlas.outside.auth0.policy import ProofPolicy
from atlas.outside.auth0.proofs import (
    FUTURE_SECONDS,
    PROOF_TYPE,
    ProofVerifier,
    encode64,
    is_below,
)

NEW_PROOF = "Let the app make a new proof for each request, with the key of its token."


def explain_proof(
    proof: str, token: str, base: str, policy: ProofPolicy, clock: Clock
) -> Sequence[TokenClaim]:
    """Return a verdict on each claim of a proof for this token."""
    header, claims = (decode_json_part(proof, number) for number in (0, 1))
    if header is None or claims is None or proof.count(".") != 2:
        reason = "It is not a JWT: the header DPoP must have one proof."
        return (reject_claim("proof", "not a JWT", reason, NEW_PROOF),)
    payload = decode_json_part(token, 1) or {}
    confirmation = payload.get("cnf")
    bound = confirmation.get("jkt") if isinstance(confirmation, Mapping) else None
    return (
        *explain_header(header, policy),
        explain_key(proof, bound, policy, clock),
        *explain_target(claims, base),
        explain_token(claims, token),
        *explain_age(claims, policy, clock),
    )


def explain_header(header: Mapping[str, Any], policy: ProofPolicy) -> Iterator[TokenClaim]:
    kind, algorithm = header.get("typ"), header.get("alg")
    reason = f"Its typ must be {PROOF_TYPE}."
    yield check_claim("proof typ", kind, kind == PROOF_TYPE, reason, NEW_PROOF)
    allowed = " or ".join(policy.algorithms)
    remedy = f"Sign it with {allowed}, or change auth0.dpop_algorithms."
    is_allowed = algorithm in policy.algorithms
    yield check_claim("proof alg", algorithm, is_allowed, f"It must be {allowed}.", remedy)


def explain_key(proof: str, bound: object, policy: ProofPolicy, clock: Clock) -> TokenClaim:
    name = "proof key"
    if not isinstance(bound, str):
        reason = "The token is not bound to a key: send it as Bearer, without a proof."
        return reject_claim(name, "not needed", reason, "Enable DPoP where the app logs in.")
    try:
        ProofVerifier(policy, clock).verify_signature(proof, bound)
    except InvalidProof:
        reason = "It is not signed by the key that the token is bound to."
        remedy = "The app must use the key with which it got this token."
        return reject_claim(name, to_printable(bound), reason, remedy)
    return accept_claim(name, to_printable(bound))


def explain_target(claims: Mapping[str, Any], base: str) -> Iterator[TokenClaim]:
    """Explain htm and htu. Without `base`, only phones know the URL."""
    method, target = claims.get("htm"), claims.get("htu")
    reason = "It is for a method that Atlas does not have."
    yield check_claim("proof htm", method, method in ("GET", "POST"), reason, NEW_PROOF)
    if not isinstance(target, str):
        yield reject_claim("proof htu", "absent", "It names no URL.", NEW_PROOF)
    elif not base:
        reason = "Pass --url, or set ATLAS_PUBLIC_URL, to compare it."
        yield TokenClaim("proof htu", to_printable(target), "good", reason)
    else:
        remedy = "Set ATLAS_PUBLIC_URL to the URL that phones use."
        reason = f"It is for another URL than {base}."
        yield check_claim("proof htu", target, is_below(target, base), reason, remedy)


def explain_token(claims: Mapping[str, Any], token: str) -> TokenClaim:
    expected = encode64(hashlib.sha256(token.encode()).digest())
    reason = "It was made for another token."
    is_same = claims.get("ath") == expected
    return check_claim("proof ath", claims.get("ath"), is_same, reason, NEW_PROOF)


def explain_age(
    claims: Mapping[str, Any], policy: ProofPolicy, clock: Clock
) -> Iterator[TokenClaim]:
    jti, issued, nonce = claims.get("jti"), claims.get("iat"), claims.get("nonce")
    is_named = isinstance(jti, str) and bool(jti)
    reason = "It has no id of its own."
    yield check_claim("proof jti", "present" if is_named else None, is_named, reason, NEW_PROOF)
    if policy.nonce_keys:
        reason = "It has no nonce, which auth0.dpop_nonce requires."
        shown = "present" if isinstance(nonce, str) else None
        yield check_claim("proof nonce", shown, shown is not None, reason, NEW_PROOF)
        return
    if not is_time(issued):
        yield reject_claim("proof iat", format_time(issued), "It has no time.", NEW_PROOF)
        return
    age = clock().timestamp() - issued
    if age < -FUTURE_SECONDS:
        reason = f"It is {format_duration(-age)} ahead: compare the phone's clock with step 1."
    else:
        reason = f"It is {format_duration(age)} old."
    remedy = f"{NEW_PROOF} For background uploads: ATLAS_DPOP_SECONDS."
    is_recent = -FUTURE_SECONDS <= age <= policy.seconds
    yield check_claim("proof iat", format_time(issued), is_recent, reason, remedy)
