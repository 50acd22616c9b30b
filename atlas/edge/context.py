"""Parses the request line and the headers of a request, once."""

import random
import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote_to_bytes
from uuid import UUID

import msgspec
from msgspec import Struct
from starlette.types import Scope

from atlas.core.errors import Rejected, UnsupportedMediaType
from atlas.core.traces import Trace

JSON, NDJSON, PROBLEM = "application/json", "application/x-ndjson", "application/problem+json"
ENCODINGS = frozenset({"gzip", "x-gzip", "deflate", "zstd"})
CORRELATION_ID = re.compile(r"[\x20-\x7e]{1,128}")
COUNT = re.compile(r"[0-9]{1,9}")
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
PREFERENCE = re.compile(r"([A-Za-z-]+)\s*(?:=\s*\"?([^\";,]*)\"?)?")
WAIT_SECONDS_MAX = 50.0  # iOS gives up after 60
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"})

_random = random.Random()  # noqa: S311 - seeded by the system; see new_id

TraceSampler = Callable[[str], Trace | None]  # from a traceparent to a span, if sampled


class Caller(Struct):
    """The user of a request: "" until the token is accepted."""

    sub: str = ""


class RequestContext(Struct, frozen=True, kw_only=True):
    """One request to the public listener. Texts are as sent, "" if absent.

    `route` is the template of the path, or "none". `target` is //host/path as requested. `proof` is
    the DPoP header, "" unless there is exactly one. `content_length` is None if it is not declared.
    `caller` is filled in by authentication. `wait_seconds` is the preferred wait for the commit
    (RFC 7240), or None. `media_type` and `encoding` are in lower case and without parameters.
    """

    correlation_id: str
    method: str = ""
    route: str = ""
    trace: Trace | None = None
    caller: Caller = msgspec.field(default_factory=Caller)
    authorization: str = ""
    target: str = ""
    proof: str = ""
    media_type: str = JSON
    encoding: str = ""
    content_length: int | None = None
    has_body: bool = False
    key: str = ""
    wait_seconds: float | None = None
    accepts_problem: bool = False
    query: bytes = b""
    params: Mapping[str, str] = {}  # of the path
    device: bytes = b""
    timestamp: bytes = b""
    record_count: bytes = b""

    def parse_encoding(self) -> str:
        """Return the Content-Encoding, "" for none. Raises UnsupportedMediaType."""
        if self.encoding and self.encoding not in ENCODINGS:
            raise UnsupportedMediaType
        return self.encoding

    def parse_idempotency_key(self) -> str | None:
        """Return the Idempotency-Key, None if it is empty. Raises Rejected if it is invalid."""
        if not self.key:
            return None
        if not IDEMPOTENCY_KEY.fullmatch(self.key):
            raise Rejected(
                "Idempotency-Key must be 1 to 255 printable ASCII characters without spaces."
            )
        return self.key

    def parse_device(self) -> str:
        """Return the device of a stream. Raises Rejected."""
        return decode_text("Atlas-Device", self.device) or "unknown"

    def parse_timestamp(self) -> str:
        """Return the timestamp of a stream. Raises Rejected."""
        return decode_text("Atlas-Timestamp", self.timestamp)

    def parse_record_count(self) -> int | None:
        """Return the line count that the sender declared, None if it is not a number."""
        text = self.record_count.decode("latin-1")
        return int(text) if COUNT.fullmatch(text) else None


def read_context(scope: Scope, route: str, sample_trace: TraceSampler) -> RequestContext:
    """Parse an ASGI request. Of several headers with one name, the first counts.

    Nothing is refused here, because invalid values matter only to the routes that use them.
    """
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name not in headers:
            headers[name] = value
        elif name == b"prefer":
            headers[name] += b"," + value
        elif name == b"dpop":
            headers[name] = b""  # RFC 9449, section 4.3: exactly one
    get, method = headers.get, scope["method"]
    given_id = get(b"x-correlation-id", b"").decode("latin-1")
    length = get(b"content-length", b"")
    media_type = strip_parameters(get(b"content-type", b""))
    encoding = get(b"content-encoding", b"").decode("latin-1").strip().lower()
    return RequestContext(
        correlation_id=given_id if CORRELATION_ID.fullmatch(given_id) else new_id(),
        method=method if method in METHODS else "other",
        route=route,
        trace=sample_trace(get(b"traceparent", b"").decode("latin-1")),
        authorization=get(b"authorization", b"").decode("latin-1"),
        target=build_target(scope, get(b"host", b"")),
        proof=get(b"dpop", b"").decode("latin-1"),
        media_type=media_type or JSON,
        encoding="" if encoding == "identity" else encoding,
        content_length=int(length) if length.isdigit() else None,
        has_body=b"transfer-encoding" in headers or length not in {b"", b"0"},
        key=get(b"idempotency-key", b"").decode("latin-1"),
        wait_seconds=parse_preferred_wait(get(b"prefer", b"").decode("latin-1")),
        accepts_problem=PROBLEM.encode() in get(b"accept", b""),
        query=scope["query_string"],
        device=get(b"atlas-device", b""),
        timestamp=get(b"atlas-timestamp", b""),
        record_count=get(b"atlas-record-count", b""),
    )


def build_target(scope: Scope, host: bytes) -> str:
    """Return the requested address as //host/path, as the client has sent it."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    return f"//{host.decode('latin-1')}{path.decode('latin-1')}"


def read_briefly(scope: Scope) -> RequestContext:
    """Parse only what a refusal needs: the correlation id and the accepted format."""
    given_id, accepts_problem = "", False
    for name, value in scope["headers"]:
        if name == b"x-correlation-id" and not given_id:
            given_id = value.decode("latin-1")
        elif name == b"accept":
            accepts_problem = PROBLEM.encode() in value
    return RequestContext(
        correlation_id=given_id if CORRELATION_ID.fullmatch(given_id) else new_id(),
        accepts_problem=accepts_problem,
    )


def new_id() -> str:
    """Create a UUID of version 4 (RFC 9562), without a system call: it is not a secret."""
    return str(UUID(int=_random.getrandbits(128), version=4))


def strip_parameters(value: bytes) -> str:
    return value.decode("latin-1").partition(";")[0].strip().lower()


def parse_preferred_wait(preferences: str) -> float | None:
    """Return the seconds that the sender prefers to wait (RFC 7240), None without a preference."""
    if not preferences:
        return None
    preferences_by_name = {match[1].lower(): match[2] for match in PREFERENCE.finditer(preferences)}
    wait = preferences_by_name.get("wait") or ""
    if COUNT.fullmatch(wait):
        return min(float(wait), WAIT_SECONDS_MAX)
    return 0.0 if "respond-async" in preferences_by_name else None


def decode_text(name: str, raw: bytes) -> str:
    """Decode UTF-8, raw or percent-encoded. Raises Rejected."""
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise Rejected(f"{name} is not UTF-8.") from error
