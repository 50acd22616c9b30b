"""Valid requests and their mutations, determined by a seed and a number.

The same seed and number always make the same request. The canary is in the place of personal data,
and not in what answers may repeat: a manifest, a correlation id, a sub.
"""

import base64
import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec

from atlas.core.identifiers import API_PREFIX
from atlas.local.auth0 import Auth0Emulator, TokenRequest
from tests.fuzz.oddities import (
    BYTES,
    CANARY,
    CLAIMS,
    HEADER_PARAMETERS,
    METHODS,
    NAMES,
    ODD,
    PATHS,
    TEXTS,
    VALUES,
)
from tests.support.token_forgery import payload_of, signed
from tests.support.zstandard import zstd

SUBS = [f"auth0|mutant-{number}" for number in range(8)]
RAW = b'"@raw@"'
BOMB = gzip.compress(bytes(40_000_000), 9, mtime=0)
MUTATIONS_MAX = 3  # mutations of one request

Headers = dict[str, bytes]


@dataclass
class Request:
    """An HTTP request as sent. The server may refuse one with `is_odd` before our code sees it."""

    method: str
    path: str
    headers: Headers
    body: bytes = b""
    is_odd: bool = False
    chunk_bytes: int = 0  # chunk size; 0: with a Content-Length
    lengths: list[bytes] = field(default_factory=list)  # sent instead of the true length

    def encode(self) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1".encode("latin-1")]
        lines += [b"%s: %s" % (name.encode(), value) for name, value in self.headers.items()]
        body = self.body
        if self.chunk_bytes:
            lines.append(b"transfer-encoding: chunked")
            size = self.chunk_bytes
            pieces = [body[at : at + size] for at in range(0, len(body), size)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in [*pieces, b""])
        elif body or self.method == "POST":
            said = self.lengths or [b"%d" % len(body)]
            lines += [b"content-length: %s" % each for each in said]
        return b"\r\n".join([*lines, b"", body])


