"""Reads the write-ahead log before SQLite opens it, because SQLite does not report damage in it.

SQLite reads a log up to the first frame whose checksum is wrong and ignores everything behind it.
That is right for a tail that a power cut tore. When a bit flips, it loses every commit behind it.

Atlas has one connection and syncs each commit before the next begins. So a power cut leaves at most
one transaction incomplete, the last one; any of its sectors may be missing. Damage is therefore:

- A bad header with anything behind it: it is synced before the first frame, and is in one sector.
- A bad frame with a whole commit frame of the same generation somewhere behind it.
- A bad frame that one flipped bit explains; a missing sector differs in more than that.

Everything else is a tail that was never acknowledged. Frames of an earlier generation have other
salts, and are in the journal already. One false alarm remains: the last transaction was being
synced, and the disk has its last frame but not an earlier one. Then `transactions` is 1.

`apply_wal` applies the log to the journal. A page with one flipped bit is applied as it is: the seal of
the row that it is in is broken, and no other row is lost. A log that is broken otherwise ends
there, as it does for SQLite: the result is the journal as it was at an earlier commit.

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
BYTE_ORDERS = {
    0x377F0682: "<",
    0x377F0683: ">",
}  # of the words in a checksum; all else is big-endian
PAGE_SIZES = {2**power for power in range(9, 17)}
PAGE_SIZE = 4096  # ours, if the header does not give it
WORD = 0xFFFFFFFF

Sums = tuple[int, int]


@dataclass(frozen=True, slots=True)
class WalDamage:
    """The first bad frame: they count from 1, and 0 is the header.

    `transactions` are whole behind it. They are lost, unless one bit explains the damage.
    """

    frame: int
    offset: int
    transactions: int
    is_one_bit: bool = False


class Generation(NamedTuple):
    """The header: frames that count have these salts. `sums` is None if the header is bad."""

    order: str
    page_size: int
    salts: Sums
    sums: Sums | None


class Frame(NamedTuple):
    number: int
    offset: int
    page: int
    size: int  # of the journal after this commit, in pages; 0 if this is not a commit frame
    salts: Sums
    sums: Sums
    summed: tuple[int, ...]  # the words that `sums` is the checksum of


@dataclass(slots=True)
class Log:
    """`pages` are the offsets of committed pages, `size` is that of the journal after them."""

    damage: WalDamage | None = None
    pages: dict[int, int] = field(default_factory=dict)
    size: int = 0


def find_damage(wal: Path) -> WalDamage | None:
    """Return None also if there is no log. Raises OSError."""
    return read(wal.read_bytes(), 0).damage if wal.exists() else None


def apply_wal(journal: Path) -> None:
    """Apply the log to the journal, and remove it. If we are killed meanwhile, repeat it.

    Raises OSError.
    """
    wal = build_sibling_path(journal, "-wal")
    if not wal.exists():
        return
    raw = wal.read_bytes()
    page_size = parse_generation(raw).page_size if len(raw) > HEADER.size else PAGE_SIZE
    log = read(raw, journal.stat().st_size // page_size)
    with journal.open("r+b") as file:
        for page, offset in log.pages.items():
            content = offset + FRAME_HEADER.size
            file.seek((page - 1) * page_size)
            file.write(raw[content : content + page_size])
        if log.size:
            file.truncate(log.size * page_size)
        file.flush()
        os.fsync(file.fileno())
    wal.unlink()
    fsync_path(journal.parent)


def read(raw: bytes, journal_pages: int) -> Log:
    log = Log()
    if len(raw) <= HEADER.size or not raw.strip(b"\0"):
        return log
    generation = parse_generation(raw)
    if generation.sums is None:
        log.damage = WalDamage(0, 0, 0)
    frames = frames_in(raw, generation)
    pages_max = journal_pages + len(raw) // generation.page_size
    pending, before = dict[int, int](), generation.sums
    for frame in frames:
        page, size, after = frame.page, frame.size, frame.sums
        if before is not None and not is_valid(frame, before, generation):
            is_one_bit = is_single_bit_error(frame, before, generation)
            if not is_one_bit:
                log.damage = judge(frame, frames, generation) or log.damage
                break
            log.damage = log.damage or judge(
                frame, frames_in(raw, generation, frame.number), generation, is_one_bit=True
            )
            computed = compute_checksum(frame.summed, before)
            if starts_from(computed, frames_in(raw, generation, frame.number), generation):
                after = computed  # the bit is one of its sums
            else:
                page, size = header_before(frame, before, generation, pages_max)
        pending[page] = frame.offset
        if size:
            log.pages.update(pending)
            log.size = size
            pending.clear()
        before = after
    return log


def parse_generation(raw: bytes) -> Generation:
    """If the header is bad, that of the first frame behind it."""
    magic, _, page_size, _, *salts, sum0, sum1 = HEADER.unpack_from(raw)
    order = BYTE_ORDERS.get(magic, "<")
    summed = struct.unpack(f"{order}6I", raw[:24])
    if (
        magic in BYTE_ORDERS
        and page_size in PAGE_SIZES
        and compute_checksum(summed, (0, 0)) == (sum0, sum1)
    ):
        return Generation(order, page_size, (salts[0], salts[1]), (sum0, sum1))
    if len(raw) < HEADER.size + FRAME_HEADER.size:
        return Generation("<", PAGE_SIZE, (0, 0), None)
    _, _, salt0, salt1, *_ = FRAME_HEADER.unpack_from(raw, HEADER.size)
    return Generation("<", PAGE_SIZE, (salt0, salt1), None)


def frames_in(raw: bytes, generation: Generation, after: int = 0) -> Iterator[Frame]:
    words = struct.Struct(f"{generation.order}2I8x8x{generation.page_size // 4}I")
    starts = range(HEADER.size, len(raw) - words.size + 1, words.size)
    for number, offset in enumerate(starts[after:], after + 1):
        page, size, salt0, salt1, *sums = FRAME_HEADER.unpack_from(raw, offset)
        summed = words.unpack_from(raw, offset)
        yield Frame(number, offset, page, size, (salt0, salt1), (sums[0], sums[1]), summed)


def is_valid(frame: Frame, before: Sums, generation: Generation) -> bool:
    return frame.salts == generation.salts and frame.sums == compute_checksum(frame.summed, before)


def starts_from(sums: Sums, behind: Iterator[Frame], generation: Generation) -> bool:
    following = next(behind, None)
    return following is not None and is_valid(following, sums, generation)


def judge(
    bad: Frame, behind: Iterable[Frame], generation: Generation, *, is_one_bit: bool = False
) -> WalDamage | None:
    """Return None if this is the torn tail."""
    transactions, last = 0, bad.sums
    for frame in behind:  # each is summed from what stands in the one before it, good or bad
        transactions += frame.size > 0 and is_valid(frame, last, generation)
        last = frame.sums
    if transactions or is_one_bit:
        return WalDamage(bad.number, bad.offset, transactions, is_one_bit)
    return None


def compute_checksum(words: tuple[int, ...], before: Sums) -> Sums:
    first, second = before
    pairs = iter(words)
    for one, other in zip(pairs, pairs, strict=True):
        first = (first + one + second) & WORD
        second = (second + other + first) & WORD
    return first, second


def is_single_bit_error(bad: Frame, before: Sums, generation: Generation) -> bool:
    """Would it be whole with one bit turned: of the salts, of the sums, or of what is summed?

    The sums are linear: a word that grows by d adds d * (a, b) to them, and (a, b) depends only on
    how many words follow.
    """
    first, second = compute_checksum(bad.summed, before)
    off = hamming_distance(bad.salts, generation.salts), hamming_distance(bad.sums, (first, second))
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


def header_before(
    frame: Frame, before: Sums, generation: Generation, pages_max: int
) -> tuple[int, int]:
    """Return page and size; as they were, if the flipped bit is one of them.

    Otherwise the page would be written over another one, or the journal cut short.
    """
    head = frame.page << 32 | frame.size
    for turned in (head ^ 1 << bit for bit in range(64)):
        page, size = turned >> 32, turned & WORD
        words = struct.unpack(f"{generation.order}2I", turned.to_bytes(8, "big"))
        is_possible = 1 <= page <= pages_max and size <= pages_max
        if is_possible and compute_checksum((*words, *frame.summed[2:]), before) == frame.sums:
            return page, size
    return frame.page, frame.size


def hamming_distance(first: Sums, second: Sums) -> int:
    return sum((one ^ other).bit_count() for one, other in zip(first, second, strict=True))
