"""Phones: what the service remembers of each, and the reports that they send."""

import gzip
import io
import sqlite3
from contextlib import closing
from datetime import timedelta

import msgspec
import pytest

from atlas.core.identifiers import API_PREFIX
from atlas.core.messages import User
from atlas.edge.reports import REPORT_BYTES_MAX
from atlas.outside.journal.cipher import Cipher
from atlas.outside.journal.phones import PhoneCodec, PhoneRow
from atlas.outside.log import EventLog, build_logger
from atlas.outside.sqlite import schema
from atlas.outside.sqlite.phones import (
    DEFERRED_MAX,
    OF_USER,
    STORE_SECONDS,
    STORED_AT_ONCE,
    SqlitePhoneWriter,
)
from tests.conftest import an_export, asgi
from tests.support.exports import ADA, NOON, export
from tests.support.generator import lines

HOST, USER = "127.0.0.1:9464", User("ada")
PULSE = "HKQuantityTypeIdentifierHeartRate"
REPORT = {"event": "sync_ended", "at": "2026-01-02T12:00:00Z"}
COUNT = {"type": PULSE, "day": "2026-01-02", "samples": 1412}


def sample(uuid, type=PULSE, start="2026-01-02T11:00:00Z", **more):
    record = {"uuid": uuid, "sampleType": type, "startDate": start, "endDate": start} | more
    return msgspec.json.encode(record) + b"\n"


async def report(flow, body=REPORT, token="token-of-ada", **headers):
    encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return await flow.send("POST", f"{API_PREFIX}/reports", token, encoded, **headers)


async def list_phones(flow, query=""):
    answer = await asgi(flow.service.operator, "GET", f"/phones{query}", {"host": HOST})
    assert answer.status == 200
    return answer.body


async def stored_counts(flow, user="ada"):
    body = msgspec.json.encode({"user": user})
    answer = await asgi(flow.service.operator, "POST", "/phones/reports", {"host": HOST}, body)
    return answer.body["reports"]


async def test_an_export_tells_the_last_sample_of_each_type_and_the_versions(life):
    device = {"model": "iPhone", "softwareVersion": "18.1"}
    steps = "HKQuantityTypeIdentifierStepCount"
    text = (
        sample("a", start="2026-01-02T09:00:00Z")
        + sample("b", start="2026-01-02T11:00:00Z", device=device, sourceVersion="2.0")
        + sample("c", start="2026-01-01T11:00:00Z")
        + sample("d", steps, "2025-12-31T11:00:00Z", device=device, sourceVersion="2.0")
        + b"bad\n"
    )
    async with life.running() as flow:
        await flow.post(an_export(text, device="Ada's iPhone"))
        (phone,) = (await list_phones(flow))["phones"]

    assert phone["samples"] == {PULSE: "2026-01-02T11:00:00Z", steps: "2025-12-31T11:00:00Z"}
    assert (phone["device"], phone["os_version"], phone["source_version"]) == (
        "Ada's iPhone",
        "18.1",
        "2.0",
    )
    assert (phone["exports"], phone["rows"], phone["rejected"], phone["state"]) == (
        1,
        4,
        1,
        "active",
    )


@pytest.mark.parametrize("start", ["2031-01-01T00:00:00Z", "2026-01-02 or so", "zebra", "", "1"])
async def test_a_start_that_is_no_date_of_today_hides_no_other(life, start):
    text = sample("a") + sample("b", start=start) + sample("c", "Other", start)
    async with life.running() as flow:
        await flow.post(an_export(text))
        (phone,) = (await list_phones(flow))["phones"]

    assert phone["samples"] == {PULSE: "2026-01-02T11:00:00Z"}


async def test_a_large_export_is_summarized_as_a_small_one(life):
    text = b"\n".join(lines(2_000))
    dates = {}
    for line in text.split(b"\n"):
        record = msgspec.json.decode(line)
        type = record.get("sampleType") or record.get("type")
        start = record.get("startDate") or record.get("start") or ""
        if type and start < "2026-01-04":
            dates[type] = max(start, dates.get(type, ""))
    life.journal_bytes_max = 100_000_000
    async with life.running() as flow:
        assert (await flow.post(an_export(text))).status == 200
        (phone,) = (await list_phones(flow))["phones"]

    assert phone["samples"] == {type: start for type, start in dates.items() if start}


