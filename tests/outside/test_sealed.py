"""What lies on the disk: nothing that anybody can read, and nothing that any other key opens."""

import base64
import sqlite3
import stat
from contextlib import closing
from datetime import timedelta

import pytest

from atlas.core.commits import Intent
from atlas.core.errors import CommandError, ConfigurationError
from atlas.core.events import UnprotectedKeyFile
from atlas.core.messages import (
    BranchSnapshot,
    ExportMetadata,
    FlattenedExport,
    IdempotencySlot,
    Reject,
    User,
)
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.journal.compression import decompress
from atlas.outside.sqlite import keys
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
    packed,
)
from tests.support.zstandard import zstd

CANARY = "canary-" + "x" * 8
ADA = User(f"auth0|{CANARY}")
ROWS = b'{"auth0_user_id":"%s"}\n' % CANARY.encode() * 9
OLD, NEW, OTHER = (bytes([number]) * 32 for number in (1, 2, 3))
BOUNDS = CapacityLimits(free_bytes=0)

# What version 1 wrote, as far as it is read: everything in clear.
VERSION_1 = """
    CREATE TABLE export (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, user TEXT NOT NULL, at TEXT NOT NULL,
        path TEXT NOT NULL UNIQUE, ingested INTEGER NOT NULL, rejected INTEGER NOT NULL,
        rejects BLOB NOT NULL, bytes INTEGER NOT NULL, payload BLOB, correlation_id TEXT NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0, status TEXT NOT NULL DEFAULT 'accepted', rid TEXT
    ) STRICT;
    CREATE INDEX mailbox ON export (number, bytes) WHERE status = 'accepted';
    CREATE INDEX claimed ON export (number) WHERE status = 'claimed';
    CREATE INDEX receipts ON export (user, number);
    CREATE TABLE binding (
        user TEXT NOT NULL, key TEXT NOT NULL, position INTEGER NOT NULL, length INTEGER NOT NULL,
        export TEXT NOT NULL REFERENCES export (id) ON DELETE CASCADE,
        PRIMARY KEY (user, key, position)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX bound ON binding (export);
    CREATE TABLE attempt (head TEXT PRIMARY KEY, at TEXT NOT NULL) STRICT;
    CREATE TABLE total (status TEXT PRIMARY KEY, exports INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0) STRICT;
    INSERT INTO total (status) VALUES ('accepted'), ('claimed'), ('committed'), ('set_aside');
    CREATE TRIGGER comes AFTER INSERT ON export BEGIN SELECT 1; END;
    CREATE TRIGGER moves AFTER UPDATE OF status ON export BEGIN SELECT 1; END;
    CREATE TRIGGER goes AFTER DELETE ON export BEGIN SELECT 1; END;
    CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
    INSERT INTO secret VALUES ('log_key', x'00');
    PRAGMA user_version = 1;
"""


def an_export(id="id-1", key=None) -> FlattenedExport:
    binding = None if key is None else IdempotencySlot(key, 0, 1)
    head = ExportMetadata(ADA, CANARY, CANARY, "correlation-1", binding)
    at = NOON + timedelta(seconds=int(id[3:]))
    return FlattenedExport(id, head, at, packed(ROWS, 9, Reject(2, CANARY)))


async def kept(path, *sealed_with, count=3):
    with open_journal(path, BOUNDS, sealed_with, retention=SHELF) as journal:
        for number in range(count):
            await journal.intake.append(an_export(f"id-{number}"))


async def ids(path, *sealed_with):
    """Those of which every byte can be had."""
    with open_journal(path, BOUNDS, sealed_with, retention=SHELF) as journal:
        page = await journal.receipts.list_page(ADA, None, 10, None)
        read = await journal.outbox.read([receipt.id for receipt in page.receipts])
        return sorted(id for id, packed in read.items() if decompress(packed) == ROWS)


def mode_of(file):
    return file.stat().st_mode


