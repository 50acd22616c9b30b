"""What a port promises, asked of everyone who answers it: the fake, the real one, the stand-in.

What is tested here once is not tested again for each of them; and a fake that promised more than
Foundry keeps would make all the other tests worthless.
"""

import random
import resource
import shutil
import sqlite3
import time
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache

import anyio
import pytest
import stamina
from aiohttp.test_utils import TestServer
from msgspec.structs import replace

from atlas.core import ports
from atlas.core.errors import (
    AuthUnavailable,
    BranchBusy,
    CommitRefused,
    FileRefused,
    FoundryError,
    InvalidToken,
    JournalFull,
    KeyReused,
    MissingIdentity,
    Rejected,
    TokenExpired,
    Unavailable,
)
from atlas.core.messages import (
    Binding,
    BranchSnapshot,
    ClaimedExport,
    CommitGroup,
    File,
    Flattened,
    GroupLimits,
    Head,
    LeftOpen,
    Reject,
    User,
)
from atlas.local import auth0 as local_auth0
from atlas.local import foundry as local_foundry
from atlas.local.foundry.faults import Fault
from atlas.local.foundry.state import DATASET
from atlas.outside import auth0, foundry
from atlas.outside.sqlite.journal import opened
from atlas.outside.sqlite.ledger import PAGE
from atlas.outside.sqlite.room import SMALL_BYTES, Bounds
from tests.exports import NOON, SHELF, packed
from tests.fakes import KnownUsers, MemoryDataset, no_answer

PATH = "healthkit/raw/auth0|64f0/2026-01-02T12-00-00-000Z.ndjson"
REFUSED = "/begins-with-a-slash.ndjson"
ROWS = b'{"uuid":"a"}\n'
ALLOWED = foundry.Allowed(4, 10_000, 30.0)


# What Foundry is asked: Branch


@dataclass
class InMemory:
    """The fake, and what befalls it."""

    branch: MemoryDataset

    def somebody_opens(self, kind="APPEND", files=None):
        return self.branch.opened(is_ours=False, kind=kind, **(files or {}))

    def somebody_commits(self, rid):
        self.branch.transactions[rid].state = "COMMITTED"

    def somebody_aborts(self, rid):
        self.branch.transactions[rid].state = "ABORTED"

    def time_passes(self, hours):
        self.branch.now += timedelta(hours=hours)

    def loses_the_answer_to_begin(self):
        self.branch.mishaps["after begin"] = no_answer

    def goes_down(self):
        self.branch.down = True

    @property
    def complaints(self):
        return self.branch.complaints


@dataclass
class OverHttp:
    """The client, and the stand-in that it speaks to."""

    branch: foundry.FoundryDataset | None = None
    foundry: local_foundry.Foundry | None = None
    late: timedelta = field(default_factory=timedelta)

    def now(self):
        return datetime.now(UTC) + self.late

    def somebody_opens(self, kind="APPEND", files=None):
        found = self.foundry.branches.begin(DATASET, "master", kind, owner="foreign")
        for path, content in (files or {}).items():
            self.foundry.branches.put(found, path, content)
        return found.rid

    def somebody_commits(self, rid):
        self.foundry.branches.commit(self.foundry.branches.transactions[rid])

    def somebody_aborts(self, rid):
        self.foundry.branches.abort(self.foundry.branches.transactions[rid])

    def time_passes(self, hours):
        self.late += timedelta(hours=hours)

    def loses_the_answer_to_begin(self):
        self.foundry.faults.ask(Fault("create", "lost"))

    def goes_down(self):
        self.foundry.faults.ask(Fault("any", "status", status=503, do_not_retry=True, count=0))

    @property
    def complaints(self):
        return self.foundry.log.complaints


@asynccontextmanager
async def in_memory(_folder):
    yield InMemory(MemoryDataset(refuses={REFUSED}))


@asynccontextmanager
async def over_http(folder):
    far = OverHttp()
    far.foundry = local_foundry.Foundry(folder, now=far.now)
    async with TestServer(local_foundry.application(far.foundry)) as server:
        host = str(server.make_url("")).rstrip("/")
        place = foundry.Target(host, DATASET, "master")
        token_url = f"{host}/multipass/api/oauth2/token"
        client = foundry.Credentials(token_url, "local", "local-secret")
        async with foundry.connected(
            place, client, ALLOWED, lambda _: None, time.monotonic, random.random
        ) as far.branch:
            yield far


@pytest.fixture(params=[in_memory, over_http], ids=["fake", "real"])
async def far(request, tmp_path):
    with stamina.set_testing(True, attempts=9, cap=True):  # tries as often as ever, and at once
        async with request.param(tmp_path) as far:
            yield far
    assert far.complaints == []


async def trouble(call) -> None:
    """It raises FoundryError, and none of those that say more than that."""
    with pytest.raises(FoundryError) as caught:
        await call
    assert not issubclass(caught.type, BranchBusy | CommitRefused | FileRefused)


async def committed(far, *paths, ndjson=ROWS):
    rid = await far.branch.begin()
    for path in paths:
        await far.branch.put(rid, path, ndjson)
    await far.branch.commit(rid)
    return rid


async def test_a_branch_without_transactions_has_no_head(far):
    seen = await far.branch.branch_snapshot()

    assert seen.head == ""
    assert seen.at.utcoffset() == timedelta()


async def test_what_is_begun_is_open_and_the_head_of_the_branch(far):
    rid = await far.branch.begin()

    assert (await far.branch.branch_snapshot()).head == rid
    assert await far.branch.transaction_status(rid) == "OPEN"


async def test_what_is_aborted_is_the_head_no_more(far):
    first = await committed(far, PATH)
    await far.branch.abort(await far.branch.begin())

    assert (await far.branch.branch_snapshot()).head == first


@pytest.mark.parametrize("whose", ["ours", "theirs"])
async def test_a_branch_is_busy_until_what_is_open_has_ended(far, whose):
    rid = await far.branch.begin() if whose == "ours" else far.somebody_opens()
    with pytest.raises(BranchBusy):
        await far.branch.begin()

    far.somebody_aborts(rid)
    assert await far.branch.begin() != rid


