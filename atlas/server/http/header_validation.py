"""Rejects header blocks that two readers could interpret differently (RFC 9112).

The parser alone is too lenient. If two readers disagree about the end of a request, another request
can be smuggled in its body.
"""

import re
from functools import lru_cache

from atlas.core.errors import BadRequest

CHUNKED = -1  # in place of a length
DIGITS_MAX = 19
VERSIONS = frozenset({b" HTTP/1.1", b" HTTP/1.0"})
FRAMING_HEADERS = frozenset({b"host", b"content-length", b"transfer-encoding"})
HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]+")
UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)

Headers = list[tuple[bytes, bytes]]


def validate(head: bytes, method: bytes, headers: Headers) -> tuple[bool, int]:
    """Return True for HTTP/1.1 or False for 1.0, and the length of the body, or CHUNKED.

    The names of the headers must be in lower case. Raises BadRequest.
    """
    is_http_1_1 = validate_request_line(head, method)
    host = length = encoding = None
    for name, value in headers:
        if name in FRAMING_HEADERS:
            if name == b"host" and host is None:
                host = value
            elif name == b"content-length" and length is None:
                length = value
            elif name == b"transfer-encoding" and encoding is None:
                encoding = value
            else:
                raise BadRequest(f"There is more than one {name.decode()} header.")
    if host is None:
        if is_http_1_1:
            raise BadRequest("The Host header is missing, which HTTP/1.1 requires.")
    elif not is_host(host):
        raise BadRequest("The Host header is not a valid host.")
    return is_http_1_1, parse_body_length(length, encoding, is_http_1_1)


def validate_request_line(head: bytes, method: bytes) -> bool:
    """Return True for HTTP/1.1, False for HTTP/1.0. Raises BadRequest."""
    if head.startswith(b"\r"):
        head = head.lstrip(b"\r\n")
    line = head[: head.find(b"\r\n")]
    version = line[-9:]
    if line.count(b" ") != 2 or version not in VERSIONS or not line.startswith(method):
        raise BadRequest("The request line must be: method, space, target, space, HTTP/1.1.")
    if method == b"CONNECT":
        raise BadRequest("CONNECT is not supported, because Atlas is not a proxy.")
    return version == b" HTTP/1.1"


@lru_cache(maxsize=64)
def is_host(value: bytes) -> bool:
    """True if this is a valid Host. Cached, because clients use few distinct values."""
    return HOST.fullmatch(value.strip(b" \t")) is not None


def parse_body_length(length: bytes | None, encoding: bytes | None, is_http_1_1: bool) -> int:
    """Return the length of the body, or CHUNKED. Raises BadRequest."""
    if encoding is not None:
        if length is not None:
            raise BadRequest("Content-Length and Transfer-Encoding cannot be combined.")
        if not is_http_1_1 or encoding.strip(b" \t").lower() != b"chunked":
            raise BadRequest("Transfer-Encoding must be chunked, and requires HTTP/1.1.")
        return CHUNKED
    if length is None:
        return 0
    digits = length.strip(b" \t")
    if not digits.isdigit() or len(digits) > DIGITS_MAX:
        raise BadRequest(f"Content-Length must be a number of at most {DIGITS_MAX} digits.")
    return int(digits)


def strip_upgrade(head: bytes) -> bytes:
    """Remove the Upgrade header, which a server may ignore (RFC 9110, section 7.8)."""
    return UPGRADE.sub(b"", head)
