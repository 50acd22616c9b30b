"""A journal of an earlier version goes on where that one left it, and nothing happens twice.

Those in `tests/journals` were written by the code of their version: `make.py` there says how.
"""

import base64
import gzip
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import msgspec
import pytest

from atlas.core.commits import Backlog, Conclusion, Verdict
from atlas.core.errors import CommandError
from atlas.core.events import GroupRecovered, JournalDamaged, StageCrashed, TotalsMismatch
from atlas.core.messages import BranchSnapshot, GroupLimits
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.journal.compression import decompress
from atlas.outside.journal.retention import ReceiptRetention, count_days
from atlas.outside.journal.row_codec import RowCodec
from atlas.outside.sqlite import keys, schema, upgrades
from atlas.outside.sqlite.journal import PRAGMAS, open_journal
from tests.conftest import RID, ServiceHarness, asgi
from tests.journals.make import CLAIMED, COMMITTED, HOME, KEY, REFUSED, WAIT, Sent
from tests.support.exports import (
    NOON,
    SHELF,
    TO_VERSION_2,
    TO_VERSION_3,
    TO_VERSION_4,
    TO_VERSION_5,
    TO_VERSION_6,
    export,
)
from tests.support.fakes import MemoryDataset, Transaction

VERSIONS = range(1, schema.VERSION + 1)
DELIVERED = ["claimed", "claimed, too", "committed", "committed, too", "waits", "waits"]
HEAD = BranchSnapshot("", NOON)
COMMITTED_VERDICT = Verdict("committed", transaction=RID)
TROUBLE = (StageCrashed, JournalDamaged, TotalsMismatch)


def name(version: int) -> str:
    return f"v{version}"


each_version = pytest.mark.parametrize("version", VERSIONS, ids=name)


def left_by(version: int, folder: Path) -> ServiceHarness:
    """What that version has left on the disk, and in Foundry."""
    path = folder / "journal"
    folder.mkdir(exist_ok=True)
    path.write_bytes(gzip.decompress((HOME / name(version) / "journal.gz").read_bytes()))
    path.with_name("journal.key").write_bytes(base64.b64encode(KEY))
    kept = msgspec.json.decode((HOME / name(version) / "dataset.json").read_bytes())
    return ServiceHarness(
        path, MemoryDataset({rid: transaction(**each) for rid, each in kept.items()})
    )


def transaction(state: str, files: dict[str, str]) -> Transaction:
    content = {path: text.encode() for path, text in files.items()}
    return Transaction(NOON, state=state, files=content)


