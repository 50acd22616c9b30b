"""The promises of each port, tested on the fake, the real adapter and the emulator.

A promise that is tested here is not tested again for each of them. A fake that promised more than
Foundry does would make all the other tests worthless.
"""

import random
import shutil
import sqlite3
import time
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import get_args
from unittest.mock import ANY

import anyio
import pytest
from aiohttp.test_utils import TestServer
from msgspec.structs import replace

from atlas.core import ports
from atlas.core.commits import (
    RELEASED,
    Backlog,
    Conclusion,
    Intent,
    Verdict,
    VerdictKind,
    WorkInHand,
)
from atlas.core.errors import (
    AuthUnavailable,
    BranchBusy,
    CommitRefused,
    FileInvalid,
    FileRefused,
    FoundryError,
    IdempotencyKeyReused,
    InvalidToken,
    JournalFull,
    MissingIdentity,
    OutOfOrder,
    PathTaken,
    Rejected,
    TokenExpired,
    TransactionEnded,
    Unavailable,
)
from atlas.core.messages import (
    BranchSnapshot,
    ClaimedExport,
    CommitGroup,
    ExportMetadata,
    File,
    FlattenedExport,
    GroupLimits,
    IdempotencySlot,
    Reject,
    User,
)
from atlas.core.personal_data import DatasetFile, KnownPhone
from atlas.core.phones import (
    PhoneQuery,
    PhoneReport,
    PhoneTotals,
    RowSummary,
    SampleCount,
    sum_ages,
)
from atlas.local import auth0 as local_auth0
from atlas.local import foundry as local_foundry
from atlas.local.foundry.faults import Fault
from atlas.local.foundry.state import DATASET
from atlas.outside import auth0, foundry
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.journal.compression import decompress
from atlas.outside.journal.group_rules import SMALL_BYTES
from atlas.outside.sqlite.journal import open_journal
from atlas.outside.sqlite.ledger import PAGE
from tests.conftest import no_file_may_grow
from tests.support.exports import NOON, SHELF, packed
from tests.support.fakes import KnownUsers, MemoryDataset, at_once, no_answer
from tests.support.journal_states import open_leading
from tests.support.postgres import ENGINES

PATH = "healthkit/raw/auth0|64f0/2026-01-02T12-00-00-000Z.ndjson"
REFUSED_PATH = "/begins-with-a-slash.ndjson"
ROWS = b'{"uuid":"a"}\n'
LIMITS = foundry.CallLimits(4, 10_000, 30.0)


# The port of Foundry (`Branch`)


@dataclass
class InMemory:
    """The fake, with fault injection."""

    branch: MemoryDataset

    def lists_open_transactions(self):
        self.branch.open_listing = "listed"

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
    """The real client, with the emulator as its server."""

    branch: foundry.FoundryDataset | None = None
    foundry: local_foundry.FoundryEmulator | None = None
    late: timedelta = field(default_factory=timedelta)

    def now(self):
        return datetime.now(UTC) + self.late

    def lists_open_transactions(self):
        """A set, whatever the emulator calls it."""
        if hasattr(self.foundry, "behaviour"):
            self.foundry.behaviour = self.foundry.behaviour.change({"open_listing": "listed"})
        else:
            self.foundry.options.lists_open_transactions = True

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
        self.foundry.faults.add(Fault("create", "lost"))

    def goes_down(self):
        self.foundry.faults.add(Fault("any", "status", status=503, do_not_retry=True, count=0))

    @property
    def complaints(self):
        return self.foundry.log.violations


@asynccontextmanager
async def in_memory(_folder):
    yield InMemory(MemoryDataset(refuses={REFUSED_PATH}))


@asynccontextmanager
async def over_http(folder):
    far = OverHttp()
    far.foundry = local_foundry.FoundryEmulator(folder, clock=far.now)
    async with TestServer(local_foundry.build_application(far.foundry)) as server:
        host = str(server.make_url("")).rstrip("/")
        place = foundry.FoundryTarget(host, DATASET, "master")
        token_url = f"{host}/multipass/api/oauth2/token"
        client = foundry.Credentials(token_url, "local", "local-secret")
        async with foundry.open_dataset(
            place, client, LIMITS, lambda _: None, far.now, time.monotonic, random.random, at_once
        ) as far.branch:
            yield far


@pytest.fixture(params=[in_memory, over_http], ids=["fake", "real"])
async def far(request, tmp_path):
    async with request.param(tmp_path) as far:
        yield far
    assert far.complaints == []


async def assert_plain_error(call) -> None:
    """Check that the call raises FoundryError itself, not a subclass."""
    with pytest.raises(FoundryError) as caught:
        await call
    said = BranchBusy | CommitRefused | FileRefused | PathTaken | TransactionEnded
    assert not issubclass(caught.type, said)


async def committed(far, *paths, ndjson=ROWS):
    rid = await far.branch.begin()
    for path in paths:
        await far.branch.put(rid, path, ndjson)
    await far.branch.commit(rid)
    return rid


async def test_a_branch_without_transactions_has_no_head(far):
    seen = await far.branch.take_snapshot()

    assert seen.head == ""
    assert seen.at.utcoffset() == timedelta()


async def test_what_is_begun_is_open_and_the_head_of_the_branch(far):
    rid = await far.branch.begin()

    assert (await far.branch.take_snapshot()).head == rid
    assert await far.branch.transaction_status(rid) == "OPEN"


async def test_what_is_aborted_is_the_head_no_more(far):
    first = await committed(far, PATH)
    await far.branch.abort(await far.branch.begin())

    assert (await far.branch.take_snapshot()).head == first


@pytest.mark.parametrize("whose", ["ours", "theirs"])
async def test_a_branch_is_busy_until_what_is_open_has_ended(far, whose):
    rid = await far.branch.begin() if whose == "ours" else far.somebody_opens()
    with pytest.raises(BranchBusy):
        await far.branch.begin()

    far.somebody_aborts(rid)
    assert await far.branch.begin() != rid


async def test_a_file_is_seen_by_readers_when_it_is_committed_and_not_before(far):
    rid = await far.branch.begin()
    assert await far.branch.put(rid, PATH, ROWS)
    assert await far.branch.find_file(PATH) is None

    seen = await far.branch.commit(rid)
    assert seen.head == rid
    assert await far.branch.transaction_status(rid) == "COMMITTED"
    assert await far.branch.list_transaction_files(rid) == {PATH: len(ROWS)}
    assert (await far.branch.find_file(PATH)).transaction == rid
    assert await far.branch.read_file(PATH, 0) == ROWS


@pytest.mark.parametrize("again", [ROWS, ROWS + ROWS], ids=["the same", "another size"])
async def test_a_path_is_taken_by_the_file_that_was_put_there_first(far, again):
    rid = await far.branch.begin()
    await far.branch.put(rid, PATH, ROWS)
    with pytest.raises(PathTaken):
        await far.branch.put(rid, PATH, again)

    await far.branch.commit(rid)
    assert await far.branch.list_transaction_files(rid) == {PATH: len(ROWS)}


async def test_a_file_that_is_refused_leaves_the_others_alone(far):
    rid = await far.branch.begin()
    await far.branch.put(rid, PATH, ROWS)
    with pytest.raises(FileInvalid):
        await far.branch.put(rid, REFUSED_PATH, ROWS)

    await far.branch.commit(rid)
    assert await far.branch.list_transaction_files(rid) == {PATH: len(ROWS)}


@pytest.mark.parametrize("end", ["commits", "aborts", "has never heard of it"])
async def test_nothing_is_put_into_a_transaction_that_is_not_open(far, end):
    rid = await far.branch.begin()
    if end == "commits":
        far.somebody_commits(rid)
    elif end == "aborts":
        far.somebody_aborts(rid)
    else:
        rid = "ri.foundry.main.transaction.nobody-has-it"

    with pytest.raises(TransactionEnded):
        await far.branch.put(rid, PATH, ROWS)


async def test_a_commit_that_somebody_else_has_made_is_made(far):
    rid = await far.branch.begin()
    far.somebody_commits(rid)

    assert (await far.branch.commit(rid)).head == rid


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
    assert (await far.branch.find_file(PATH)).transaction == first


async def test_a_file_is_taken_out_when_that_is_committed(far):
    first = await committed(far, PATH)
    rid = await far.branch.begin("DELETE")
    assert await far.branch.remove(rid, PATH)
    assert (await far.branch.find_file(PATH)).transaction == first
    await far.branch.commit(rid)

    assert await far.branch.find_file(PATH) is None


async def test_a_file_that_is_not_there_cannot_be_taken_out(far):
    rid = await far.branch.begin("DELETE")

    assert not await far.branch.remove(rid, PATH)


async def test_nothing_is_taken_out_in_a_transaction_of_another_type(far):
    await committed(far, PATH)
    rid = await far.branch.begin()

    await assert_plain_error(far.branch.remove(rid, PATH))


@pytest.mark.parametrize("ours", ["APPEND", "DELETE"])
@pytest.mark.parametrize("theirs", ["APPEND", "DELETE", "UPDATE"])
async def test_an_open_transaction_of_another_type_is_not_ours(far, ours, theirs):
    seen = await far.branch.take_snapshot()
    rid = far.somebody_opens(kind=theirs)
    found = await far.branch.find_orphan(seen, [PATH], ours)

    assert found == (rid if ours == theirs else None)


@pytest.mark.parametrize("is_known", [True, False], ids=["aborted", "unknown"])
async def test_what_somebody_aborted_is_not_committed_and_not_refused_either(far, is_known):
    rid = await far.branch.begin()
    far.somebody_aborts(rid)

    with pytest.raises(TransactionEnded):
        await far.branch.commit(rid if is_known else "ri.foundry.main.transaction.unknown")


async def test_what_is_aborted_was_never_there(far):
    rid = await far.branch.begin()
    await far.branch.put(rid, PATH, ROWS)
    await far.branch.abort(rid)

    assert await far.branch.transaction_status(rid) == "ABORTED"
    assert await far.branch.list_transaction_files(rid) == {}
    assert await far.branch.find_file(PATH) is None


