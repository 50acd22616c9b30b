"""One person's data: all are reported, erased for good, and nobody else's are touched."""

import os
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import timedelta

import anyio
import msgspec
import pytest

from atlas.actors.upload import PersonalData
from atlas.core import identifiers
from atlas.core.errors import FileInvalid, FoundryError, JournalFull
from atlas.core.events import UploadPaused, UserErased
from atlas.core.messages import RemovalResult, User
from atlas.core.personal_data import JournalHoldings, PurgeResult
from atlas.outside.journal.retention import ReceiptRetention
from atlas.outside.sqlite.group_commit import GroupCommit
from atlas.outside.sqlite.personal_data import SqlitePersonalData
from atlas.outside.sqlite.retention import prune
from atlas.outside.sqlite.schema import LIVE
from atlas.runtime import CompletionRegistry, Lock
from atlas.settings import OperatorSettings
from tests.conftest import ServiceHarness, an_export, asgi
from tests.support.exports import NOON
from tests.support.fakes import Barrier, KnownUsers, MemoryDataset, no_answer
from tests.support.people import ADA, HOST, ZOE, post_record, query_operator
from tests.support.poison import POISON, Bug

TABLES = ("export", "binding", "digest", "phone")


@dataclass
class TokenUsers(KnownUsers):
    """Maps tokens to users."""

    subs: dict[str, str] = field(default_factory=dict)

    async def identify_user(self, token: str, proof: object = None) -> User:
        return User(self.subs[token])


def removals(life):
    return [each for each in life.dataset.transactions.values() if each.kind == "DELETE"]


def rows_in(journal):
    """Count the rows of each table, and check the ledger."""
    with closing(sqlite3.connect(journal)) as db:
        for status, *noted in db.execute(LIVE.replace("WHERE", "WHERE 1 OR")).fetchall():
            count = "SELECT count(*), coalesce(sum(bytes), 0) FROM export WHERE status = ?"
            assert list(db.execute(count, [status]).fetchone()) == noted, status
        return {
            table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES
        }


async def test_what_is_replayed_while_its_user_is_forgotten_does_not_come_back(life):
    bug = Bug("flatten")
    life.compute = bug.compute
    async with life.running() as flow:
        await flow.post(POISON, token=f"token-of-{ADA}")
        (aside,) = (await query_operator(flow, "/personal-data")).body["aside"]
        bug.hold = gate = Barrier()
        async with anyio.create_task_group() as operators:
            replay = f"/exports/{aside['id']}/replay"
            operators.start_soon(asgi, flow.service.operator, "POST", replay, HOST)
            with anyio.fail_after(5):
                await gate.reached.wait()
            operators.start_soon(query_operator, flow, "/erasures")
            await anyio.wait_all_tasks_blocked()
            bug.is_mended = True
            gate.opened.set()
        await flow.is_empty()
        where = (await query_operator(flow, "/personal-data")).body

    assert (where["files"], where["exports"]) == (0, {})
    assert life.dataset.rows() == []


async def test_all_that_is_there_of_a_person_is_told(life):
    async with life.running() as flow:
        for uuid in "abc":
            receipt = (await post_record(flow, uuid, Idempotency_Key=uuid)).body
        await post_record(flow, "d", ZOE)
        found = (await query_operator(flow, "/personal-data")).body
        listed = (await query_operator(flow, "/personal-data", files=True)).body["listed"]

    own = {path: len(file) for path, file in life.dataset.files().items() if "ada" in path}
    assert (found["files"], found["bytes"]) == (3, sum(own.values()))
    assert found["exports"] == {"committed": 3}
    assert (found["digests"], found["shared"], found["aside"], found["listed"]) == (0, [], [], [])
    assert found["first"] < found["last"]
    assert {file["path"]: file["bytes"] for file in listed} == own
    assert listed[-1]["transaction"] == receipt["transaction_rid"]


async def test_what_waits_and_what_is_set_aside_is_told_too(life):
    life.drain_seconds = 0.0
    life.dataset.refuses.add(f"healthkit/raw/{ADA}/2026-01-02T12-00-00-000Z.ndjson")
    async with life.running() as flow:
        set_aside = (await post_record(flow, "a")).body["receipt_id"]
        life.dataset.opened(is_ours=False)  # dataset readable, uploads blocked
        await post_record(flow, "b", Prefer="respond-async")
        found = (await query_operator(flow, "/personal-data")).body

    assert found["exports"] == {"accepted": 1, "set_aside": 1}
    assert [(each["id"], each["reason"]) for each in found["aside"]] == [
        (set_aside, FileInvalid.__doc__)
    ]
    assert (found["files"], found["first"]) == (0, None)