async def test_a_file_is_seen_by_readers_when_it_is_committed_and_not_before(far):
    rid = await far.branch.begin()
    await far.branch.put(rid, PATH, ROWS)
    assert await far.branch.files_of(rid) == {PATH: len(ROWS)}
    assert await far.branch.file_at(PATH) is None

    seen = await far.branch.commit(rid)
    assert seen.head == rid
    assert await far.branch.transaction_status(rid) == "COMMITTED"
    assert await far.branch.files_of(rid) == {PATH: len(ROWS)}
    assert (await far.branch.file_at(PATH)).transaction == rid
    assert await far.branch.content(PATH, 0) == ROWS


async def test_a_file_that_is_put_twice_stands_there_once(far):
    rid = await far.branch.begin()
    await far.branch.put(rid, PATH, ROWS)
    await far.branch.put(rid, PATH, ROWS)

    assert await far.branch.files_of(rid) == {PATH: len(ROWS)}


async def test_a_file_is_not_put_over_one_of_another_size(far):
    rid = await far.branch.begin()
    await far.branch.put(rid, PATH, ROWS)
    await trouble(far.branch.put(rid, PATH, ROWS + ROWS))

    assert await far.branch.files_of(rid) == {PATH: len(ROWS)}


async def test_a_file_that_is_refused_leaves_the_others_alone(far):
    rid = await far.branch.begin()
    await far.branch.put(rid, PATH, ROWS)
    with pytest.raises(FileRefused):
        await far.branch.put(rid, REFUSED, ROWS)

    await far.branch.commit(rid)
    assert await far.branch.files_of(rid) == {PATH: len(ROWS)}


@pytest.mark.parametrize("end", ["commits", "aborts", "has never heard of it"])
async def test_nothing_is_put_into_a_transaction_that_is_not_open(far, end):
    rid = await far.branch.begin()
    if end == "commits":
        far.somebody_commits(rid)
    elif end == "aborts":
        far.somebody_aborts(rid)
    else:
        rid = "ri.foundry.main.transaction.nobody-has-it"

    await trouble(far.branch.put(rid, PATH, ROWS))


async def test_a_commit_that_is_repeated_is_answered_as_the_first_was(far):
    rid = await committed(far, PATH)

    assert (await far.branch.commit(rid)).head == rid


async def test_a_commit_that_is_repeated_tells_the_head_of_now(far):
    rid = await committed(far, PATH)
    theirs = far.somebody_opens()

    assert (await far.branch.commit(rid)).head == theirs


async def test_a_commit_is_refused_while_a_path_is_held_by_another_transaction(far):
    first = await committed(far, PATH)
    rid = await far.branch.begin()
    await far.branch.put(rid, PATH, ROWS)
    with pytest.raises(CommitRefused):
        await far.branch.commit(rid)

    assert await far.branch.transaction_status(rid) == "OPEN"
    await far.branch.abort(rid)
    assert (await far.branch.file_at(PATH)).transaction == first


async def test_a_file_is_taken_out_when_that_is_committed(far):
    first = await committed(far, PATH)
    rid = await far.branch.begin("DELETE")
    assert await far.branch.remove(rid, PATH)
    assert (await far.branch.file_at(PATH)).transaction == first
    await far.branch.commit(rid)

    assert await far.branch.file_at(PATH) is None


async def test_a_file_that_is_not_there_cannot_be_taken_out(far):
    rid = await far.branch.begin("DELETE")

    assert not await far.branch.remove(rid, PATH)


async def test_nothing_is_taken_out_in_a_transaction_of_another_type(far):
    await committed(far, PATH)
    rid = await far.branch.begin()

    await trouble(far.branch.remove(rid, PATH))


@pytest.mark.parametrize("ours", ["APPEND", "DELETE"])
@pytest.mark.parametrize("theirs", ["APPEND", "DELETE", "UPDATE"])
async def test_an_open_transaction_of_another_type_is_not_ours(far, ours, theirs):
    seen = await far.branch.branch_snapshot()
    rid = far.somebody_opens(kind=theirs)
    found = await far.branch.find_orphan(seen, [PATH], ours)

    assert found == (LeftOpen(rid, is_empty=True) if ours == theirs else None)


@pytest.mark.parametrize("is_known", [True, False], ids=["aborted", "unknown"])
async def test_what_somebody_aborted_is_not_committed_and_not_refused_either(far, is_known):
    rid = await far.branch.begin()
    far.somebody_aborts(rid)

    await trouble(far.branch.commit(rid if is_known else "ri.foundry.main.transaction.unknown"))


async def test_what_is_aborted_was_never_there(far):
    rid = await far.branch.begin()
    await far.branch.put(rid, PATH, ROWS)
    await far.branch.abort(rid)

    assert await far.branch.transaction_status(rid) == "ABORTED"
    assert await far.branch.files_of(rid) == {}
    assert await far.branch.file_at(PATH) is None


async def test_what_is_open_no_more_can_be_aborted_and_stays_as_it_is(far):
    rid = await committed(far, PATH)
    for each in (rid, "ri.foundry.main.transaction.nobody-has-it"):
        await far.branch.abort(each)

    assert await far.branch.transaction_status(rid) == "COMMITTED"
    assert await far.branch.content(PATH, 0) == ROWS


async def test_a_transaction_that_nobody_knows_is_aborted_and_has_no_files_to_tell(far):
    assert await far.branch.transaction_status("ri.foundry.main.transaction.unknown") == "ABORTED"
    await trouble(far.branch.files_of("ri.foundry.main.transaction.unknown"))


async def test_a_path_is_held_by_whoever_wrote_there_last(far):
    await committed(far, PATH)
    theirs = far.somebody_opens("UPDATE", {PATH: b"theirs"})
    far.somebody_commits(theirs)

    assert (await far.branch.file_at(PATH)).transaction == theirs
    assert await far.branch.content(PATH, 0) == b"theirs"