async def test_what_is_open_no_more_can_be_aborted_and_stays_as_it_is(far):
    rid = await committed(far, PATH)
    for each in (rid, "ri.foundry.main.transaction.nobody-has-it"):
        await far.branch.abort(each)

    assert await far.branch.transaction_status(rid) == "COMMITTED"
    assert await far.branch.read_file(PATH, 0) == ROWS


async def test_a_transaction_that_nobody_knows_is_aborted_and_has_no_files_to_tell(far):
    assert await far.branch.transaction_status("ri.foundry.main.transaction.unknown") == "ABORTED"
    await assert_plain_error(
        far.branch.list_transaction_files("ri.foundry.main.transaction.unknown")
    )


async def test_a_path_is_held_by_whoever_wrote_there_last(far):
    await committed(far, PATH)
    theirs = far.somebody_opens("UPDATE", {PATH: b"theirs"})
    far.somebody_commits(theirs)

    assert (await far.branch.find_file(PATH)).transaction == theirs
    assert await far.branch.read_file(PATH, 0) == b"theirs"


async def test_a_path_that_nobody_holds_has_no_content(far):
    assert await far.branch.find_file(PATH) is None
    await assert_plain_error(far.branch.read_file(PATH, 0))


@pytest.mark.parametrize("files", [{}, {PATH: ROWS}], ids=["empty", "with a file of ours"])
@pytest.mark.parametrize("is_listed", [True, False], ids=["listed", "as it comes"])
async def test_an_open_transaction_that_our_attempt_may_have_begun_is_found(far, files, is_listed):
    if is_listed:
        far.lists_open_transactions()
    snapshot = await far.branch.take_snapshot()
    rid = far.somebody_opens(files=files)

    assert await far.branch.find_orphan(snapshot, [PATH]) == rid


@pytest.mark.parametrize(
    ("kind", "hours"),
    [
        pytest.param("UPDATE", 0, id="another type"),
        pytest.param("SNAPSHOT", 0, id="another type"),
        pytest.param("APPEND", 1, id="opened long after"),
    ],
)
async def test_an_open_transaction_that_cannot_be_ours_is_not(far, kind, hours):
    snapshot = await far.branch.take_snapshot()
    far.time_passes(hours)
    far.somebody_opens(kind, {PATH: ROWS})

    assert await far.branch.find_orphan(snapshot, [PATH]) is None


@pytest.mark.parametrize("more", [{}, {PATH: ROWS}], ids=["theirs", "theirs and ours"])
async def test_a_file_of_theirs_shows_that_a_transaction_is_not_ours_if_it_is_listed(far, more):
    far.lists_open_transactions()
    snapshot = await far.branch.take_snapshot()
    far.somebody_opens(files={"theirs": b""} | more)

    assert await far.branch.find_orphan(snapshot, [PATH]) is None


async def test_a_transaction_that_was_open_before_we_looked_is_not_ours(far):
    far.somebody_opens()
    seen = await far.branch.take_snapshot()

    assert await far.branch.find_orphan(seen, [PATH]) is None


@pytest.mark.parametrize("end", [InMemory.somebody_commits, InMemory.somebody_aborts])
async def test_a_transaction_that_has_ended_is_not_left_open(far, end):
    seen = await far.branch.take_snapshot()
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
    found = await far.branch.list_files(folder)
    await far.branch.abort(aborted)

    assert [(file.path, file.transaction, file.bytes) for file in found] == [
        (folder + "0.ndjson", last, 2 * len(ROWS)),
        (folder + "1.ndjson", first, len(ROWS)),
    ]
    assert all(file.at is not None for file in found)
    assert await far.branch.list_files("healthkit/raw/nobody/") == []


async def test_the_files_of_a_day_are_those_whose_names_begin_with_it(far):
    home = "healthkit/raw/ada/2026-01-"
    paths = [f"{home}0{day}T12-00-00-000Z.ndjson" for day in (1, 2, 3)]
    await committed(far, *paths)
    assert [file.path for file in await far.branch.list_files(f"{home}02")] == [paths[1]]


async def test_a_folder_of_several_pages_is_told_whole(far):
    files = {f"healthkit/raw/ada/{number:04}.ndjson": ROWS for number in range(1_001)}
    far.somebody_commits(far.somebody_opens(files=files))

    found = await far.branch.list_files("healthkit/raw/ada/")
    assert [file.path for file in found] == sorted(files)


async def test_what_raised_may_have_happened_all_the_same(far):
    seen = await far.branch.take_snapshot()
    far.loses_the_answer_to_begin()
    await assert_plain_error(far.branch.begin())

    head = (await far.branch.take_snapshot()).head
    assert await far.branch.transaction_status(head) == "OPEN"
    assert await far.branch.find_orphan(seen, []) == head


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda branch, rid: branch.take_snapshot(), id="branch_snapshot"),
        pytest.param(lambda branch, rid: branch.begin(), id="begin"),
        pytest.param(lambda branch, rid: branch.put(rid, PATH, ROWS), id="put"),
        pytest.param(lambda branch, rid: branch.commit(rid), id="commit"),
        pytest.param(lambda branch, rid: branch.abort(rid), id="abort"),
        pytest.param(lambda branch, rid: branch.transaction_status(rid), id="transaction_status"),
        pytest.param(lambda branch, rid: branch.list_transaction_files(rid), id="files_of"),
        pytest.param(lambda branch, rid: branch.find_file(PATH), id="file_at"),
        pytest.param(lambda branch, rid: branch.read_file(PATH, 0), id="content"),
        pytest.param(lambda branch, rid: branch.list_files("a/"), id="files_under"),
        pytest.param(
            lambda branch, rid: branch.find_orphan(BranchSnapshot("", NOON), []), id="find_orphan"
        ),
    ],
)
async def test_any_call_raises_while_foundry_is_down(far, call):
    rid = await far.branch.begin()
    far.goes_down()

    await assert_plain_error(call(far.branch, rid))


# The ports of the journal (`Intake`, `Receipts`, `UploadQueue`, `Reconciliation`, `Ledger`)

ADA, EVE = User("auth0|ada"), User("auth0|eve")
SEEN = BranchSnapshot("ri.foundry.main.transaction.0", NOON)
RID = "ri.foundry.main.transaction.1"
BYTES_MAX = 1_000
BOUNDS = CapacityLimits(bytes=BYTES_MAX, free_bytes=0)
ALL = GroupLimits()
COMMITTED = Verdict("committed", transaction=RID)
CORRUPT = Verdict("corrupt")
MOVED = Verdict("moved")
REFUSED = Verdict("refused", "it is bad", is_certain=True)
DOUBTED = Verdict("refused", "something is bad")
FAILED = Verdict("failed", "nobody knows")
DIVIDED = Verdict("divided", "one of them")
ISOLATED = Verdict("isolated", "no answer")


@pytest.fixture(params=["file", "memory", *ENGINES])
async def journal(request):
    async with open_leading(request.param, request, BOUNDS) as journal:
        yield journal


def an_export(
    id="id-1", user=ADA, ndjson=ROWS, at=NOON, key=None, place=0, of=1
) -> FlattenedExport:
    binding = None if key is None else IdempotencySlot(key, place, of)
    head = ExportMetadata(user, "phone", "", f"correlation of {id}", binding)
    return FlattenedExport(id, head, at, packed(ndjson, 1, Reject(2, "no JSON")))


async def accept(journal, *ids, **more):
    return [await journal.intake.append(an_export(id, **more)) for id in ids]


async def claim(journal, limits=ALL, lane="normal"):
    group = await journal.outbox.claim(limits, SEEN, lane)
    return [export.id for export in group.exports] if group else None


async def begin(journal, limits=ALL, lane="normal", transaction=RID):
    """Claim exports and open a transaction for them. Return their ids."""
    if await claim(journal, limits, lane) is None:
        return None
    group = await journal.outbox.record_open(transaction, limits)
    return [export.id for export in group.exports]


async def conclude(journal, verdicts=None, others=RELEASED, **more):
    transaction = (await journal.outbox.read_in_hand()).transaction
    conclusion = Conclusion(transaction, verdicts or {}, others, **more)
    return await journal.outbox.conclude(conclusion)


async def attempt(journal, verdicts=None, others=RELEASED, lane="normal", **more):
    """Run one commit from start to end. Return the ids of the group and the receipts."""
    ids = await begin(journal, lane=lane)
    return ids, await conclude(journal, verdicts, others, **more)


async def set_aside(journal, id):
    (receipt,) = (await attempt(journal, {id: REFUSED}, tries_max=1))[1]
    assert (receipt.id, receipt.status) == (id, "set_aside")


async def commit(journal, *ids):
    receipts = (await attempt(journal, dict.fromkeys(ids, COMMITTED)))[1]
    assert {receipt.id: receipt.status for receipt in receipts} == dict.fromkeys(ids, "committed")


async def waiting(journal):
    return (await journal.outbox.read_backlog(ALL)).waiting


async def stored(journal, *ids):
    """Return the unpacked payloads."""
    read = await journal.outbox.read(ids)
    return {id: decompress(packed) for id, packed in read.items()}


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
    assert await waiting(journal) == 1


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
    with pytest.raises(IdempotencyKeyReused):
        await journal.intake.append(an_export(**{"key": "k", "of": 2} | other))

    assert await journal.receipts.find(ADA, "id-2") is None
    await accept(journal, "id-2", key="k", place=1, of=2)


async def test_a_key_is_the_key_of_its_user(journal):
    await accept(journal, "id-1", key="k")
    await accept(journal, "id-2", key="k", user=EVE)

    page = await journal.receipts.list_page(EVE, "k", 10, None)
    assert [receipt.id for receipt in page.receipts] == ["id-2"]


