"""The path of an export through the service."""

import anyio
import msgspec
import pytest

from atlas.core.events import (
    ClientStuck,
    ExportAccepted,
    GroupCommitted,
    RecordCountMismatch,
    StageCrashed,
)
from atlas.core.identifiers import API_PREFIX
from atlas.core.messages import GroupLimits
from atlas.core.rows import KEYED_COLUMNS
from atlas.outside.sqlite.intake import SqliteIntake
from atlas.settings import ExportSettings
from tests.conftest import an_export
from tests.support import generator
from tests.support.fakes import Barrier


async def run_together(*posts):
    """Send requests concurrently and return their responses."""
    answers = [None] * len(posts)

    async def send(index, post):
        answers[index] = await post

    async with anyio.create_task_group() as senders:
        for index, post in enumerate(posts):
            senders.start_soon(send, index, post)
    return answers


async def test_an_export_comes_back_with_a_receipt(life):
    async with life.running() as flow:
        answer = await flow.post(an_export(b'{"uuid":"a"}\n\n{"uuid":"b"}\n'))

    assert answer.status == 200
    assert answer.body["status"] == "committed"
    assert answer.body["records_ingested"] == 2
    assert answer.body["file_path"] == "healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson"
    assert answer.body["transaction_rid"] == "ri.foundry.main.transaction.1"
    assert life.dataset.uuids() == ["a", "b"]


async def test_every_good_line_of_a_real_export_arrives_and_every_bad_one_is_told(
    life,
):
    good, bad = [*generator.lines(300)], [line for line, _ in generator.bad()][:12]
    sent = b"\n".join(generator.interleave(good, bad))
    async with life.running() as flow:
        answer = await flow.post(an_export(sent))

    assert answer.body["records_received"] == 312
    assert answer.body["records_ingested"] == 300
    assert len(answer.body["rejects"]) == 12
    assert life.dataset.uuids() == sorted(msgspec.json.decode(line)["uuid"] for line in good)


async def test_the_rows_have_the_columns_and_the_numbers_of_the_settings(life):
    life.export = ExportSettings(columns=23, whole_numbers="integer")
    async with life.running() as flow:
        await flow.post(an_export(b'{"uuid":"a","value":60}'))

    ((_, content),) = life.dataset.files().items()
    (row,) = content.splitlines()
    assert tuple(msgspec.json.decode(row)) == KEYED_COLUMNS
    assert b'"value_double":60,' in row


async def test_the_body_of_a_stranger_is_never_read(life):
    async with life.running() as flow:
        answer = await flow.post(an_export(), token="stolen")

    assert answer.status == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert not answer.body_was_read


async def test_a_retry_gets_the_first_receipt_and_uploads_nothing(life):
    async with life.running() as flow:
        first = await flow.post(an_export())
        again = await flow.post(an_export())

    assert not first.body["replayed"]
    assert again.body["replayed"]
    assert again.body["file_path"] == first.body["file_path"]
    assert again.body["transaction_rid"] == first.body["transaction_rid"]
    assert life.dataset.uuids() == ["a"]


async def test_twins_in_flight_share_one_upload(life):
    async with life.running() as flow:
        answers = await run_together(*[flow.post(an_export()) for _ in range(5)])

    assert {answer.status for answer in answers} == {200}
    assert len({answer.body["receipt_id"] for answer in answers}) == 1
    assert flow.seen.count_of(ExportAccepted) == 1
    assert life.dataset.uuids() == ["a"]


async def test_an_export_that_finds_the_uploader_asleep_wakes_it(life):
    async with life.running() as flow:
        for _ in range(4):  # queries to the store, queued after those of the uploader
            await flow.receipt("none")
        assert (await flow.post(an_export())).status == 200


async def test_the_same_lines_from_two_users_are_two_exports(life):
    async with life.running() as flow:
        ada = await flow.post(an_export(), token="token-of-ada")
        bob = await flow.post(an_export(), token="token-of-bob")

    assert (ada.status, bob.status) == (200, 200)
    assert life.dataset.uuids() == ["a", "a"]


