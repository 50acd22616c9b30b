"""Is the header block of a request one that every reader reads the same way? RFC 9112.

What the parser lets pass and what it should not: where two readers would cut a stream of requests
at two places, a request can be hidden in the body of another.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from atlas.core.errors import BadRequest

CHUNKED = -1  # instead of a length
DIGITS_MAX = 19
VERSIONS = frozenset({b" HTTP/1.1", b" HTTP/1.0"})
FRAMES = frozenset({b"host", b"content-length", b"transfer-encoding"})
HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]+")
UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)

Fields = Sequence[tuple[bytes, bytes]]


def judged(head: bytes, method: bytes, fields: Fields) -> tuple[bool, int]:
    """Is it HTTP/1.1, not 1.0; and how long the body is, or CHUNKED.

    The names of the fields are in lower case. Raises BadRequest.
    """
    is_new = check_line(head, method)
    host = length = encoding = None
    for name, value in fields:
        if name in FRAMES:
            if name == b"host" and host is None:
                host = value
            elif name == b"content-length" and length is None:
                length = value
            elif name == b"transfer-encoding" and encoding is None:
                encoding = value
            else:
                raise BadRequest(f"There is more than one {name.decode()} header.")
    if host is None:
        if is_new:
            raise BadRequest("There is no Host header, which HTTP/1.1 requires.")
    elif not is_host(host):
        raise BadRequest("The Host header holds no host.")
    return is_new, 0 if length is encoding is None else framed(length, encoding, is_new)


def check_line(head: bytes, method: bytes) -> bool:
    """Is it HTTP/1.1, not 1.0?"""
    if head.startswith(b"\r"):
        head = head.lstrip(b"\r\n")
    line = head[: head.find(b"\r\n")]
    version = line[-9:]
    if line.count(b" ") != 2 or version not in VERSIONS or not line.startswith(method):
        raise BadRequest("The request line is not: method, one space, target, one space, HTTP/1.1.")
    if method == b"CONNECT":
        raise BadRequest("CONNECT is not served: Atlas is no proxy.")
    return version == b" HTTP/1.1"


@lru_cache(maxsize=64)
def is_host(value: bytes) -> bool:
    """Phones say one of a few."""
    return HOST.fullmatch(value.strip(b" \t")) is not None


def framed(length: bytes | None, encoding: bytes | None, is_new: bool) -> int:
    if encoding is not None:
        if length is not None:
            raise BadRequest("Content-Length and Transfer-Encoding exclude each other.")
        if not is_new or encoding.strip(b" \t").lower() != b"chunked":
            raise BadRequest("Transfer-Encoding may only be chunked, and only in HTTP/1.1.")
        return CHUNKED
    if length is None:
        return 0
    digits = length.strip(b" \t")
    if not digits.isdigit() or len(digits) > DIGITS_MAX:
        raise BadRequest(f"Content-Length is not a number of at most {DIGITS_MAX} digits.")
    return int(digits)


def without_upgrade(head: bytes) -> bytes:
    """RFC 9110, section 7.8: an Upgrade that is not followed is ignored."""
    return UPGRADE.sub(b"", head)