async def test_a_full_journal_refuses_what_is_new_and_answers_what_is_not(journal):
    await accept(journal, "id-1", ndjson=b"x" * BYTES_MAX)
    for key in (None, "k"):
        with pytest.raises(JournalFull):
            await journal.intake.append(an_export("id-2", key=key))
    (again,) = await accept(journal, "id-1")
    assert again.replayed

    await commit(journal, "id-1")
    await accept(journal, "id-3", key="k")  # a rejected export leaves its key unused


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
    first = await journal.receipts.list_page(ADA, None, 2, None)
    last = await journal.receipts.list_page(ADA, None, 2, first.next_cursor)

    assert [receipt.id for receipt in first.receipts] == ["id-3", "id-2"]
    assert [receipt.id for receipt in last.receipts] == ["id-1"]
    assert last.next_cursor is None


async def test_a_key_shows_the_receipts_that_it_names(journal):
    await accept(journal, "id-1")
    await accept(journal, "id-2", key="k")
    page = await journal.receipts.list_page(ADA, "k", 10, None)
    nothing = await journal.receipts.list_page(ADA, "another", 10, None)

    assert [receipt.id for receipt in page.receipts] == ["id-2"]
    assert nothing.receipts == ()


@pytest.mark.parametrize("cursor", ["", "-1", "1.0", "newest", "٣", "9" * 30, "1 OR 1"])
async def test_a_cursor_that_no_page_gave_is_rejected(journal, cursor):
    with pytest.raises(Rejected):
        await journal.receipts.list_page(ADA, None, 10, cursor)


STANDING = DatasetFile("healthkit/groups/2026-01-02T12-00-00-000Z.ndjson", "ri.found", 3)
NOT_OURS = "ri.foundry.main.transaction.9"


async def no_exports(journal):
    pass


async def exports_wait(journal):
    await accept(journal, "id-1", "id-2")


async def intent_is_recorded(journal):
    await exports_wait(journal)
    await journal.outbox.record_intent(SEEN, "DELETE")


async def group_is_claimed(journal):
    await exports_wait(journal)
    await claim(journal)


async def intents_are_cleared(journal):
    await group_is_claimed(journal)
    await journal.outbox.clear_intents()


async def group_is_open(journal):
    await exports_wait(journal)
    await begin(journal)


async def file_is_recorded(journal):
    await group_is_open(journal)
    await journal.outbox.record_file(["id-1", "id-2"], "ndjson", 9, is_shared=True)


async def removal_is_open(journal):
    await intent_is_recorded(journal)
    await journal.outbox.record_open(RID, ALL)


async def group_is_concluded(journal):
    await group_is_open(journal)
    await conclude(journal, {"id-1": DIVIDED})


NOTHING_OPEN = no_exports, exports_wait, intent_is_recorded, group_is_concluded
CLAIMED = group_is_claimed, intents_are_cleared
OPEN = group_is_open, file_is_recorded, removal_is_open
STATES = *NOTHING_OPEN, *CLAIMED, *OPEN
NO_GROUP = *NOTHING_OPEN, removal_is_open


def recording(ids, format="ndjson", *, is_shared):
    return lambda journal: journal.outbox.record_file(ids, format, 9, is_shared=is_shared)


def concluding(transaction, verdict=RELEASED):
    verdict = replace(verdict, transaction=RID if verdict.kind == "committed" else "")
    conclusion = Conclusion(transaction, {"id-1": verdict}, verdict)
    return lambda journal: journal.outbox.conclude(conclusion)


TRANSITIONS = {  # each with the states in which it is out of order
    "claim": (lambda each: each.outbox.claim(ALL, SEEN, "normal"), (*CLAIMED, *OPEN)),
    "claim isolated": (lambda each: each.outbox.claim(ALL, SEEN, "isolated"), (*CLAIMED, *OPEN)),
    "record_intent": (
        lambda each: each.outbox.record_intent(SEEN, "APPEND"),
        (*CLAIMED, *OPEN),
    ),
    "record_open": (
        lambda each: each.outbox.record_open(RID, ALL),
        (no_exports, exports_wait, group_is_concluded, intents_are_cleared),
    ),
    "record_open, another": (
        lambda each: each.outbox.record_open(NOT_OURS, ALL),
        (no_exports, exports_wait, group_is_concluded, intents_are_cleared, *OPEN),
    ),
    "record_file": (recording(["id-1"], "parquet", is_shared=False), NO_GROUP),
    "record_file, shared": (recording(["id-2", "id-1"], is_shared=True), NO_GROUP),
    "record_file, of one unknown": (recording(["id-1", "id-9"], is_shared=True), STATES),
    "record_file, of several that share none": (
        recording(["id-1", "id-2"], is_shared=False),
        STATES,
    ),
    "record_file, of none": (recording([], is_shared=True), STATES),
    **{
        f"conclude, {kind}": (concluding(RID, Verdict(kind, "reason")), CLAIMED)
        for kind in get_args(VerdictKind)
    },
    **{
        f"conclude what never began, {kind}": (concluding(None, Verdict(kind, "reason")), OPEN)
        for kind in get_args(VerdictKind)
    },
    "conclude, another": (concluding(NOT_OURS), (*CLAIMED, *OPEN)),
    "clear_intents": (lambda each: each.outbox.clear_intents(), ()),
    "mark_found": (lambda each: each.outbox.mark_found([(STANDING, ["id-1"])]), ()),
}
each_state = pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
each_transition = pytest.mark.parametrize("name", TRANSITIONS)


async def everything_in(journal):
    hand, backlog = await journal.outbox.read_in_hand(), await journal.outbox.read_backlog(ALL)
    listing = await journal.ledger.list_entries(None, 10, None)
    return hand, backlog, listing, await stored(journal, "id-1", "id-2")


@each_state
@each_transition
async def test_a_transition_out_of_order_is_refused_and_changes_nothing(journal, state, name):
    transition, refused_in = TRANSITIONS[name]
    await state(journal)
    before = await everything_in(journal)
    if state in refused_in:
        with pytest.raises(OutOfOrder):
            await transition(journal)
        assert await everything_in(journal) == before
    else:
        await transition(journal)


@each_state
@each_transition
async def test_a_transition_that_is_repeated_is_refused_or_changes_nothing(journal, state, name):
    transition, refused_in = TRANSITIONS[name]
    await state(journal)
    if state not in refused_in:
        await transition(journal)
    after = await everything_in(journal)
    with suppress(OutOfOrder):
        await transition(journal)
    assert await everything_in(journal) == after


@pytest.mark.parametrize("name", ["record_open", "record_file", "record_file, shared"])
async def test_what_is_recorded_again_is_answered_again(journal, name):
    transition, _ = TRANSITIONS[name]
    await group_is_claimed(journal)
    first = await transition(journal)

    assert await transition(journal) == first


def test_every_transition_is_among_those_that_are_tried():
    asked = {name.partition(",")[0].split()[0] for name in TRANSITIONS}
    reads = {"read", "read_backlog", "read_in_hand", "filter_own_transactions"}
    reads |= {"confirm_lead", "list_uncommitted", "list_doubtful", "clear_doubt"}
    reads |= {"has_committed_lately"}
    methods = {name for name in dir(ports.Outbox) if not name.startswith("_")}

    assert asked == methods - reads


@pytest.mark.parametrize("lane", ["normal", "isolated"])
async def test_where_nothing_waits_there_is_no_group_and_no_intent(journal, lane):
    assert await journal.outbox.claim(ALL, SEEN, lane) is None
    assert await journal.outbox.read_in_hand() == WorkInHand()
    assert await journal.outbox.read_backlog(ALL) == Backlog()


async def test_a_group_is_the_oldest_exports_with_all_that_their_files_need(journal):
    (first, second) = await accept(journal, "id-1", "id-2")
    group = await journal.outbox.claim(ALL, SEEN, "normal")

    assert await journal.outbox.read_in_hand() == WorkInHand(group, None, (Intent("APPEND", SEEN),))
    assert group.files == tuple(
        File(
            each.path,
            len(ROWS),
            (ClaimedExport(each.id, len(ROWS), 1, f"correlation of {each.id}", user="auth0|ada"),),
        )
        for each in (first, second)
    )


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
        await conclude(journal, others=COMMITTED)

    assert found == groups


async def test_what_waits_is_neither_committed_nor_set_aside(journal):
    await accept(journal, "id-1", "id-2", "id-3", "id-4")
    assert await waiting(journal) == 4
    await set_aside(journal, "id-1")
    await commit(journal, "id-2")
    await claim(journal, GroupLimits(exports_max=1))

    assert await waiting(journal) == 2


@pytest.mark.parametrize("limits", [GroupLimits(exports_max=2), GroupLimits(bytes_max=26)])
async def test_the_backlog_tells_what_is_fresh_and_when_that_fills_a_group(journal, limits):
    await accept(journal, "id-1", "id-2", "id-3")
    assert await journal.outbox.read_backlog(limits) == Backlog(3, 0, is_full=True)
    assert await journal.outbox.read_backlog(ALL) == Backlog(3, 0, is_full=False)
    await attempt(journal, {"id-1": DIVIDED, "id-2": REFUSED})
    assert await journal.outbox.read_backlog(limits) == Backlog(1, 2, is_full=False)

    await begin(journal, lane="isolated")
    assert await journal.outbox.read_backlog(limits) == Backlog(1, 2, is_full=False)


async def test_the_open_transaction_is_remembered_until_it_is_concluded(journal):
    await accept(journal, "id-1")
    await begin(journal)
    hand = await journal.outbox.read_in_hand()
    assert (hand.transaction, hand.intents) == (RID, ())

    await conclude(journal)
    assert await journal.outbox.read_in_hand() == WorkInHand()


async def test_a_transaction_without_exports_takes_none_along(journal):
    await accept(journal, "id-1")
    await journal.outbox.record_intent(SEEN, "DELETE")
    assert await journal.outbox.record_open(RID, ALL) == CommitGroup(())
    assert await journal.outbox.read_in_hand() == WorkInHand(None, RID)

    assert await conclude(journal, others=COMMITTED) == []
    assert await journal.outbox.read_in_hand() == WorkInHand()
    assert await waiting(journal) == 1


