"""What a disk does to a journal that lies there, and what of it is delivered all the same."""

import asyncio
import random
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from atlas.core.commits import Conclusion, Verdict
from atlas.core.errors import CorruptEntry, Unavailable
from atlas.core.events import JournalDamaged, TotalsMismatch
from atlas.core.messages import BranchSnapshot, GroupLimits, IdempotencySlot
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.journal.compression import decompress
from atlas.outside.sqlite.disk.damage import WHOLE_CHECK_BYTES_MAX
from atlas.outside.sqlite.journal import open_journal
from tests.conftest import RID
from tests.support.exports import (
    NOON,
    SHELF,
    TO_VERSION_2,
    TO_VERSION_3,
    TO_VERSION_4,
    TO_VERSION_5,
    TO_VERSION_6,
    TO_VERSION_7,
    content,
    export,
)

PENDING = 100
PAGE = 4096
BOUNDS = CapacityLimits(free_bytes=0)
IDS = {export(number).id for number in range(PENDING)}


async def filled(folder, count=PENDING):
    with open_journal(folder / "journal", BOUNDS, retention=SHELF) as journal:
        for number in range(count):
            await journal.intake.append(export(number))
        copy = {file.name: file.read_bytes() for file in folder.iterdir()}
    return copy, {file.name: file.read_bytes() for file in folder.iterdir()}


def written(folder, files):
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_bytes(text)
    return folder / "journal"


async def delivered(path):
    """What the uploader would send, what it could not, and what was told at the start."""
    sent, not_sent = {}, set()
    with open_journal(path, BOUNDS, retention=SHELF) as journal:
        ids = await claimed(journal)
        read = await journal.outbox.read(ids)
        for id in ids:
            try:
                sent[id] = decompress(read[id])
            except (KeyError, CorruptEntry):
                not_sent.add(id)
        receipts = await journal.outbox.conclude(
            Conclusion(verdicts=dict.fromkeys(not_sent, Verdict("corrupt")))
        )
        assert {receipt.id: receipt.status for receipt in receipts} == dict.fromkeys(
            not_sent, "set_aside"
        )
        totals = (await journal.ledger.list_entries(None, 1, None)).totals
        assert totals["accepted"] + totals["set_aside"] == len(sent) + len(not_sent)
        return sent, not_sent, [e for e in journal.events if isinstance(e, JournalDamaged)]


async def claimed(journal):
    """All of them, in the order of acceptance; what was in hand before is released."""
    await journal.outbox.conclude(Conclusion((await journal.outbox.read_in_hand()).transaction))
    limits = GroupLimits(exports_max=10_000, bytes_max=2**40)
    group = await journal.outbox.claim(limits, BranchSnapshot("", NOON), "normal")
    return [export.id for export in group.exports]


def assert_nothing_wrong_is_sent(sent):
    for id, ndjson in sent.items():
        assert ndjson == content(id)


def bytes_of(file):
    return Path(file).read_bytes()


def bitten(text, chance, start=0):
    where = chance.randrange(start, len(text))
    return text[:where] + bytes([text[where] ^ 1 << chance.randrange(8)]) + text[where + 1 :]


async def test_a_flipped_bit_in_the_journal_costs_one_page_at_most_and_nothing_wrong_is_sent(
    tmp_path,
):
    _, files = await filled(tmp_path / "ours")
    chance = random.Random(14)
    for round in range(75):
        bad = files | {"journal": bitten(files["journal"], chance, start=PAGE)}
        path = written(tmp_path / str(round), bad)
        sent, not_sent, news = await delivered(path)

        assert_nothing_wrong_is_sent(sent)
        assert len(sent) >= PENDING - 8  # the smallest exports: so many fit into a page
        if sent.keys() | not_sent != IDS:
            assert news  # what is gone is told
            assert bytes_of(news[0].copy)


async def test_a_flipped_bit_in_where_an_export_stands_costs_nothing(tmp_path):
    _, files = await filled(tmp_path / "ours")
    journal = files["journal"]
    chance, places = random.Random(14), [m.start() for m in re.finditer(b"accepted", journal)]
    for round in range(10):
        where = chance.choice(places) + chance.randrange(len(b"accepted"))
        bad = journal[:where] + bytes([journal[where] ^ 4]) + journal[where + 1 :]
        path = written(tmp_path / str(round), files | {"journal": bad})
        sent, _, news = await delivered(path)

        assert_nothing_wrong_is_sent(sent)
        assert sent.keys() == IDS
        assert news or where < 2 * PAGE, "a word of the schema, or what a root once held, is none"