async def test_a_phone_that_keeps_sending_the_same_is_stuck(life):
    async with life.running() as flow:
        for _ in range(9):
            await flow.post(an_export())
        before = (await list_phones(flow))["totals"]
        for number in range(2):  # the same bytes, also with another timestamp
            await flow.post(an_export(timestamp=str(number)))
        after = await list_phones(flow)

    assert before == {"active": 1, "quiet": 0, "stuck": 0}
    assert after["totals"] == {"active": 0, "quiet": 0, "stuck": 1}
    assert after["phones"][0]["exports"] == 3


async def test_the_quiet_are_counted_listed_and_in_the_metrics(life):
    async with life.running() as flow:
        await flow.post(an_export())
    life.now = lambda: NOON + timedelta(days=4)
    async with life.running() as flow:
        await flow.post(an_export(), token="token-of-bob")
        quiet = await list_phones(flow, "?quiet_seconds=259200")
        metrics = await asgi(flow.service.operator, "GET", "/metrics", {"host": HOST})

    assert [phone["state"] for phone in quiet["phones"]] == ["quiet"]
    assert quiet["totals"] == {"active": 1, "quiet": 1, "stuck": 0}
    assert b"atlas_phones_quiet 1.0" in metrics.body
    assert b'atlas_phones{state="quiet"} 1.0' in metrics.body


async def test_a_report_is_stored_and_answered_with_204(life):
    async with life.running() as flow:
        await flow.post(an_export(device="iPhone"))
        answer = await report(
            flow,
            REPORT
            | {"device": "iPhone", "counts": [COUNT], "battery": 0.5, "app_version": "2.1"}
            | {"error": {"code": "HKError 5", "message": "denied"}},
        )
        (stored,) = await stored_counts(flow)
        (phone,) = (await list_phones(flow))["phones"]

    assert (answer.status, answer.body) == (204, None)
    assert (stored["sub"], stored["report"]["counts"]) == ("ada", [COUNT])
    assert (phone["app_version"], phone["report"]["battery"]) == ("2.1", 0.5)
    assert phone["report"]["error"] == {"code": "HKError 5", "message": "denied"}


async def test_health_values_in_unknown_fields_are_not_stored(life):
    count = COUNT | {"mean": 61.5}
    body = REPORT | {"counts": [count], "values": [61.5, "CANARY"], "heartRate": "CANARY"}
    async with life.running() as flow:
        assert (await report(flow, body)).status == 204
        stored = await stored_counts(flow)

    assert b"61.5" not in msgspec.json.encode(stored)
    assert b"CANARY" not in msgspec.json.encode(stored)


NOTHING_KNOWN = {
    "event": "sync_ended",
    "at": "2026-01-02T12:00:00Z",
    "device": "unknown",
    "counts": [COUNT],
    "time_zone": None,
    "battery": None,
    "state": "",
    "app_version": "",
    "os_version": "",
}
KNOWN = {
    "every optional field is null": (
        dict.fromkeys(
            "device time_zone error battery state app_version os_version user sub".split()
        ),
        {},
    ),
    "all of an error is null": (
        {"error": {"code": None, "message": None}},
        {"error": {"code": "", "message": ""}},
    ),
    "iOS does not monitor the battery": ({"battery": -1.0}, {}),
    "a battery in percent": ({"battery": 62}, {}),
    "an empty battery": ({"battery": 0}, {"battery": 0.0}),
    "a full battery": ({"battery": 1}, {"battery": 1.0}),
    "the code of an NSError": (
        {"error": {"code": -1009, "message": "offline"}},
        {"error": {"code": "-1009", "message": "offline"}},
    ),
    "a code that is no whole number": (
        {"error": {"code": 2.5}},
        {"error": {"code": "2.5", "message": ""}},
    ),
    "an error as iOS describes it": (
        {"error": {"code": "é" * 65, "message": "🫀" * 501}},
        {"error": {"code": "é" * 64, "message": "🫀" * 500}},
    ),
    "long texts": (
        {"device": "d" * 257, "state": "s" * 33, "app_version": "a" * 65, "os_version": "o" * 65},
        {"device": "d" * 256, "state": "s" * 32, "app_version": "a" * 64, "os_version": "o" * 64},
    ),
}