async def test_a_path_that_nobody_holds_has_no_content(far):
    assert await far.branch.file_at(PATH) is None
    await trouble(far.branch.content(PATH, 0))


@pytest.mark.parametrize(
    ("files", "is_empty"),
    [
        pytest.param({}, True, id="empty"),
        pytest.param({PATH: ROWS}, False, id="with a file of ours"),
    ],
)
async def test_an_open_transaction_that_our_attempt_may_have_begun_is_found(far, files, is_empty):
    seen = await far.branch.branch_snapshot()
    rid = far.somebody_opens(files=files)

    assert await far.branch.find_orphan(seen, [PATH]) == LeftOpen(rid, is_empty)


@pytest.mark.parametrize(
    ("kind", "files", "hours"),
    [
        pytest.param("APPEND", {"theirs": b""}, 0, id="a file of theirs"),
        pytest.param("APPEND", {PATH: ROWS, "theirs": b""}, 0, id="theirs and ours"),
        pytest.param("UPDATE", {}, 0, id="another type"),
        pytest.param("SNAPSHOT", {PATH: ROWS}, 0, id="another type with our path"),
        pytest.param("APPEND", {}, 1, id="opened long after"),
    ],
)
async def test_an_open_transaction_that_cannot_be_ours_is_not(far, kind, files, hours):
    seen = await far.branch.branch_snapshot()
    far.time_passes(hours)
    far.somebody_opens(kind, files)

    assert await far.branch.find_orphan(seen, [PATH]) is None


async def test_a_transaction_that_was_open_before_we_looked_is_not_ours(far):
    far.somebody_opens()
    seen = await far.branch.branch_snapshot()

    assert await far.branch.find_orphan(seen, [PATH]) is None


@pytest.mark.parametrize("end", [InMemory.somebody_commits, InMemory.somebody_aborts])
async def test_a_transaction_that_has_ended_is_not_left_open(far, end):
    seen = await far.branch.branch_snapshot()
    getattr(far, end.__name__)(far.somebody_opens())

    assert await far.branch.find_orphan(seen, [PATH]) is None


async def test_the_files_of_a_folder_are_those_that_a_reader_sees_there(far):
    folder = "healthkit/raw/Zo%C3%AB|~/"
    first = await committed(far, folder + "1.ndjson", folder + "2.ndjson", ndjson=ROWS)
    await committed(far, folder[:-1] + "x/1.ndjson", PATH)
    last = await committed(far, folder + "0.ndjson", ndjson=ROWS + ROWS)
    removal = await far.branch.begin("DELETE")
    assert await far.branch.remove(removal, folder + "2.ndjson")
    await far.branch.commit(removal)
    aborted = await far.branch.begin()
    await far.branch.put(aborted, folder + "3.ndjson", ROWS)
    found = await far.branch.files_under(folder)
    await far.branch.abort(aborted)

    assert [(file.path, file.transaction, file.bytes) for file in found] == [
        (folder + "0.ndjson", last, 2 * len(ROWS)),
        (folder + "1.ndjson", first, len(ROWS)),
    ]
    assert all(file.at is not None for file in found)
    assert await far.branch.files_under("healthkit/raw/nobody/") == []


async def test_the_files_of_a_day_are_those_whose_names_begin_with_it(far):
    home = "healthkit/raw/ada/2026-01-"
    paths = [f"{home}0{day}T12-00-00-000Z.ndjson" for day in (1, 2, 3)]
    await committed(far, *paths)
    assert [file.path for file in await far.branch.files_under(f"{home}02")] == [paths[1]]


async def test_a_folder_of_several_pages_is_told_whole(far):
    files = {f"healthkit/raw/ada/{number:04}.ndjson": ROWS for number in range(1_001)}
    far.somebody_commits(far.somebody_opens(files=files))

    found = await far.branch.files_under("healthkit/raw/ada/")
    assert [file.path for file in found] == sorted(files)


async def test_what_raised_may_have_happened_all_the_same(far):
    seen = await far.branch.branch_snapshot()
    far.loses_the_answer_to_begin()
    await trouble(far.branch.begin())

    head = (await far.branch.branch_snapshot()).head
    assert await far.branch.transaction_status(head) == "OPEN"
    assert await far.branch.find_orphan(seen, []) == LeftOpen(head, is_empty=True)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda branch, rid: branch.branch_snapshot(), id="branch_snapshot"),
        pytest.param(lambda branch, rid: branch.begin(), id="begin"),
        pytest.param(lambda branch, rid: branch.put(rid, PATH, ROWS), id="put"),
        pytest.param(lambda branch, rid: branch.commit(rid), id="commit"),
        pytest.param(lambda branch, rid: branch.abort(rid), id="abort"),
        pytest.param(lambda branch, rid: branch.transaction_status(rid), id="transaction_status"),
        pytest.param(lambda branch, rid: branch.files_of(rid), id="files_of"),
        pytest.param(lambda branch, rid: branch.file_at(PATH), id="file_at"),
        pytest.param(lambda branch, rid: branch.content(PATH, 0), id="content"),
        pytest.param(lambda branch, rid: branch.files_under("a/"), id="files_under"),
        pytest.param(
            lambda branch, rid: branch.find_orphan(BranchSnapshot("", NOON), []), id="find_orphan"
        ),
    ],
)
async def test_any_call_raises_while_foundry_is_down(far, call):
    rid = await far.branch.begin()
    far.goes_down()

    await trouble(call(far.branch, rid))


# What the journal is asked: Intake, Receipts, Mailbox and Attempts, Ledger

ADA, EVE = User("auth0|ada"), User("auth0|eve")
SEEN = BranchSnapshot("ri.foundry.main.transaction.0", NOON)
RID = "ri.foundry.main.transaction.1"
BYTES_MAX = 1_000
BOUNDS = Bounds(bytes=BYTES_MAX, free_bytes=0)
ALL = GroupLimits()


@pytest.fixture(params=["file", "memory"])
def journal(request, tmp_path):
    with opened(
        tmp_path / "journal" if request.param == "file" else None, BOUNDS, shelf=SHELF
    ) as journal:
        yield journal