@pytest.mark.parametrize(
    ("limits", "moment", "expected"),
    [
        pytest.param(GroupLimits(), "before put", [1, 11], id="room for all"),
        pytest.param(GroupLimits(exports_max=8), "before put", [1, 8, 3], id="8 at a time"),
        pytest.param(
            GroupLimits(bytes_max=2_000),
            "before put",
            [1, 4, 4, 3],
            id="4 have less than 2,000 bytes",
        ),
        pytest.param(
            GroupLimits(bytes_max=1), "before put", [1] * 12, id="what is too large goes alone"
        ),
        pytest.param(GroupLimits(), "before begin", [12], id="come while it is begun"),
        pytest.param(GroupLimits(exports_max=8), "before begin", [8, 4], id="... 8 at a time"),
        pytest.param(
            GroupLimits(bytes_max=1), "before begin", [1] * 12, id="... too large for company"
        ),
    ],
)
async def test_exports_that_wait_together_share_a_transaction(life, limits, moment, expected):
    life.group = limits
    life.dataset.mishaps[moment] = gate = Barrier()
    exports = [an_export(b'{"uuid":"%02d"}' % number) for number in range(12)]
    async with life.running() as flow, anyio.create_task_group() as senders:
        senders.start_soon(flow.post, exports[0])
        await gate.reached.wait()  # the first is in progress; the others arrive meanwhile
        for export in exports[1:]:
            senders.start_soon(flow.post, export)
        await flow.seen.wait_for(ExportAccepted, 12)
        gate.opened.set()

    groups = [event.exports for event in flow.seen if isinstance(event, GroupCommitted)]
    assert groups == expected
    assert life.dataset.uuids() == [f"{number:02d}" for number in range(12)]


async def test_while_foundry_is_down_exports_are_accepted_and_later_committed(life):
    life.dataset.down = True
    async with life.running() as flow:
        answer = await flow.post(an_export(), prefer="respond-async")
        assert (answer.status, answer.body["status"]) == (202, "accepted")
        assert answer.headers["location"].endswith(answer.body["receipt_id"])
        assert int(answer.headers["retry-after"]) > 0
        assert answer.body["transaction_rid"] is None
        assert answer.body["dataset_records_created"] == 0
        accepted = await flow.receipt(answer.body["receipt_id"])
        assert (accepted.status, accepted.body["status"]) == (200, "accepted")

        life.dataset.down = False
        await flow.seen.wait_for(GroupCommitted)
        receipt = await flow.receipt(answer.body["receipt_id"])

    assert (receipt.status, receipt.body["status"]) == (200, "committed")
    assert life.dataset.uuids() == ["a"]


async def test_a_full_journal_refuses_what_is_new_and_loses_nothing(life):
    life.dataset.down, life.journal_bytes_max = True, 1_500
    exports = [an_export(b'{"uuid":"%d"}' % number) for number in range(5)]
    async with life.running() as flow:
        posts = [flow.post(export, prefer="respond-async") for export in exports]
        answers = await run_together(*posts)
        assert [answer.status for answer in answers] == [202, 202, 202, 503, 503]
        assert answers[-1].body["error"]["code"] == "JOURNAL_FULL"
        assert int(answers[-1].headers["retry-after"]) > 0
        again = await flow.post(exports[0], prefer="respond-async")
        assert again.status == 202, "a retry needs no room"

        life.dataset.down = False
        await flow.seen.wait_for(GroupCommitted)
        await flow.post(exports[3])

    assert life.dataset.uuids() == ["0", "1", "2", "3"]


async def test_a_stuck_dataset_pushes_back_to_the_sender(life):
    life.dataset.mishaps["before commit"] = gate = Barrier()
    life.journal_bytes_max = 1_000
    exports = [an_export(b'{"uuid":"%d"}' % number) for number in range(4)]
    async with life.running() as flow:
        posts = [flow.post(export, prefer="respond-async") for export in exports]
        answers = await run_together(*posts)
        assert [answer.status for answer in answers] == [202, 202, 503, 503]
        await gate.reached.wait()
        gate.opened.set()

    assert life.dataset.uuids() == ["0", "1"]