@pytest.mark.parametrize("case", KNOWN)
async def test_a_report_is_not_lost_for_a_field_of_which_the_phone_knows_nothing(life, case):
    sent, known = KNOWN[case]
    async with life.running() as flow:
        answer = await report(flow, REPORT | {"counts": [COUNT]} | sent)
        (stored,) = await stored_counts(flow)

    assert answer.status == 204
    assert stored["report"] == NOTHING_KNOWN | known


async def test_counts_that_are_null_are_none(life):
    async with life.running() as flow:
        answer = await report(flow, REPORT | {"counts": None, "state": "background"})
        counts = await stored_counts(flow)
        (phone,) = (await list_phones(flow))["phones"]

    assert (answer.status, counts, phone["report"]["state"]) == (204, [], "background")


async def test_a_long_name_of_a_device_is_that_of_its_exports(life):
    name = "i" * 300
    async with life.running() as flow:
        await flow.post(an_export(device=name))
        await report(flow, REPORT | {"device": name, "app_version": "2.1"})
        (phone,) = (await list_phones(flow))["phones"]

    assert (phone["exports"], phone["app_version"]) == (1, "2.1")


INVALID = {
    "no JSON": (b"sync ended", 400, "INVALID_PAYLOAD"),
    "no object": (b"[]", 400, "INVALID_PAYLOAD"),
    "empty": (b"", 400, "INVALID_PAYLOAD"),
    "no event": ({"at": REPORT["at"]}, 400, "INVALID_PAYLOAD"),
    "an unknown event": (REPORT | {"event": "slept"}, 400, "INVALID_PAYLOAD"),
    "a time without offset": (REPORT | {"at": "2026-01-02T12:00:00"}, 400, "INVALID_PAYLOAD"),
    "a day that is none": (
        REPORT | {"counts": [COUNT | {"day": "2026-02-30"}]},
        400,
        "INVALID_PAYLOAD",
    ),
    "a day to come": (REPORT | {"counts": [COUNT | {"day": "2026-01-04"}]}, 400, "INVALID_PAYLOAD"),
    "fewer than none": (REPORT | {"counts": [COUNT | {"samples": -1}]}, 400, "INVALID_PAYLOAD"),
    "a battery in words": (REPORT | {"battery": "full"}, 400, "INVALID_PAYLOAD"),
    "a list of errors": (REPORT | {"error": ["denied"]}, 400, "INVALID_PAYLOAD"),
    "a code that is a list": (REPORT | {"error": {"code": [5]}}, 400, "INVALID_PAYLOAD"),
    "a code that is true": (REPORT | {"error": {"code": True}}, 400, "INVALID_PAYLOAD"),
    "a state that is a list": (REPORT | {"state": ["background"]}, 400, "INVALID_PAYLOAD"),
    "an event that is null": (REPORT | {"event": None}, 400, "INVALID_PAYLOAD"),
    "a time that is null": (REPORT | {"at": None}, 400, "INVALID_PAYLOAD"),
    "a count that is null": (REPORT | {"counts": [None]}, 400, "INVALID_PAYLOAD"),
    "samples that are null": (
        REPORT | {"counts": [COUNT | {"samples": None}]},
        400,
        "INVALID_PAYLOAD",
    ),
    "a long type": (REPORT | {"counts": [COUNT | {"type": "x" * 129}]}, 400, "INVALID_PAYLOAD"),
    "a zone by name": (REPORT | {"time_zone": "Berlin"}, 400, "INVALID_PAYLOAD"),
    "another's name": (REPORT | {"user": "bob"}, 400, "INVALID_PAYLOAD"),
    "another's sub": (REPORT | {"sub": "bob"}, 400, "INVALID_PAYLOAD"),
    "the last moment of all": (REPORT | {"at": "9999-12-31T23:59:59Z"}, 400, "INVALID_PAYLOAD"),
    "the first moment of all": (
        REPORT | {"at": "0001-01-01T00:00:00+14:00"},
        400,
        "INVALID_PAYLOAD",
    ),
    "a day of no phone": (
        REPORT | {"counts": [COUNT | {"day": "0001-01-01"}]},
        400,
        "INVALID_PAYLOAD",
    ),
    "another calendar": (REPORT | {"at": "令和8年1月2日"}, 400, "INVALID_PAYLOAD"),
    "a day of the Buddhist calendar": (
        REPORT | {"counts": [COUNT | {"day": "2569-01-02"}]},
        400,
        "INVALID_PAYLOAD",
    ),
    "digits that are not ASCII": (
        REPORT | {"counts": [COUNT | {"day": "٢٠٢٦-٠١-٠٢"}]},
        400,
        "INVALID_PAYLOAD",
    ),
    "NaN": (
        b'{"event":"sync_ended","at":"2026-01-02T12:00:00Z","battery":NaN}',
        400,
        "INVALID_PAYLOAD",
    ),
    "a number beyond all": (
        REPORT | {"counts": [COUNT | {"samples": 10**15}]},
        400,
        "INVALID_PAYLOAD",
    ),
    "a number of 5,000 digits": (
        b'{"event":"sync_ended","at":"2026-01-02T12:00:00Z","battery":' + b"9" * 5_000 + b"}",
        400,
        "INVALID_PAYLOAD",
    ),
    "half a sample": (REPORT | {"counts": [COUNT | {"samples": 1.5}]}, 400, "INVALID_PAYLOAD"),
    "deep nesting": (b'{"event":' + b"[" * 30_000 + b"]" * 30_000 + b"}", 400, "INVALID_PAYLOAD"),
    "deep nesting where nobody looks": (
        b'{"event":"sync_ended","at":"2026-01-02T12:00:00Z","more":'
        + b"[" * 30_000
        + b"]" * 30_000
        + b"}",
        400,
        "INVALID_PAYLOAD",
    ),
    "no UTF-8": (
        b'{"event":"sync_ended","at":"2026-01-02T12:00:00Z","state":"\xff"}',
        400,
        "INVALID_PAYLOAD",
    ),
    "half a surrogate": (
        b'{"event":"sync_ended","at":"2026-01-02T12:00:00Z","state":"\\ud800"}',
        400,
        "INVALID_PAYLOAD",
    ),
    "more counts than fit": (
        REPORT | {"counts": [{"type": "A", "day": "2026-01-02", "samples": 1}] * 1_600},
        413,
        "PAYLOAD_TOO_LARGE",
    ),
    "a device of a megabyte": (REPORT | {"device": "x" * 2**20}, 413, "PAYLOAD_TOO_LARGE"),
    "too large": (REPORT | {"notes": "x" * REPORT_BYTES_MAX}, 413, "PAYLOAD_TOO_LARGE"),
}


