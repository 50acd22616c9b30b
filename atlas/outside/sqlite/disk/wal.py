"""The write-ahead log, walked before SQLite opens it, because SQLite says nothing of damage in it.

SQLite reads a WAL up to the first frame that is not whole and forgets everything behind it: that is
how it drops what a power cut tore, and it drops what was committed as silently when a bit flips.

Atlas has one connection and syncs every commit before the next begins. So when the power fails, at
most one transaction is not on the disk, the last one; of its sectors any may be there and any may
be missing. From this follows what is damage:

- A bad header with anything behind it. It is synced before the first frame is written, and lies in
  one sector.
- A bad frame with a whole commit frame of the same generation somewhere behind it.
- A bad frame that one flipped bit explains. A sector that was lost differs in more than that. The
  checksums cannot tell which bit it is, so `mend` lets the frame count as it stands: if the bit is
  in an export, that export's seal is broken, and all others are as they were.

The rest is a tail that was never acknowledged. Frames of an earlier generation have other salts;
they were checkpointed and mean nothing. What an uncommitted or failed write leaves has no whole
commit frame.

One false alarm remains: the power fails in the middle of a sync, and the disk had the last frame of
that transaction and not one before it. Then `transactions` is 1, nothing acknowledged is missing,
and it can happen once for each power cut (it did in 2 of 2,000 that were tried). Two transactions
or more are damage for certain. And one damage remains unseen: when more than a bit is wrong and no
commit frame behind it is whole, that looks like a torn tail in every way.

The format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from atlas.outside.sqlite.disk.folder import write

HEADER, FRAME_HEADER = struct.Struct(">8I"), struct.Struct(">6I")
SALTS, SALTS_AT = struct.Struct(">4I"), 8  # and behind them the sums
ORDERS = {
    0x377F0682: "<",
    0x377F0683: ">",
}  # of the bytes in what is summed; all else is big-endian
PAGE_SIZES = {2**power for power in range(9, 17)}
FRAME_HEADER_SUMMED = 8  # bytes of it: the page, and the size after the commit
WORD = 0xFFFFFFFF

Sums = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Damage:
    """Where a WAL breaks off: SQLite will forget this frame and all behind it.

    Frames count from 1, and 0 is the header. `transactions` of them are whole behind it, and lost.
    """

    frame: int
    offset: int
    transactions: int
    is_one_bit: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it stands there, good or bad."""

    number: int
    offset: int
    is_commit: bool
    salts: Sums
    sums: Sums  # as written behind the salts
    summed: tuple[int, ...]  # the words that they are the checksum of


@dataclass(frozen=True, slots=True)
class Generation:
    """What the header says: all frames that count have these salts, and their sums start here."""

    order: str
    page_size: int
    salts: Sums
    sums: Sums


def damage(wal: Path) -> Damage | None:
    """None when there is none, or no WAL, or nothing in it. Raises OSError."""
    if not wal.exists():
        return None
    raw = wal.read_bytes()
    if len(raw) <= HEADER.size:
        return None
    generation = generation_of(raw[: HEADER.size])
    if generation is None:
        return Damage(0, 0, 0, with_header_mended(raw) is not None) if raw.strip(b"\0") else None
    frames = frames_of(raw, generation)
    before = generation.sums
    for frame in frames:
        if not is_whole(frame, before, generation):
            return judged(frame, before, generation, frames)
        before = frame.sums
    return None


def generation_of(header: bytes) -> Generation | None:
    magic, _, size, _, *salts_and_sums = HEADER.unpack(header)
    if magic not in ORDERS:
        return None
    *salts, sum0, sum1 = salts_and_sums
    summed = struct.unpack(f"{ORDERS[magic]}6I", header[:24])
    if checksum(summed, (0, 0)) != (sum0, sum1) or size not in PAGE_SIZES:
        return None
    return Generation(ORDERS[magic], size, (salts[0], salts[1]), (sum0, sum1))


def with_header_mended(raw: bytes) -> bytes | None:
    """With the one bit of the header turned that makes it one of these frames."""
    for offset in range(HEADER.size):
        for bit in range(8):
            header = bytearray(raw[: HEADER.size])
            header[offset] ^= 1 << bit
            found = generation_of(bytes(header))
            if found and SALTS.unpack_from(raw, HEADER.size + SALTS_AT)[:2] == found.salts:
                return bytes(header) + raw[HEADER.size :]
    return None


def mend(wal: Path) -> None:
    """Have SQLite read on where one bit is wrong. Raises OSError."""
    raw = wal.read_bytes()
    if generation_of(raw[: HEADER.size]) is None:
        raw = with_header_mended(raw) or raw
    generation = generation_of(raw[: HEADER.size])
    if generation is None:
        return
    frames = list(frames_of(raw, generation))
    befores = [generation.sums, *(frame.sums for frame in frames)]
    wholes = [is_whole(*pair, generation) for pair in zip(frames, befores, strict=False)]
    bad = wholes.index(False) if False in wholes else len(frames)
    end = max(bad, *(place for place, whole in enumerate(wholes) if whole), 0)
    if bad < len(frames):
        pages = pages_max(wal, raw, frames)
        raw = with_a_header(raw, frames[bad], befores[bad], generation.order, pages)
        frames = list(frames_of(raw, generation))
    sums, mended = generation.sums, bytearray(raw)
    for frame in frames[: end + 1]:
        sums = checksum(frame.summed, sums)
        SALTS.pack_into(mended, frame.offset + SALTS_AT, *generation.salts, *sums)
    write(wal, bytes(mended))