async def test_a_stuck_stage_pushes_back_to_the_sender(life):
    async def stuck(work, /, *args):
        await anyio.sleep_forever()

    life.reply_seconds, life.drain_seconds, life.compute = 0.03, 0.03, stuck
    async with life.running() as flow:
        answers = await run_together(*[flow.post(an_export()) for _ in range(40)])

    assert {answer.status for answer in answers} == {503}
    assert {answer.body["error"]["code"] for answer in answers} == {"OVERLOADED"}


async def test_a_bad_line_is_reported_and_the_rest_is_committed(life):
    async with life.running() as flow:
        answer = await flow.post(an_export(b'{"uuid":"a"}\n\n{"uuid":secret}\n{"uuid":"b"}\n'))

    assert answer.status == 200
    assert answer.body["records_received"] == 3
    assert answer.body["records_ingested"] == 2
    assert answer.body["records_rejected"] == 1
    assert [reject["line"] for reject in answer.body["rejects"]] == [3]
    assert "secret" not in str(answer.body)
    assert life.dataset.uuids() == ["a", "b"]


async def test_the_lines_of_a_large_export_keep_their_numbers_and_their_order(life):
    life.journal_bytes_max = 2**24
    lines = [b'{"uuid":"%04d","unit":"%0500d"}' % (number, 0) for number in range(1, 3_001)]
    for number in (2, 1_500, 3_000):
        lines[number - 1] = b"{"
    async with life.running() as flow:
        answer = await flow.post(an_export(b"\n".join(lines)))

    assert answer.status == 200
    assert answer.body["records_ingested"] == 2_997
    assert [reject["line"] for reject in answer.body["rejects"]] == [2, 1_500, 3_000]
    assert life.dataset.uuids() == [line[9:13].decode() for line in lines if line != b"{"]


async def test_a_batch_answers_for_each_chunk(life):
    chunks = [an_export(), {"rawhealthkit": "!"}, an_export(b'{"uuid":"b"}'), an_export()]
    async with life.running() as flow:
        answer = await flow.post({"chunks": chunks}, "/export/batch")

    assert answer.status == 207, "what failed is the sender's fault"
    assert not answer.body["success"]
    assert [result["chunkIndex"] for result in answer.body["upload_results"]] == [0, 2, 3]
    assert [error["chunkIndex"] for error in answer.body["errors"]] == [1]
    assert life.dataset.uuids() == ["a", "b"]


async def test_a_batch_is_accepted_when_all_of_it_is_safe(life):
    life.dataset.down, batch = True, {"chunks": [an_export()]}
    async with life.running() as flow:
        answer = await flow.post(batch, "/export/batch", prefer="respond-async")
        life.dataset.down = False

    assert (answer.status, answer.body["success"]) == (202, True)


async def test_a_batch_that_fails_by_our_fault_is_sent_again_and_makes_no_row_twice(life):
    life.dataset.down, life.journal_bytes_max = True, 500
    batch = {"chunks": [an_export(), {"rawhealthkit": "!"}, an_export(b'{"uuid":"b"}')]}
    async with life.running() as flow:
        answer = await flow.post(batch, "/export/batch", prefer="respond-async")
        life.dataset.down = False
        await flow.seen.wait_for(GroupCommitted)
        again = await flow.post(batch, "/export/batch")

    assert (answer.status, answer.body["error"]["code"]) == (503, "JOURNAL_FULL")
    assert int(answer.headers["retry-after"]) > 0
    assert answer.body["chunks_failed"] == 2
    assert [error["retryable"] for error in answer.body["errors"]] == [False, True]
    assert again.status == 207
    assert life.dataset.uuids() == ["a", "b"]


async def test_a_batch_of_which_nothing_is_any_good_is_refused_chunk_by_chunk(life):
    chunks = [{"rawhealthkit": "!"}, an_export(b"{")]
    async with life.running() as flow:
        answer = await flow.post({"chunks": chunks}, "/export/batch")

    assert (answer.status, answer.body["error"]["code"]) == (400, "BATCH_UPLOAD_FAILED")
    codes = [error["code"] for error in answer.body["errors"]]
    assert codes == ["INVALID_PAYLOAD", "INVALID_NDJSON"]