@pytest.mark.parametrize("case", INVALID)
async def test_an_invalid_report_is_refused_and_not_stored(life, case):
    body, status, code = INVALID[case]
    async with life.running() as flow:
        answer = await report(flow, body)
        holdings = await flow.people.read_holdings(USER)

    assert (answer.status, answer.body["error"]["code"]) == (status, code)
    assert holdings.reports == 0


async def test_a_report_in_the_own_name_is_taken_and_one_without_a_token_is_not(life):
    async with life.running() as flow:
        own = await report(flow, REPORT | {"user": "ada", "sub": "ada"})
        nobody = await report(flow, token=None)
        as_text = await report(flow, content_type="text/plain")

    assert [answer.status for answer in (own, nobody, as_text)] == [204, 401, 415]


async def test_a_report_may_be_compressed_but_not_to_hide_its_size(life):
    large = gzip.compress(msgspec.json.encode(REPORT | {"notes": "x" * REPORT_BYTES_MAX}))
    async with life.running() as flow:
        small = await report(
            flow, gzip.compress(msgspec.json.encode(REPORT)), content_encoding="gzip"
        )
        bomb = await report(flow, large, content_encoding="gzip")
        broken = await report(flow, b"no gzip", content_encoding="gzip")

    assert [answer.status for answer in (small, bomb, broken)] == [204, 413, 400]


async def test_an_event_that_is_none_is_answered_with_those_that_there_are(life):
    async with life.running() as flow:
        answer = await report(flow, REPORT | {"event": "slept"})

    assert "event is none of sync_began, sync_ended, sync_failed" in str(answer.body)


async def test_of_a_key_that_occurs_twice_the_last_one_holds_and_is_checked(life):
    twice = b'{"event":"sync_ended","at":"2026-01-02T12:00:00Z","user":"ada","user":"bob"}'
    async with life.running() as flow:
        answer = await report(flow, twice)

    assert answer.status == 400


