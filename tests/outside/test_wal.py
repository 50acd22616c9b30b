"""SQLite's own write-ahead logs, whole, torn and bitten: what of it is damage, and what is not."""

import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from atlas.outside.sqlite.disk.wal import WalDamage, apply_wal, find_damage

ROWS = 6
HEADER, FRAME_HEADER, SECTOR = 32, 24, 512


@dataclass
class Wal:
    """What a process leaves that dies after its last commit. `commits` are numbers of frames."""

    folder: Path
    raw: bytes
    page_size: int
    commits: list[int]

    @property
    def frames(self) -> int:
        return (len(self.raw) - HEADER) // self.frame_size

    @property
    def frame_size(self) -> int:
        return FRAME_HEADER + self.page_size

    def start_of(self, frame: int) -> int:
        return HEADER + (frame - 1) * self.frame_size

    def damage_in(self, raw: bytes) -> WalDamage | None:
        (self.folder / "found-wal").write_bytes(raw)
        return find_damage(self.folder / "found-wal")

    def rows_in(self, raw: bytes, *, is_folded: bool = False) -> int:
        """How many of the committed rows SQLite still knows of."""
        found = self.folder / "found"
        found.with_name("found-wal").write_bytes(raw)
        found.write_bytes((self.folder / "journal").read_bytes())
        if is_folded:
            apply_wal(found)
            assert not found.with_name("found-wal").exists()
        with closing(sqlite3.connect(found)) as db:
            return db.execute("SELECT count(*) FROM kept").fetchone()[0]


def written(folder: Path, page_size: int = 4096, rows: int = ROWS, rounds: int = 1) -> Wal:
    """Each row is a commit of a few frames; between the rounds all is checkpointed."""
    rng = random.Random(page_size)
    path = folder / "journal"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(
            f"""
            PRAGMA page_size = {page_size};
            PRAGMA locking_mode = EXCLUSIVE;
            PRAGMA journal_mode = WAL;
            CREATE TABLE kept (text BLOB NOT NULL);
            CREATE INDEX found ON kept (text);
            PRAGMA wal_checkpoint(TRUNCATE);
            """
        )
        for round in range(rounds):
            db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            db.execute("DELETE FROM kept")
            for _ in range(rows if round == 0 else 2):
                db.execute("INSERT INTO kept VALUES (?)", [rng.randbytes(page_size * 2)])
        raw = path.with_name("journal-wal").read_bytes()
        (folder / "copy").write_bytes(path.read_bytes())
    (folder / "copy").rename(path)
    frame_size = FRAME_HEADER + page_size
    starts = range(HEADER, len(raw), frame_size)
    commits = [n for n, at in enumerate(starts, 1) if any(raw[at + 4 : at + 8])]
    return Wal(folder, raw, page_size, commits)


@pytest.fixture(scope="module")
def wal(tmp_path_factory) -> Wal:
    return written(tmp_path_factory.mktemp("wal"))


def flipped(raw: bytes, offset: int, bit: int = 3) -> bytes:
    return raw[:offset] + bytes([raw[offset] ^ 1 << bit]) + raw[offset + 1 :]


def big_endian(wal: Wal) -> bytes:
    """The same, as a machine of the other byte order writes it."""
    raw = bytearray(wal.raw)
    raw[:4] = (0x377F0683).to_bytes(4, "big")
    sums = summed(raw[:24], (0, 0))
    raw[24:32] = sums[0].to_bytes(4, "big") + sums[1].to_bytes(4, "big")
    for frame in range(1, wal.frames + 1):
        at = wal.start_of(frame)
        sums = summed(raw[at : at + 8] + raw[at + 24 : at + wal.frame_size], sums)
        raw[at + 16 : at + 24] = sums[0].to_bytes(4, "big") + sums[1].to_bytes(4, "big")
    return bytes(raw)