class Mutator:
    """Builds requests; all random choices come from the seed and the number of the request."""

    def __init__(self, seed: str, tenant: Auth0Emulator) -> None:
        self._seed = seed
        self._tenant = tenant
        self._tokens = {sub: tenant.issue_token(TokenRequest(sub=sub)) for sub in SUBS}

    def build_request(self, number: int) -> Request:
        rng = Random(f"{self._seed}/{number}")
        kinds = [self.mutate_body, self.mutate_headers, self.mutate_token, self.mutate_path]
        (kind,) = rng.choices(kinds, [60, 15, 15, 10])
        return kind(rng, number)

    def build_valid(self, rng: Random, number: int, damage: "Damage") -> Request:
        sub = rng.choice(SUBS)
        headers = {
            "host": b"atlas.test",
            "authorization": b"Bearer " + self._tokens[sub].encode(),
            "content-type": b"application/json",
            "prefer": b"respond-async",
        }
        path, body = rng.choice(KINDS)(rng, number, damage)
        if path.endswith("?stream"):
            path, headers["content-type"] = f"{API_PREFIX}/export", b"application/x-ndjson"
        if rng.random() < 0.3:
            name, compress = rng.choice(ENCODINGS)
            headers["content-encoding"], body = name, damage(rng, compress(body), 0.3)
        request = Request("POST", path, headers, body)
        if rng.random() < 0.03:
            headers["idempotency-key"] = b"k"
        if rng.random() < 0.2:
            request.chunk_bytes = rng.choice([1, 7, 1_000, 70_000]) if len(body) < 2_000 else 9_999
        return request

    def mutate_body(self, rng: Random, number: int) -> Request:
        request = self.build_valid(rng, number, damage_some)
        if rng.random() < 0.01:
            request.headers["content-encoding"], request.body = b"gzip", BOMB
            request.chunk_bytes = 0
        return request

    def mutate_headers(self, rng: Random, number: int) -> Request:
        request = self.build_valid(rng, number, leave_unchanged)
        for _ in range(rng.randint(1, MUTATIONS_MAX)):
            name = rng.choice([*NAMES])
            value = rng.choice(NAMES[name] + TEXTS)
            if rng.random() < 0.3:
                value = flip_bytes(rng, value)
            request.headers[name] = value
            request.is_odd |= not all(byte == 9 or (byte > 31 and byte != 127) for byte in value)
            request.is_odd |= name in {"expect", "upgrade"}
        if rng.random() < 0.1:
            request.lengths = rng.choice([[b"x"], [b"-1"], [b"1", b"2"], [b"1"], [b"9" * 30]])
            request.is_odd, request.chunk_bytes = True, 0
        return request

    def mutate_token(self, rng: Random, number: int) -> Request:
        request = self.build_valid(rng, number, leave_unchanged)
        forge = rng.choice(
            [self.sign_odd_token, self.flip_token, self.rewrite_token_part, self.make_up_token]
        )
        value = forge(rng).encode("latin-1", "replace")
        request.headers["authorization"] = rng.choice([b"Bearer ", b"bearer  ", b"B"]) + value
        request.is_odd = not all(31 < byte != 127 for byte in value)
        return request

    def mutate_path(self, rng: Random, number: int) -> Request:
        request = self.build_valid(rng, number, leave_unchanged)
        request.method, request.path = rng.choice(METHODS), rng.choice(PATHS)
        request.is_odd = not (request.path.isascii() and request.path.startswith("/"))
        request.is_odd |= " " in request.path or request.method in {"BREW", "get"}
        if request.method != "POST":
            request.body, request.chunk_bytes = b"", 0
        return request

    def sign_odd_token(self, rng: Random) -> str:
        """Sign a token with an odd header parameter or claim with the issuer's key."""
        key = self._tenant.ring.current
        header: dict[str, Any] = {"alg": "RS256", "typ": "JWT", "kid": key.kid}
        claims = msgspec.json.decode(payload_of(self._tokens[rng.choice(SUBS)]))
        if rng.random() < 0.3:
            header |= {rng.choice(HEADER_PARAMETERS): rng.choice(ODD)}
        else:
            claims |= {rng.choice(CLAIMS): rng.choice(ODD)}
        text = (
            msgspec.json.encode(claims)
            if rng.random() < 0.7
            else encode_with_odd_value(rng, claims)
        )
        return signed(text, header, key)

    def flip_token(self, rng: Random) -> str:
        return flip_bytes(rng, self._tokens[rng.choice(SUBS)].encode()).decode("latin-1")

    def rewrite_token_part(self, rng: Random) -> str:
        """Replace a part of a valid token by JSON of another shape."""
        parts = self._tokens[rng.choice(SUBS)].split(".")
        index = rng.randrange(2)
        content = msgspec.json.decode(base64.urlsafe_b64decode(parts[index] + "=="))
        text = encode_with_odd_value(rng, content)
        parts[index] = base64.urlsafe_b64encode(text).decode().rstrip("=")
        return ".".join(parts)

    def make_up_token(self, rng: Random) -> str:
        return (
            (b"." * rng.randrange(6))
            .join(rng.choice(TEXTS + BYTES) for _ in range(rng.randint(1, 5)))
            .decode("latin-1")
        )


Damage = Callable[[Random, bytes, float], bytes]


def leave_unchanged(_rng: Random, text: bytes, _share: float) -> bytes:
    return text


def damage_some(rng: Random, text: bytes, share: float) -> bytes:
    return flip_bytes(rng, text) if rng.random() < share else text


def flip_bytes(rng: Random, text: bytes) -> bytes:
    """Insert, remove, double or change bytes."""
    for _ in range(rng.randint(1, MUTATIONS_MAX)):
        start = rng.randint(0, len(text))
        end = min(len(text), start + rng.choice([0, 1, 2, 9, 99]))
        put = rng.choice([b"", text[start:end] * 2, rng.choice(BYTES), rng.randbytes(2)])
        text = text[:start] + put + text[end:]
    return text if rng.random() < 0.9 else text[: rng.randint(0, len(text))]