async def test_what_came_while_a_transaction_was_begun_goes_along_within_the_limits(journal):
    await accept(journal, "id-1")
    await claim(journal)
    await accept(journal, "id-2", "id-3")
    group = await journal.outbox.record_open(RID, GroupLimits(exports_max=2))

    assert [export.id for export in group.exports] == ["id-1", "id-2"]
    assert await journal.outbox.read_in_hand() == WorkInHand(group, RID)


async def test_nothing_goes_along_when_it_is_recorded_again(journal):
    await accept(journal, "id-1")
    await begin(journal)
    await accept(journal, "id-2")
    group = await journal.outbox.record_open(RID, ALL)

    assert [export.id for export in group.exports] == ["id-1"]


@pytest.mark.parametrize("verdict", [DIVIDED, ISOLATED], ids=lambda verdict: verdict.kind)
async def test_nothing_goes_along_with_an_isolated_group(journal, verdict):
    await accept(journal, "id-1")
    await attempt(journal, others=verdict)
    assert await claim(journal, lane="isolated") == ["id-1"]
    await accept(journal, "id-2")
    group = await journal.outbox.record_open(RID, ALL)

    assert [export.id for export in group.exports] == ["id-1"]


async def test_a_group_that_is_full_of_years_takes_along_what_is_small_and_late(large):
    years = b"x" * SMALL_BYTES + b"\n"
    limits = GroupLimits(bytes_max=2 * len(years))
    await accept(large, "id-1", "id-2", ndjson=years)
    await claim(large, limits)
    await accept(large, "id-3", ndjson=years)
    await accept(large, "id-4")

    group = await large.outbox.record_open(RID, limits)
    assert [export.id for export in group.exports] == ["id-1", "id-2", "id-4"]


async def test_each_intent_stays_recorded_until_a_transaction_is(journal):
    await accept(journal, "id-1")
    other = BranchSnapshot("", NOON + timedelta(minutes=1))
    for snapshot in (SEEN, other):
        await journal.outbox.claim(ALL, snapshot, "normal")
        await conclude(journal)
    await journal.outbox.record_intent(SEEN, "DELETE")
    hand = await journal.outbox.read_in_hand()
    assert set(hand.intents) == {
        Intent("APPEND", SEEN),
        Intent("APPEND", other),
        Intent("DELETE", SEEN),
    }
    assert (hand.group, hand.transaction) == (None, None)

    await begin(journal)
    assert (await journal.outbox.read_in_hand()).intents == ()


@pytest.mark.parametrize("kind", ["APPEND", "UPDATE", "DELETE"])
async def test_of_intents_of_a_kind_on_a_head_that_has_not_moved_the_last_is_recorded(
    journal, kind
):
    later = replace(SEEN, at=NOON + timedelta(minutes=1))
    for snapshot in (SEEN, later):
        await journal.outbox.record_intent(snapshot, kind)

    assert (await journal.outbox.read_in_hand()).intents == (Intent(kind, later),)


async def test_intents_that_began_nothing_are_cleared_and_their_group_is_not(journal):
    await group_is_claimed(journal)
    group = (await journal.outbox.read_in_hand()).group
    await journal.outbox.clear_intents()

    assert await journal.outbox.read_in_hand() == WorkInHand(group)


async def test_a_conclusion_leaves_the_intents_because_they_may_still_begin_something(journal):
    await group_is_claimed(journal)
    await conclude(journal)

    assert await journal.outbox.read_in_hand() == WorkInHand(intents=(Intent("APPEND", SEEN),))


async def test_a_file_is_as_it_was_recorded_until_it_is_concluded(journal):
    await group_is_open(journal)
    as_they_came = (await journal.outbox.read_in_hand()).group.files
    file = await journal.outbox.record_file(["id-2"], "parquet", 7, is_shared=False)

    assert (file.path, file.bytes) == (as_they_came[1].path.replace(".ndjson", ".parquet"), 7)
    assert file.exports == as_they_came[1].exports
    assert (await journal.outbox.read_in_hand()).group.files == (as_they_came[0], file)
    assert (await journal.receipts.find(ADA, "id-2")).path == file.path
    await attempt_again(journal)
    assert (await journal.outbox.read_in_hand()).group.files == as_they_came


async def attempt_again(journal):
    await conclude(journal)
    await begin(journal)


async def test_a_shared_file_has_all_its_exports_and_a_path_of_its_own(journal):
    await group_is_open(journal)
    as_they_came = (await journal.outbox.read_in_hand()).group
    file = await journal.outbox.record_file(["id-2", "id-1"], "parquet", 7, is_shared=True)

    assert file.path == "healthkit/groups/2026-01-02T12-00-00-000Z.parquet"
    assert (file.bytes, file.exports) == (7, as_they_came.exports)
    assert (await journal.outbox.read_in_hand()).group == CommitGroup((file,))
    receipts = await conclude(journal, others=COMMITTED)
    assert [receipt.path for receipt in receipts] == [file.path] * 2


async def test_no_two_groups_share_a_path(journal):
    await file_is_recorded(journal)
    (file,) = (await journal.outbox.read_in_hand()).group.files
    await conclude(journal, others=COMMITTED)
    await accept(journal, "id-3", "id-4", user=EVE)
    await begin(journal)
    other = await journal.outbox.record_file(["id-3", "id-4"], "ndjson", 9, is_shared=True)

    assert other.path == file.path.replace("00-000Z", "00-001Z")


async def test_a_file_tells_how_often_its_export_has_failed(journal):
    await accept(journal, "id-1")
    await attempt(journal, others=REFUSED)
    await begin(journal, lane="isolated")
    file = await journal.outbox.record_file(["id-1"], "parquet", 7, is_shared=False)

    assert (await journal.outbox.read_in_hand()).group.files == (file,)
    assert file.exports[0].tries == 1


async def test_payloads_are_read_in_order_without_those_that_are_not_what_was_accepted(tmp_path):
    with open_journal(tmp_path / "journal", BOUNDS, retention=SHELF) as journal:
        await accept(journal, "id-1", "id-2", "id-3", "id-4", "id-5")
        await commit(journal, "id-4")
        await corrupt_ledger(journal, "UPDATE payload SET sealed = x'00' WHERE number = 2")
        await corrupt_ledger(journal, "UPDATE export SET label = x'00' WHERE id = 'id-5'")
        ids = [f"id-{number}" for number in (9, 5, 4, 3, 2, 1)]
        read = await stored(journal, *ids)

    assert list(read.items()) == [("id-1", ROWS), ("id-3", ROWS)]


async def test_what_is_committed_has_its_transaction_and_the_rest_is_released(journal):
    await accept(journal, "id-1", "id-2")
    other = Verdict("committed", transaction="ri.another")
    (receipt,) = (await attempt(journal, {"id-2": other}))[1]

    assert (receipt.id, receipt.status, receipt.transaction) == ("id-2", "committed", "ri.another")
    assert receipt == await journal.receipts.find(ADA, "id-2")
    assert await stored(journal, "id-1", "id-2") == {"id-1": ROWS}
    assert await claim(journal) == ["id-1"]


async def test_a_verdict_on_what_is_not_claimed_is_ignored(journal):
    await accept(journal, "id-1", "id-2")
    (path,) = {(await journal.receipts.find(ADA, "id-2")).path}
    for verdict in (COMMITTED, CORRUPT, MOVED, REFUSED, FAILED, DIVIDED, ISOLATED):
        await begin(journal, GroupLimits(exports_max=1))
        assert await conclude(journal, {"id-2": verdict, "unknown": verdict}, tries_max=1) == []

    receipt = await journal.receipts.find(ADA, "id-2")
    assert (receipt.status, receipt.path) == ("accepted", path)
    assert (await journal.ledger.find_entry("id-2")).tries == 0
    assert await journal.outbox.read_backlog(ALL) == Backlog(fresh=2)


async def test_a_certain_refusal_sets_aside_at_the_last_try_and_releases_do_not_count(journal):
    await accept(journal, "id-1", "id-2")
    for lane in ("normal", "isolated"):
        assert (await attempt(journal, {"id-1": REFUSED}, lane=lane, tries_max=3))[1] == []
        assert (await attempt(journal, lane="isolated", tries_max=3)) == (["id-1"], [])
    assert (await journal.ledger.find_entry("id-1")).tries == 2
    (receipt,) = (await attempt(journal, {"id-1": REFUSED}, tries_max=3))[1]

    assert (receipt.id, receipt.status) == ("id-1", "set_aside")
    assert receipt == await journal.receipts.find(ADA, "id-1")
    entry = await journal.ledger.find_entry("id-1")
    assert (entry.tries, entry.reason) == (3, "it is bad")
    assert await claim(journal) == ["id-2"]


async def in_the_same_conclusion(journal):
    await accept(journal, "id-2")
    verdicts = {"id-1": DOUBTED, "id-2": COMMITTED}
    return (await attempt(journal, verdicts, tries_max=1))[1][1:]


async def told_by_the_uploader(journal):
    lane = "isolated" if (await journal.outbox.read_backlog(ALL)).failed else "normal"
    return (await attempt(journal, others=DOUBTED, lane=lane, tries_max=1, has_evidence=True))[1]


async def since_its_last_failure(journal):
    await attempt(journal, {"id-1": DOUBTED}, tries_max=1)
    await accept(journal, "id-2")
    await begin(journal, GroupLimits(exports_max=1))
    await conclude(journal, {"id-2": COMMITTED})
    return (await attempt(journal, others=DOUBTED, lane="isolated", tries_max=1))[1]


@pytest.mark.parametrize(
    "evidence", [in_the_same_conclusion, told_by_the_uploader, since_its_last_failure]
)
async def test_a_doubtful_refusal_sets_aside_only_with_evidence(journal, evidence):
    await accept(journal, "id-1")
    (receipt,) = await evidence(journal)

    assert (receipt.id, receipt.status) == ("id-1", "set_aside")