def on_disk(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


async def test_nothing_that_a_sender_sent_lies_on_the_disk_in_clear(tmp_path):
    with open_journal(tmp_path / "journal", BOUNDS, retention=SHELF) as journal:
        await journal.intake.append(an_export(key=CANARY))
        living = on_disk(tmp_path)
    for files in (living, on_disk(tmp_path)):
        assert sum(map(len, files.values())) > len(ROWS)
        for name, text in files.items():
            assert CANARY.encode() not in text, name


async def test_without_a_key_one_is_made_that_only_its_owner_can_read(tmp_path):
    path = tmp_path / "journal"
    with open_journal(path, BOUNDS, retention=SHELF) as journal:
        assert journal.events == [UnprotectedKeyFile(str(tmp_path / "journal.key"))]
    assert stat.S_IMODE(mode_of(tmp_path / "journal.key")) == 0o600
    assert stat.S_IMODE(mode_of(tmp_path / "journal.seal")) == 0o600
    with open_journal(tmp_path / "other", BOUNDS, [OLD], retention=SHELF) as journal:
        assert journal.events == []
    assert "other.key" not in on_disk(tmp_path)


async def test_the_key_of_the_file_can_be_set_later(tmp_path):
    path = tmp_path / "journal"
    await kept(path)
    text = on_disk(tmp_path)["journal.key"].decode().strip()

    assert len(await ids(path, keys.parse_key(text))) == 3


@pytest.mark.parametrize("given", [[OTHER], [OTHER, NEW], []], ids=["another", "others", "none"])
async def test_a_key_that_does_not_open_the_journal_stops_the_start_and_touches_nothing(
    tmp_path, given
):
    path = tmp_path / "journal"
    await kept(path, OLD)
    before = on_disk(tmp_path)

    with (
        pytest.raises(ConfigurationError, match="discard") as refused,
        open_journal(path, BOUNDS, given),
    ):
        pass
    assert refused.value.exit_code == 78
    after = on_disk(tmp_path)
    assert before.pop("journal.lock") != b""
    assert after.pop("journal.lock") != b""
    assert after == before
    assert len(await ids(path, OLD)) == 3


async def test_a_list_of_keys_turns_one_into_the_next(tmp_path):
    path = tmp_path / "journal"
    await kept(path, OLD)

    assert len(await ids(path, NEW, OLD)) == 3
    assert len(await ids(path, NEW)) == 3
    with pytest.raises(ConfigurationError), open_journal(path, BOUNDS, [OLD], retention=SHELF):
        pass


@pytest.mark.parametrize("lost", ["journal.seal", "root"])
async def test_the_root_is_kept_twice(tmp_path, lost):
    path = tmp_path / "journal"
    await kept(path, OLD)
    if lost == "root":
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("DELETE FROM secret WHERE name = 'root'")
    else:
        (tmp_path / lost).unlink()

    assert len(await ids(path, OLD)) == 3


async def test_a_journal_that_is_moved_to_where_another_was_is_opened_with_its_own_root(tmp_path):
    """What lies there is the other's, and the same key opens both."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    await kept(theirs / "journal", OLD)
    await kept(ours / "journal", OLD)
    (ours / "journal").replace(theirs / "journal")

    assert len(await ids(theirs / "journal", OLD)) == 3


@pytest.mark.parametrize("text", ["", "x", "AAAA", base64.b64encode(bytes(31)).decode(), "ä" * 32])
def test_what_is_no_key_is_said_without_it(text):
    with pytest.raises(ConfigurationError, match="32 bytes each") as refused:
        keys.parse_key(text)
    assert text == "" or text not in str(refused.value)


async def test_a_payload_moved_to_another_export_is_not_sent_as_that(tmp_path):
    path = tmp_path / "journal"
    await kept(path, OLD)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "UPDATE payload SET sealed = (SELECT sealed FROM payload WHERE number = 2) "
            "WHERE number = 3"
        )
    with open_journal(path, BOUNDS, [OLD], retention=SHELF) as journal:
        read = await journal.outbox.read(["id-1", "id-2"])
    assert {id: decompress(packed) for id, packed in read.items()} == {"id-1": ROWS}


async def test_a_journal_of_version_1_is_sealed_and_goes_on(tmp_path):
    path = tmp_path / "journal"
    payload = zstd.compress(ROWS)
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(VERSION_1)
        for number, status in enumerate(["accepted", "claimed", "committed", "set_aside"]):
            row = [f"id-{number}", ADA.sub, NOON.isoformat(), f"healthkit/{CANARY}/{number}", 9, 1]
            rest = [b'[{"line":2,"reason":"why"}]', len(ROWS)]
            kept = None if status == "committed" else payload
            rid = RID if status in {"claimed", "committed"} else None
            db.execute(
                "INSERT INTO export (id, user, at, path, ingested, rejected, rejects, bytes,"
                " payload, correlation_id, status, rid) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                [*row, *rest, kept, "correlation-1", status, rid],
            )
        db.execute("INSERT INTO binding VALUES (?, ?, 0, 1, 'id-2')", [ADA.sub, CANARY])
        db.execute("INSERT INTO attempt VALUES ('head', ?)", [NOON.isoformat()])

    with open_journal(path, BOUNDS, [OLD], retention=SHELF) as journal:
        page = await journal.receipts.list_page(ADA, None, 10, None)
        assert [receipt.status for receipt in reversed(page.receipts)] == [
            "accepted",
            "accepted",
            "committed",
            "set_aside",
        ]
        assert page.receipts[0].path == f"healthkit/{CANARY}/3"
        assert page.receipts[0].rejects == (Reject(2, "why"),)
        (bound,) = (await journal.receipts.list_page(ADA, CANARY, 10, None)).receipts
        assert (bound.id, bound.transaction) == ("id-2", RID)
        hand = await journal.outbox.read_in_hand()
        assert hand.intents == (Intent("APPEND", BranchSnapshot("head", NOON)),)
        assert hand.transaction == RID
        assert [file.path for file in hand.group.files] == [f"healthkit/{CANARY}/1"]
        read = await journal.outbox.read(["id-1"])
        assert decompress(read["id-1"]) == ROWS
        totals = (await journal.ledger.list_entries(None, 1, None)).totals
        assert totals == {"accepted": 2, "committed": 1, "set_aside": 1}
        again = await journal.intake.append(an_export("id-2", CANARY))
        assert again.replayed
    for text in on_disk(tmp_path).values():
        assert CANARY.encode() not in text


@pytest.mark.parametrize(
    "earlier",
    [
        pytest.param(TO_VERSION_2, id="2"),
        pytest.param(TO_VERSION_3, id="3"),
        pytest.param(TO_VERSION_4, id="4"),
        pytest.param(TO_VERSION_5, id="5"),
        pytest.param(TO_VERSION_6, id="6"),
        pytest.param(TO_VERSION_7, id="7"),
    ],
)
async def test_a_journal_of_an_earlier_version_is_read_as_it_is(tmp_path, earlier):
    path = tmp_path / "journal"
    await kept(path, OLD)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(earlier)
    assert await ids(path, OLD) == ["id-0", "id-1", "id-2"]


def test_a_journal_of_a_newer_version_is_left_alone(tmp_path):
    path = tmp_path / "journal"
    with open_journal(path, BOUNDS, [OLD], retention=SHELF):
        pass
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()

    with (
        pytest.raises(CommandError, match="newer Atlas"),
        open_journal(path, BOUNDS, [OLD], retention=SHELF),
    ):
        pass
    assert path.read_bytes() == before
