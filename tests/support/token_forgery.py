"""A tenant, an attacker, and the attacker's forgeries of its tokens.

A forgery is a function of a good token and the scene. Some are signed by the issuer, wrongly: no
header or claim may be misinterpreted, whoever wrote it.
"""

import base64
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import anyio
import msgspec
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from joserfc import jwe, jws
from joserfc.jwk import ECKey, RSAKey

from atlas.local.auth0 import (
    Auth0Emulator,
    KeyRing,
    TokenRequest,
    build_application,
    generate_key,
)
from atlas.outside import auth0
from atlas.service.dependencies import build_token_policy
from tests.conftest import Flow, ServiceHarness

KEYS = [generate_key() for _ in range(4)]  # made once: slower than everything else here
OURS, NEXT, EVES = KEYS[:3]
MARK = "canary"  # in every sub, and in every kid of an attacker
PRIMES = (
    0xE3B81938342D8BB39391F45DC71F3C256D66C74A8A0A65A0CB183EC2316A582D,
    0xDBD9E748F121E2DA545F1A4A4D7C14B0002704DE8A7CDA4FDE1253627E334E29,
)
SUB = f"auth0|{MARK}"


@dataclass
class Scene:
    """A tenant, an attacker with keys and an address of her own, and the service between them."""

    tenant: Auth0Emulator
    eve: Auth0Emulator
    flow: Flow

    def signed(self, text: bytes, key: RSAKey = OURS, **header: object) -> str:
        """Return any text with a good signature, or one by another key under the good key's id."""
        return signed(text, {"alg": "RS256", "typ": "JWT", "kid": OURS.kid} | header, key)

    def issue_raw_claim(self, name: str, json: str) -> str:
        """Return a token whose claim has this raw JSON, as no library would write it."""
        claims = payload_of(self.tenant.issue_token(TokenRequest(sub=SUB, claims={name: None})))
        return self.signed(b'%s,"%s":%s}' % (claims[:-1], name.encode(), json.encode()))


@asynccontextmanager
async def a_scene(life: ServiceHarness) -> AsyncIterator[Scene]:
    tenant, eve = (Auth0Emulator("", ring=KeyRing(*keys)) for keys in ((OURS, NEXT), (EVES, EVES)))
    async with (
        TestServer(build_application(tenant)) as ours,
        TestServer(build_application(eve)) as hers,
    ):
        tenant.issuer, eve.issuer = str(ours.make_url("/")), str(hers.make_url("/"))
        now, watch = partial(datetime.now, UTC), [].append
        policy = replace(build_token_policy(life.settings()), issuers=(tenant.issuer,))
        about = policy, now, anyio.current_time, watch
        async with auth0.open_identities(*about) as life.identities, life.running() as flow:
            yield Scene(tenant, eve, flow)


def text64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def payload_of(token: str) -> bytes:
    return base64.urlsafe_b64decode(token.split(".")[1] + "==")


def signed(text: bytes, header: dict[str, object], key: RSAKey | ECKey) -> str:
    """Sign by the algorithm of the header, whatever the key is meant for."""
    name = str(header["alg"])
    said = f"{text64(msgspec.json.encode(header))}.{text64(text)}"
    algorithm = jws.JWSRegistry(algorithms=[name]).get_alg(name)
    return f"{said}.{text64(algorithm.sign(said.encode(), key))}"


def sign_with_public_key(good: str, secret: bytes) -> str:
    """HS256, keyed with the public key."""
    said = edited(good, 0, alg="HS256").rpartition(".")[0]
    return f"{said}.{text64(hmac.digest(secret, said.encode(), 'sha256'))}"


def sign_as_attacker(good: str, scene: Scene, **header: object) -> str:
    """Signed by the attacker, with a header that says where the key is."""
    return scene.signed(payload_of(good), EVES, kid=EVES.kid, **header)


def with_a_short_key(made: Callable[[], RSAKey]):
    """Signed by a key that is short enough to break, published by the issuer."""

    def forge(good: str, scene: Scene) -> str:
        scene.tenant.ring.previous = key = made()
        return scene.signed(payload_of(good), key, kid=key.kid)

    return forge


def make_512_bit_key() -> RSAKey:
    """A key built from its primes: libraries no longer generate that size."""
    one, other = PRIMES
    secret = pow(65_537, -1, (one - 1) * (other - 1))
    public = rsa.RSAPublicNumbers(65_537, one * other)
    rest = secret % (one - 1), secret % (other - 1), pow(other, -1, one)
    key = rsa.RSAPrivateNumbers(one, other, secret, *rest, public).private_key()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return RSAKey.import_key(pem, {"kid": MARK})


def encrypted(good: str, _scene: Scene) -> str:
    header = {"alg": "RSA-OAEP", "enc": "A128GCM", "kid": OURS.kid, "typ": "JWT"}
    free = RSAKey.import_key(OURS.as_dict(private=False, alg="RSA-OAEP", use="enc"))
    return jwe.encrypt_compact(header, payload_of(good), free)


def sign_twice(good: str, scene: Scene) -> str:
    """JSON serialization with two signatures: a good one and the attacker's."""
    header, payload, signature = good.split(".")
    eves = sign_as_attacker(good, scene).split(".")
    signatures = [(header, signature), (eves[0], eves[2])]
    listed = [{"protected": each, "signature": by} for each, by in signatures]
    return msgspec.json.encode({"payload": payload, "signatures": listed}).decode()


def flat(good: str, _scene: Scene) -> str:
    fields = dict(zip(("protected", "payload", "signature"), good.split("."), strict=True))
    return msgspec.json.encode(fields).decode()


def with_duplicate_name(part: int, extra: bytes):
    """A token with a duplicate name, which two parsers may read differently."""

    def forge(good: str, _scene: Scene) -> str:
        parts = good.split(".")
        said = base64.urlsafe_b64decode(parts[part] + "==")
        parts[part] = text64(b"{" + extra + b"," + said[1:])
        return ".".join(parts)

    return forge


def issue_with(**wish):
    """Signed by the issuer, but for another subject or purpose."""
    return lambda _good, scene: scene.tenant.issue_token(TokenRequest(**{"sub": SUB} | wish))


def with_raw_claim(name: str, json: str):
    return lambda _good, scene: scene.issue_raw_claim(name, json)


def said(part: int, **changes):
    return lambda good, _scene: edited(good, part, **changes)


def by_another(alg: str, key: RSAKey | ECKey = OURS):
    return lambda good, _scene: signed(payload_of(good), {"alg": alg, "kid": OURS.kid}, key)


def named(kid: object):
    return lambda good, scene: scene.signed(payload_of(good), EVES, kid=kid)


def cut(put: str, at: int = -9):
    return lambda good, _scene: good[:at] + put + good[at:]


def edited(token: str, part: int, **changes) -> str:
    """Change the content and keep the signature."""
    parts = token.split(".")
    found = msgspec.json.decode(base64.urlsafe_b64decode(parts[part] + "=="))
    text = msgspec.json.encode(found | changes)
    parts[part] = base64.urlsafe_b64encode(text).decode().rstrip("=")
    return ".".join(parts)