def summed(text: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    for at in range(0, len(text), 8):
        first = (sums[0] + int.from_bytes(text[at : at + 4], "big") + sums[1]) % 2**32
        second = (sums[1] + int.from_bytes(text[at + 4 : at + 8], "big") + first) % 2**32
        sums = first, second
    return sums


@pytest.mark.parametrize("page_size", [512, 1024, 4096, 32768, 65536])
def test_a_whole_wal_has_no_damage_and_a_flipped_bit_in_it_is_damage(tmp_path, page_size):
    wal = written(tmp_path, page_size)
    assert wal.damage_in(wal.raw) is None

    middle = wal.commits[3]
    found = wal.damage_in(flipped(wal.raw, wal.start_of(middle) + FRAME_HEADER + 100))
    assert found == WalDamage(middle, wal.start_of(middle), len(wal.commits) - 4, is_one_bit=True)


def test_a_wal_of_the_other_byte_order_is_read_as_well(wal):
    raw = big_endian(wal)

    assert wal.rows_in(raw) == ROWS
    assert wal.damage_in(raw) is None
    assert wal.damage_in(flipped(raw, wal.start_of(2) + 50)).frame == 2


def test_no_file_and_an_empty_one_and_one_of_zeros_are_no_damage(wal, tmp_path):
    assert find_damage(tmp_path / "journal-wal") is None
    for raw in (b"", wal.raw[:20], wal.raw[:HEADER], bytes(HEADER), bytes(10_000)):
        assert wal.damage_in(raw) is None


def test_a_tail_is_torn_at_any_byte_and_nothing_is_damaged(wal):
    last = wal.commits[-2]  # all behind it is the last commit
    ends = {
        wal.start_of(frame) + more
        for frame in range(last + 1, wal.frames + 1)
        for more in (0, 1, 4, 8, 23, 24, 25, 512, 4119)
    }
    for end in ends:
        assert wal.damage_in(wal.raw[:end]) is None
        assert wal.rows_in(wal.raw[:end]) == ROWS - 1


def test_a_file_that_grew_before_its_sectors_were_written_is_not_damaged(wal):
    for end in range(wal.start_of(wal.commits[-2] + 1) // SECTOR + 1, len(wal.raw) // SECTOR):
        torn = wal.raw[: end * SECTOR]
        assert wal.damage_in(torn + bytes(len(wal.raw) - len(torn))) is None


def test_a_process_that_is_killed_leaves_a_shorter_wal_and_no_damage(wal):
    for frame in range(1, wal.frames + 1):
        assert wal.damage_in(wal.raw[: wal.start_of(frame)]) is None


@pytest.mark.parametrize(
    "within",
    [
        pytest.param(0, id="page number"),
        pytest.param(7, id="size after the commit"),
        pytest.param(9, id="first salt"),
        pytest.param(15, id="second salt"),
        pytest.param(17, id="first sum"),
        pytest.param(23, id="second sum"),
        pytest.param(24, id="first byte of the page"),
        pytest.param(2000, id="middle of the page"),
        pytest.param(4119, id="last byte of the page"),
    ],
)
def test_a_flipped_bit_is_damage_in_each_frame_even_in_the_last(wal, within):
    for frame in range(1, wal.frames + 1):
        raw = flipped(wal.raw, wal.start_of(frame) + within)
        found = wal.damage_in(raw)
        assert (found.frame, found.offset) == (frame, wal.start_of(frame))
        assert wal.rows_in(raw) < ROWS


@pytest.mark.parametrize(
    "within", [0, 3, 4, 7, 9, 17, 3000], ids=lambda within: f"byte {within} of a frame"
)
def test_folded_no_commit_is_forgotten_for_one_bit(wal, within):
    for frame in [*range(1, wal.frames + 1, 7), wal.frames]:
        raw = flipped(wal.raw, wal.start_of(frame) + within)
        assert wal.rows_in(raw, is_folded=True) == ROWS


def test_a_log_that_is_whole_or_torn_is_folded_as_sqlite_reads_it(wal):
    assert wal.rows_in(wal.raw, is_folded=True) == ROWS
    assert wal.rows_in(wal.raw[:-1], is_folded=True) == ROWS - 1
    assert wal.rows_in(b"", is_folded=True) == 0


@pytest.mark.parametrize("offset", range(HEADER))
def test_a_flipped_bit_of_the_header_is_damage_and_sqlite_forgets_everything(wal, offset):
    raw = flipped(wal.raw, offset)

    assert wal.damage_in(raw) == WalDamage(0, 0, 0)
    assert wal.rows_in(raw) == 0
    assert wal.rows_in(raw, is_folded=True) == ROWS


def test_a_header_that_is_gone_is_damage(wal):
    assert wal.damage_in(bytes(HEADER) + wal.raw[HEADER:]) == WalDamage(0, 0, 0)


def test_a_page_of_zeros_in_the_middle_is_damage(wal):
    middle = wal.start_of(wal.frames // 2)
    raw = wal.raw[:middle] + bytes(4096) + wal.raw[middle + 4096 :]

    assert wal.damage_in(raw).frame == wal.frames // 2


def test_what_an_earlier_generation_left_is_no_damage(tmp_path):
    wal = written(tmp_path, rounds=3)
    salts = {wal.raw[at + 8 : at + 16] for at in range(HEADER, len(wal.raw), wal.frame_size)}
    assert len(salts) > 1

    assert wal.damage_in(wal.raw) is None
    bitten = flipped(wal.raw, len(wal.raw) - 100)  # nobody misses what was checkpointed
    assert wal.damage_in(bitten) is None
    assert wal.damage_in(flipped(wal.raw, wal.start_of(1) + 100)).frame == 1


def test_what_a_failed_commit_left_behind_the_end_is_no_damage(wal):
    """Its commit frame was begun, and the page did not fit on the disk."""
    last = wal.start_of(wal.commits[-1])
    left = wal.raw[last : last + FRAME_HEADER] + bytes(4096)

    assert wal.damage_in(wal.raw + left + left) is None


def test_one_lost_sector_of_an_unsynced_commit_is_the_only_false_alarm(wal):
    first = wal.start_of(wal.commits[-2] + 1)
    assert wal.commits[-1] - wal.commits[-2] > 2
    lost = wal.raw[:first] + bytes(SECTOR) + wal.raw[first + SECTOR :]

    assert wal.damage_in(lost) == WalDamage(wal.commits[-2] + 1, first, transactions=1)