def an_export(id="id-1", user=ADA, ndjson=ROWS, at=NOON, key=None, place=0, of=1) -> Flattened:
    binding = None if key is None else Binding(key, place, of)
    head = Head(user, "phone", "", f"correlation of {id}", binding)
    return Flattened(id, head, at, packed(ndjson, 1, Reject(2, "no JSON")))


async def accept(journal, *ids, **more):
    return [await journal.intake.append(an_export(id, **more)) for id in ids]


async def claim(journal, limits=ALL):
    group = await journal.outbox.claim(limits, SEEN)
    return [export.id for export in group.exports] if group else None


async def set_aside(journal, id):
    await claim(journal)
    await journal.outbox.note(RID, ALL)
    await journal.outbox.fail([id], tries_max=1)


async def tried(journal):
    ids = await claim(journal)
    await journal.outbox.note(RID, ALL)
    return ids


async def commit(journal, *ids):
    await claim(journal)
    await journal.outbox.note(RID, ALL)
    await journal.outbox.complete(ids, RID)
    await journal.outbox.release()


async def test_an_accepted_export_has_a_receipt_that_balances(journal):
    (receipt,) = await accept(journal, "id-1")

    assert (receipt.id, receipt.status, receipt.at) == ("id-1", "accepted", NOON)
    assert (receipt.received, receipt.ingested, receipt.rejected) == (2, 1, 1)
    assert receipt.rejects == (Reject(2, "no JSON"),)
    assert receipt.path == "healthkit/raw/auth0|ada/2026-01-02T12-00-00-000Z.ndjson"
    assert receipt.transaction is None
    assert not receipt.replayed


async def test_the_same_export_is_kept_once_and_answered_with_its_first_receipt(journal):
    (first,) = await accept(journal, "id-1")
    (again,) = await accept(journal, "id-1", at=NOON + timedelta(hours=1))

    assert again == replace(first, replayed=True)
    assert await journal.outbox.waiting() == 1


async def test_a_replay_tells_how_far_the_export_has_got(journal):
    await accept(journal, "id-1", "id-2")
    await set_aside(journal, "id-1")
    await commit(journal, "id-2")
    first, second = await accept(journal, "id-1", "id-2")

    assert (first.status, first.transaction, first.replayed) == ("set_aside", None, True)
    assert (second.status, second.transaction, second.replayed) == ("committed", RID, True)


async def test_exports_of_one_user_in_one_millisecond_have_paths_of_their_own(journal):
    await accept(journal, "id-1", "id-2")
    receipts = await accept(journal, "id-3", "id-4", user=EVE)

    assert {receipt.path[-14:] for receipt in receipts} == {"00-000Z.ndjson", "00-001Z.ndjson"}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"id": "id-2", "place": 0}, id="another export in its place"),
        pytest.param({"id": "id-2", "place": 1, "of": 3}, id="a longer sequence"),
        pytest.param({"id": "id-1", "place": 0, "of": 1}, id="a shorter sequence"),
    ],
)
async def test_a_key_names_one_sequence_of_exports(journal, other):
    await accept(journal, "id-1", key="k", place=0, of=2)
    with pytest.raises(KeyReused):
        await journal.intake.append(an_export(**{"key": "k", "of": 2} | other))

    assert await journal.receipts.find(ADA, "id-2") is None
    await accept(journal, "id-2", key="k", place=1, of=2)


async def test_a_key_is_the_key_of_its_user(journal):
    await accept(journal, "id-1", key="k")
    await accept(journal, "id-2", key="k", user=EVE)

    page = await journal.receipts.page(EVE, "k", 10, None)
    assert [receipt.id for receipt in page.receipts] == ["id-2"]


async def test_a_full_journal_refuses_what_is_new_and_answers_what_is_not(journal):
    await accept(journal, "id-1", ndjson=b"x" * BYTES_MAX)
    for key in (None, "k"):
        with pytest.raises(JournalFull):
            await journal.intake.append(an_export("id-2", key=key))
    (again,) = await accept(journal, "id-1")
    assert again.replayed

    await commit(journal, "id-1")
    await accept(journal, "id-3", key="k")  # what was refused has bound no key