async def test_without_evidence_a_doubtful_refusal_never_sets_aside(journal):
    await accept(journal, "id-0")
    await commit(journal, "id-0")  # failed before the others committed: proves nothing
    await accept(journal, "id-1")
    await attempt(journal, others=DOUBTED, tries_max=1)
    for _ in range(5):
        assert await attempt(journal, others=DOUBTED, lane="isolated", tries_max=1) == (
            ["id-1"],
            [],
        )

    entry = await journal.ledger.find_entry("id-1")
    assert (entry.receipt.status, entry.tries, entry.reason) == ("accepted", 6, "something is bad")


async def test_commits_are_carried_out_first_whatever_the_order_of_the_verdicts(journal):
    """Commits are evidence against the rest of their group, but not for earlier failures."""
    await accept(journal, "id-1", "id-2")
    verdicts = {"id-1": DOUBTED, "id-2": COMMITTED}
    receipts = (await attempt(journal, verdicts, tries_max=1))[1]
    assert {each.id: each.status for each in receipts} == {
        "id-1": "set_aside",
        "id-2": "committed",
    }

    await accept(journal, "id-3", "id-4")
    await attempt(journal, {"id-3": DOUBTED, "id-4": COMMITTED}, tries_max=2)
    assert (await attempt(journal, others=DOUBTED, lane="isolated", tries_max=2))[1] == []


@pytest.mark.parametrize("has_evidence", [True, False])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("verdict", [FAILED, DIVIDED], ids=lambda verdict: verdict.kind)
async def test_a_failure_sets_aside_only_who_was_alone_and_with_evidence(
    journal, verdict, count, has_evidence
):
    ids = [f"id-{number}" for number in range(count)]
    await accept(journal, *ids)
    receipts = (await attempt(journal, others=verdict, tries_max=1, has_evidence=has_evidence))[1]

    is_set_aside = count == 1 and has_evidence
    assert [receipt.status for receipt in receipts] == ["set_aside"] * is_set_aside
    entries = (await journal.ledger.list_entries(None, 9, None)).entries
    assert {(entry.tries, entry.reason) for entry in entries} == {(1, verdict.reason)}


@pytest.mark.parametrize("verdict", [ISOLATED, RELEASED, MOVED], ids=lambda verdict: verdict.kind)
async def test_what_is_not_its_fault_never_counts(journal, verdict):
    await accept(journal, "id-1")
    for _ in range(3):
        lane = "isolated" if (await journal.outbox.read_backlog(ALL)).failed else "normal"
        ids, receipts = await attempt(
            journal, others=verdict, lane=lane, tries_max=1, has_evidence=True
        )
        assert (ids, receipts) == (["id-1"], [])

    entry = await journal.ledger.find_entry("id-1")
    assert (entry.receipt.status, entry.tries) == ("accepted", 0)


async def test_what_is_corrupt_is_set_aside_at_once_and_no_failure(journal):
    await accept(journal, "id-1", "id-2")
    await begin(journal)
    (path,) = {(await journal.receipts.find(ADA, "id-1")).path}
    await journal.outbox.record_file(["id-1", "id-2"], "parquet", 7, is_shared=True)
    (receipt,) = await conclude(journal, {"id-1": CORRUPT})

    assert (receipt.id, receipt.status, receipt.path) == ("id-1", "set_aside", path)
    entry = await journal.ledger.find_entry("id-1")
    assert (entry.tries, entry.reason) == (0, "damaged on the disk")
    assert await claim(journal) == ["id-2"]


async def test_what_is_moved_gets_a_path_that_nobody_has_and_never_an_earlier_one(journal):
    """Otherwise two exports could swap paths and be mistaken for each other."""
    receipts = await accept(journal, "id-1", "id-2", "id-3")
    before = {receipt.id: receipt.path for receipt in receipts}
    await attempt(journal, {"id-1": MOVED, "id-2": MOVED})
    group = await journal.outbox.claim(ALL, SEEN, "normal")
    after = {file.exports[0].id: file.path for file in group.files}

    assert after["id-3"] == before["id-3"]
    assert not {after["id-1"], after["id-2"]} & set(before.values())
    assert len(set(after.values())) == 3
    for id, path in after.items():
        assert path >= before[id]
        assert path == (await journal.receipts.find(ADA, id)).path
    assert await stored(journal, "id-1", "id-2") == {"id-1": ROWS, "id-2": ROWS}


@pytest.fixture(params=["memory", *ENGINES])
async def large(request):
    async with open_leading(request.param, request, CapacityLimits()) as journal:
        yield journal


def numbered(count, first=0):
    return [f"id-{number:03}" for number in range(first, first + count)]


async def test_beside_what_is_fresh_64_go_of_which_foundry_refused_the_file(large):
    await accept(large, *numbered(70))
    await attempt(large, others=REFUSED)
    assert await claim(large) is None, "nothing is fresh"
    assert await attempt(large, lane="isolated") == (numbered(64), [])

    await accept(large, "fresh-1", "fresh-2")
    assert await claim(large) == [*numbered(64), "fresh-1", "fresh-2"]


async def test_beside_what_is_fresh_nothing_goes_that_failed_together(large):
    await accept(large, "id-1", "id-2", "id-3")
    await attempt(large, {"id-1": DIVIDED, "id-2": ISOLATED})

    assert await claim(large) == ["id-3"]


async def test_whoever_fails_once_with_others_is_fresh_and_the_second_time_isolated(large):
    await accept(large, "id-1", "id-2")
    await attempt(large, others=FAILED)
    assert await large.outbox.read_backlog(ALL) == Backlog(fresh=2)
    assert await attempt(large, others=FAILED) == (["id-1", "id-2"], [])
    assert await large.outbox.read_backlog(ALL) == Backlog(failed=2)

    assert await claim(large) is None
    assert await claim(large, lane="isolated") == ["id-1", "id-2"]


async def test_what_foundry_never_answered_about_is_tried_alone(large):
    await accept(large, "id-1", "id-2", "id-3")
    await attempt(large, {"id-1": ISOLATED, "id-2": ISOLATED})

    assert await attempt(large, {"id-1": COMMITTED}, lane="isolated") == (["id-1"], [ANY])
    assert await claim(large, lane="isolated") == ["id-2"]


async def test_what_is_refused_while_it_is_tried_alone_stays_alone(large):
    await accept(large, "id-1", "id-2")
    await attempt(large, others=ISOLATED)
    for id in ("id-1", "id-2", "id-1"):
        assert (await attempt(large, others=DOUBTED, lane="isolated"))[0] == [id]


async def test_groups_that_fail_become_smaller_and_smaller(large):
    await accept(large, *numbered(200))
    await attempt(large, others=DIVIDED)
    sizes = []
    for _ in range(18):
        ids, _ = await attempt(large, others=FAILED, lane="isolated")
        sizes.append(len(ids))

    assert sizes == [125, 75, *[15] * 13, 5, 1, 1]


@pytest.mark.parametrize(("exports_max", "size"), [(1_000, 125), (16, 2), (7, 1)])
async def test_a_divided_group_is_an_eighth_of_the_limit_and_one_at_least(large, exports_max, size):
    limits = GroupLimits(exports_max=exports_max)
    await accept(large, *numbered(130))
    await attempt(large, others=DIVIDED)

    assert await claim(large, limits, "isolated") == numbered(size)


async def test_an_isolated_group_is_no_larger_than_its_bytes(large):
    await accept(large, "id-1", "id-2", "id-3", ndjson=b"x" * 60)
    await attempt(large, others=DIVIDED)

    assert await claim(large, GroupLimits(bytes_max=120), "isolated") == ["id-1", "id-2"]


async def test_those_that_failed_go_by_turns_so_that_none_keeps_the_others_waiting(large):
    await accept(large, "id-1", "id-2", "id-3")
    await attempt(large, {"id-1": DIVIDED})
    await attempt(large, {"id-2": DIVIDED, "id-3": DOUBTED})
    turns = []
    for _ in range(9):
        (ids, _) = await attempt(large, {"id-3": DOUBTED}, FAILED, lane="isolated")
        turns.append("".join(id.removeprefix("id-") for id in ids))

    assert turns == ["12", "3", "12", "3", "1", "2", "3", "1", "2"]


async def test_what_is_released_keeps_its_turn(large):
    await accept(large, "id-1", "id-2")
    await attempt(large, others=ISOLATED)
    for _ in range(3):
        assert (await attempt(large, lane="isolated"))[0] == ["id-1"]


async def test_what_is_uncommitted_is_told_with_a_file_of_its_own_as_it_came(journal):
    receipts = await accept(journal, "id-1", "id-2", "id-3", "id-4", "id-5")
    await set_aside(journal, "id-1")
    await commit(journal, "id-2")
    await attempt(journal, {"id-3": DIVIDED})
    await begin(journal, GroupLimits(exports_max=1))
    await journal.outbox.record_file(["id-4"], "parquet", 7, is_shared=True)
    found = await journal.outbox.list_uncommitted("")

    assert [(file.path, file.bytes, file.exports[0].id) for file in found] == [
        (receipt.path, len(ROWS), receipt.id) for receipt in receipts if receipt.id != "id-2"
    ]
    assert [each.exports[0].id for each in await journal.outbox.list_uncommitted("id-4")] == [
        "id-5"
    ]
    assert not await journal.outbox.list_uncommitted("id-5")


async def test_a_journal_knows_the_transactions_that_hold_its_exports(journal):
    await accept(journal, "id-1")
    await begin(journal)
    assert await journal.outbox.filter_own_transactions([RID, NOT_OURS]) == frozenset()

    await conclude(journal, others=COMMITTED)
    assert await journal.outbox.filter_own_transactions([RID, NOT_OURS]) == {RID}