async def test_a_person_that_nobody_knows_is_told_and_forgotten_at_once(life):
    async with life.running() as flow:
        await post_record(flow, "a", ZOE)
        found = await query_operator(flow, "/personal-data")
        receipt = await query_operator(flow, "/erasures")

    assert (found.status, found.body["files"], found.body["exports"]) == (200, 0, {})
    assert (receipt.status, receipt.body["files"], receipt.body["purged"]) == (200, 0, {})
    assert removals(life) == []
    assert rows_in(life.journal) == {"export": 1, "binding": 0, "digest": 0, "phone": 1}


async def test_who_is_forgotten_is_nowhere_and_the_receipt_says_what_was_done(life):
    async with life.running() as flow:
        for uuid in "abc":
            await post_record(flow, uuid, Idempotency_Key=uuid)
        await post_record(flow, "z", ZOE, Idempotency_Key="z")
        found = (await query_operator(flow, "/personal-data")).body
        receipt = (await query_operator(flow, "/erasures")).body
        again = (await query_operator(flow, "/personal-data")).body

    (removal,) = removals(life)
    assert (removal.state, len(removal.removed)) == ("COMMITTED", 3)
    assert life.dataset.transactions[receipt["transactions"][0]] is removal
    assert (receipt["files"], receipt["bytes"]) == (3, found["bytes"])
    assert receipt["purged"] == {"committed": 3, "binding": 3, "phone": 1}
    assert receipt["user"] == found["user"] == again["user"]
    assert receipt["shared"] == []
    assert len(receipt["to_do"]) == 4
    assert ADA not in str(receipt)
    assert (again["files"], again["exports"]) == (0, {})
    assert life.dataset.uuids() == ["z"]
    assert rows_in(life.journal) == {"export": 1, "binding": 1, "digest": 0, "phone": 1}
    (told,) = flow.seen.of(UserErased)
    assert (told.user, told.files, told.purged) == (ADA, 3, 7)


async def test_a_journal_in_memory_forgets_as_well():
    life = ServiceHarness(None)
    async with life.running() as flow:
        await post_record(flow, "a")
        receipt = await query_operator(flow, "/erasures")

    assert (receipt.status, receipt.body["purged"]) == (200, {"committed": 1, "phone": 1})
    assert life.dataset.rows() == []


@pytest.mark.parametrize(
    ("gone", "stays"),
    [
        pytest.param("ada", "ada2", id="one begins as the other"),
        pytest.param("ada", "ada/", id="and as its folder"),
        pytest.param("ada/x", "ada", id="a folder in the other's"),
        pytest.param("Zoë und Söhne", "Zoë", id="what is no plain character"),
        pytest.param("a%2Fb", "a/b", id="what looks encoded already"),
        pytest.param("x" * 300, "x" * 301, id="too long for a folder"),
        pytest.param(".", "..", id="what means something in paths"),
        pytest.param("*", "%", id="what stands for anything elsewhere"),
    ],
)
async def test_nobody_else_is_touched(life, gone, stays):
    life.identities = TokenUsers(subs={"gone": gone, "stays": stays})
    async with life.running() as flow:
        for token in ("gone", "stays"):
            assert (await flow.post(an_export(), token=token)).status == 200
        receipt = (await query_operator(flow, "/erasures", gone)).body
        left = (await query_operator(flow, "/personal-data", stays)).body

    assert (receipt["files"], receipt["purged"]) == (1, {"committed": 1, "phone": 1})
    is_spelled = identifiers.escape_user(User(gone)) != gone
    assert any("before Atlas" in each for each in receipt["to_do"]) is is_spelled
    assert (left["files"], left["exports"]) == (1, {"committed": 1})
    assert [row["auth0_user_id"] for row in life.dataset.rows()] == [stays]