async def test_what_is_set_aside_takes_room_and_what_is_committed_does_not(journal):
    await accept(journal, "id-1", "id-2", ndjson=b"x" * (BYTES_MAX // 2))
    await set_aside(journal, "id-1")
    with pytest.raises(JournalFull):
        await journal.intake.append(an_export("id-3"))

    await commit(journal, "id-2")
    await accept(journal, "id-3")


async def test_a_user_finds_his_own_receipts_and_nobody_elses(journal):
    (receipt,) = await accept(journal, "id-1")

    assert await journal.receipts.find(ADA, "id-1") == receipt
    assert await journal.receipts.find(EVE, "id-1") is None
    assert await journal.receipts.find(ADA, "id-2") is None


async def test_his_receipts_come_newest_first_page_by_page(journal):
    await accept(journal, "id-1", "id-2", "id-3")
    await accept(journal, "id-4", user=EVE)
    first = await journal.receipts.page(ADA, None, 2, None)
    last = await journal.receipts.page(ADA, None, 2, first.next_cursor)

    assert [receipt.id for receipt in first.receipts] == ["id-3", "id-2"]
    assert [receipt.id for receipt in last.receipts] == ["id-1"]
    assert last.next_cursor is None


async def test_a_key_shows_the_receipts_that_it_names(journal):
    await accept(journal, "id-1")
    await accept(journal, "id-2", key="k")
    page = await journal.receipts.page(ADA, "k", 10, None)
    nothing = await journal.receipts.page(ADA, "another", 10, None)

    assert [receipt.id for receipt in page.receipts] == ["id-2"]
    assert nothing.receipts == ()


@pytest.mark.parametrize("cursor", ["", "-1", "1.0", "newest", "٣", "9" * 30, "1 OR 1"])
async def test_a_cursor_that_no_page_gave_is_rejected(journal, cursor):
    with pytest.raises(Rejected):
        await journal.receipts.page(ADA, None, 10, cursor)


async def test_an_empty_mailbox_has_no_group_and_notes_no_attempt(journal):
    assert await journal.outbox.claim(ALL, SEEN) is None
    assert await journal.outbox.claimed() is None
    assert await journal.outbox.attempts() == []


async def test_a_group_is_the_oldest_exports_with_all_that_their_files_need(journal):
    (first, second) = await accept(journal, "id-1", "id-2")
    group = await journal.outbox.claim(ALL, SEEN)

    assert group == await journal.outbox.claimed()
    assert group.transaction is None
    assert group.files == tuple(
        File(
            each.path,
            len(ROWS),
            (ClaimedExport(each.id, len(ROWS), 1, f"correlation of {each.id}"),),
        )
        for each in (first, second)
    )
    assert await journal.outbox.ndjson("id-1") == ROWS


@pytest.mark.parametrize(
    ("limits", "groups"),
    [
        pytest.param(GroupLimits(exports_max=2), [["id-1", "id-2"], ["id-3"]], id="so many"),
        pytest.param(GroupLimits(bytes_max=120), [["id-1", "id-2"], ["id-3"]], id="so many bytes"),
        pytest.param(GroupLimits(bytes_max=119), [["id-1"], ["id-2"], ["id-3"]], id="not one more"),
        pytest.param(
            GroupLimits(bytes_max=1), [["id-1"], ["id-2"], ["id-3"]], id="large ones alone"
        ),
    ],
)
async def test_a_group_is_no_larger_than_its_limits(journal, limits, groups):
    await accept(journal, "id-1", "id-2", "id-3", ndjson=b"x" * 60)
    found = []
    while ids := await claim(journal, limits):
        found.append(ids)
        await journal.outbox.complete(ids, RID)

    assert found == groups


async def test_what_waits_is_neither_committed_nor_set_aside(journal):
    await accept(journal, "id-1", "id-2", "id-3", "id-4")
    assert await journal.outbox.waiting() == 4
    await set_aside(journal, "id-1")
    await commit(journal, "id-2")
    await claim(journal, GroupLimits(exports_max=1))

    assert await journal.outbox.waiting() == 2


async def test_the_transaction_of_a_group_is_remembered_until_it_is_ended(journal):
    await accept(journal, "id-1")
    await claim(journal)
    await journal.outbox.note(RID, ALL)
    assert (await journal.outbox.claimed()).transaction == RID

    await journal.outbox.release()
    assert await journal.outbox.claimed() == CommitGroup((), RID)
    await journal.outbox.ended()
    assert await journal.outbox.claimed() is None
    assert (await journal.outbox.claim(ALL, SEEN)).transaction is None


async def test_what_came_while_a_transaction_was_begun_goes_along_within_the_limits(journal):
    await accept(journal, "id-1")
    await claim(journal)
    await accept(journal, "id-2", "id-3")
    group = await journal.outbox.note(RID, GroupLimits(exports_max=2))

    assert [export.id for export in group.exports] == ["id-1", "id-2"]
    assert group.transaction == RID
    assert group == await journal.outbox.claimed()


async def test_a_group_that_is_full_of_years_takes_along_what_is_small_and_late():
    with opened(None, Bounds(), shelf=SHELF) as journal:
        years = b"x" * SMALL_BYTES + b"\n"
        limits = GroupLimits(bytes_max=2 * len(years))
        await accept(journal, "id-1", "id-2", ndjson=years)
        await journal.outbox.claim(limits, SEEN)
        await accept(journal, "id-3", ndjson=years)
        await accept(journal, "id-4")

        group = await journal.outbox.note(RID, limits)
        assert [export.id for export in group.exports] == ["id-1", "id-2", "id-4"]


async def test_what_is_completed_is_committed_and_the_rest_is_released(journal):
    await accept(journal, "id-1", "id-2")
    await claim(journal)
    await journal.outbox.note(RID, ALL)
    (receipt,) = await journal.outbox.complete(["id-2"], RID)
    await journal.outbox.release()

    assert (receipt.id, receipt.status, receipt.transaction) == ("id-2", "committed", RID)
    assert receipt == await journal.receipts.find(ADA, "id-2")
    assert await claim(journal) == ["id-1"]


async def test_only_what_is_claimed_can_be_completed_or_set_aside(journal):
    await accept(journal, "id-1", "id-2")
    await claim(journal, GroupLimits(exports_max=1))

    assert await journal.outbox.complete(["id-2", "unknown"], RID) == []
    assert await journal.outbox.fail(["id-2"], tries_max=1) == []
    assert (await journal.receipts.find(ADA, "id-2")).status == "accepted"


async def test_what_is_refused_so_often_is_set_aside_however_often_it_was_released(journal):
    await accept(journal, "id-1", "id-2")
    for _ in range(2):
        await tried(journal)
        assert await journal.outbox.fail(["id-1"], tries_max=3) == []
        await tried(journal)
        await journal.outbox.release()  # Foundry was away: that is no try
    await tried(journal)
    (receipt,) = await journal.outbox.fail(["id-1"], tries_max=3)

    assert (receipt.id, receipt.status) == ("id-1", "set_aside")
    assert receipt == await journal.receipts.find(ADA, "id-1")
    assert await claim(journal) == ["id-2"]


async def test_what_is_moved_gets_a_path_that_nobody_has(journal):
    (first, second) = await accept(journal, "id-1", "id-2")
    await claim(journal)
    await journal.outbox.move("id-1")
    moved = (await journal.outbox.claimed()).files[0].path

    assert moved not in {first.path, second.path}
    assert moved == (await journal.receipts.find(ADA, "id-1")).path


async def test_each_attempt_stays_noted_until_its_transaction_is(journal):
    await accept(journal, "id-1")
    other = BranchSnapshot("", NOON + timedelta(minutes=1))
    for seen in (SEEN, other):
        await journal.outbox.claim(ALL, seen)
        await journal.outbox.release()
    assert set(await journal.outbox.attempts()) == {SEEN, other}

    await journal.outbox.claim(ALL, SEEN)
    await journal.outbox.note(RID, ALL)
    assert await journal.outbox.attempts() == []


async def test_of_attempts_on_a_head_that_has_not_moved_the_last_is_noted(journal):
    await accept(journal, "id-1")
    later = replace(SEEN, at=NOON + timedelta(minutes=1))
    for seen in (SEEN, later):
        await journal.outbox.claim(ALL, seen)
        await journal.outbox.release()

    assert await journal.outbox.attempts() == [later]


async def test_an_attempt_without_a_group_is_noted_by_its_kind_until_it_has_begun(journal):
    await journal.outbox.attempt(SEEN, "APPEND")
    await journal.outbox.attempt(SEEN, "DELETE")
    other = replace(SEEN, head="another")
    await journal.outbox.attempt(other, "DELETE")
    assert await journal.outbox.attempts() == [SEEN]
    assert set(await journal.outbox.attempts("DELETE")) == {SEEN, other}

    await journal.outbox.begun(RID)
    assert await journal.outbox.attempts() == await journal.outbox.attempts("DELETE") == []
    assert (await journal.outbox.claimed()).transaction == RID
    await journal.outbox.ended()
    assert await journal.outbox.claimed() is None


async def test_attempts_that_began_nothing_are_forgotten_when_that_is_known(journal):
    await accept(journal, "id-1")
    await claim(journal)
    await journal.outbox.resolve()

    assert await journal.outbox.attempts() == []
    assert await journal.outbox.claimed() is not None


async def test_what_is_claimed_is_not_purged_and_the_rest_is_not_either(journal):
    await accept(journal, "id-1", "id-2")
    await journal.outbox.claim(replace(ALL, exports_max=1), SEEN)
    with pytest.raises(Unavailable):
        await journal.people.purge(ADA, [])
    held = await journal.people.of(ADA)
    await journal.outbox.release()
    purged = await journal.people.purge(ADA, [])

    assert held.exports == {"accepted": 2}
    assert (purged.rows, set(purged.waiting)) == ({"accepted": 2}, {"id-1", "id-2"})
    assert (await journal.people.of(ADA)).exports == {}
    assert await journal.outbox.waiting() == 0


@pytest.mark.parametrize("status", ["accepted", "claimed", "committed", "set_aside", "abandoned"])
def test_whoever_asks_for_a_status_reads_no_other(tmp_path, status):
    """Of two million receipts the few that are set aside come by an index of their own."""
    with opened(tmp_path / "journal", BOUNDS, shelf=SHELF):
        pass
    asked = PAGE.format(f"status = '{status}'")
    with closing(sqlite3.connect(tmp_path / "journal")) as db:
        ((*_, step),) = db.execute(f"EXPLAIN QUERY PLAN {asked}", [1, 1]).fetchall()

    assert "USING INDEX" in step


async def test_an_operator_sees_where_everything_stands(journal):
    await accept(journal, "id-1", "id-2", "id-3", "id-4")
    await set_aside(journal, "id-1")
    await commit(journal, "id-2")
    await claim(journal, GroupLimits(exports_max=1))
    listing = await journal.ledger.listing(None, 10, None)

    assert [(entry.receipt.id, entry.receipt.status) for entry in listing.entries] == [
        ("id-4", "accepted"),
        ("id-3", "accepted"),
        ("id-2", "committed"),
        ("id-1", "set_aside"),
    ]
    assert listing.totals == {"accepted": 2, "committed": 1, "set_aside": 1}
    assert listing.before is None
    assert [entry.bytes for entry in listing.entries] == [len(ROWS)] * 4
    assert [entry.tries for entry in listing.entries] == [1, 1, 2, 1]


@pytest.mark.parametrize("status", ["accepted", "committed", "set_aside"])
async def test_an_operator_sees_only_what_he_asks_for(journal, status):
    await accept(journal, "id-1", "id-2", "id-3")
    await set_aside(journal, "id-1")
    await commit(journal, "id-2")
    listing = await journal.ledger.listing(status, 10, None)

    assert [entry.receipt.status for entry in listing.entries] == [status]


async def test_a_listing_comes_newest_first_page_by_page(journal):
    await accept(journal, "id-1", "id-2", "id-3")
    first = await journal.ledger.listing(None, 2, None)
    last = await journal.ledger.listing(None, 2, first.before)

    assert [entry.receipt.id for entry in first.entries] == ["id-3", "id-2"]
    assert [entry.receipt.id for entry in last.entries] == ["id-1"]
    assert last.before is None
    assert (await journal.ledger.listing(None, 2, 0)).entries == ()


async def test_an_operator_sees_a_hash_of_the_user_which_is_the_same_every_time(journal):
    await accept(journal, "id-1", "id-2")
    await accept(journal, "id-3", user=EVE)
    users = [entry.user for entry in (await journal.ledger.listing(None, 3, None)).entries]

    assert users[1] == users[2] != users[0]
    assert not {"ada", "eve"} & set("|".join(users).split("|"))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        pytest.param("ab-1", "ab-1", id="its id"),
        pytest.param("b", "b--3", id="the beginning of it"),
        pytest.param("ab", None, id="the beginning of two"),
        pytest.param("c", None, id="of none"),
        pytest.param("*", None, id="no pattern"),
        pytest.param("%", None, id="no other pattern"),
    ],
)
async def test_one_export_is_found_by_its_id_or_the_beginning_of_it(journal, asked, found):
    await accept(journal, "ab-1", "ab-2", "b--3")
    entry = await journal.ledger.entry(asked)

    assert (entry and entry.receipt.id) == found