@pytest.mark.parametrize("text", ["a\0b", "id-1\0", "a\udc80", "\ud800"], ids=ascii)
async def test_what_no_database_takes_is_not_found(journal, text):
    await accept(journal, "id-1")
    user, unknown = User(f"auth0|{text}"), None

    assert await journal.receipts.find(ADA, text) is unknown
    assert await journal.receipts.find(user, "id-1") is unknown
    assert await journal.receipts.list_parts(ADA, text) == []
    assert (await journal.receipts.list_page(user, None, 10, None)).receipts == ()
    assert await journal.ledger.find_entry(text) is unknown
    assert (await journal.ledger.list_entries(None, 10, None, text)).entries == ()
    assert await journal.dead_letters.requeue(text) == 0
    assert await journal.dead_letters.abandon(text) == 0
    assert await journal.dead_letters.read_original(text) is unknown
    assert (await journal.phones.list_counts(text)).reports == ()
    assert (await journal.phones.list_counts("", user)).reports == ()
    assert (await journal.personal_data.read_holdings(user)).exports == {}
    assert (await journal.personal_data.purge(user, ())).waiting == ()


async def test_a_reason_is_kept_whatever_characters_it_has(journal):
    await accept(journal, "id-1")
    await begin(journal)
    await conclude(journal, {"id-1": Verdict("failed", "no\0\udc80 \U0001f600")}, RELEASED)

    (entry,) = (await journal.ledger.list_entries(None, 10, None)).entries
    assert entry.reason.startswith("no")
    assert entry.reason.endswith(" \U0001f600")


async def test_a_journal_knows_its_latest_transactions(journal):
    await accept(journal, "id-1")
    await begin(journal)
    assert not await journal.outbox.has_committed_lately(RID)

    await conclude(journal, others=COMMITTED)
    assert await journal.outbox.has_committed_lately(RID)
    assert not await journal.outbox.has_committed_lately(NOT_OURS)


async def test_what_is_found_is_committed_there_wherever_the_journal_had_it(journal):
    await accept(journal, "id-1", "id-2", "id-3", "id-4")
    await set_aside(journal, "id-1")
    await attempt(journal, {"id-2": DIVIDED})
    await begin(journal, GroupLimits(exports_max=1))
    own = DatasetFile((await journal.receipts.find(ADA, "id-2")).path, "ri.own", 4)
    found = [(STANDING, ["id-1", "id-3", "unknown"]), (own, ["id-2"])]
    receipts = await journal.outbox.mark_found(found)

    assert {(each.id, each.status, each.path, each.transaction) for each in receipts} == {
        ("id-1", "committed", STANDING.path, STANDING.transaction),
        ("id-2", "committed", own.path, own.transaction),
        ("id-3", "committed", STANDING.path, STANDING.transaction),
    }
    assert await journal.outbox.read_in_hand() == WorkInHand(None, RID)
    assert await journal.outbox.read_backlog(ALL) == Backlog(fresh=1)
    assert await journal.outbox.filter_own_transactions(["ri.own", "ri.found"]) == {
        "ri.own",
        "ri.found",
    }


async def test_what_is_claimed_is_not_purged_and_the_rest_is_not_either(journal):
    await accept(journal, "id-1", "id-2")
    await claim(journal, GroupLimits(exports_max=1))
    with pytest.raises(Unavailable):
        await journal.personal_data.purge(ADA, [])
    held = await journal.personal_data.read_holdings(ADA)
    await conclude(journal)
    purged = await journal.personal_data.purge(ADA, [])

    assert held.exports == {"accepted": 2}
    assert purged.rows == {"accepted": 2, "phone": 1}
    assert set(purged.waiting) == {"id-1", "id-2"}
    assert (await journal.personal_data.read_holdings(ADA)).exports == {}
    assert await waiting(journal) == 0


@pytest.mark.parametrize("status", ["accepted", "claimed", "committed", "set_aside", "abandoned"])
def test_whoever_asks_for_a_status_reads_no_other(tmp_path, status):
    """The few exports that are set aside among two million receipts have an index of their own."""
    with open_journal(tmp_path / "journal", BOUNDS, retention=SHELF):
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
    listing = await journal.ledger.list_entries(None, 10, None)

    assert [(entry.receipt.id, entry.receipt.status) for entry in listing.entries] == [
        ("id-4", "accepted"),
        ("id-3", "accepted"),
        ("id-2", "committed"),
        ("id-1", "set_aside"),
    ]
    assert listing.totals == {"accepted": 2, "committed": 1, "set_aside": 1}
    assert listing.before is None
    assert [entry.bytes for entry in listing.entries] == [len(ROWS)] * 4
    assert [entry.tries for entry in listing.entries] == [0, 0, 0, 1]


@pytest.mark.parametrize("status", ["accepted", "committed", "set_aside"])
async def test_an_operator_sees_only_what_he_asks_for(journal, status):
    await accept(journal, "id-1", "id-2", "id-3")
    await set_aside(journal, "id-1")
    await commit(journal, "id-2")
    listing = await journal.ledger.list_entries(status, 10, None)

    assert [entry.receipt.status for entry in listing.entries] == [status]


async def test_a_listing_comes_newest_first_page_by_page(journal):
    await accept(journal, "id-1", "id-2", "id-3")
    first = await journal.ledger.list_entries(None, 2, None)
    last = await journal.ledger.list_entries(None, 2, first.before)

    assert [entry.receipt.id for entry in first.entries] == ["id-3", "id-2"]
    assert [entry.receipt.id for entry in last.entries] == ["id-1"]
    assert last.before is None
    assert (await journal.ledger.list_entries(None, 2, 0)).entries == ()


@pytest.mark.parametrize("text", ["auth0|ada", "the pseudonym"])
async def test_a_user_is_found_by_the_sub_and_by_the_pseudonym_page_by_page(journal, text):
    await accept(journal, "id-1", "id-2", "id-3")
    await accept(journal, "id-4", user=EVE)
    if text != ADA.sub:
        text = (await journal.ledger.find_entry("id-1")).user
    first = await journal.ledger.list_entries(None, 2, None, text)
    last = await journal.ledger.list_entries(None, 2, first.before, text)
    committed = await journal.ledger.list_entries("committed", 2, None, text)

    assert [each.receipt.id for each in first.entries] == ["id-3", "id-2"]
    assert [each.receipt.id for each in last.entries] == ["id-1"]
    assert last.before is None
    assert committed.entries == ()


async def test_an_operator_sees_a_hash_of_the_user_which_is_the_same_every_time(journal):
    await accept(journal, "id-1", "id-2")
    await accept(journal, "id-3", user=EVE)
    users = [entry.user for entry in (await journal.ledger.list_entries(None, 3, None)).entries]

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
    entry = await journal.ledger.find_entry(asked)

    assert (entry and entry.receipt.id) == found


async def test_a_journal_knows_how_much_stands_where_and_since_when(journal):
    await accept(journal, "id-1", "id-2", "id-3", "id-4")
    await set_aside(journal, "id-1")
    await commit(journal, "id-2")
    await claim(journal, GroupLimits(exports_max=1))
    depth, one = await journal.ledger.read_totals(), len(ROWS)

    assert depth.exports == {"accepted": 2, "committed": 1, "set_aside": 1, "abandoned": 0}
    assert depth.bytes == {"accepted": 2 * one, "committed": one, "set_aside": one, "abandoned": 0}
    assert depth.oldest == (await journal.ledger.find_entry("id-3")).receipt.at
    assert depth.imbalance == 0


async def test_of_a_journal_in_which_nothing_waits_nothing_is_the_oldest(journal):
    assert (await journal.ledger.read_totals()).oldest is None
    await accept(journal, "id-1")
    await commit(journal, "id-1")
    assert (await journal.ledger.read_totals()).oldest is None


async def test_what_is_claimed_still_waits(journal):
    await accept(journal, "id-1")
    await claim(journal)
    depth = await journal.ledger.read_totals()

    assert depth.exports["accepted"] == 1
    assert depth.oldest is not None


async def test_the_room_on_its_disk_is_told_by_a_journal_that_has_one(tmp_path):
    with open_journal(tmp_path / "journal", BOUNDS, retention=SHELF) as journal:
        assert (await journal.ledger.read_totals()).free_bytes > 0
    with open_journal(None, BOUNDS, retention=SHELF) as journal:
        assert (await journal.ledger.read_totals()).free_bytes is None


async def corrupt_ledger(journal, statement):
    """Change a row, as only a bad disk does."""
    await journal.ledger._commits.run(lambda db: db.execute(statement).rowcount)


WRONG = "UPDATE total SET exports = 7 WHERE status = 'accepted'"


async def test_a_ledger_that_is_wrong_says_by_how_much_and_is_left_as_it_is(tmp_path):
    with open_journal(tmp_path / "journal", BOUNDS, retention=SHELF) as journal:
        await accept(journal, "id-1", "id-2")
        await corrupt_ledger(journal, WRONG)
        depths = [await journal.ledger.read_totals() for _ in range(2)]

    assert [(each.exports["accepted"], each.imbalance) for each in depths] == [(7, 5)] * 2


async def test_what_is_live_is_counted_once_a_minute(tmp_path):
    now = 0.0
    with open_journal(tmp_path / "journal", BOUNDS, retention=SHELF) as journal:
        journal.ledger._monotonic = lambda: now
        await journal.ledger.read_totals()
        await corrupt_ledger(journal, WRONG)
        assert (await journal.ledger.read_totals()).imbalance == 0, "it was counted a moment ago"
        now = 60.0
        assert (await journal.ledger.read_totals()).imbalance == 7


async def test_a_moment_of_which_a_bit_has_flipped_is_nobodys(tmp_path):
    with open_journal(tmp_path / "journal", BOUNDS, retention=SHELF) as journal:
        await accept(journal, "id-1", "id-2")
        await corrupt_ledger(journal, "UPDATE export SET at = '2026-0' WHERE id = 'id-1'")
        assert (await journal.ledger.read_totals()).oldest is None