def version_in(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


@each_version
def test_a_journal_is_kept_of_every_version(version):
    """Of a new one, too, so that it is there when the next comes."""
    kept = HOME / name(version) / "journal.gz"
    assert kept.exists(), "VERSION was raised: python -m tests.journals.make"


@each_version
async def test_what_waits_in_a_journal_of_an_earlier_version_is_committed_once(tmp_path, version):
    life = left_by(version, tmp_path)
    assert version_in(life.journal) == version
    async with life.running() as flow:
        await flow.is_empty()
        assert [event for event in flow.seen if isinstance(event, TROUBLE)] == []
        (recovered,) = flow.seen.of(GroupRecovered)
    assert (recovered.exports, recovered.committed) == (2, 2)
    assert life.dataset.uuids() == DELIVERED
    assert version_in(life.journal) == schema.VERSION

    async with life.running() as flow:
        assert [event for event in flow.seen if isinstance(event, TROUBLE)] == []
    assert life.dataset.uuids() == DELIVERED


@each_version
async def test_what_an_earlier_version_had_in_hand_is_in_hand(tmp_path, version):
    """The claimed group and its open transaction, and that try has not failed yet."""
    life = left_by(version, tmp_path)
    rid, held = list(life.dataset.transactions.items())[-1]
    with open_journal(life.journal, CapacityLimits(free_bytes=0), retention=SHELF) as journal:
        hand = await journal.outbox.read_in_hand()
        packed = await journal.outbox.read([export.id for export in hand.group.exports])
        depth = await journal.ledger.read_totals()

    assert (hand.transaction, hand.intents) == (rid, ())
    assert {file.path: file.bytes for file in hand.group.files} == {
        path: len(content) for path, content in held.files.items()
    }
    assert [(each.tries, each.isolation) for each in hand.group.exports] == [(0, 0)] * 2
    text = b"".join(held.files.values())
    assert sorted(text.split(b"\n")) == sorted(
        b"".join(map(decompress, packed.values())).split(b"\n")
    )
    assert (depth.exports["accepted"], depth.imbalance) == (4, 0)


OF_VERSION_4 = f"""
    {TO_VERSION_4}
    UPDATE export SET tries = 4 WHERE number = 3;
    UPDATE export SET tries = 1 WHERE number = 4;
"""


async def test_of_version_4_the_intents_and_what_had_failed_go_on(tmp_path):
    """A try counted when it began: twice failed, an export went apart from the fresh ones."""
    later = BranchSnapshot("later", NOON + timedelta(minutes=1))
    limits, path = GroupLimits(exports_max=2), tmp_path / "journal"
    with open_journal(path, CapacityLimits(free_bytes=0), retention=SHELF) as journal:
        for number in range(4):
            await journal.intake.append(export(number))
        await journal.outbox.record_intent(HEAD, "DELETE")
        await journal.outbox.record_intent(later, "APPEND")
        await journal.outbox.claim(limits, HEAD, "normal")
        expected = await journal.outbox.read_in_hand()
    with closing(sqlite3.connect(path)) as db:
        db.executescript(OF_VERSION_4)
    with open_journal(path, CapacityLimits(free_bytes=0), retention=SHELF) as journal:
        hand = await journal.outbox.read_in_hand()
        backlog = await journal.outbox.read_backlog(GroupLimits())
        group = await journal.outbox.record_open(RID, GroupLimits())
        await journal.outbox.conclude(Conclusion(RID, default_verdict=COMMITTED_VERDICT))
        apart = await journal.outbox.claim(GroupLimits(), HEAD, "isolated")

    assert (hand.group, hand.transaction) == (expected.group, None)
    assert set(hand.intents) == set(expected.intents)
    assert len(hand.intents) == 3
    assert backlog == Backlog(fresh=3, failed=1)
    assert [each.id for each in group.exports] == [export(number).id for number in (0, 1, 3)]
    assert [(each.id, each.isolation, each.tries) for each in apart.exports] == [
        (export(2).id, 4, 4)
    ]


async def test_of_version_4_an_open_transaction_goes_on(tmp_path):
    path = tmp_path / "journal"
    with open_journal(path, CapacityLimits(free_bytes=0), retention=SHELF) as journal:
        for number in range(2):
            await journal.intake.append(export(number))
        await journal.outbox.claim(GroupLimits(), HEAD, "normal")
        await journal.outbox.record_open(RID, GroupLimits())
        ids = [export(number).id for number in range(2)]
        await journal.outbox.record_file(ids, "parquet", 9, is_shared=True)
        expected = await journal.outbox.read_in_hand()
    with closing(sqlite3.connect(path)) as db:
        db.executescript(TO_VERSION_4)
    with open_journal(path, CapacityLimits(free_bytes=0), retention=SHELF) as journal:
        assert await journal.outbox.read_in_hand() == expected
        assert not list(journal.events)[1:], "nothing but where its key lies"


@pytest.mark.parametrize("is_corrupt", [False, True], ids=["whole", "corrupt"])
@pytest.mark.parametrize(
    "to_version",
    [
        pytest.param(TO_VERSION_2, id="v2"),
        pytest.param(TO_VERSION_3, id="v3"),
        pytest.param(TO_VERSION_4, id="v4"),
        pytest.param(TO_VERSION_5, id="v5"),
        pytest.param(TO_VERSION_6, id="v6"),
    ],
)
async def test_digests_of_an_earlier_version_are_kept_and_date_from_the_upgrade(
    tmp_path, to_version, is_corrupt
):
    """When their exports were accepted is unknown; also if the journal has to be rebuilt."""
    path, today = tmp_path / "journal", NOON
    retention = ReceiptRetention(lambda: today)
    with open_journal(path, CapacityLimits(free_bytes=0), retention=retention) as journal:
        for number in range(2):
            await journal.intake.append(export(number))
            await journal.outbox.claim(GroupLimits(), HEAD, "normal")
            await journal.outbox.record_open(RID, GroupLimits())
            await journal.outbox.conclude(Conclusion(RID, default_verdict=COMMITTED_VERDICT))
            today += timedelta(days=31)
        await journal.intake.append(export(2))
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"{to_version} PRAGMA wal_checkpoint(TRUNCATE);")
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'mailbox'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    if is_corrupt:
        text = bytearray(path.read_bytes())
        text[root * size - 1] ^= 1
        path.write_bytes(text)
    before = datetime.now(UTC)
    with open_journal(path, CapacityLimits(free_bytes=0), retention=retention) as journal:
        is_damaged = any(isinstance(event, JournalDamaged) for event in journal.events)
        again = await journal.intake.append(export(0))
    assert is_damaged is is_corrupt
    assert (again.status, again.transaction, again.replayed) == ("committed", RID, True)
    with closing(sqlite3.connect(path)) as db:
        days = dict(db.execute("SELECT id, day FROM digest").fetchall())
    assert days.keys() == {export(0).id, export(1).id}
    assert set(days.values()) <= {count_days(before), count_days(datetime.now(UTC))}


