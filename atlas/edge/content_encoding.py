"""Decodes bodies with a Content-Encoding as they arrive, in steps of bounded size.

Each step is yielded before the next is decoded, so that a small body cannot take much memory. The
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

STEP_BYTES = 64 * 1024  # takes 0.2 ms
RATIO_MAX, RATIO_FROM = 100, 4 * 1024 * 1024  # NDJSON of health data has 10 to 30
MEMBERS_MAX = 100
GZIP, ZLIB, DEFLATE = 31, 15, -15  # `wbits` of zlib
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
    """Passes a body without an encoding through."""

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
            if self._output_bytes > max(RATIO_FROM, RATIO_MAX * self._input_bytes):
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
            member = self._current_member(chunk)
            step = inflate(member, chunk)
            while step:
                yield step
                chunk = member.unconsumed_tail
                # zlib may hold output back after it has consumed all input, so a full step may
                # be followed by another; at the end, a further call would count the rest twice
                has_more = len(step) == STEP_BYTES and not member.eof
                step = inflate(member, chunk) if has_more else b""
            chunk = member.unused_data or member.unconsumed_tail

    def _strip_padding(self, chunk: bytes) -> bytes:
        """Strip the zeros that may follow a gzip member, also across chunks."""
        is_after_member = self._zlib is not None and self._zlib.eof and self._kind == GZIP
        return chunk.lstrip(b"\0") if is_after_member else chunk

    def _current_member(self, chunk: bytes) -> ZlibDecompressor:
        """Return the decompressor of the current member, or a new one if it has ended."""
        if self._zlib is not None and not self._zlib.eof:
            return self._zlib
        is_gzip = chunk[:1] == b"\x1f"
        if self._zlib is not None and not (is_gzip and self._kind == GZIP):
            raise Rejected("Trailing data after the compressed body.")
        self._members += 1
        if self._members > MEMBERS_MAX:  # even an empty one costs time
            raise Rejected(f"The body has more than {MEMBERS_MAX} gzip members.")
        if is_gzip:
            self._kind = GZIP
        else:
            self._kind = ZLIB if chunk[0] & 0x0F == 8 and chunk[0] >> 4 <= 7 else DEFLATE
        self._zlib = zlib.decompressobj(self._kind)
        return self._zlib

    def end(self) -> None:
        if self._zlib is not None and not self._zlib.eof:
            raise Rejected("The compressed body is truncated.")


def inflate(decompressor: "ZlibDecompressor | zstd.ZstdDecompressor", chunk: bytes) -> bytes:
    """Inflate up to STEP_BYTES. Raises Rejected."""
    try:
        return decompressor.decompress(chunk, STEP_BYTES)
    except (zlib.error, zstd.ZstdError) as error:
        raise Rejected("The compressed body is invalid.") from error


class ZstdDecoder:
    """Decodes Zstandard with any number of frames, in steps of bounded output."""

    def __init__(self) -> None:
        self._frame: zstd.ZstdDecompressor | None = None
        self._frames = 0

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            frame = self._current_frame()
            step = inflate(frame, chunk)
            while step:
                yield step
                step = b"" if frame.eof or frame.needs_input else inflate(frame, b"")
            chunk = frame.unused_data

    def _current_frame(self) -> "zstd.ZstdDecompressor":
        """Return the decompressor of the current frame, or a new one if it has ended."""
        if self._frame is None or self._frame.eof:
            self._frames += 1
            if self._frames > MEMBERS_MAX:
                raise Rejected(f"The body has more than {MEMBERS_MAX} zstd frames.")
            window_log_max: int = zstd.DecompressionParameter.window_log_max
            self._frame = zstd.ZstdDecompressor(options={window_log_max: ZSTD_WINDOW_LOG_MAX})
        return self._frame

    def end(self) -> None:
        if self._frame is not None and not self._frame.eof:
            raise Rejected("The compressed body is truncated.")
