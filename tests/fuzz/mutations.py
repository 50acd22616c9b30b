"""Good requests, and what becomes of them when something is wrong: by a seed and a number.

The same seed and number make the same request, whatever was made before. The canary stands where
a person's data does, and in nothing that an answer repeats: a manifest, a correlation id, a sub.
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
    METHODS,
    NAMES,
    ODD,
    PATHS,
    SAID,
    TEXTS,
    VALUES,
)
from tests.support.token_forgery import payload_of, signed
from tests.support.zstandard import zstd

SUBS = [f"auth0|mutant-{number}" for number in range(8)]
RAW = b'"@raw@"'
BOMB = gzip.compress(bytes(40_000_000), 9, mtime=0)
MUTANTS_MAX = 3  # mutations of one thing

Headers = dict[str, bytes]


@dataclass
class Request:
    """As it goes over a socket. What is `odd` the server may refuse before we see it."""

    method: str
    path: str
    headers: Headers
    body: bytes = b""
    is_odd: bool = False
    chunk_bytes: int = 0  # sent in chunks of so many; 0: with its length
    lengths: list[bytes] = field(default_factory=list)  # said instead of the true one

    def raw(self) -> bytes:
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
    """Draws all that it draws from `seed` and the number of the request."""

    def __init__(self, seed: str, tenant: Auth0Emulator) -> None:
        self._seed = seed
        self._tenant = tenant
        self._tokens = {sub: tenant.issue_token(TokenRequest(sub=sub)) for sub in SUBS}

    def request(self, number: int) -> Request:
        chance = Random(f"{self._seed}/{number}")
        kinds = [self.of_body, self.of_headers, self.of_token, self.of_path]
        (kind,) = chance.choices(kinds, [60, 15, 15, 10])
        return kind(chance, number)

    def good(self, chance: Random, number: int, damage: "Damage") -> Request:
        sub = chance.choice(SUBS)
        headers = {
            "host": b"atlas.test",
            "authorization": b"Bearer " + self._tokens[sub].encode(),
            "content-type": b"application/json",
            "prefer": b"respond-async",
        }
        path, body = chance.choice(KINDS)(chance, number, damage)
        if path.endswith("?stream"):
            path, headers["content-type"] = f"{API_PREFIX}/export", b"application/x-ndjson"
        if chance.random() < 0.3:
            name, pack = chance.choice(ENCODINGS)
            headers["content-encoding"], body = name, damage(chance, pack(body), 0.3)
        request = Request("POST", path, headers, body)
        if chance.random() < 0.03:
            headers["idempotency-key"] = b"k"
        if chance.random() < 0.2:
            request.chunk_bytes = (
                chance.choice([1, 7, 1_000, 70_000]) if len(body) < 2_000 else 9_999
            )
        return request

    def of_body(self, chance: Random, number: int) -> Request:
        request = self.good(chance, number, damaged)
        if chance.random() < 0.01:
            request.headers["content-encoding"], request.body = b"gzip", BOMB
            request.chunk_bytes = 0
        return request

    def of_headers(self, chance: Random, number: int) -> Request:
        request = self.good(chance, number, untouched)
        for _ in range(chance.randint(1, MUTANTS_MAX)):
            name = chance.choice([*NAMES])
            value = chance.choice(NAMES[name] + TEXTS)
            if chance.random() < 0.3:
                value = flipped(chance, value)
            request.headers[name] = value
            request.is_odd |= not all(byte == 9 or (byte > 31 and byte != 127) for byte in value)
            request.is_odd |= name in {"expect", "upgrade"}
        if chance.random() < 0.1:
            request.lengths = chance.choice([[b"x"], [b"-1"], [b"1", b"2"], [b"1"], [b"9" * 30]])
            request.is_odd, request.chunk_bytes = True, 0
        return request

    def of_token(self, chance: Random, number: int) -> Request:
        request = self.good(chance, number, untouched)
        forge = chance.choice([self.wished, self.cut, self.rewritten, self.made_up])
        value = forge(chance).encode("latin-1", "replace")
        request.headers["authorization"] = chance.choice([b"Bearer ", b"bearer  ", b"B"]) + value
        request.is_odd = not all(31 < byte != 127 for byte in value)
        return request

    def of_path(self, chance: Random, number: int) -> Request:
        request = self.good(chance, number, untouched)
        request.method, request.path = chance.choice(METHODS), chance.choice(PATHS)
        request.is_odd = not (request.path.isascii() and request.path.startswith("/"))
        request.is_odd |= " " in request.path or request.method in {"BREW", "get"}
        if request.method != "POST":
            request.body, request.chunk_bytes = b"", 0
        return request

    def wished(self, chance: Random) -> str:
        """Signed by the issuer, and odd."""
        key = self._tenant.ring.current
        header: dict[str, Any] = {"alg": "RS256", "typ": "JWT", "kid": key.kid}
        claims = msgspec.json.decode(payload_of(self._tokens[chance.choice(SUBS)]))
        if chance.random() < 0.3:
            header |= {chance.choice(SAID): chance.choice(ODD)}
        else:
            claims |= {chance.choice(CLAIMS): chance.choice(ODD)}
        text = (
            msgspec.json.encode(claims) if chance.random() < 0.7 else with_odd_value(chance, claims)
        )
        return signed(text, header, key)

    def cut(self, chance: Random) -> str:
        return flipped(chance, self._tokens[chance.choice(SUBS)].encode()).decode("latin-1")

    def rewritten(self, chance: Random) -> str:
        """A part of a good one, with JSON of another shape in it."""
        parts = self._tokens[chance.choice(SUBS)].split(".")
        place = chance.randrange(2)
        said = msgspec.json.decode(base64.urlsafe_b64decode(parts[place] + "=="))
        text = with_odd_value(chance, said)
        parts[place] = base64.urlsafe_b64encode(text).decode().rstrip("=")
        return ".".join(parts)

    def made_up(self, chance: Random) -> str:
        return (
            (b"." * chance.randrange(6))
            .join(chance.choice(TEXTS + BYTES) for _ in range(chance.randint(1, 5)))
            .decode("latin-1")
        )


Damage = Callable[[Random, bytes, float], bytes]


def untouched(_chance: Random, text: bytes, _share: float) -> bytes:
    return text


def damaged(chance: Random, text: bytes, share: float) -> bytes:
    return flipped(chance, text) if chance.random() < share else text


def flipped(chance: Random, text: bytes) -> bytes:
    """Bytes put in, taken out, doubled or changed."""
    for _ in range(chance.randint(1, MUTANTS_MAX)):
        start = chance.randint(0, len(text))
        end = min(len(text), start + chance.choice([0, 1, 2, 9, 99]))
        put = chance.choice([b"", text[start:end] * 2, chance.choice(BYTES), chance.randbytes(2)])
        text = text[:start] + put + text[end:]
    return text if chance.random() < 0.9 else text[: chance.randint(0, len(text))]


def with_odd_value(chance: Random, value: Any) -> bytes:
    """JSON of it, in which something somewhere is another value, or is there twice."""
    place = value
    while True:
        keys = [*place] if isinstance(place, dict) else [*range(len(place))]
        key = chance.choice(keys)
        if isinstance(place[key], dict | list) and place[key] and chance.random() < 0.8:
            place = place[key]
            continue
        place[key] = "@raw@"
        text = msgspec.json.encode(value).replace(RAW, chance.choice(VALUES))
        twice = b'"%s":1,' % str(key).encode()
        return text if chance.random() < 0.9 else text.replace(b"{", b"{" + twice, 1)


def a_record(chance: Random, number: int) -> dict[str, Any]:
    return {
        "uuid": f"{number}-{CANARY}",
        "sampleType": "HKQuantityTypeIdentifierHeartRate",
        "sourceName": CANARY,
        "startDate": "2026-01-02T12:00:00Z",
        "endDate": CANARY,
        "value": chance.choice([0, 72.5, "72", CANARY]),
        "unit": "count/min",
        "device": {"name": CANARY, "model": "Watch"},
        "metadata": {CANARY: 1, "x": [1, {"y": CANARY}]},
    }


def some_lines(chance: Random, number: int, damage: Damage) -> bytes:
    found: list[bytes] = []
    for _ in range(chance.choice([1, 2, 3, 40])):
        record = a_record(chance, number)
        is_odd = damage is damaged and chance.random() < 0.3
        found.append(with_odd_value(chance, record) if is_odd else msgspec.json.encode(record))
    end = chance.choice([b"\n", b"\r\n", b"\n\n"])
    return damage(chance, end.join(found) + chance.choice([b"", end]), 0.3)


def some_export(chance: Random, number: int, damage: Damage) -> dict[str, Any]:
    text = base64.b64encode(some_lines(chance, number, damage))
    return {
        "rawhealthkit": damage(chance, text, 0.2).decode("latin-1"),
        "timestamp": f"2026-01-02 {CANARY}",
        "device": CANARY,
        "recordCount": chance.choice([1, -1, 10**20]),
        "manifest": {"n": [1]},
        "options": {"x": CANARY},
    }


def an_export(chance: Random, number: int, damage: Damage) -> tuple[str, bytes]:
    sent = some_export(chance, number, damage)
    is_odd = damage is damaged and chance.random() < 0.4
    text = with_odd_value(chance, sent) if is_odd else msgspec.json.encode(sent)
    return f"{API_PREFIX}/{chance.choice(['export', 'ingest'])}", damage(chance, text, 0.2)


def a_batch(chance: Random, number: int, damage: Damage) -> tuple[str, bytes]:
    size = chance.choice([1, 2, 3, 3, 66])
    chunks = [some_export(chance, number, damage) for _ in range(size)]
    sent = {"chunks": [*chunks, *chunks[:1]], "options": {}}
    is_odd = damage is damaged and chance.random() < 0.4
    text = with_odd_value(chance, sent) if is_odd else msgspec.json.encode(sent)
    return f"{API_PREFIX}/export/batch", damage(chance, text, 0.2)


def a_stream(chance: Random, number: int, damage: Damage) -> tuple[str, bytes]:
    return "?stream", some_lines(chance, number, damage)


def raw_deflate(text: bytes) -> bytes:
    packing = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packing.compress(text) + packing.flush()


KINDS = [an_export, a_batch, a_stream]
ENCODINGS: list[tuple[bytes, Callable[[bytes], bytes]]] = [
    (b"gzip", lambda text: gzip.compress(text, 1, mtime=0)),
    (b"deflate", zlib.compress),
    (b"deflate", raw_deflate),
    (b"zstd", zstd.compress),
]