async def test_files_that_hold_rows_of_others_are_named_and_then_hold_none_of_theirs(life):
    """Some of their receipts are complete; others are only digests."""
    life.layout = "per-group"
    async with life.running() as flow:
        await post_record(flow, "a")
        await post_record(flow, "y", ZOE)
    compact_receipts(life.journal)
    async with life.running() as flow:
        gate = life.dataset.mishaps["before begin"] = Barrier()
        async with anyio.create_task_group() as senders:
            senders.start_soon(post_record, flow, "b")
            await gate.reached.wait()
            senders.start_soon(post_record, flow, "c")
            senders.start_soon(post_record, flow, "z", ZOE)
            await anyio.wait_all_tasks_blocked()
            gate.opened.set()
        found = (await query_operator(flow, "/personal-data")).body
        paths = life.dataset.files()
        receipt = (await query_operator(flow, "/erasures")).body

    (first, *_, last), rewritten = sorted(paths), receipt["rewritten"]
    assert found["digests"] == 1
    assert found["shared"] == [{"path": first, "exports": 1}, {"path": last, "exports": 2}]
    assert rewritten == [{"path": first, "rows": 1}, {"path": last, "rows": 2}]
    assert receipt["purged"] == {"committed": 2, "digest": 1, "phone": 1}
    assert (receipt["files"], receipt["shared"]) == (0, [])
    assert life.dataset.uuids() == ["y", "z"]
    assert rows_in(life.journal) == {"export": 1, "binding": 0, "digest": 1, "phone": 1}


def compact_receipts(journal):
    """Compact the journal two months later."""
    with closing(sqlite3.connect(journal)) as db, db:
        prune(db, ReceiptRetention(lambda: NOON + timedelta(days=60)))
    assert rows_in(journal) == {"export": 0, "binding": 0, "digest": 2, "phone": 2}


async def test_who_waits_for_what_is_purged_is_told_and_nothing_of_it_is_uploaded(life):
    """Another build holds the branch, so that earlier exports are not uploaded."""
    foreign = life.dataset.opened(is_ours=False)
    answers = {}
    async with life.running() as flow, anyio.create_task_group() as senders:

        async def post(uuid, user):
            answers[uuid] = await post_record(flow, uuid, user)

        senders.start_soon(post, "a", ADA)
        senders.start_soon(post, "z", ZOE)
        await flow.seen.wait_for(UploadPaused)
        receipt = (await query_operator(flow, "/erasures")).body
        life.dataset.transactions[foreign].state = "COMMITTED"

    assert receipt["purged"] == {"accepted": 1, "phone": 1}
    assert (answers["a"].status, answers["a"].body["error"]["code"]) == (410, "FORGOTTEN")
    assert answers["a"].body["error"]["retryable"] is False
    assert answers["z"].status == 200
    assert life.dataset.uuids() == ["z"]


async def test_in_a_batch_only_what_is_purged_is_told_so(life):
    life.dataset.refuses.add("healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson")
    answers = []
    async with life.running() as flow, anyio.create_task_group() as senders:
        chunks = [an_export(b'{"uuid":"a"}\n'), an_export(b'{"uuid":"b"}\n')]
        await flow.post({"chunks": chunks[:1]}, path="/export/batch")
        life.dataset.opened(is_ours=False)

        async def post():
            answers.append(await flow.post({"chunks": chunks}, path="/export/batch"))

        senders.start_soon(post)
        await flow.seen.wait_for(UploadPaused)
        receipt = (await query_operator(flow, "/erasures", "ada")).body

    assert receipt["purged"] == {"accepted": 1, "set_aside": 1, "phone": 1}
    (answer,) = answers
    assert (answer.status, answer.body["chunks_failed"]) == (207, 1)
    assert [error["code"] for error in answer.body["errors"]] == ["FORGOTTEN"]


async def test_what_is_on_its_way_is_waited_for_and_taken_out(life):
    gate = life.dataset.mishaps["before commit"] = Barrier()
    answers = {}
    async with life.running() as flow, anyio.create_task_group() as tasks:

        async def keep(name, call, *given):
            answers[name] = await call(flow, *given)

        tasks.start_soon(keep, "sender", post_record, "a")
        await gate.reached.wait()
        tasks.start_soon(keep, "operator", query_operator, "/erasures")
        await anyio.wait_all_tasks_blocked()
        assert answers == {}
        gate.opened.set()

    assert answers["sender"].body["status"] == "committed"
    assert (answers["operator"].body["files"], life.dataset.rows()) == (1, [])