async def test_no_text_of_a_report_reaches_the_log_or_the_metrics(life):
    log = io.StringIO()
    life.readers = {"log": EventLog(build_logger(log, "debug", "json"), b"k" * 32)}
    texts = {"device": "CANARY", "state": "CANARY", "app_version": "CANARY", "os_version": "CANARY"}
    error = {"code": "CANARY", "message": "CANARY pulse 61.5"}
    count = COUNT | {"type": "CANARY"}
    async with life.running() as flow:
        answer = await report(flow, REPORT | texts | {"error": error, "counts": [count]})
        refused = await report(flow, REPORT | texts | {"error": error, "battery": "CANARY"})
        metrics = await asgi(flow.service.operator, "GET", "/metrics", {"host": HOST})
        status = await asgi(flow.service.operator, "GET", "/status", {"host": HOST})

    assert (answer.status, refused.status, status.status) == (204, 400, 200)
    assert "/reports" in log.getvalue()
    for each in (log.getvalue(), str(refused.body), str(metrics.body), str(status.body)):
        assert "CANARY" not in each


async def test_reports_have_a_limit_of_their_own_and_leave_exports_alone(life):
    life.edge = {"reports_per_hour": 2}
    async with life.running() as flow:
        answers = [await report(flow) for _ in range(3)]
        other = await report(flow, token="token-of-bob")
        export = await flow.post(an_export())

    assert [answer.status for answer in answers] == [204, 204, 429]
    refused = answers[-1]
    assert refused.body["error"]["code"] == "RATE_LIMITED"
    assert 0 < int(refused.headers["retry-after"]) <= 3_600
    assert refused.headers["ratelimit-policy"] == "2;w=3600"
    assert (other.status, export.status) == (204, 200)


@pytest.mark.parametrize("query", ["?limit=0", "?limit=10001", "?before=x", "?quiet_seconds=-1"])
async def test_a_parameter_that_is_wrong_is_named(life, query):
    async with life.running() as flow:
        answer = await asgi(flow.service.operator, "GET", f"/phones{query}", {"host": HOST})

    assert answer.status == 400
    assert query[1:].partition("=")[0] in answer.body["error"]


def test_what_a_phone_sends_within_seconds_changes_its_row_once():
    now, changes = [0.0], list[int]()
    writer = SqlitePhoneWriter(PhoneCodec(Cipher(bytes(32))), lambda: now[0])
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        schema.create_tables(db)
        for at in (0, 1, 2, 9, 10, 11):
            now[0] = at
            writer.begin()
            writer.add(export(at))
            before = db.total_changes
            writer.store_pending(db)
            changes.append(db.total_changes - before)
        writer.finish(db)

        ((*columns, _),) = db.execute(OF_USER, [writer.codec.cipher.hash_user(ADA.sub)])
    fields = writer.codec.open(PhoneRow(*columns))
    assert changes == [1, 0, 0, 0, 1, 0]
    assert fields is not None
    assert [day.exports for day in fields.days] == [6]


def test_a_commit_that_was_rolled_back_counts_nothing():
    writer = SqlitePhoneWriter(PhoneCodec(Cipher(bytes(32))), lambda: 0.0)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        schema.create_tables(db)
        writer.add(export(1))
        writer.begin()
        writer.finish(db)

        assert db.execute("SELECT count(*) FROM phone").fetchone() == (0,)


def test_many_phones_are_stored_in_steps_and_the_first_of_too_many_at_once():
    now = [0.0]
    writer = SqlitePhoneWriter(PhoneCodec(Cipher(bytes(32))), lambda: now[0])
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        schema.create_tables(db)

        def count_stored(*numbers):
            writer.begin()
            for number in numbers:
                first = export(number)
                head = msgspec.structs.replace(first.head, user=User(f"user {number}"))
                writer.add(msgspec.structs.replace(first, head=head))
            writer.store_pending(db)
            return db.execute("SELECT count(*) FROM phone").fetchone()[0]

        first, many = count_stored(0), count_stored(*range(1, DEFERRED_MAX + 8))
        now[0] = STORE_SECONDS + 1
        steps = [count_stored() for _ in range(DEFERRED_MAX // STORED_AT_ONCE + 1)]

    expected = [8 + STORED_AT_ONCE * step for step in range(1, len(steps))]
    assert (first, many) == (1, 8)
    assert steps == [*expected, DEFERRED_MAX + 8]