async def test_a_journal_knows_how_much_stands_where_and_since_when(journal):
    await accept(journal, "id-1", "id-2", "id-3", "id-4")
    await set_aside(journal, "id-1")
    await commit(journal, "id-2")
    await claim(journal, GroupLimits(exports_max=1))
    depth, one = await journal.ledger.depth(), len(ROWS)

    assert depth.exports == {"accepted": 2, "committed": 1, "set_aside": 1, "abandoned": 0}
    assert depth.bytes == {"accepted": 2 * one, "committed": one, "set_aside": one, "abandoned": 0}
    assert depth.oldest == (await journal.ledger.entry("id-3")).receipt.at
    assert depth.imbalance == 0


async def test_of_a_journal_in_which_nothing_waits_nothing_is_the_oldest(journal):
    assert (await journal.ledger.depth()).oldest is None
    await accept(journal, "id-1")
    await commit(journal, "id-1")
    assert (await journal.ledger.depth()).oldest is None


async def test_what_is_claimed_still_waits(journal):
    await accept(journal, "id-1")
    await claim(journal)
    depth = await journal.ledger.depth()

    assert depth.exports["accepted"] == 1
    assert depth.oldest is not None


async def test_the_room_on_its_disk_is_told_by_a_journal_that_has_one(tmp_path):
    with opened(tmp_path / "journal", BOUNDS, shelf=SHELF) as journal:
        assert (await journal.ledger.depth()).free_bytes > 0
    with opened(None, BOUNDS, shelf=SHELF) as journal:
        assert (await journal.ledger.depth()).free_bytes is None