async def test_at_the_end_whoever_waits_is_told_at_once_that_the_export_is_safe(life):
    life.dataset.mishaps["before commit"] = gate = Barrier()
    life.reply_seconds = life.drain_seconds = 60

    async def told():
        assert (await flow.post(an_export())).status == 202
        gate.opened.set()  # until then, the service cannot stop

    with anyio.fail_after(5):
        async with anyio.create_task_group() as senders, life.running() as flow:
            senders.start_soon(told)
            await gate.reached.wait()
    assert life.dataset.uuids() == ["a"]


async def test_a_receipt_is_shown_to_its_own_user_only(life):
    async with life.running() as flow:
        id = (await flow.post(an_export())).body["receipt_id"]

        assert (await flow.receipt(id)).status == 200
        assert (await flow.receipt(id, token="token-of-bob")).status == 404
        assert (await flow.receipt(id, token="stolen")).status == 401


async def test_equal_chunks_of_a_batch_make_one_set_of_rows(life):
    async with life.running() as flow:
        answer = await flow.post({"chunks": [an_export()] * 3}, "/export/batch")

    assert answer.status == 200
    assert [each["replayed"] for each in answer.body["upload_results"]].count(True) == 2
    assert answer.body["total_records"] == 1
    assert life.dataset.uuids() == ["a"]


async def test_thirty_exports_in_one_millisecond_make_thirty_files(life):
    exports = [an_export(b'{"uuid":"%02d"}' % number) for number in range(30)]
    async with life.running() as flow:
        answers = await run_together(*[flow.post(export) for export in exports])

    assert len({answer.body["file_path"] for answer in answers}) == 30
    assert len(life.dataset.uuids()) == 30


async def test_an_idempotency_key_names_one_export_and_no_other(life):
    async with life.running() as flow:
        first = await flow.post(an_export(), idempotency_key="k")
        again = await flow.post(an_export(), idempotency_key="k")
        other = await flow.post(an_export(b'{"uuid":"b"}'), idempotency_key="k")
        bobs = await flow.post(an_export(), token="token-of-bob", idempotency_key="k")
        unnamed = await flow.post(an_export())

    assert (first.status, again.body["replayed"], bobs.body["replayed"]) == (200, True, False)
    assert (other.status, other.body["error"]["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert unnamed.body["receipt_id"] == first.body["receipt_id"]
    assert life.dataset.uuids() == ["a", "a"]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param([b"a", b"c"], id="another chunk"),
        pytest.param([b"b", b"a"], id="another order"),
        pytest.param([b"a"], id="fewer"),
        pytest.param([b"a", b"b", b"c"], id="more"),
    ],
)
async def test_the_key_of_a_batch_names_all_of_it_in_order(life, other):
    def batch(uuids):
        return {"chunks": [an_export(b'{"uuid":"%s"}' % uuid) for uuid in uuids]}

    async with life.running() as flow:
        first = await flow.post(batch([b"a", b"b"]), "/export/batch", idempotency_key="k")
        refused = await flow.post(batch(other), "/export/batch", idempotency_key="k")
        again = await flow.post(batch([b"a", b"b"]), "/export/batch", idempotency_key="k")

    assert (first.status, refused.status, again.status) == (200, 422, 200)
    assert again.headers["idempotency-replayed"] == "true"
    assert life.dataset.uuids() == ["a", "b"]


async def test_a_refused_export_binds_no_key(life):
    async with life.running() as flow:
        refused = await flow.post(an_export(b"{"), idempotency_key="k")
        mended = await flow.post(an_export(), idempotency_key="k")

    assert (refused.status, mended.status) == (400, 200)