async def test_a_flipped_bit_in_the_log_costs_one_export_at_most_and_is_told(tmp_path):
    files, _ = await filled(tmp_path / "ours")
    assert len(files["journal-wal"]) > 50 * PAGE
    chance = random.Random(14)
    for round in range(20):
        bad = files | {"journal-wal": bitten(files["journal-wal"], chance)}
        sent, _, news = await delivered(written(tmp_path / str(round), bad))

        assert_nothing_wrong_is_sent(sent)
        assert len(sent) >= PENDING - 8
        if sent.keys() != IDS:
            assert news


@pytest.mark.parametrize("bit", [0, 7, 21, 26, 31])
@pytest.mark.parametrize("word", [0, 1], ids=["page", "size"])
async def test_a_flipped_bit_in_the_header_of_a_frame_costs_nothing(tmp_path, word, bit):
    """Taken as it stands, it would put a page over another, or cut the journal short."""
    files, _ = await filled(tmp_path / "ours")
    log = files["journal-wal"]
    frames = (len(log) - 32) // (PAGE + 24)
    for frame in (frames // 2, frames - 1):
        bad = bytearray(log)
        bad[32 + frame * (PAGE + 24) + 4 * word + 3 - bit // 8] ^= 1 << bit % 8
        path = written(tmp_path / str(frame), files | {"journal-wal": bytes(bad)})
        sent, _, news = await delivered(path)

        assert sent.keys() == IDS
        assert news


async def test_a_journal_behind_a_link_is_mended_as_any_other(tmp_path):
    files, _ = await filled(tmp_path / "ours")
    log = bytearray(files["journal-wal"])
    log[len(log) // 2] ^= 1
    link = tmp_path / "link"
    link.symlink_to(written(tmp_path / "there", files | {"journal-wal": bytes(log)}))
    sent, _, news = await delivered(link)

    assert len(sent) >= PENDING - 8
    assert news


async def test_a_page_of_zeros_costs_what_stood_in_it_and_is_told(tmp_path):
    _, files = await filled(tmp_path / "ours")
    text = files["journal"]
    for page in [*range(1, 6), *range(6, len(text) // PAGE, 25)]:
        zeros = text[: page * PAGE] + bytes(PAGE) + text[(page + 1) * PAGE :]
        path = written(tmp_path / str(page), files | {"journal": zeros})
        sent, not_sent, news = await delivered(path)

        assert_nothing_wrong_is_sent(sent)
        assert news or not_sent or sent.keys() == IDS
        assert len(sent) >= PENDING - 8


async def test_exports_whose_own_pages_are_lost_go_on_by_what_stands_beside_their_payloads(
    tmp_path,
):
    _, files = await filled(tmp_path / "ours")
    text = files["journal"]
    lost = [at for at in range(0, len(text), PAGE) if text[at] == 0x0D and is_of_exports(text, at)]
    assert len(lost) > PENDING // 20
    for at in lost:
        text = text[:at] + bytes(PAGE) + text[at + PAGE :]
    sent, not_sent, news = await delivered(written(tmp_path / "bad", files | {"journal": text}))

    assert (sent.keys(), not_sent, len(news)) == (IDS, set(), 1)
    assert_nothing_wrong_is_sent(sent)


async def test_a_key_whose_export_is_lost_does_not_keep_a_journal_from_its_start(tmp_path):
    path = tmp_path / "journal"
    with open_journal(path, BOUNDS, retention=SHELF) as journal:
        for number in range(PENDING):
            new = export(number)
            head = structs.replace(new.head, binding=IdempotencySlot(str(number), 0, 1))
            await journal.intake.append(structs.replace(new, head=head))
        await claimed(journal)
        await journal.outbox.record_open(RID, GroupLimits())
        await journal.outbox.conclude(
            Conclusion(RID, default_verdict=Verdict("committed", transaction=RID))
        )
    text = path.read_bytes()
    leaves = [at for at in range(0, len(text), PAGE) if text[at] == 0x0D and is_committed(text, at)]
    with_zeros(path, leaves[len(leaves) // 2] // PAGE)
    with open_journal(path, BOUNDS, retention=SHELF) as journal:
        assert any(isinstance(each, JournalDamaged) for each in journal.events)
        totals = (await journal.ledger.list_entries(None, 1, None)).totals
    assert PENDING - 20 <= totals["committed"] < PENDING


def is_committed(text, at):
    return text.count(b"committed", at, at + PAGE) > 3


def is_of_exports(text, at):
    return text.count(b"accepted", at, at + PAGE) > 3


EARLIER = [
    pytest.param(TO_VERSION_2, id="v2"),
    pytest.param(TO_VERSION_3, id="v3"),
    pytest.param(TO_VERSION_4, id="v4"),
    pytest.param(TO_VERSION_5, id="v5"),
    pytest.param(TO_VERSION_6, id="v6"),
    pytest.param(TO_VERSION_7, id="v7"),
]


async def filled_before(folder, to_version):
    """As `filled`, and made what it was in that version."""
    _, files = await filled(folder)
    with closing(sqlite3.connect(folder / "journal")) as db:
        db.executescript(to_version + "PRAGMA wal_checkpoint(TRUNCATE);")
    return files | {"journal": bytes_of(folder / "journal")}


@pytest.mark.parametrize("to_version", EARLIER)
async def test_a_journal_of_an_earlier_version_with_a_page_of_zeros_is_mended_as_any_other(
    tmp_path, to_version
):
    files = await filled_before(tmp_path / "ours", to_version)
    text = files["journal"]
    for page in range(6, len(text) // PAGE, 40):
        zeros = text[: page * PAGE] + bytes(PAGE) + text[(page + 1) * PAGE :]
        sent, _, _ = await delivered(written(tmp_path / str(page), files | {"journal": zeros}))
        assert_nothing_wrong_is_sent(sent)
        assert len(sent) >= PENDING - 8


@pytest.mark.parametrize("to_version", EARLIER)
async def test_a_status_that_is_none_in_an_earlier_version_costs_nothing_and_is_told(
    tmp_path, to_version
):
    """SQLite may meet it while a column is added, and say then that a constraint has failed."""
    await filled_before(tmp_path, to_version)
    with closing(sqlite3.connect(tmp_path / "journal")) as db, db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute("UPDATE export SET status = 'abcepted' WHERE number = 50")
    await assert_costs_nothing_and_is_told(tmp_path / "journal")


@pytest.mark.parametrize("to_version", EARLIER)
async def test_an_index_of_an_earlier_version_that_is_broken_is_told(tmp_path, to_version):
    """The upgrade makes it anew, and nothing would be left to tell of the disk."""
    files = await filled_before(tmp_path, to_version)
    with closing(sqlite3.connect(tmp_path / "journal")) as db:
        last = dict(db.execute(ROOTS).fetchall())["mailbox"] * PAGE - 1
    bad = bytearray(files["journal"])
    bad[last] ^= 1
    (tmp_path / "journal").write_bytes(bad)
    await assert_costs_nothing_and_is_told(tmp_path / "journal")


async def test_a_broken_journal_of_version_4_keeps_what_it_had_in_hand(tmp_path):
    """Or what Foundry has committed meanwhile would be sent once more."""
    path = tmp_path / "ours" / "journal"
    path.parent.mkdir()
    with open_journal(path, BOUNDS, retention=SHELF) as journal:
        for number in range(PENDING):
            await journal.intake.append(export(number))
        ids = await claimed(journal)
        await journal.outbox.record_open(RID, GroupLimits())
    with closing(sqlite3.connect(path)) as db:
        db.executescript(TO_VERSION_4 + "PRAGMA wal_checkpoint(TRUNCATE);")
        kinds = "SELECT name, rootpage FROM sqlite_schema WHERE name IN ('begun', 'export')"
        root = dict(db.execute(kinds).fetchall())
    files = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    text, pages = files["journal"], len(files["journal"]) // PAGE
    for page in {root["export"] - 1, root["begun"] - 1, *range(8, pages, 40)}:
        zeros = text[: page * PAGE] + bytes(PAGE) + text[(page + 1) * PAGE :]
        bad = written(tmp_path / str(page), files | {"journal": zeros})
        with open_journal(bad, BOUNDS, retention=SHELF) as journal:
            hand = await journal.outbox.read_in_hand()
        assert hand.transaction == RID
        assert len(hand.group.exports) >= PENDING - 8
        assert {each.id for each in hand.group.exports} <= set(ids)


async def test_a_frame_of_zeros_in_the_middle_of_the_log_is_told_and_a_copy_kept(tmp_path):
    files, _ = await filled(tmp_path / "ours")
    log = files["journal-wal"]
    middle = 32 + (len(log) // (PAGE + 24) // 2) * (PAGE + 24)
    bad = log[:middle] + bytes(PAGE + 24) + log[middle + PAGE + 24 :]
    path = written(tmp_path / "bad", files | {"journal-wal": bad})
    sent, not_sent, (told,) = await delivered(path)

    assert_nothing_wrong_is_sent(sent)
    assert len(sent) > PENDING // 3
    assert not not_sent
    assert "commits after that" in told.damage
    assert bytes_of(told.copy + "-wal") == bad


async def test_a_schema_that_cannot_be_read_costs_nothing_and_is_told(tmp_path):
    files, _ = await filled(tmp_path / "ours")
    text = files["journal"].replace(b"CREATE TABLE", b"CREATE TABLD", 1)
    assert text != files["journal"]
    sent, _, news = await delivered(written(tmp_path / "bad", files | {"journal": text}))

    assert sent.keys() == IDS
    assert news


@pytest.mark.parametrize(
    ("name", "said", "spoilt"),
    [
        pytest.param("comes", "UPDATE total", "UPDATE tntal", id="a trigger"),
        pytest.param("moves", "exports + 1", "exports + 0", id="what a trigger counts"),
        pytest.param("export", "'accepted', '", "'abcepted', '", id="what a column may be"),
        pytest.param("mailbox", "'accepted'", "'adcepted'", id="an index"),
    ],
)
async def test_a_flipped_bit_in_the_text_of_the_schema_costs_nothing_and_is_told(
    tmp_path, name, said, spoilt
):
    """No page is broken by it; and no export could be kept, or none counted, from then on."""
    _, files = await filled(tmp_path / "ours")
    path = written(tmp_path / "bad", files)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA writable_schema = ON")
        spoil = "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE name = ?"
        assert db.execute(spoil, [said, spoilt, name]).rowcount == 1
    await assert_costs_nothing_and_is_told(path)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("CAST(replace(sql, 'total', 'tntal') AS BLOB)", id="bytes"),
        pytest.param("CAST(CAST(sql AS BLOB) || x'ff' AS TEXT)", id="no UTF-8"),
    ],
)
async def test_a_schema_whose_text_is_none_any_more_costs_nothing_and_is_told(tmp_path, kind):
    _, files = await filled(tmp_path / "ours")
    path = written(tmp_path / "bad", files)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute(f"UPDATE sqlite_schema SET sql = {kind} WHERE name = 'comes'")
    await assert_costs_nothing_and_is_told(path)


async def assert_costs_nothing_and_is_told(path):
    sent, not_sent, news = await delivered(path)

    assert (sent.keys(), not_sent, len(news)) == (IDS, set(), 1)
    assert_nothing_wrong_is_sent(sent)
    with open_journal(path, BOUNDS, retention=SHELF) as journal:
        await journal.intake.append(export(PENDING))
        totals = (await journal.ledger.list_entries(None, 1, None)).totals
        assert sum(totals.values()) == PENDING + 1
        assert not [each for each in journal.events if isinstance(each, JournalDamaged)]


async def test_a_page_that_goes_bad_while_it_is_in_use_is_mended_and_told_without_a_restart(
    tmp_path,
):
    exports = 4_000  # more leaves than SQLite keeps in memory; the rest of a payload it may not
    with open_journal(tmp_path / "journal", BOUNDS, retention=SHELF) as journal:
        await asyncio.gather(*(journal.intake.append(export(each)) for each in range(exports)))
    told = []
    with open_journal(tmp_path / "journal", BOUNDS, retention=SHELF) as journal:
        journal.events.subscribe(told.append)
        assert not any(isinstance(each, JournalDamaged) for each in told)
        spoil_a_leaf(tmp_path / "journal")
        with pytest.raises(Unavailable):
            await read_all(journal)
        await journal.ledger.check_ready()
        sent = await read_all(journal)
    assert exports - 8 <= sent < exports + 1
    assert any(isinstance(each, JournalDamaged) for each in told)


def spoil_a_leaf(path):
    text = path.read_bytes()
    leaves = [at for at in range(PAGE * 20, len(text), PAGE) if text[at] == 0x0D]
    with path.open("r+b") as file:
        file.seek(leaves[len(leaves) // 2])
        file.write(bytes(PAGE))


async def read_all(journal):
    """How many exports can be had, one after another."""
    found = [await journal.outbox.read([id]) for id in await claimed(journal)]
    return sum(map(bool, found))


async def test_totals_that_are_wrong_are_told_and_set_right(tmp_path):
    await filled(tmp_path / "ours")
    path = tmp_path / "ours" / "journal"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE total SET exports = exports + 1 WHERE status = 'accepted'")

    with open_journal(path, BOUNDS, retention=SHELF) as journal:
        assert TotalsMismatch("accepted", PENDING + 1, PENDING) in journal.events
        assert (await journal.ledger.list_entries(None, 1, None)).totals["accepted"] == PENDING
    with open_journal(path, BOUNDS, retention=SHELF) as journal:
        assert not any(isinstance(each, TotalsMismatch) for each in journal.events)


RECEIPTS = 18_000
FILL = f"""
    WITH numbers AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < {RECEIPTS})
    INSERT INTO export (id, user, at, ingested, rejected, bytes, moment, label, status)
    SELECT hex(randomblob(32)), 'user', '', 1, 0, 1, n, zeroblob(2500), 'committed' FROM numbers
"""
APPENDS_MAX = 20_000  # the check of all takes less than one second; so many take ten
ROOTS = "SELECT name, rootpage FROM sqlite_schema"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A journal that is so large that it is not checked as a whole before it is served."""
    path = tmp_path_factory.mktemp("large") / "journal"
    with open_journal(path, BOUNDS, retention=SHELF):
        pass
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(FILL)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert path.stat().st_size > WHOLE_CHECK_BYTES_MAX
    return path


def copy_of(large, folder):
    folder.mkdir()
    for file in large.parent.iterdir():
        shutil.copy(file, folder)
    return folder / large.name


def with_zeros(path, page):
    with path.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(bytes(PAGE))


async def test_what_is_broken_among_receipts_is_found_and_mended_while_exports_are_accepted(
    large, tmp_path
):
    path = copy_of(large, tmp_path / "ours")
    with path.open("rb") as file:
        leaves = [at for at in range(path.stat().st_size // PAGE) if is_leaf(file, at)]
    with_zeros(path, leaves[len(leaves) // 2])
    told = []
    with open_journal(path, BOUNDS, retention=SHELF) as journal:
        journal.events.subscribe(told.append)
        for number in range(APPENDS_MAX):
            await journal.intake.append(export(number))
            if any(isinstance(each, JournalDamaged) for each in told):
                break
        totals = (await journal.ledger.list_entries(None, 1, None)).totals
    assert totals["accepted"] == number + 1, "and none of those is lost"
    assert RECEIPTS - 10 <= totals["committed"] < RECEIPTS
    with open_journal(path, BOUNDS, retention=SHELF) as journal:
        assert not any(isinstance(each, JournalDamaged) for each in journal.events)


def is_leaf(file, page):
    file.seek(page * PAGE)
    return file.read(1) == b"\x0d"


@pytest.mark.parametrize("table", ["payload", "total"])
async def test_what_is_broken_among_what_waits_is_found_before_a_large_journal_is_served(
    large, tmp_path, table
):
    path = copy_of(large, tmp_path / "ours")
    with closing(sqlite3.connect(path)) as db:
        root = dict(db.execute(ROOTS).fetchall())[table]
    with_zeros(path, root - 1)
    with open_journal(path, BOUNDS, retention=SHELF) as journal:
        assert any(isinstance(each, JournalDamaged) for each in journal.events)


async def test_a_large_journal_in_which_nothing_is_broken_is_served_and_its_log_kept_short(
    large, tmp_path
):
    path = copy_of(large, tmp_path / "ours")
    log = path.with_name("journal-wal")
    with open_journal(path, BOUNDS, retention=SHELF) as journal:
        at_start = path.stat().st_mtime_ns
        for number in range(APPENDS_MAX):
            await journal.intake.append(export(number))
            if path.stat().st_mtime_ns != at_start:
                break
        assert path.stat().st_mtime_ns != at_start
        assert not any(isinstance(each, JournalDamaged) for each in journal.events)
        assert log.stat().st_size < 2**27