async def told_otherwise(journal, statement):
    """Something that only a bad disk does."""
    await journal.ledger._commits.run(lambda db: db.execute(statement).rowcount)


WRONG = "UPDATE total SET exports = 7 WHERE status = 'accepted'"


async def test_a_ledger_that_is_wrong_says_by_how_much_and_is_left_as_it_is(tmp_path):
    with opened(tmp_path / "journal", BOUNDS, shelf=SHELF) as journal:
        await accept(journal, "id-1", "id-2")
        await told_otherwise(journal, WRONG)
        depths = [await journal.ledger.depth() for _ in range(2)]

    assert [(each.exports["accepted"], each.imbalance) for each in depths] == [(7, 5)] * 2


async def test_what_is_live_is_counted_once_a_minute(tmp_path):
    now = 0.0
    with opened(tmp_path / "journal", BOUNDS, shelf=SHELF) as journal:
        journal.ledger._elapsed = lambda: now
        await journal.ledger.depth()
        await told_otherwise(journal, WRONG)
        assert (await journal.ledger.depth()).imbalance == 0, "it was counted a moment ago"
        now = 60.0
        assert (await journal.ledger.depth()).imbalance == 7


async def test_a_moment_of_which_a_bit_has_flipped_is_nobodys(tmp_path):
    with opened(tmp_path / "journal", BOUNDS, shelf=SHELF) as journal:
        await accept(journal, "id-1", "id-2")
        await told_otherwise(journal, "UPDATE export SET at = '2026-0' WHERE id = 'id-1'")
        assert (await journal.ledger.depth()).oldest is None


HEX = {"1": "ab10" + "0" * 60, "2": "ab10" + "1" * 60, "3": "cd10" + "2" * 60}


async def sought(journal, find, status=None, limit=10, before=None):
    return await journal.ledger.listing(status, limit, before, find)


def found_in(listing):
    return [entry.receipt.id for entry in listing.entries]


@pytest.mark.parametrize(
    ("find", "found"),
    [
        pytest.param(HEX["1"], "1", id="an id"),
        pytest.param("ab10", "21", id="the beginning of two, the newest first"),
        pytest.param("ab1", "", id="fewer than four characters"),
        pytest.param("ab10*", "", id="no pattern"),
        pytest.param("ab1_", "", id="no other pattern"),
        pytest.param("AB10", "", id="in other letters"),
        pytest.param(f"correlation of {HEX['3']}", "3", id="a correlation id"),
        pytest.param("correlation of", "", id="the beginning of one"),
        pytest.param("dead", "", id="what is not there"),
    ],
)
async def test_an_operator_finds_exports_by_id_or_correlation_id(journal, find, found):
    await accept(journal, *HEX.values())
    listing = await sought(journal, find)

    assert found_in(listing) == [HEX[each] for each in found]
    assert (listing.before, listing.looked_at) == (None, None)
    assert listing.totals["accepted"] == 3, "the totals are those of the whole journal"


async def test_an_operator_finds_what_a_user_sent_by_what_the_user_is_called(journal):
    await accept(journal, HEX["1"], HEX["3"])
    await accept(journal, HEX["2"], user=EVE)
    ada = (await journal.ledger.entry(HEX["1"])).user

    assert found_in(await sought(journal, ada)) == [HEX["3"], HEX["1"]]
    assert found_in(await sought(journal, ada[:-1])) == [], "it is not cut short"


@pytest.mark.parametrize("find", ["ab10", "twice"], ids=["by id", "by correlation id"])
async def test_what_is_found_comes_page_by_page_and_only_if_it_stands_so(journal, find):
    for id in HEX.values():
        export = an_export(id.replace("cd", "ab"))
        head = replace(export.head, correlation_id="twice")
        await journal.intake.append(replace(export, head=head))
    everything = await sought(journal, find)
    first = await sought(journal, find, limit=2)
    last = await sought(journal, find, limit=2, before=first.before)
    await set_aside(journal, HEX["1"])

    assert len(everything.entries) == 3
    assert found_in(first) + found_in(last) == found_in(everything)
    assert last.before is None
    assert found_in(await sought(journal, find, status="set_aside")) == [HEX["1"]]
    assert len(found_in(await sought(journal, find, status="accepted"))) == 2


@pytest.mark.slow
async def test_a_search_for_a_correlation_id_ends_after_10_000_and_says_so():
    with opened(None, Bounds(10**9, free_bytes=0), shelf=SHELF) as journal:
        await accept(journal, "oldest")
        async with anyio.create_task_group() as tasks:
            for number in range(10_000):
                tasks.start_soon(accept, journal, f"id-{number}")
        first = await sought(journal, "correlation of oldest")
        rest = await sought(journal, "correlation of oldest", before=first.before)

    assert (found_in(first), first.looked_at) == ([], 10_000)
    assert (found_in(rest), rest.looked_at, rest.before) == (["oldest"], None, None)


