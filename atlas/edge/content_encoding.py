"""Decodes bodies with a Content-Encoding as they come, a step at a time.

Each step is handed on before the next is made, so that a small body cannot take much memory. The
caller limits the total.
"""

import sys
import zlib
from collections.abc import Iterator
from typing import Protocol

from atlas.core.errors import Rejected, TooLarge

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STEP_BYTES = 64 * 1024  # inflated in a fifth of a millisecond
RATIO_MAX, RATIO_FROM = 100, 4 * 1024 * 1024  # NDJSON of health data shrinks 10 to 30 times
MEMBERS_MAX = 100
GZIP, ZLIB, DEFLATE = 31, 15, -15  # values of `wbits` of zlib
ZSTD_WINDOW_LOG_MAX = 23  # 8 MiB, RFC 8878, section 3.1.1.1.2


class ContentDecoder(Protocol):
    """Decodes one body. Both methods raise Rejected for invalid data."""

    def decode(self, piece: bytes) -> Iterator[bytes]: ...

    def end(self) -> None: ...


def decoder_for(encoding: str) -> ContentDecoder:
    if not encoding:
        return IdentityDecoder()
    return RatioLimit(Zstd() if encoding == "zstd" else Zlib())


class IdentityDecoder:
    """A body that is not encoded."""

    def decode(self, piece: bytes) -> Iterator[bytes]:
        yield piece

    def end(self) -> None:
        pass


class RatioLimit:
    """Raises TooLarge for a body that inflates to more than RATIO_MAX times its size."""

    def __init__(self, inside: ContentDecoder) -> None:
        self._inside = inside
        self._taken = self._made = 0

    def decode(self, piece: bytes) -> Iterator[bytes]:
        self._taken += len(piece)
        for step in self._inside.decode(piece):
            self._made += len(step)
            if self._made > RATIO_FROM and self._made > RATIO_MAX * self._taken:
                raise TooLarge(f"The body inflates to more than {RATIO_MAX} times its size.")
            yield step

    def end(self) -> None:
        self._inside.end()


class ZlibDecompressor(Protocol):
    """A decompressor of the standard library's zlib, which does not name its type."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    @property
    def unconsumed_tail(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class Zlib:
    """Decodes gzip with any number of members, and deflate with or without a zlib header."""

    def __init__(self) -> None:
        self._zlib: ZlibDecompressor | None = None
        self._kind = 0
        self._members = 0

    def decode(self, piece: bytes) -> Iterator[bytes]:
        while piece := self._strip_padding(piece):
            inflating = self._current_member(piece)
            made = step(inflating, piece)
            while made:
                yield made
                piece = inflating.unconsumed_tail
                # zlib may hold the end of a step back although it has taken all that it was given;
                # asked behind its end, it would count what follows twice
                is_more = len(made) == STEP_BYTES and not inflating.eof
                made = step(inflating, piece) if is_more else b""
            piece = inflating.unused_data or inflating.unconsumed_tail

    def _strip_padding(self, piece: bytes) -> bytes:
        """gzip may be padded with zeros behind a member, also across pieces."""
        is_behind = self._zlib is not None and self._zlib.eof and self._kind == GZIP
        return piece.lstrip(b"\0") if is_behind else piece

    def _current_member(self, piece: bytes) -> ZlibDecompressor:
        """The decompressor of the current member, or a new one if that has ended."""
        if self._zlib is not None and not self._zlib.eof:
            return self._zlib
        is_gzip = piece[:1] == b"\x1f"
        if self._zlib is not None and not (is_gzip and self._kind == GZIP):
            raise Rejected("The body goes on where its compressed data end.")
        self._members += 1
        if self._members > MEMBERS_MAX:  # each costs time, however little is in it
            raise Rejected(f"The body may have {MEMBERS_MAX} members of gzip.")
        if is_gzip:
            self._kind = GZIP
        else:
            self._kind = ZLIB if piece[0] & 0x0F == 8 and piece[0] >> 4 <= 7 else DEFLATE
        self._zlib = zlib.decompressobj(self._kind)
        return self._zlib

    def end(self) -> None:
        if self._zlib is not None and not self._zlib.eof:
            raise Rejected("The compressed body ends too early.")


def step(decompressor: "ZlibDecompressor | zstd.ZstdDecompressor", piece: bytes) -> bytes:
    """Inflate up to STEP_BYTES. Raises Rejected."""
    try:
        return decompressor.decompress(piece, STEP_BYTES)
    except (zlib.error, zstd.ZstdError) as error:
        raise Rejected("The body does not inflate.") from error


class Zstd:
    """Decodes Zstandard with any number of frames, in steps of bounded output."""

    def __init__(self) -> None:
        self._frame: zstd.ZstdDecompressor | None = None
        self._frames = 0

    def decode(self, piece: bytes) -> Iterator[bytes]:
        while piece:
            frame = self._current_frame()
            made = step(frame, piece)
            while made:
                yield made
                made = b"" if frame.eof or frame.needs_input else step(frame, b"")
            piece = frame.unused_data

    def _current_frame(self) -> "zstd.ZstdDecompressor":
        """The decompressor of the current frame, or a new one if that has ended."""
        if self._frame is None or self._frame.eof:
            self._frames += 1
            if self._frames > MEMBERS_MAX:
                raise Rejected(f"The body may have {MEMBERS_MAX} frames of zstd.")
            window_log_max: int = zstd.DecompressionParameter.window_log_max
            self._frame = zstd.ZstdDecompressor(options={window_log_max: ZSTD_WINDOW_LOG_MAX})
        return self._frame

    def end(self) -> None:
        if self._frame is not None and not self._frame.eof:
            raise Rejected("The compressed body ends too early.")
