"""A phone that holds the key of its tokens, and forgeries of its DPoP proofs."""

import hashlib
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import msgspec
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from atlas.core.identifiers import API_PREFIX
from atlas.local.auth0 import Auth0Emulator, TokenRequest
from tests.support.token_forgery import SUB, text64

PUBLIC = "https://api.test"
TARGET = f"{PUBLIC}{API_PREFIX}/export"
EVES_KEY = ECKey.generate_key("P-256")
BIG_KEY = ECKey.generate_key("P-384")


def seal(
    header: object, payload: bytes, key: ECKey | RSAKey | OctKey | OKPKey, algorithm: str = "ES256"
) -> str:
    """Sign any header and payload, whatever the header says."""
    said = f"{text64(msgspec.json.encode(header))}.{text64(payload)}"
    signer = jws.JWSRegistry(algorithms=[algorithm]).get_alg(algorithm)
    return f"{said}.{text64(signer.sign(said.encode(), key))}"


@dataclass
class Phone:
    """A phone with a token that is bound to its key."""

    tenant: Auth0Emulator
    key: ECKey | RSAKey | OKPKey = field(default_factory=lambda: ECKey.generate_key("P-256"))
    sub: str = SUB
    token: str = ""

    def __post_init__(self) -> None:
        self.token = self.tenant.issue_token(TokenRequest(sub=self.sub, jkt=self.jkt))

    @property
    def jkt(self) -> str:
        return self.key.thumbprint()

    def header(self, **changes: Any) -> dict[str, Any]:
        jwk = self.key.as_dict(private=False)
        header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk} | changes
        return {name: value for name, value in header.items() if value is not ABSENT}

    def claims(self, **changes: Any) -> dict[str, Any]:
        digest = hashlib.sha256((self.token).encode()).digest()
        claims = {
            "jti": str(uuid.uuid4()),
            "htm": "POST",
            "htu": TARGET,
            "iat": int(time.time()),
            "ath": text64(digest),
        } | changes
        return {name: value for name, value in claims.items() if value is not ABSENT}

    def prove(self, **changes: Any) -> str:
        return seal(self.header(), msgspec.json.encode(self.claims(**changes)), self.key)

    def headers(self, proof: str | None, scheme: str = "DPoP") -> dict[str, str]:
        sent = {"host": "api.test", "authorization": f"{scheme} {self.token}"}
        return sent if proof is None else sent | {"dpop": proof}


ABSENT = object()


def with_claims(**changes: Any):
    """Signed by the phone, with other claims."""
    return lambda phone, _: phone.headers(phone.prove(**changes))


def with_header(key: Any = None, algorithm: str = "ES256", **changes: Any):
    """Another header, signed by the phone or by another key."""

    def forge(phone: Phone, _scene: object) -> dict[str, str]:
        payload = msgspec.json.encode(phone.claims())
        return phone.headers(seal(phone.header(**changes), payload, key or phone.key, algorithm))

    return forge


def with_jwk(**changes: Any):
    """Another key in the header, under the phone's signature."""

    def forge(phone: Phone, _scene: object) -> dict[str, str]:
        jwk = phone.key.as_dict(private=False) | changes
        jwk = {name: value for name, value in jwk.items() if value is not ABSENT}
        payload = msgspec.json.encode(phone.claims())
        return phone.headers(seal(phone.header(jwk=jwk), payload, phone.key))

    return forge


def with_payload(change):
    """Other bytes instead of the claims, signed by the phone."""

    def forge(phone: Phone, _scene: object) -> dict[str, str]:
        payload = change(msgspec.json.encode(phone.claims()))
        return phone.headers(seal(phone.header(), payload, phone.key))

    return forge


def with_text(change):
    """A good proof whose text was changed."""
    return lambda phone, _: phone.headers(change(phone.prove()))