HEX = {"1": "ab10" + "0" * 60, "2": "ab10" + "1" * 60, "3": "cd10" + "2" * 60}


async def find_entries(journal, find, status=None, limit=10, before=None):
    return await journal.ledger.list_entries(status, limit, before, find)


def list_receipt_ids(listing):
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
    listing = await find_entries(journal, find)

    assert list_receipt_ids(listing) == [HEX[each] for each in found]
    assert (listing.before, listing.looked_at) == (None, None)
    assert listing.totals["accepted"] == 3, "the totals are those of the whole journal"


async def test_an_operator_finds_what_a_user_sent_by_what_the_user_is_called(journal):
    await accept(journal, HEX["1"], HEX["3"])
    await accept(journal, HEX["2"], user=EVE)
    ada = (await journal.ledger.find_entry(HEX["1"])).user

    assert list_receipt_ids(await find_entries(journal, ada)) == [HEX["3"], HEX["1"]]
    assert list_receipt_ids(await find_entries(journal, ada[:-1])) == [], "it is not cut short"


@pytest.mark.parametrize("find", ["ab10", "twice"], ids=["by id", "by correlation id"])
async def test_what_is_found_comes_page_by_page_and_only_if_it_stands_so(journal, find):
    for id in HEX.values():
        export = an_export(id.replace("cd", "ab"))
        head = replace(export.head, correlation_id="twice")
        await journal.intake.append(replace(export, head=head))
    everything = await find_entries(journal, find)
    first = await find_entries(journal, find, limit=2)
    last = await find_entries(journal, find, limit=2, before=first.before)
    await set_aside(journal, HEX["1"])

    assert len(everything.entries) == 3
    assert list_receipt_ids(first) + list_receipt_ids(last) == list_receipt_ids(everything)
    assert last.before is None
    assert list_receipt_ids(await find_entries(journal, find, status="set_aside")) == [HEX["1"]]
    assert len(list_receipt_ids(await find_entries(journal, find, status="accepted"))) == 2


@pytest.mark.slow
async def test_a_search_for_a_correlation_id_ends_after_10_000_and_says_so():
    with open_journal(None, CapacityLimits(10**9, free_bytes=0), retention=SHELF) as journal:
        await accept(journal, "oldest")
        async with anyio.create_task_group() as tasks:
            for number in range(10_000):
                tasks.start_soon(accept, journal, f"id-{number}")
        first = await find_entries(journal, "correlation of oldest")
        rest = await find_entries(journal, "correlation of oldest", before=first.before)

    assert (list_receipt_ids(first), first.looked_at) == ([], 10_000)
    assert (list_receipt_ids(rest), rest.looked_at, rest.before) == (["oldest"], None, None)


async def test_a_journal_is_ready_while_it_has_room(journal):
    await accept(journal, "id-1", ndjson=b"x" * (BYTES_MAX - 1))
    await journal.ledger.check_ready()
    await accept(journal, "id-2", ndjson=b"x")
    with pytest.raises(JournalFull):
        await journal.ledger.check_ready()


async def test_a_file_that_cannot_be_written_is_unavailable_and_not_ready(tmp_path):
    with open_journal(tmp_path / "journal", BOUNDS, retention=SHELF) as journal:
        await accept(journal, "id-1")
        with no_file_may_grow(0):
            with pytest.raises(Unavailable):
                await journal.intake.append(an_export("id-2"))
            with pytest.raises(Unavailable):
                await journal.ledger.check_ready()

        await journal.ledger.check_ready()
        (receipt,) = await accept(journal, "id-2")
        assert not receipt.replayed


async def test_ten_thousand_exports_of_one_user_at_one_instant_have_a_path_each(tmp_path):
    """A path is found at once; walking past all earlier ones took minutes."""
    with open_journal(None, CapacityLimits(), retention=SHELF) as journal:
        receipts = [await journal.intake.append(an_export(str(n))) for n in range(10_000)]
        paths = {receipt.path for receipt in receipts}
        later = await journal.intake.append(an_export("later", at=NOON + timedelta(hours=1)))
    assert len(paths) == 10_000
    assert later.path.endswith("2026-01-02T13-00-00-000Z.ndjson")


async def test_every_answer_is_on_the_disk_before_it_is_given(tmp_path):
    ours, copies = tmp_path / "ours", []
    ours.mkdir()

    def copy():
        """Yield the journal that another process would find if this one were killed now."""
        copies.append(shutil.copytree(ours, tmp_path / f"copy {len(copies)}") / "journal")

    with open_journal(ours / "journal", BOUNDS, retention=SHELF) as journal:
        (first,) = await accept(journal, "id-1")
        copy()
        await claim(journal)
        copy()
        await journal.outbox.record_open(RID, ALL)
        copy()
        file = await journal.outbox.record_file(["id-1"], "parquet", 7, is_shared=False)
        copy()
        (last,) = await conclude(journal, {"id-1": COMMITTED})
        copy()
        await journal.outbox.record_intent(SEEN, "DELETE")
        copy()
        await journal.outbox.clear_intents()
        copy()
        await accept(journal, "id-2")
        await journal.outbox.mark_found([(STANDING, ["id-2"])])
        copy()

    async def left(number, read):
        with open_journal(copies[number], BOUNDS, retention=SHELF) as journal:
            return await read(journal)

    async def in_hand(journal):
        return await journal.outbox.read_in_hand()

    async def receipts(journal):
        return [await journal.receipts.find(ADA, id) for id in ("id-1", "id-2")]

    claimed, begun, filed, concluded, intended, cleared = [
        await left(number, in_hand) for number in range(1, 7)
    ]
    assert await left(0, receipts) == [first, None]
    assert [export.id for export in claimed.group.exports] == ["id-1"]
    assert claimed.intents == (Intent("APPEND", SEEN),)
    assert begun == WorkInHand(claimed.group, RID)
    assert await left(2, lambda journal: stored(journal, "id-1")) == {"id-1": ROWS}
    assert filed == WorkInHand(CommitGroup((file,)), RID)
    assert concluded == WorkInHand()
    assert await left(4, receipts) == [last, None]
    assert intended == WorkInHand(intents=(Intent("DELETE", SEEN),))
    assert cleared == WorkInHand()
    assert (await left(7, receipts))[1].transaction == STANDING.transaction


# The port of Auth0 (`Identities`)


@cache
def a_ring() -> local_auth0.KeyRing:
    """Made once: slower than everything else here."""
    return local_auth0.KeyRing.generate()


@dataclass
class FakeTokens:
    """Tokens that the fake accepts."""

    identities: KnownUsers
    expired: str = "expired"
    nobody: str = "nobody"

    def of(self, sub, *scopes):
        return f"token-of-{sub} {' '.join(scopes)}"

    def goes_down(self):
        self.identities.down = True


@dataclass
class SignedTokens:
    """Tokens as Auth0 issues them."""

    tenant: local_auth0.Auth0Emulator
    identities: ports.Identities | None = None

    def of(self, sub, *scopes):
        return self.tenant.issue_token(
            local_auth0.TokenRequest(sub, claims={"scope": " ".join(scopes)})
        )

    @property
    def expired(self):
        return self.tenant.issue_token(local_auth0.TokenRequest(expires_in=-60))

    @property
    def nobody(self):
        return self.tenant.issue_token(local_auth0.TokenRequest(sub=None))

    def goes_down(self):
        self.tenant.outage = local_auth0.Outage()


@asynccontextmanager
async def by_words():
    yield FakeTokens(KnownUsers())


@asynccontextmanager
async def by_signature():
    tenant = local_auth0.Auth0Emulator("to be told", ring=a_ring())
    async with TestServer(local_auth0.build_application(tenant)) as server:
        tenant.issuer = str(server.make_url("/"))
        async with auth0.open_identities(
            auth0.TokenPolicy((tenant.issuer,), (tenant.audience,)),
            lambda: datetime.now(UTC),
            lambda: 0.0,
            lambda _: None,
        ) as identities:
            yield SignedTokens(tenant, identities)


@pytest.fixture(params=[by_words, by_signature], ids=["fake", "real"])
async def tokens(request):
    async with request.param() as tokens:
        yield tokens


async def test_a_token_names_its_user_and_what_he_may(tokens):
    user = await tokens.identities.identify_user(tokens.of("auth0|ada", "read", "write"))

    assert user == User("auth0|ada", frozenset({"read", "write"}))
    assert await tokens.identities.identify_user(tokens.of("eve")) == User("eve")


async def test_a_token_that_has_expired_says_so(tokens):
    with pytest.raises(TokenExpired):
        await tokens.identities.identify_user(tokens.expired)


async def test_a_good_token_that_names_nobody_says_so(tokens):
    with pytest.raises(MissingIdentity):
        await tokens.identities.identify_user(tokens.nobody)


@pytest.mark.parametrize("token", ["", "rubbish", "a.b.c", "é.ü.ß", "e30.e30.", "[" * 5_000])
async def test_what_is_no_token_is_invalid_and_nothing_worse(tokens, token):
    with pytest.raises(InvalidToken):
        await tokens.identities.identify_user(token)


async def test_while_no_token_can_be_checked_nobody_is_called_a_liar(tokens):
    tokens.goes_down()
    with pytest.raises(AuthUnavailable):
        await tokens.identities.check_ready()
    for token in (tokens.of("ada"), tokens.expired):
        with pytest.raises(AuthUnavailable):
            await tokens.identities.identify_user(token)


async def test_it_is_ready_when_tokens_can_be_checked(tokens):
    await tokens.identities.check_ready()


# The port of the phones (`PhoneBook`)

BOB = User("auth0|bob")
STEPS = "HKQuantityTypeIdentifierStepCount"
PULSE = "HKQuantityTypeIdentifierHeartRate"
COUNTS = (SampleCount(PULSE, NOON.date(), 1_412),)


