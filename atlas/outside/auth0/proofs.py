"""Verification of proofs of possession (DPoP, RFC 9449).

A proof is a JWT that the client signs for one request, with the key that its token is bound to. The
edge remembers the proofs that were used; here each is verified alone.
"""

import hmac
import re
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import pybase64
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from atlas.core.credentials import Proof
from atlas.core.errors import InvalidProof, ProofNonceRequired
from atlas.core.ports import Clock
from atlas.outside.auth0.keys import KEY_BITS_MIN
from atlas.outside.auth0.policy import ProofPolicy

PROOF_TYPE = "dpop+jwt"
PROOF_BYTES_MAX, HEADER_BYTES_MAX = 8 * 1024, 2 * 1024
FORBIDDEN_HEADERS = frozenset({"crit", "jku", "x5u", "x5c", "b64"})
PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
JTI_CHARACTERS_MAX = 256
FUTURE_SECONDS = 30.0  # that a phone's clock may be ahead of ours
DEFAULT_PORTS = {"http": 80, "https": 443}
ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
PRINTABLE = re.compile(r"[!-~]+")
# not a JoseError: an unknown curve, coordinates of the wrong kind, claims nested too deep
PROOF_ERRORS = (JoseError, ValueError, KeyError, TypeError, RecursionError, OverflowError)


class KeyKind(NamedTuple):
    """A type of keys, and the members of its public keys."""

    key_type: type[ECKey | RSAKey | OKPKey]
    members: tuple[str, ...]


KINDS = {
    "EC": KeyKind(ECKey, ("crv", "x", "y")),
    "RSA": KeyKind(RSAKey, ("n", "e")),
    "OKP": KeyKind(OKPKey, ("crv", "x")),
}


class BindingKey(NamedTuple):
    """The public key of a phone, and its thumbprint (RFC 7638)."""

    public: ECKey | RSAKey | OKPKey
    thumbprint: str