async def test_receipts_are_listed_newest_first_page_by_page_and_by_key(life):
    async with life.running() as flow:
        for number in range(5):
            await flow.post(an_export(b'{"uuid":"%d"}' % number), idempotency_key=f"k{number}")
        await flow.post(an_export(), token="token-of-bob")

        page = (await flow.send("GET", f"{API_PREFIX}/exports?limit=3", "token-of-ada")).body
        rest = f"{API_PREFIX}/exports?limit=3&cursor={page['next_cursor']}"
        more = (await flow.send("GET", rest, "token-of-ada")).body
        named = (await flow.send("GET", f"{API_PREFIX}/exports?key=k2", "token-of-ada")).body
        bobs = (await flow.send("GET", f"{API_PREFIX}/exports?key=k2", "token-of-bob")).body

    paths = [each["file_path"] for each in page["receipts"] + more["receipts"]]
    assert (len(paths), paths) == (5, sorted(paths, reverse=True))
    assert more["next_cursor"] is None
    assert [each["file_path"] for each in named["receipts"]] == [paths[2]]
    assert bobs["receipts"] == []


@pytest.mark.parametrize(
    ("prefer", "waits"),
    [
        ("respond-async", False),
        ("wait=0", False),
        ("handling=strict, respond-async", False),
        ("wait=5", True),
        ("respond-async, wait=5", True),
        ("wait=soon", True),
    ],
)
async def test_a_sender_says_how_long_it_wants_to_wait(life, prefer, waits):
    life.dataset.mishaps["before commit"] = gate = Barrier()
    async with life.running() as flow, anyio.create_task_group() as tasks:
        answers = []

        async def send():
            answers.append(await flow.post(an_export(), prefer=prefer))

        tasks.start_soon(send)
        await gate.reached.wait()
        await anyio.wait_all_tasks_blocked()
        assert len(answers) == (0 if waits else 1)
        gate.opened.set()

    assert answers[0].status == (200 if waits else 202)


async def test_a_journal_in_memory_never_answers_202(life):
    life.journal, life.reply_seconds, life.dataset.down = None, 0.5, True
    async with life.running() as flow:
        answer = await flow.post(an_export(), prefer="respond-async")
        life.dataset.down = False
        await flow.is_empty()
        joined = await flow.post(an_export())

    assert (answer.status, answer.body["error"]["code"]) == (503, "FOUNDRY_ERROR")
    assert int(answer.headers["retry-after"]) > 0
    assert (joined.status, joined.body["replayed"]) == (200, True)


async def test_what_was_said_of_the_count_and_is_not_so_is_a_warning(life):
    async with life.running() as flow:
        wrong = await flow.post(an_export(recordCount=12))
        right = await flow.post(an_export(recordCount=1))

        absurd = await flow.post(an_export(recordCount=int("9" * 400)))

    assert len(absurd.body["warnings"][0]) < 100
    assert wrong.body["warnings"] == ["recordCount is 12, lines received: 1"]
    told = [(each.id, each.received) for each in flow.seen.of(RecordCountMismatch)]
    assert told == [(each.body["receipt_id"], 1) for each in (wrong, absurd)]
    assert right.body["warnings"] == []


async def test_a_manifest_is_that_of_this_request_byte_for_byte(life):
    async with life.running() as flow:
        first = await flow.post(an_export(manifest={"a": [1.50, None], "b": "’"}))
        again = await flow.post(an_export(manifest="other"), x_correlation_id="mine")

    assert first.body["manifest"] == {"a": [1.5, None], "b": "’"}
    assert (again.body["manifest"], again.body["correlationId"]) == ("other", "mine")


async def test_a_timestamp_as_sent_is_part_of_what_makes_exports_the_same(life):
    async with life.running() as flow:
        first = await flow.post(an_export(timestamp="2025-09-26T06:30:00Z", device="Watch"))
        again = await flow.post(an_export(timestamp="2025-09-26T06:30:00Z", device="Watch"))
        later = await flow.post(an_export(timestamp="2025-09-26T06:31:00Z", device="Watch"))
        absent = [await flow.post(an_export(timestamp=none)) for none in ("", None, 5)]

    assert [each.body["replayed"] for each in (first, again, later)] == [False, True, False]
    assert [each.body["replayed"] for each in absent] == [False, True, True]
    (row, *_) = life.dataset.rows()
    assert (row["export_timestamp"], row["device"]) == ("2025-09-26T06:30:00Z", "Watch")
    assert life.dataset.rows()[-1]["export_timestamp"] == "2026-01-02T12:00:00.000Z"