async def test_a_journal_is_ready_while_it_has_room(journal):
    await accept(journal, "id-1", ndjson=b"x" * (BYTES_MAX - 1))
    await journal.ledger.ready()
    await accept(journal, "id-2", ndjson=b"x")
    with pytest.raises(JournalFull):
        await journal.ledger.ready()


async def test_a_file_that_cannot_be_written_is_unavailable_and_not_ready(tmp_path):
    with opened(tmp_path / "journal", BOUNDS, shelf=SHELF) as journal:
        await accept(journal, "id-1")
        with no_file_may_be_written():
            with pytest.raises(Unavailable):
                await journal.intake.append(an_export("id-2"))
            with pytest.raises(Unavailable):
                await journal.ledger.ready()

        await journal.ledger.ready()
        (receipt,) = await accept(journal, "id-2")
        assert not receipt.replayed


@contextmanager
def no_file_may_be_written():
    """As on a disk that fails: whatever this process writes to a file comes back as an error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_ten_thousand_exports_of_one_user_at_one_instant_have_a_path_each(tmp_path):
    """Each is found at once: walking past those before it, this took minutes."""
    with opened(None, Bounds(), shelf=SHELF) as journal:
        receipts = [await journal.intake.append(an_export(str(n))) for n in range(10_000)]
        paths = {receipt.path for receipt in receipts}
        later = await journal.intake.append(an_export("later", at=NOON + timedelta(hours=1)))
    assert len(paths) == 10_000
    assert later.path.endswith("2026-01-02T13-00-00-000Z.ndjson")


async def test_every_answer_is_on_the_disk_before_it_is_given(tmp_path):
    ours, copies = tmp_path / "ours", []
    ours.mkdir()

    def copy():
        """What another process would find if we were killed now."""
        copies.append(shutil.copytree(ours, tmp_path / f"copy {len(copies)}") / "journal")

    with opened(ours / "journal", BOUNDS, shelf=SHELF) as journal:
        (first,) = await accept(journal, "id-1")
        copy()
        await claim(journal)
        copy()
        await journal.outbox.note(RID, ALL)
        copy()
        await journal.outbox.complete(["id-1"], RID)
        copy()

    with opened(copies[0], BOUNDS, shelf=SHELF) as journal:
        assert await journal.receipts.find(ADA, "id-1") == first
    with opened(copies[1], BOUNDS, shelf=SHELF) as journal:
        assert (await journal.outbox.claimed()).exports[0].id == "id-1"
        assert await journal.outbox.attempts() == [SEEN]
    with opened(copies[2], BOUNDS, shelf=SHELF) as journal:
        assert (await journal.outbox.claimed()).transaction == RID
        assert await journal.outbox.ndjson("id-1") == ROWS
    with opened(copies[3], BOUNDS, shelf=SHELF) as journal:
        assert (await journal.receipts.find(ADA, "id-1")).status == "committed"


# What Auth0 is asked: Identities


@cache
def a_ring() -> local_auth0.Ring:
    """Made once: that takes longer than all else here."""
    return local_auth0.Ring.new()


@dataclass
class Words:
    """The tokens that the fake takes."""

    identities: KnownUsers
    expired: str = "expired"
    nobody: str = "nobody"

    def of(self, sub, *scopes):
        return f"token-of-{sub} {' '.join(scopes)}"

    def goes_down(self):
        self.identities.down = True


@dataclass
class Signed:
    """Tokens as Auth0 makes them."""

    tenant: local_auth0.Auth0
    identities: ports.Identities | None = None

    def of(self, sub, *scopes):
        return self.tenant.token(local_auth0.Wish(sub, claims={"scope": " ".join(scopes)}))

    @property
    def expired(self):
        return self.tenant.token(local_auth0.Wish(expires_in=-60))

    @property
    def nobody(self):
        return self.tenant.token(local_auth0.Wish(sub=None))

    def goes_down(self):
        self.tenant.outage = local_auth0.Outage()


@asynccontextmanager
async def by_words():
    yield Words(KnownUsers())


@asynccontextmanager
async def by_signature():
    tenant = local_auth0.Auth0("to be told", ring=a_ring())
    async with TestServer(local_auth0.application(tenant)) as server:
        tenant.issuer = str(server.make_url("/"))
        async with auth0.connected(
            tenant.issuer, tenant.audience, lambda: datetime.now(UTC), lambda: 0.0, lambda _: None
        ) as identities:
            yield Signed(tenant, identities)


@pytest.fixture(params=[by_words, by_signature], ids=["fake", "real"])
async def tokens(request):
    async with request.param() as tokens:
        yield tokens


async def test_a_token_names_its_user_and_what_he_may(tokens):
    user = await tokens.identities.user_of(tokens.of("auth0|ada", "read", "write"))

    assert user == User("auth0|ada", frozenset({"read", "write"}))
    assert await tokens.identities.user_of(tokens.of("eve")) == User("eve")


async def test_a_token_that_has_expired_says_so(tokens):
    with pytest.raises(TokenExpired):
        await tokens.identities.user_of(tokens.expired)


async def test_a_good_token_that_names_nobody_says_so(tokens):
    with pytest.raises(MissingIdentity):
        await tokens.identities.user_of(tokens.nobody)


@pytest.mark.parametrize("token", ["", "rubbish", "a.b.c", "é.ü.ß", "e30.e30.", "[" * 5_000])
async def test_what_is_no_token_is_invalid_and_nothing_worse(tokens, token):
    with pytest.raises(InvalidToken):
        await tokens.identities.user_of(token)


async def test_while_no_token_can_be_checked_nobody_is_called_a_liar(tokens):
    tokens.goes_down()
    with pytest.raises(AuthUnavailable):
        await tokens.identities.ready()
    for token in (tokens.of("ada"), tokens.expired):
        with pytest.raises(AuthUnavailable):
            await tokens.identities.user_of(token)


async def test_it_is_ready_when_tokens_can_be_checked(tokens):
    await tokens.identities.ready()