async def test_nothing_goes_between_the_look_at_the_files_and_the_purge(life):
    """An export that arrives in between is purged with the others; a later one is new."""
    answers = {}
    async with life.running() as flow, anyio.create_task_group() as tasks:
        await post_record(flow, "a")
        gate = life.dataset.mishaps["before remove"] = Barrier()

        async def keep(name, call, *given):
            answers[name] = await call(flow, *given)

        tasks.start_soon(keep, "operator", query_operator, "/erasures")
        await gate.reached.wait()
        tasks.start_soon(keep, "sender", post_record, "b")
        await anyio.wait_all_tasks_blocked()
        gate.opened.set()

    purged = answers["operator"].body["purged"]
    assert (answers["sender"].status, purged.pop("phone")) == (410, 1)
    assert purged == {"accepted": 1, "committed": 1}
    assert life.dataset.rows() == []


async def test_what_crashed_a_stage_is_forgotten_and_its_twin_is_new(life):
    bug = Bug("flatten")
    life.compute = bug.compute
    async with life.running() as flow:
        await flow.post(POISON)
        found = (await query_operator(flow, "/personal-data", "ada")).body
        receipt = (await query_operator(flow, "/erasures", "ada")).body
        bug.is_mended = True
        again = await flow.post(POISON)

    assert [each["reason"] for each in found["aside"]] == ["it crashes a stage"]
    assert receipt["purged"] == {"set_aside": 1}
    assert (again.status, again.body["replayed"]) == (200, False)


async def test_what_is_sent_afterwards_is_accepted_anew(life):
    async with life.running() as flow:
        before = await post_record(flow, "a", Idempotency_Key="k")
        await query_operator(flow, "/erasures")
        other = await post_record(flow, "b", Idempotency_Key="k")
        again = await post_record(flow, "a")

    assert (other.status, other.body["replayed"]) == (200, False), "its key named another"
    assert (again.body["replayed"], again.body["receipt_id"]) == (False, before.body["receipt_id"])
    assert life.dataset.uuids() == ["a", "b"]


@pytest.mark.parametrize(
    "moment",
    ["before files_under", "after begin", "before remove", "after remove", "before commit",
     "after commit"],
)  # fmt: skip
async def test_when_foundry_fails_in_the_middle_it_is_said_and_told_again_is_done(life, moment):
    async with life.running() as flow:
        await post_record(flow, "a")
        life.dataset.mishaps[moment] = no_answer
        failed = await query_operator(flow, "/erasures")
        after = (await query_operator(flow, "/personal-data")).body["exports"]
        receipt = await query_operator(flow, "/erasures")
        other = await post_record(flow, "z", ZOE)

    assert (failed.status, failed.body) == (503, {"error": "No answer."})
    assert after == {"committed": 1}, "the journal comes last"
    assert (receipt.status, receipt.body["purged"]) == (200, {"committed": 1, "phone": 1})
    assert (other.status, life.dataset.uuids()) == (200, ["z"])
    assert [each.state for each in removals(life)].count("COMMITTED") == 1
    assert life.dataset.open_now() == []


async def test_while_foundry_is_away_nothing_is_forgotten(life):
    async with life.running() as flow:
        await post_record(flow, "a")
        life.dataset.down = True
        for path in ("/personal-data", "/erasures"):
            answer = await query_operator(flow, path)
            assert (answer.status, answer.body) == (503, {"error": "Foundry is down."})

    assert rows_in(life.journal)["export"] == 1


@pytest.mark.parametrize("moment", ["after begin", "after remove", "before commit", "after commit"])
async def test_who_dies_in_the_middle_does_it_in_the_next_life(life, moment):
    """A killed process stops at the barrier."""
    async with life.running() as flow:
        await post_record(flow, "a")
        gate = life.dataset.mishaps[moment] = Barrier()
        async with anyio.create_task_group() as operators:
            operators.start_soon(query_operator, flow, "/erasures")
            await gate.reached.wait()
            life.dataset.down = True
            operators.cancel_scope.cancel()
    assert rows_in(life.journal)["export"] == 1
    life.dataset.down = False
    async with life.running() as flow:
        receipt = (await query_operator(flow, "/erasures")).body

    assert receipt["purged"] == {"committed": 1, "phone": 1}
    assert receipt["files"] == (0 if moment == "after commit" else 1)
    assert (life.dataset.rows(), life.dataset.open_now()) == ([], [])
    assert rows_in(life.journal) == dict.fromkeys(TABLES, 0)