def encode_with_odd_value(rng: Random, value: Any) -> bytes:
    """Encode as JSON, with an odd value in one place, or a duplicate key."""
    parent = value
    while True:
        keys = [*parent] if isinstance(parent, dict) else [*range(len(parent))]
        key = rng.choice(keys)
        if isinstance(parent[key], dict | list) and parent[key] and rng.random() < 0.8:
            parent = parent[key]
            continue
        parent[key] = "@raw@"
        text = msgspec.json.encode(value).replace(RAW, rng.choice(VALUES))
        twice = b'"%s":1,' % str(key).encode()
        return text if rng.random() < 0.9 else text.replace(b"{", b"{" + twice, 1)


def build_record(rng: Random, number: int) -> dict[str, Any]:
    return {
        "uuid": f"{number}-{CANARY}",
        "sampleType": "HKQuantityTypeIdentifierHeartRate",
        "sourceName": CANARY,
        "startDate": "2026-01-02T12:00:00Z",
        "endDate": CANARY,
        "value": rng.choice([0, 72.5, "72", CANARY]),
        "unit": "count/min",
        "device": {"name": CANARY, "model": "Watch"},
        "metadata": {CANARY: 1, "x": [1, {"y": CANARY}]},
    }


def build_lines(rng: Random, number: int, damage: Damage) -> bytes:
    records: list[bytes] = []
    for _ in range(rng.choice([1, 2, 3, 40])):
        record = build_record(rng, number)
        is_odd = damage is damage_some and rng.random() < 0.3
        records.append(
            encode_with_odd_value(rng, record) if is_odd else msgspec.json.encode(record)
        )
    end = rng.choice([b"\n", b"\r\n", b"\n\n"])
    return damage(rng, end.join(records) + rng.choice([b"", end]), 0.3)


def build_body(rng: Random, number: int, damage: Damage) -> dict[str, Any]:
    text = base64.b64encode(build_lines(rng, number, damage))
    return {
        "rawhealthkit": damage(rng, text, 0.2).decode("latin-1"),
        "timestamp": f"2026-01-02 {CANARY}",
        "device": CANARY,
        "recordCount": rng.choice([1, -1, 10**20]),
        "manifest": {"n": [1]},
        "options": {"x": CANARY},
    }


def build_export(rng: Random, number: int, damage: Damage) -> tuple[str, bytes]:
    sent = build_body(rng, number, damage)
    is_odd = damage is damage_some and rng.random() < 0.4
    text = encode_with_odd_value(rng, sent) if is_odd else msgspec.json.encode(sent)
    return f"{API_PREFIX}/{rng.choice(['export', 'ingest'])}", damage(rng, text, 0.2)


def build_batch(rng: Random, number: int, damage: Damage) -> tuple[str, bytes]:
    size = rng.choice([1, 2, 3, 3, 66])
    chunks = [build_body(rng, number, damage) for _ in range(size)]
    sent = {"chunks": [*chunks, *chunks[:1]], "options": {}}
    is_odd = damage is damage_some and rng.random() < 0.4
    text = encode_with_odd_value(rng, sent) if is_odd else msgspec.json.encode(sent)
    return f"{API_PREFIX}/export/batch", damage(rng, text, 0.2)


def build_stream(rng: Random, number: int, damage: Damage) -> tuple[str, bytes]:
    return "?stream", build_lines(rng, number, damage)


def raw_deflate(text: bytes) -> bytes:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    return compressor.compress(text) + compressor.flush()


KINDS = [build_export, build_batch, build_stream]
ENCODINGS: list[tuple[bytes, Callable[[bytes], bytes]]] = [
    (b"gzip", lambda text: gzip.compress(text, 1, mtime=0)),
    (b"deflate", zlib.compress),
    (b"deflate", raw_deflate),
    (b"zstd", zstd.compress),
]