def with_a_header(raw: bytes, bad: Frame, before: Sums, order: str, pages: int) -> bytes:
    """With the page and the size that the frame had, if it is one of those that has changed.

    Of a low bit the checksums are certain; a high one is far outside the file.
    """
    for place in range(FRAME_HEADER_SUMMED * 8):
        turned = bytearray(raw[bad.offset : bad.offset + FRAME_HEADER_SUMMED])
        turned[place // 8] ^= 1 << place % 8
        number, size = struct.unpack(">2I", turned)
        summed = (*struct.unpack(f"{order}2I", turned), *bad.summed[2:])
        if 1 <= number <= pages and size <= pages and checksum(summed, before) == bad.sums:
            return raw[: bad.offset] + bytes(turned) + raw[bad.offset + len(turned) :]
    return raw


def pages_max(wal: Path, raw: bytes, frames: list[Frame]) -> int:
    """More pages than so many the journal cannot have."""
    journal = wal.with_name(wal.name.removesuffix("-wal"))
    size = journal.stat().st_size if journal.exists() else 0
    return (size + len(raw)) // 512 + len(frames)


def apply(log: bytes, journal: BinaryIO) -> None:
    """Write into the pages of a journal what its log says, up to the last whole commit."""
    generation = generation_of(log[: HEADER.size]) if len(log) > HEADER.size else None
    if generation is None:
        return
    pending, before = list[Frame](), generation.sums
    for frame in frames_of(log, generation):
        if not is_whole(frame, before, generation):
            break
        pending.append(frame)
        before = frame.sums
        if frame.is_commit:
            for each in pending:
                put(journal, log, each, generation.page_size)
            pending.clear()


def put(journal: BinaryIO, log: bytes, frame: Frame, size: int) -> None:
    (number, _) = struct.unpack_from(">2I", log, frame.offset)
    content = frame.offset + FRAME_HEADER.size
    journal.seek((number - 1) * size)
    journal.write(log[content : content + size])


def frames_of(raw: bytes, generation: Generation) -> Iterator[Frame]:
    words = struct.Struct(f"{generation.order}2I8x8x{generation.page_size // 4}I")
    starts = range(HEADER.size, len(raw) - words.size + 1, words.size)
    for number, offset in enumerate(starts, 1):
        _, pages, *salts, sum0, sum1 = FRAME_HEADER.unpack_from(raw, offset)
        summed = words.unpack_from(raw, offset)
        yield Frame(number, offset, pages > 0, (salts[0], salts[1]), (sum0, sum1), summed)


def is_whole(frame: Frame, before: Sums, generation: Generation) -> bool:
    return frame.salts == generation.salts and frame.sums == checksum(frame.summed, before)


def judged(
    bad: Frame, before: Sums, generation: Generation, behind: Iterator[Frame]
) -> Damage | None:
    """Is this the torn tail, or damage?"""
    is_one_bit = is_one_bit_off(bad, before, generation)
    transactions, last = 0, bad.sums
    for frame in behind:  # each is summed from what stands in the one before it, good or bad
        transactions += frame.is_commit and is_whole(frame, last, generation)
        last = frame.sums
    if transactions or is_one_bit:
        return Damage(bad.number, bad.offset, transactions, is_one_bit)
    return None


def checksum(words: tuple[int, ...], before: Sums) -> Sums:
    first, second = before
    pairs = iter(words)
    for one, other in zip(pairs, pairs, strict=True):
        first = (first + one + second) & WORD
        second = (second + other + first) & WORD
    return first, second


def is_one_bit_off(bad: Frame, before: Sums, generation: Generation) -> bool:
    """Would it be whole with one bit turned: of the salts, of the sums, or of what is summed?

    The sums are linear: a word that grows by d adds d * (a, b) to them, and (a, b) depends only on
    how many words follow.
    """
    first, second = checksum(bad.summed, before)
    off = bits_between(bad.salts, generation.salts), bits_between(bad.sums, (first, second))
    if off in {(0, 1), (1, 0)}:
        return True
    missing = (bad.sums[0] - first) & WORD, (bad.sums[1] - second) & WORD
    weights = [(1, 1), (0, 1)]  # of the first word and the second word of the last pair
    pairs = zip(bad.summed[-2::-2], bad.summed[-1::-2], strict=True)
    for pair in pairs:
        for word, (a, b) in zip(pair, weights, strict=True):
            for bit in range(32):
                grown = (word ^ 1 << bit) - word
                if (grown * a & WORD, grown * b & WORD) == missing:
                    return off[0] == 0
        weights = [(a + b & WORD, a + 2 * b & WORD) for a, b in weights]
    return False


def bits_between(some: Sums, others: Sums) -> int:
    return sum((one ^ other).bit_count() for one, other in zip(some, others, strict=True))