def phone_export(id, user=ADA, device="iPhone", at=NOON, stuck=False, **summary):
    head = ExportMetadata(user, device, "", f"correlation of {id}")
    table = replace(packed(ROWS, 5, Reject(2, "no JSON")), summary=RowSummary(**summary))
    return FlattenedExport(id, head, at, table, stuck)


async def list_phones(journal, now=NOON, user=None, **query):
    return await journal.phones.list_phones(PhoneQuery(**query), now, 3, user)


async def send_report(journal, user=ADA, at=NOON, **fields):
    report = PhoneReport("sync_ended", at, "iPhone", **fields)
    await journal.phones.store_report(user, report, at)


async def test_a_phone_is_remembered_with_what_it_sent(journal):
    later = NOON + timedelta(minutes=5)
    samples = {STEPS: "2026-01-02T11:00:00Z", PULSE: "2026-01-01T10:00:00Z"}
    await journal.intake.append(phone_export("a", samples=samples, os_version="18.1"))
    await journal.intake.append(
        phone_export("b", at=later, samples={STEPS: "2026-01-02T12:00:00Z"}, source_version="2.0")
    )
    page = await list_phones(journal, later)

    (phone,) = page.phones
    assert (phone.device, phone.state, phone.last_export_at) == ("iPhone", "active", later)
    assert (phone.exports, phone.rows, phone.rejected) == (2, 10, 2)
    assert phone.samples == samples | {STEPS: "2026-01-02T12:00:00Z"}
    assert (phone.os_version, phone.source_version) == ("18.1", "2.0")
    assert page.totals == PhoneTotals(active=1)


async def test_a_replay_is_not_counted_and_an_older_sample_hides_no_newer_one(journal):
    export = phone_export("a", samples={STEPS: "2026-01-02T11:00:00Z"})
    late = phone_export("b", samples={STEPS: "2025-12-24T11:00:00Z"})
    for each in (export, export, late, late):
        await journal.intake.append(each)

    (phone,) = (await list_phones(journal)).phones
    assert (phone.exports, phone.last_sample) == (2, "2026-01-02T11:00:00Z")


async def test_exports_at_once_are_counted_in_one_row_for_each_phone(journal):
    async with anyio.create_task_group() as tasks:
        for number in range(40):
            device = f"phone {number % 4}"
            tasks.start_soon(journal.intake.append, phone_export(str(number), device=device))

    page = await list_phones(journal)
    assert {phone.device: phone.exports for phone in page.phones} == {
        f"phone {number}": 10 for number in range(4)
    }


async def test_a_phone_that_is_stuck_is_so_until_it_sends_something_new(journal):
    export = phone_export("a")
    await journal.intake.append(export)
    await journal.intake.append(replace(export, is_stuck=True))
    stuck = await list_phones(journal)
    await journal.intake.append(phone_export("b"))
    moved_on = await list_phones(journal)

    assert (stuck.phones[0].state, stuck.totals) == ("stuck", PhoneTotals(stuck=1))
    assert (moved_on.phones[0].state, moved_on.phones[0].exports) == ("active", 2)


async def test_phones_are_listed_by_their_last_export_in_pages_and_by_their_silence(journal):
    for number in range(5):
        at = NOON - timedelta(days=number)
        await journal.intake.append(phone_export(str(number), User(f"user {number}"), at=at))

    first = await list_phones(journal, limit=3)
    second = await list_phones(journal, limit=3, before=first.before)
    quiet = await list_phones(journal, quiet_seconds=3 * 86_400)
    seen = await list_phones(journal, quiet_seconds=86_400, seen_seconds=2 * 86_400)
    mine = await list_phones(journal, user=User("user 4"))

    ages = [(NOON - phone.last_export_at).days for phone in (*first.phones, *second.phones)]
    assert (ages, second.before) == ([0, 1, 2, 3, 4], None)
    assert [phone.state for phone in quiet.phones] == ["quiet", "quiet"]
    assert [(NOON - phone.last_export_at).days for phone in seen.phones] == [1, 2]
    assert [phone.user for phone in mine.phones] == [second.phones[-1].user]
    assert first.totals == PhoneTotals(active=3, quiet=2)


async def test_phones_of_the_last_month_are_counted_by_age(journal):
    for number, days in enumerate((0, 0, 4, 29, 31)):
        at = NOON - timedelta(days=days)
        await journal.intake.append(phone_export(str(number), User(f"user {number}"), at=at))

    ages = await journal.phones.count_ages(NOON)
    assert {each.days: each.phones for each in ages} == {0: 2, 4: 1, 29: 1}
    assert sum_ages(ages, 3) == PhoneTotals(active=2, quiet=2)


async def test_of_too_many_phones_the_least_recent_are_forgotten(journal):
    for number in range(60):  # of one user, 50 at most
        at = NOON + timedelta(seconds=number)
        await journal.intake.append(phone_export(str(number), device=str(number), at=at))
    of_one = {phone.device for phone in (await list_phones(journal, limit=100)).phones}
    await journal.phones.prune(NOON, phones_max=3)
    left = {phone.device for phone in (await list_phones(journal, limit=100)).phones}
    await journal.phones.prune(NOON + timedelta(days=401), phones_max=3)

    assert of_one == set(map(str, range(10, 60)))
    assert left == {"57", "58", "59"}
    assert (await list_phones(journal)).phones == ()


async def test_a_report_is_shown_with_its_phone_and_its_counts_apart(journal):
    await journal.intake.append(phone_export("a", os_version="18.1"))
    later = NOON + timedelta(hours=1)
    await send_report(journal, counts=COUNTS)
    await send_report(journal, at=later, battery=0.4, app_version="2.1", os_version="18.2")
    await send_report(journal, BOB, counts=COUNTS)

    (phone,) = (await list_phones(journal, user=ADA)).phones
    mine = await journal.phones.list_counts("", ADA)
    first = await journal.phones.list_counts("")
    second = await journal.phones.list_counts(first.next_user)
    end = await journal.phones.list_counts(second.next_user)
    assert (phone.reported_at, phone.app_version, phone.os_version) == (later, "2.1", "18.2")
    assert (phone.report.battery, phone.report.counts) == (0.4, ())
    assert [(each.sub, each.report.counts) for each in mine.reports] == [("auth0|ada", COUNTS)]
    users = {each.sub for page in (first, second) for each in page.reports}
    assert (users, end.reports, end.next_user) == ({"auth0|ada", "auth0|bob"}, (), "")


async def test_a_phone_with_many_types_is_remembered_with_all_of_them(journal):
    samples = {f"HKQuantityTypeIdentifier{number:050}": "2026-01-02" for number in range(200)}
    await journal.intake.append(phone_export("a", samples=samples))
    few = dict(list(samples.items())[:3])
    await journal.intake.append(phone_export("b", BOB, samples=few))

    assert [phone.samples for phone in (await list_phones(journal, user=ADA)).phones] == [samples]
    assert [phone.samples for phone in (await list_phones(journal, user=BOB)).phones] == [few]


async def test_a_phone_that_only_reports_is_listed_and_quiet_some_days_after_its_first(journal):
    await send_report(journal, counts=COUNTS)
    later = NOON + timedelta(days=4)
    await send_report(journal, at=later)
    page = await list_phones(journal, later)
    known = (await journal.personal_data.read_holdings(ADA)).phones
    await journal.intake.append(phone_export("a", at=NOON + timedelta(days=1)))
    exported = await list_phones(journal, later)

    (phone,) = page.phones
    assert (phone.device, phone.state, phone.last_export_at) == ("iPhone", "quiet", None)
    assert (phone.exports, phone.reported_at, page.totals) == (0, later, PhoneTotals(quiet=1))
    assert known == (KnownPhone("iPhone", None, 0),)
    assert exported.phones[0].last_export_at == NOON + timedelta(days=1)


async def test_of_devices_that_only_report_a_user_has_50(journal):
    for number in range(60):
        at = NOON + timedelta(seconds=number)
        report = PhoneReport("sync_began", at, f"device {number}")
        await journal.phones.store_report(ADA, report, at)

    phones = (await list_phones(journal, limit=100)).phones
    assert {phone.device for phone in phones} == {f"device {number}" for number in range(10, 60)}


async def test_rows_that_wait_are_counted_beside_the_reports_of_their_user(journal):
    await send_report(journal, counts=COUNTS)
    for id, user in (("a", ADA), ("b", ADA), ("c", BOB)):
        await journal.intake.append(phone_export(id, user))
    before = await journal.phones.list_counts("", ADA)
    await commit(journal, "a", "b", "c")
    after = await journal.phones.list_counts("")

    assert (before.waiting_rows, after.waiting_rows) == (10, 0)


async def test_reports_are_kept_for_30_days_and_500_of_a_user(journal):
    old = NOON - timedelta(days=31)
    await send_report(journal, BOB, old, counts=COUNTS)
    for number in range(502):
        await send_report(journal, counts=(SampleCount(PULSE, NOON.date(), number),))
    await journal.phones.prune(NOON, phones_max=10)

    reports = (await journal.phones.list_counts("", ADA)).reports
    assert [each.report.counts[0].samples for each in reports] == list(range(2, 502))
    assert (await journal.phones.list_counts("", BOB)).reports == ()


async def test_the_phones_and_reports_of_a_person_are_shown_and_erased(journal):
    await journal.intake.append(phone_export("a", samples={STEPS: "2026-01-02T11:00:00Z"}))
    await journal.intake.append(phone_export("b", BOB))
    await send_report(journal, counts=COUNTS)
    await commit(journal, "a", "b")
    before = await journal.personal_data.read_holdings(ADA)
    purged = await journal.personal_data.purge(ADA, ())
    after = await journal.personal_data.read_holdings(ADA)

    assert before.phones == (KnownPhone("iPhone", NOON, 1),)
    assert (before.reports, purged.rows["phone"], purged.rows["report"]) == (1, 1, 1)
    assert (after.phones, after.reports) == ((), 0)
    assert len((await list_phones(journal)).phones) == 1
