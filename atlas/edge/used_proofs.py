"""Used DPoP proofs, which are remembered so that each serves one request.

iOS sends the same request again after a lost connection, with the same proof: that is no attack,
and the same body adds no row. Anything else under a used proof is refused: another target or other
headers at once, another body at its end.
"""

import hashlib
from base64 import urlsafe_b64decode
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from starlette.types import Message, Receive

from atlas.core.errors import InvalidProof
from atlas.core.messages import User
from atlas.edge.context import RequestContext

REMEMBERED_MAX = 100_000  # the oldest are forgotten first
CLOCK_SECONDS = 60.0  # that clocks may differ


@dataclass(slots=True)
class UsedProof:
    """A proof, the digest of its request without the body, and that of the body once it is read."""

    until: float
    request: bytes
    body: bytes | None = None

    def bind_body(self, digest: bytes) -> None:
        """Raise InvalidProof if the proof was used with another body."""
        self.body = self.body or digest
        if self.body != digest:
            raise InvalidProof


class UsedProofs:
    """Remembers used proofs until they expire."""

    def __init__(
        self, seconds: float, monotonic: Callable[[], float], limit: int = REMEMBERED_MAX
    ) -> None:
        self._seconds = seconds + CLOCK_SECONDS
        self._monotonic = monotonic
        self._limit = limit
        self._proofs: OrderedDict[bytes, UsedProof] = OrderedDict()

    def use(self, user: User, context: RequestContext, receive: Receive) -> Receive:
        """Bind a verified proof to its request. Return `receive`, which also checks the body.

        Raises InvalidProof if the proof was used for another request.
        """
        now = self._monotonic()
        while self._proofs and next(iter(self._proofs.values())).until <= now:
            self._proofs.popitem(last=False)
        id, request = derive_id(user, context.proof), digest_request(context)
        proof = self._proofs.get(id)
        if proof is None:
            proof = self._proofs[id] = UsedProof(now + self._seconds, request)
            if len(self._proofs) > self._limit:
                self._proofs.popitem(last=False)
        if proof.request != request:
            raise InvalidProof
        return compare_body(receive, proof)


def compare_body(receive: Receive, proof: UsedProof) -> Receive:
    """Compare the body with the one that the proof was used with, when its end is received."""
    digest = hashlib.sha256()

    async def receive_compared() -> Message:
        message = await receive()
        if message["type"] == "http.request":
            digest.update(message.get("body", b""))
            if not message.get("more_body", False):
                proof.bind_body(digest.digest())
        return message

    return receive_compared


def derive_id(user: User, proof: str) -> bytes:
    """Derive the id under which a verified proof is remembered, from its user and its `jti`."""
    payload = proof.split(".")[1]
    padded = payload + "=" * (-len(payload) % 4)
    claims = msgspec.json.decode(urlsafe_b64decode(padded), type=dict[str, object])
    return digest_parts(user.sub, str(claims["jti"]))


def digest_request(context: RequestContext) -> bytes:
    """Return the digest of everything that distinguishes a request, except its body."""
    return digest_parts(
        context.authorization,
        context.method,
        context.target,
        context.key,
        context.media_type,
        context.encoding,
        str(context.content_length),
        *(each.decode("latin-1") for each in (context.query, context.device, context.timestamp)),
    )


def digest_parts(*parts: str) -> bytes:
    return hashlib.sha256(msgspec.json.encode(parts)).digest()[:16]
