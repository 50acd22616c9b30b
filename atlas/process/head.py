"""Is the header block of a request one that every reader reads the same way? RFC 9112.

What the parser lets pass and what it should not: where two readers would cut a stream of requests
at two places, a request can be hidden in the body of another.
"""

import re
from collections.abc import Sequence

from atlas.core.errors import BadRequest

CHUNKED = -1  # instead of a length
DIGITS_MAX = 19
VERSIONS = frozenset({b"HTTP/1.1", b"HTTP/1.0"})
FRAMES = frozenset({b"host", b"content-length", b"transfer-encoding"})
HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]+")
UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)

Fields = Sequence[tuple[bytes, bytes]]


def body_bytes(line: bytes, method: bytes, fields: Fields) -> int:
    """How long the body is, or CHUNKED. `line` is the request line, the names are in lower case.

    Raises BadRequest.
    """
    verb, _, rest = line.partition(b" ")
    _, _, version = rest.partition(b" ")
    if verb != method or version not in VERSIONS:
        raise BadRequest("The request line is not: method, one space, target, one space, HTTP/1.1.")
    if method == b"CONNECT":
        raise BadRequest("CONNECT is not served: Atlas is no proxy.")
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        if name in FRAMES:
            if name in found:
                raise BadRequest(f"There is more than one {name.decode()} header.")
            found[name] = value
    is_new = version == b"HTTP/1.1"
    check_host(found.get(b"host"), is_new)
    return framed(found.get(b"content-length"), found.get(b"transfer-encoding"), is_new)


def check_host(host: bytes | None, is_new: bool) -> None:
    if host is None:
        if is_new:
            raise BadRequest("There is no Host header, which HTTP/1.1 requires.")
    elif not HOST.fullmatch(host.strip(b" \t")):
        raise BadRequest("The Host header holds no host.")


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