ROWS = b"".join(b'{"uuid":"%b"}\n' % os.urandom(16).hex().encode() for _ in range(2_000))


def read_sealed(journal):
    """Return a slice of each encrypted value in a copy of the journal."""
    copy = shutil.copytree(journal.parent, journal.parent.with_name("copy")) / journal.name
    with closing(sqlite3.connect(copy)) as db:
        found = db.execute("SELECT label, sealed FROM payload")
        blobs = [blob for row in found.fetchall() for blob in row]
    return [blob[len(blob) // 2 :][:64] for blob in blobs]


def read_folder(journal):
    """Return the bytes of every file in the journal's folder."""
    return b"".join(file.read_bytes() for file in journal.parent.iterdir() if file.is_file())


@pytest.mark.parametrize("is_killed", [False, True], ids=["at once", "after a kill"])
async def test_no_byte_of_what_is_purged_stays_on_the_disk(tmp_path, is_killed):
    """Neither from existing rows, nor from committed exports whose rows are gone."""
    life = ServiceHarness(tmp_path / "state" / "journal", journal_bytes_max=100_000_000)
    life.journal.parent.mkdir()
    foreign = life.dataset.opened(is_ours=False)
    async with life.running() as flow:
        for user in (ADA, ZOE):
            await flow.post(an_export(ROWS), token=f"token-of-{user}", Prefer="respond-async")
        sealed = read_sealed(life.journal)
        life.dataset.transactions[foreign].state = "ABORTED"
        await flow.is_empty()
        assert [each in read_folder(life.journal) for each in sealed] == [True] * 4
        if is_killed:
            await flow.people.purge(User(ADA), [])
        else:
            await query_operator(flow, "/erasures")
            left = read_folder(life.journal)
    if is_killed:  # after the purge
        async with life.running() as flow:
            assert (await query_operator(flow, "/erasures")).body["purged"] == {}
            left = read_folder(life.journal)

    assert [each in left for each in sealed[:2]] == [False, False]
    assert sealed[2] in left, "Zoë's receipt stays"
    assert rows_in(life.journal)["export"] == 1


@dataclass
class InterruptedCommits:
    """The commits of a journal, with an interruption during the first rewrite of its file."""

    commits: GroupCommit
    happens: Callable[[], Awaitable[object]]
    rewrites: int = 0

    async def run(self, work):
        return await self.commits.run(work)

    async def vacuum(self):
        self.rewrites += 1
        await self.commits.vacuum()
        if self.rewrites == 1:
            await self.happens()


async def test_who_is_forgotten_while_the_journal_is_written_anew_has_it_written_again(life):
    async with life.running() as flow:
        await post_record(flow, "a")
        await post_record(flow, "z", ZOE)
        journal = flow.people
        commits = InterruptedCommits(journal._commits, lambda: journal.purge(User(ZOE), []))
        people = SqlitePersonalData(commits, journal._codec, journal._phones)
        await people.purge(User(ADA), [])
        await people.rewrite()  # hers; Zoe's are purged after it
        await people.rewrite()

    assert commits.rewrites == 2


async def test_without_room_to_write_the_journal_anew_the_receipt_says_so_first():
    class Full:
        async def read_holdings(self, user):
            return JournalHoldings("a-hash")

        async def purge(self, user, shared):
            return PurgeResult("a-hash", {"committed": 1})

        async def rewrite(self):
            raise JournalFull("The disk of the journal is full.")

    receipt = await build_personal_data(Full(), MemoryDataset()).erase(User(ADA))

    assert receipt.to_do[0].startswith("Run atlas person erase again")
    assert receipt.to_do[0].endswith("The disk of the journal is full.")
    assert receipt.purged == {"committed": 1}


@dataclass
class ExclusiveMaintenance:
    """Maintenance tasks, each with exclusive use of the branch."""

    dataset: MemoryDataset
    stays: bool = False  # removed files

    @asynccontextmanager
    async def exclusive(self):
        yield self

    async def remove(self, paths):
        transaction = await self.dataset.begin("DELETE")
        for path in [] if self.stays else paths:
            await self.dataset.remove(transaction, path)
        await self.dataset.commit(transaction)
        return RemovalResult(len(paths), transaction)


class NothingShared:
    async def rewrite_some(self, *given):
        return False


class Empty:
    async def read_holdings(self, user):
        return JournalHoldings("a-hash")

    async def purge(self, user, shared):
        return PurgeResult("a-hash", {})

    async def rewrite(self): ...


def build_personal_data(journal, dataset, files_max=5_000, **more):
    turns = ExclusiveMaintenance(dataset, **more)
    rest = CompletionRegistry(), len, Lock(), lambda: NOON, lambda _event: None
    return PersonalData(journal, dataset, NothingShared(), turns, *rest, files_max)


async def with_files(count):
    dataset = MemoryDataset()
    transaction = await dataset.begin()
    for number in range(count):
        await dataset.put(transaction, f"healthkit/raw/{ADA}/{number}.ndjson", b"row\n")
    await dataset.commit(transaction)
    return dataset


async def test_very_many_files_are_taken_out_in_several_transactions():
    dataset = await with_files(7)
    receipt = await build_personal_data(Empty(), dataset, files_max=3).erase(User(ADA))

    removed = [len(each.removed) for each in dataset.transactions.values() if each.removed]
    assert removed == [3, 3, 1]
    assert (receipt.files, receipt.bytes, len(receipt.transactions)) == (7, 28, 3)
    assert dataset.files() == {}


async def test_a_foundry_that_takes_nothing_out_is_not_asked_for_ever():
    dataset = await with_files(1)
    with pytest.raises(FoundryError, match="still lists files after their removal"):
        await build_personal_data(Empty(), dataset, stays=True).erase(User(ADA))


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("path", ["/personal-data", "/erasures"])
@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param(b'{"user":""}', JSON, 400, id="an empty user"),
        pytest.param(b"{}", JSON, 400, id="no user"),
        pytest.param(b'{"user":7}', JSON, 400, id="a number"),
        pytest.param(b'{"user":null}', JSON, 400, id="null"),
        pytest.param(b'["auth0|ada"]', JSON, 400, id="a list"),
        pytest.param(b'{"user":"auth0|ada","all":true}', JSON, 400, id="an unknown word"),
        pytest.param(b'{"user":"\\ud800"}', JSON, 400, id="half a character"),
        pytest.param(b'{"user":"auth0|ada"', JSON, 400, id="half a body"),
        pytest.param(b'{"user":"\xff"}', JSON, 400, id="no UTF-8"),
        pytest.param(b"", JSON, 400, id="nothing"),
        pytest.param(b'{"user":"%b"}' % (b"a" * 70_000), JSON, 413, id="far too much"),
        pytest.param(b'{"user":"auth0|ada"}', {"content-type": "text/plain"}, 415, id="a text"),
        pytest.param(b'{"user":"auth0|ada"}', JSON | {"origin": "http://evil"}, 403, id="a page"),
        pytest.param(b'{"user":"auth0|ada"}', JSON | {"host": "evil"}, 421, id="another host"),
    ],
)
async def test_what_names_nobody_does_nothing(life, path, body, headers, status):
    async with life.running() as flow:
        await post_record(flow, "a")
        answer = await asgi(flow.service.operator, "POST", path, HOST | headers, body)

    assert (answer.status, answer.body.keys()) == (status, {"error"})
    assert "ada" not in answer.body["error"]
    assert life.dataset.uuids() == ["a"]


async def test_no_address_holds_a_sub_and_none_of_it_is_public(life):
    async with life.running() as flow:
        for method, path in (
            ("GET", "/personal-data"),
            ("GET", "/erasures"),
            ("POST", f"/erasures/{ADA}"),
        ):
            answer = await asgi(flow.service.operator, method, path, HOST)
            assert answer.status in {404, 405}
        for path in ("/personal-data", "/erasures"):
            assert (await flow.send("POST", path, "token-of-ada")).status == 404


async def test_a_token_that_is_configured_must_be_brought(life):
    class Operated(ServiceHarness):
        def settings(self):
            return msgspec.structs.replace(super().settings(), operator=OperatorSettings(token="t"))

    life = Operated(life.journal)
    async with life.running() as flow:
        await post_record(flow, "a")
        assert (await query_operator(flow, "/erasures")).status == 401
    assert life.dataset.uuids() == ["a"]