class ProofVerifier:
    """Verifies proofs."""

    def __init__(self, policy: ProofPolicy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._nonces = NonceIssuer(policy.nonce_keys, policy.seconds, clock)
        self._registry = jws.JWSRegistry(algorithms=policy.algorithms, strict_check_header=False)
        self._registry.max_header_length = HEADER_BYTES_MAX

    def verify(self, proof: Proof, token_digest: bytes, thumbprint: str) -> None:
        """Verify that the holder of the token's key has signed this request.

        Raises InvalidProof, and ProofNonceRequired if all is right but the nonce.
        """
        claims = self.verify_signature(proof.text, thumbprint)
        jti, target = claims.get("jti"), claims.get("htu")
        if not isinstance(jti, str) or not 0 < len(jti) <= JTI_CHARACTERS_MAX:
            raise InvalidProof
        if claims.get("htm") != proof.method or claims.get("ath") != encode64(token_digest):
            raise InvalidProof
        if not isinstance(target, str) or not is_same_target(target, proof.url):
            raise InvalidProof
        self.check_time(claims)

    def verify_signature(self, text: str, thumbprint: str) -> dict[str, Any]:
        """Return the claims of a proof that this key has signed. Raises InvalidProof."""
        if not text or len(text) > PROOF_BYTES_MAX:
            raise InvalidProof
        try:
            signed = jws.extract_compact(text.encode(), registry=self._registry)
            key = import_public_key(signed.headers())
            if key.thumbprint != thumbprint:
                raise InvalidProof
            is_signed = jws.validate_compact(signed, key.public, registry=self._registry)
            claims = msgspec.json.decode(signed.payload, type=dict[str, Any])
        except PROOF_ERRORS as error:
            raise InvalidProof from error
        if not is_signed:
            raise InvalidProof
        return claims

    def check_time(self, claims: dict[str, Any]) -> None:
        """Check the nonce if one is required, otherwise the age. Both must be well-formed.

        Some encoders write null where there is no nonce.
        """
        issued, nonce = claims.get("iat"), claims.get("nonce")
        now = self._clock().timestamp()
        if not isinstance(issued, int | float) or isinstance(issued, bool):
            raise InvalidProof
        if not isinstance(nonce, str | None):
            raise InvalidProof
        if self._policy.nonce_keys:  # the phone's clock does not matter
            if nonce is None or not self._nonces.is_valid(nonce):
                raise ProofNonceRequired(self._nonces.issue())
        elif not now - self._policy.seconds <= issued <= now + FUTURE_SECONDS:
            raise InvalidProof


class NonceIssuer:
    """Issues nonces that are a time, authenticated with a key: replicas with one key agree.

    Nothing is stored. The first key signs, and all are accepted.
    """

    def __init__(self, keys: tuple[bytes, ...], seconds: float, clock: Clock) -> None:
        self._keys = keys
        self._seconds = seconds
        self._clock = clock

    def issue(self) -> str:
        moment = int(self._clock().timestamp()).to_bytes(8, "big")
        return encode64(moment + authenticate(self._keys[0], moment))

    def is_valid(self, nonce: str) -> bool:
        try:
            raw = pybase64.b64decode(nonce, altchars="-_", validate=True)
        except ValueError:
            return False
        moment, code = raw[:8], raw[8:]
        age = self._clock().timestamp() - int.from_bytes(moment, "big")
        codes = (authenticate(key, moment) for key in self._keys)
        is_ours = any(hmac.compare_digest(code, each) for each in codes)
        return is_ours and -FUTURE_SECONDS <= age <= self._seconds


def authenticate(key: bytes, moment: bytes) -> bytes:
    return hmac.digest(key, moment, "sha256")[:16]


def derive_nonce_key(secret: bytes) -> bytes:
    return hmac.digest(secret, b"atlas dpop nonce", "sha256")


def encode64(raw: bytes) -> str:
    return pybase64.urlsafe_b64encode(raw).decode().rstrip("=")


def import_public_key(header: dict[str, Any]) -> BindingKey:
    """Return the key in the header of a proof. Raises one of PROOF_ERRORS."""
    jwk = header.get("jwk")
    if header.get("typ") != PROOF_TYPE or FORBIDDEN_HEADERS & header.keys():
        raise ValueError("not the header of a proof")
    if not isinstance(jwk, dict) or PRIVATE_MEMBERS & jwk.keys():
        raise ValueError("not a public key")
    kty = jwk["kty"]
    return load_key(kty, *(jwk[name] for name in KINDS[kty].members))


@lru_cache(1_000)  # a phone uses one key for all its proofs
def load_key(kty: str, *values: str) -> BindingKey:
    kind = KINDS[kty]
    members = dict(zip(kind.members, values, strict=True))
    key = kind.key_type.import_key({"kty": kty, **members})
    if isinstance(key, RSAKey) and key.public_key.key_size < KEY_BITS_MIN:
        raise ValueError("a short key")
    return BindingKey(key, key.thumbprint())


def is_same_target(claimed: str, expected: str) -> bool:
    """Compare two URLs, without query and fragment. `expected` may lack the scheme: //host/path."""
    if claimed == (f"https:{expected}" if expected.startswith("//") else expected):
        return True
    try:
        target = normalize_target(claimed, "")
        return target == normalize_target(expected, target.partition(":")[0])
    except ValueError:
        return False


def is_below(target: str, base: str) -> bool:
    """True if `base` is the beginning of a URL, up to a slash."""
    try:
        ours = normalize_target(base, "").rstrip("/")
        return normalize_target(target, "").startswith(f"{ours}/")
    except ValueError:
        return False


def normalize_target(url: str, scheme: str) -> str:
    """Normalize a URL by RFC 3986, section 6.2. Raises ValueError if it is not http or https."""
    if not PRINTABLE.fullmatch(url):  # urlsplit would drop some of these characters
        raise ValueError("not a URL")
    parts = urlsplit(url, scheme)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        raise ValueError("not the URL of a request")
    port = "" if parts.port in {None, DEFAULT_PORTS[parts.scheme]} else f":{parts.port}"
    path = remove_dot_segments(ESCAPE.sub(normalize_escape, parts.path))
    return f"{parts.scheme}://{parts.hostname}{port}{path}"


def normalize_escape(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if UNRESERVED.fullmatch(character) else escape[0].upper()


def remove_dot_segments(path: str) -> str:
    """Resolve "." and ".." (RFC 3986, section 5.2.4). An empty path is "/"."""
    segments = list[str]()
    for segment in path.split("/")[1:]:
        if segment == "..":
            del segments[-1:]
        elif segment != ".":
            segments.append(segment)
    is_folder = path.endswith(("/.", "/.."))
    return "/" + "/".join([*segments, ""] if is_folder else segments)