async def test_a_phone_that_sends_the_same_again_and_again_is_told_of_at_every_tenth_time(life):
    """With different timestamps they are separate exports, and the phone is reported as stuck."""
    async with life.running() as flow:
        for number in range(21):
            await flow.post(an_export(timestamp=f"now, {number}"))
            await flow.post(an_export(device="another", timestamp=f"now, {number}"))
            await flow.post(an_export(b'{"uuid":"%d"}\n' % number))
        await flow.post(an_export(timestamp="now, 20"), token="token-of-eve")
        told = [(each.user, each.times) for each in flow.seen.of(ClientStuck)]
    assert told == [("ada", 10), ("ada", 10), ("ada", 20), ("ada", 20)]


async def test_a_bug_is_an_answer_an_event_and_nothing_of_the_data(life, monkeypatch):
    async def broken(_intake, _export):
        raise ValueError("72 beats of Ada")

    monkeypatch.setattr(SqliteIntake, "append", broken)
    async with life.running() as flow:
        answer = await flow.post(an_export())
        (crash,) = flow.seen.of(StageCrashed)

    assert (answer.status, answer.body["error"]["code"]) == (500, "INTERNAL_ERROR")
    assert (crash.stage, crash.error) == ("journal", "ValueError")
    assert "Ada" not in str(crash) + str(answer.body)


async def test_while_it_drains_nothing_new_is_taken_and_readiness_says_so(life):
    async with life.running() as flow:
        flow.service.drain()
        answer = await flow.post(an_export())
        ready = await flow.send("GET", "/health/ready", None)
        live = await flow.send("GET", "/health/live", None)

    assert (answer.status, answer.body["error"]["code"]) == (503, "DRAINING")
    assert not answer.body_was_read
    assert (ready.status, ready.body["checks"]["draining"]["ok"]) == (503, False)
    assert live.status == 200


async def test_readiness_does_not_need_foundry(life):
    life.dataset.down = True
    async with life.running() as flow:
        assert (await flow.send("GET", "/health/ready", None)).status == 200


async def test_readiness_needs_room_in_the_journal(life):
    life.journal_bytes_max = 0
    async with life.running() as flow:
        ready = await flow.send("GET", "/health/ready", None)
        assert (await flow.send("GET", "/health/live", None)).status == 200

    assert (ready.status, ready.body["checks"]["journal"]["ok"]) == (503, False)
    assert "wait for Foundry" in ready.body["checks"]["journal"]["reason"]


async def test_an_idle_uploader_starts_at_once_and_a_busy_one_once_in_an_interval(life):
    life.interval_seconds = 0.2
    async with life.running() as flow:
        await flow.post(an_export())
        await run_together(*[flow.post(an_export(b'{"uuid":"%d"}' % n)) for n in range(9)])

    assert [event.exports for event in flow.seen.of(GroupCommitted)] == [1, 9]


async def test_a_daily_sync_does_not_wait_behind_the_years_of_another(life):
    life.group, life.journal_bytes_max = GroupLimits(bytes_max=4_000_000), 64_000_000
    life.dataset.mishaps["before begin"] = gate = Barrier()
    years = [b'{"uuid":"y%d","metadata":{"a":"%b"}}\n' % (n, b"." * 1_500_000) for n in range(6)]
    later = {"Prefer": "respond-async"}
    async with life.running() as flow:
        await flow.post(an_export(b'{"uuid":"first"}\n'), **later)
        await gate.reached.wait()
        for year in years:
            await flow.post(an_export(year), **later)
        await flow.post(an_export(b'{"uuid":"today"}\n'), **later)
        gate.opened.set()
        await flow.is_empty()

    groups = [each.files for each in life.dataset.transactions.values()]
    assert len(groups) >= 3
    assert any(b'"today"' in file for file in groups[0].values())
    assert len(life.dataset.uuids()) == 8