@each_version
async def test_receipts_and_keys_of_an_earlier_version_still_answer(tmp_path, version):
    life = left_by(version, tmp_path)
    stood = {rid for rid, each in life.dataset.transactions.items() if each.state == "COMMITTED"}
    async with life.running() as flow:
        await flow.is_empty()
        for sent in (COMMITTED, *CLAIMED, *WAIT):
            if sent.key is not None:
                another = Sent("another", by=sent.by, key=sent.key)
                assert (await another.by_phone(flow)).status == 422
            answer = await sent.by_phone(flow)
            assert (answer.status, answer.body["replayed"]) == (200, True)
            there = answer.body["transaction_rid"]
            assert answer.body["file_path"] in life.dataset.transactions[there].files
            assert (there in stood) == (sent not in WAIT)
        committed = await COMMITTED.by_phone(flow)
        assert committed.body["records_received"] == 3
        assert [reject["line"] for reject in committed.body["rejects"]] == [2]
    assert life.dataset.uuids() == DELIVERED


@each_version
async def test_what_an_earlier_version_has_set_aside_can_be_sent_again(tmp_path, version):
    life = left_by(version, tmp_path)
    async with life.running() as flow:
        aside = await REFUSED.by_phone(flow)
        assert (aside.status, aside.body["status"]) == (202, "set_aside")
        host = {"host": "127.0.0.1:9464"}
        answer = await asgi(flow.service.operator, "POST", "/exports/replay", host)
        kept = ["refused"] if version == 1 else ["crashes", "refused"]
        assert answer.body == {"again": len(kept), "failed": 0}
        await flow.is_empty()
        assert (await REFUSED.by_phone(flow)).status == 200
    assert life.dataset.uuids() == sorted([*DELIVERED, *kept])


class Dying(sqlite3.Connection):
    """Of the process that has it, nothing is left before its statement of this number."""

    statements = 10**9

    def execute(self, *given):
        self.statements -= 1
        if not self.statements:
            raise Killed
        return super().execute(*given)


class Killed(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS[:-1], ids=name)
async def test_an_upgrade_that_is_killed_has_happened_or_has_not(tmp_path, version):
    """Before each of its statements; then the next start finds the files as they are."""
    versions = []
    for statements in count(1):
        home, copy = tmp_path / str(statements), tmp_path / f"{statements}, killed"
        life = left_by(version, home)
        is_killed = upgraded(life.journal, statements, copy)
        versions.append(
            version_in(shutil.copytree(copy, tmp_path / f"{statements}, asked") / "journal")
        )
        life.journal = copy / "journal"
        async with life.running() as flow:
            await flow.is_empty()
            assert [event for event in flow.seen if isinstance(event, TROUBLE)] == []
        assert life.dataset.uuids() == DELIVERED
        if not is_killed:
            break
    assert set(versions) == {version, schema.VERSION}
    assert versions == sorted(versions), "from one statement on it has happened"


def upgraded(path: Path, statements: int, copy: Path) -> bool:
    """Upgrade it up to this statement; a copy of all files as they are then. Whether it came."""
    entries = RowCodec(keys.open_cipher(path, ()))
    with closing(sqlite3.connect(path, isolation_level=None, factory=Dying)) as db:
        db.executescript(PRAGMAS)
        db.statements = statements
        try:
            upgrades.prepare(db, path, entries)
        except Killed:
            return True
        finally:
            shutil.copytree(path.parent, copy)
    return False


def test_a_broken_journal_of_version_1_is_refused_and_left_as_it_is(tmp_path):
    """Or each attempt to start would leave one more copy of it."""
    path = left_by(1, tmp_path).journal
    with closing(sqlite3.connect(path)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'total'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    bad = bytearray(path.read_bytes())
    bad[(root - 1) * size : root * size] = bytes(size)
    path.write_bytes(bad)
    with (
        pytest.raises(CommandError, match="is not a readable journal"),
        open_journal(path, CapacityLimits(free_bytes=0), retention=SHELF),
    ):
        pass
    assert path.read_bytes() == bad
    assert not list(tmp_path.glob("*.damaged-*"))


def test_a_journal_of_a_newer_version_is_refused_in_one_line_and_not_touched(tmp_path):
    path = left_by(schema.VERSION, tmp_path).journal
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    before = path.read_bytes()
    with (
        pytest.raises(CommandError) as refused,
        open_journal(path, CapacityLimits(free_bytes=0), retention=SHELF),
    ):
        pass
    said = f"The journal {path} was written by a newer Atlas (v{schema.VERSION + 1})."
    assert str(refused.value) == said
    assert path.read_bytes() == before
