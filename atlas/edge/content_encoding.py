"""Decodes bodies with a Content-Encoding as they come, a step at a time.

Each step is handed on before the next is made, so that a small body cannot take much memory. The
caller limits the total.
"""

import sys
import zlib
from collections.abc import Iterator
from typing import Protocol

from atlas.core.errors import BodyTooLarge, Rejected

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

    def decode(self, chunk: bytes) -> Iterator[bytes]: ...

    def end(self) -> None: ...


def build_decoder(encoding: str) -> ContentDecoder:
    if not encoding:
        return IdentityDecoder()
    return RatioLimit(ZstdDecoder() if encoding == "zstd" else ZlibDecoder())


class IdentityDecoder:
    """A body that is not encoded."""

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        yield chunk

    def end(self) -> None:
        pass


class RatioLimit:
    """Raises BodyTooLarge for a body that inflates to more than RATIO_MAX times its size."""

    def __init__(self, decoder: ContentDecoder) -> None:
        self._decoder = decoder
        self._input_bytes = self._output_bytes = 0

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        self._input_bytes += len(chunk)
        for step in self._decoder.decode(chunk):
            self._output_bytes += len(step)
            if (
                self._output_bytes > RATIO_FROM
                and self._output_bytes > RATIO_MAX * self._input_bytes
            ):
                raise BodyTooLarge(f"The body inflates to more than {RATIO_MAX} times its size.")
            yield step

    def end(self) -> None:
        self._decoder.end()


class ZlibDecompressor(Protocol):
    """A decompressor of the standard library's zlib, which does not name its type."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    @property
    def unconsumed_tail(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class ZlibDecoder:
    """Decodes gzip with any number of members, and deflate with or without a zlib header."""

    def __init__(self) -> None:
        self._zlib: ZlibDecompressor | None = None
        self._kind = 0
        self._members = 0

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        while chunk := self._strip_padding(chunk):
            inflating = self._current_member(chunk)
            made = inflate(inflating, chunk)
            while made:
                yield made
                chunk = inflating.unconsumed_tail
                # zlib may hold the end of a step back although it has taken all that it was given;
                # asked behind its end, it would count what follows twice
                is_more = len(made) == STEP_BYTES and not inflating.eof
                made = inflate(inflating, chunk) if is_more else b""
            chunk = inflating.unused_data or inflating.unconsumed_tail

    def _strip_padding(self, chunk: bytes) -> bytes:
        """gzip may be padded with zeros behind a member, also across pieces."""
        is_behind = self._zlib is not None and self._zlib.eof and self._kind == GZIP
        return chunk.lstrip(b"\0") if is_behind else chunk

    def _current_member(self, chunk: bytes) -> ZlibDecompressor:
        """The decompressor of the current member, or a new one if that has ended."""
        if self._zlib is not None and not self._zlib.eof:
            return self._zlib
        is_gzip = chunk[:1] == b"\x1f"
        if self._zlib is not None and not (is_gzip and self._kind == GZIP):
            raise Rejected("The body goes on where its compressed data end.")
        self._members += 1
        if self._members > MEMBERS_MAX:  # each costs time, however little is in it
            raise Rejected(f"The body may have {MEMBERS_MAX} members of gzip.")
        if is_gzip:
            self._kind = GZIP
        else:
            self._kind = ZLIB if chunk[0] & 0x0F == 8 and chunk[0] >> 4 <= 7 else DEFLATE
        self._zlib = zlib.decompressobj(self._kind)
        return self._zlib

    def end(self) -> None:
        if self._zlib is not None and not self._zlib.eof:
            raise Rejected("The compressed body ends too early.")


def inflate(decompressor: "ZlibDecompressor | zstd.ZstdDecompressor", chunk: bytes) -> bytes:
    """Inflate up to STEP_BYTES. Raises Rejected."""
    try:
        return decompressor.decompress(chunk, STEP_BYTES)
    except (zlib.error, zstd.ZstdError) as error:
        raise Rejected("The body does not inflate.") from error


class ZstdDecoder:
    """Decodes Zstandard with any number of frames, in steps of bounded output."""

    def __init__(self) -> None:
        self._frame: zstd.ZstdDecompressor | None = None
        self._frames = 0

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            frame = self._current_frame()
            made = inflate(frame, chunk)
            while made:
                yield made
                made = b"" if frame.eof or frame.needs_input else inflate(frame, b"")
            chunk = frame.unused_data

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
