"""Checks the write-ahead log (WAL) before SQLite opens it, because SQLite ignores damage in it.

SQLite reads a WAL up to the first frame with a wrong checksum and ignores the rest. That is right
for a tail torn by a power cut; but if a bit flips, all later commits are lost.

Atlas has one connection and syncs each commit before the next begins. So a power cut leaves at most
one incomplete transaction, the last one, in which any sectors may be missing. Damage is therefore:

- A bad header followed by anything: it is synced before the first frame, and is in one sector.
- A bad frame that a valid commit frame of the same generation follows.
- A bad frame that one flipped bit explains; a missing sector differs in more bits.

Anything else is a tail that was never acknowledged. Frames of an earlier generation have different
salts, and are in the journal already. One false alarm is possible: during the sync of the last
transaction, the disk has written its last frame but not an earlier one. Then `transactions` is 1.

`apply_wal` copies the WAL into the journal. A page with one flipped bit is copied as it is: only
the row with that bit fails decryption. At any other damage it stops, as SQLite does, and the result
is the journal as of an earlier commit.

The format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from atlas.outside.sqlite.disk.folder import build_sibling_path, fsync_path

HEADER, FRAME_HEADER = struct.Struct(">8I"), struct.Struct(">6I")
# magic number: byte order of the words in a checksum; everything else is big-endian
BYTE_ORDERS = {0x377F0682: "<", 0x377F0683: ">"}
PAGE_SIZES = {2**power for power in range(9, 17)}
PAGE_SIZE = 4096  # of Atlas, if the header is bad
WORD = 0xFFFFFFFF

Pair = tuple[int, int]  # a checksum, or salts


@dataclass(frozen=True, slots=True)
class WalDamage:
    """The first bad frame, counted from 1; 0 is the header.

    `transactions` is the number of complete transactions after it. They are lost, unless the damage
    is a single bit.
    """

    frame: int
    offset: int
    transactions: int
    is_one_bit: bool = False


class Generation(NamedTuple):
    """The contents of the header, which all frames share; `checksum` is None if it is bad."""

    order: str
    page_size: int
    salts: Pair
    checksum: Pair | None


class Frame(NamedTuple):
    number: int
    offset: int
    page: int
    size: int  # of the journal after this commit, in pages; 0 if this is not a commit frame
    salts: Pair
    checksum: Pair
    words: tuple[int, ...]  # covered by the checksum


@dataclass(slots=True)
class Wal:
    """The offsets of committed frames by page, and the size of the journal after them in pages."""

    damage: WalDamage | None = None
    pages: dict[int, int] = field(default_factory=dict)
    size: int = 0


def find_damage(path: Path) -> WalDamage | None:
    """Return the damage in a WAL, if it exists. Raises OSError."""
    return read_wal(path.read_bytes(), 0).damage if path.exists() else None


def apply_wal(journal: Path) -> None:
    """Copy committed pages into the journal, and delete the WAL. Safe to repeat. Raises OSError."""
    path = build_sibling_path(journal, "-wal")
    if not path.exists():
        return
    raw = path.read_bytes()
    page_size = parse_generation(raw).page_size if len(raw) > HEADER.size else PAGE_SIZE
    wal = read_wal(raw, journal.stat().st_size // page_size)
    with journal.open("r+b") as file:
        for page, offset in wal.pages.items():
            content = offset + FRAME_HEADER.size
            file.seek((page - 1) * page_size)
            file.write(raw[content : content + page_size])
        if wal.size:
            file.truncate(wal.size * page_size)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    fsync_path(journal.parent)


def read_wal(raw: bytes, journal_pages: int) -> Wal:
    wal = Wal()
    if len(raw) <= HEADER.size or not raw.strip(b"\0"):
        return wal
    generation = parse_generation(raw)
    if generation.checksum is None:
        wal.damage = WalDamage(0, 0, 0)
    frames = read_frames(raw, generation)
    pages_max = journal_pages + len(raw) // generation.page_size
    pending, previous = dict[int, int](), generation.checksum
    for frame in frames:
        page, size, checksum = frame.page, frame.size, frame.checksum
        if previous is not None and not is_valid(frame, previous, generation):
            if not is_single_bit_error(frame, previous, generation):
                wal.damage = assess_damage(frame, frames, generation) or wal.damage
                break
            following = read_frames(raw, generation, frame.number)
            wal.damage = wal.damage or assess_damage(frame, following, generation, is_one_bit=True)
            computed = compute_checksum(frame.words, previous)
            if is_next_valid(read_frames(raw, generation, frame.number), computed, generation):
                checksum = computed  # the flipped bit is in the checksum
            else:
                page, size = repair_page_and_size(frame, previous, generation, pages_max)
        pending[page] = frame.offset
        if size:
            wal.pages.update(pending)
            wal.size = size
            pending.clear()
        previous = checksum
    return wal


def parse_generation(raw: bytes) -> Generation:
    """Parse the header; if it is bad, take the salts of the first frame."""
    magic, _, page_size, _, *salts, checksum0, checksum1 = HEADER.unpack_from(raw)
    order = BYTE_ORDERS.get(magic, "<")
    words = struct.unpack(f"{order}6I", raw[:24])
    if (
        magic in BYTE_ORDERS
        and page_size in PAGE_SIZES
        and compute_checksum(words, (0, 0)) == (checksum0, checksum1)
    ):
        return Generation(order, page_size, (salts[0], salts[1]), (checksum0, checksum1))
    if len(raw) < HEADER.size + FRAME_HEADER.size:
        return Generation("<", PAGE_SIZE, (0, 0), None)
    _, _, salt0, salt1, *_ = FRAME_HEADER.unpack_from(raw, HEADER.size)
    return Generation("<", PAGE_SIZE, (salt0, salt1), None)


def read_frames(raw: bytes, generation: Generation, after: int = 0) -> Iterator[Frame]:
    frame = struct.Struct(f"{generation.order}2I8x8x{generation.page_size // 4}I")
    offsets = range(HEADER.size, len(raw) - frame.size + 1, frame.size)
    for number, offset in enumerate(offsets[after:], after + 1):
        page, size, salt0, salt1, *checksum = FRAME_HEADER.unpack_from(raw, offset)
        words = frame.unpack_from(raw, offset)
        yield Frame(number, offset, page, size, (salt0, salt1), (checksum[0], checksum[1]), words)


def is_valid(frame: Frame, previous: Pair, generation: Generation) -> bool:
    """True if the salts match, and the checksum continues that of the previous frame."""
    return frame.salts == generation.salts and frame.checksum == compute_checksum(
        frame.words, previous
    )


def is_next_valid(following: Iterator[Frame], previous: Pair, generation: Generation) -> bool:
    frame = next(following, None)
    return frame is not None and is_valid(frame, previous, generation)


def assess_damage(
    bad: Frame, following: Iterable[Frame], generation: Generation, *, is_one_bit: bool = False
) -> WalDamage | None:
    """Return None if the bad frame is the torn tail."""
    transactions, previous = 0, bad.checksum
    for frame in following:  # a checksum continues the stored one before it, even if that is wrong
        transactions += frame.size > 0 and is_valid(frame, previous, generation)
        previous = frame.checksum
    if transactions or is_one_bit:
        return WalDamage(bad.number, bad.offset, transactions, is_one_bit)
    return None


def compute_checksum(words: tuple[int, ...], previous: Pair) -> Pair:
    first, second = previous
    pairs = iter(words)
    for one, other in zip(pairs, pairs, strict=True):
        first = (first + one + second) & WORD
        second = (second + other + first) & WORD
    return first, second


def is_single_bit_error(bad: Frame, previous: Pair, generation: Generation) -> bool:
    """True if flipping one bit makes the frame valid: in its salts, checksum, header or page.

    The checksum is linear: a word that grows by d adds d * (a, b) to it, and (a, b) depends only on
    the number of words that follow.
    """
    first, second = compute_checksum(bad.words, previous)
    distances = (
        hamming_distance(bad.salts, generation.salts),
        hamming_distance(bad.checksum, (first, second)),
    )
    if distances in {(0, 1), (1, 0)}:
        return True
    difference = (bad.checksum[0] - first) & WORD, (bad.checksum[1] - second) & WORD
    weights = [(1, 1), (0, 1)]  # of the first and the second word of the last pair
    pairs = zip(bad.words[-2::-2], bad.words[-1::-2], strict=True)
    for pair in pairs:
        for word, (a, b) in zip(pair, weights, strict=True):
            for bit in range(32):
                growth = (word ^ 1 << bit) - word
                if (growth * a & WORD, growth * b & WORD) == difference:
                    return distances[0] == 0
        weights = [(a + b & WORD, a + 2 * b & WORD) for a, b in weights]
    return False


def repair_page_and_size(
    frame: Frame, previous: Pair, generation: Generation, pages_max: int
) -> Pair:
    """Return the page and size of a frame, corrected if the flipped bit is in one of them.

    Otherwise the page would overwrite another one, or the journal be truncated.
    """
    stored = frame.page << 32 | frame.size
    for flipped in (stored ^ 1 << bit for bit in range(64)):
        page, size = flipped >> 32, flipped & WORD
        words = struct.unpack(f"{generation.order}2I", flipped.to_bytes(8, "big"))
        is_possible = 1 <= page <= pages_max and size <= pages_max
        if is_possible and compute_checksum((*words, *frame.words[2:]), previous) == frame.checksum:
            return page, size
    return frame.page, frame.size


def hamming_distance(first: Pair, second: Pair) -> int:
    return sum((one ^ other).bit_count() for one, other in zip(first, second, strict=True))
