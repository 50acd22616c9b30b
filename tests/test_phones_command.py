"""`atlas phones`: lists of the phones, and the comparison of their counts with the dataset."""

import csv
from datetime import UTC, date, datetime, timedelta

import anyio
import msgspec
import pytest

from atlas.cli import phone_tables
from atlas.core import identifiers
from atlas.core.messages import User
from atlas.core.phones import Phone, PhonePage, PhoneReport, PhoneTotals, RowSummary, SampleCount
from atlas.core.rows import Header, RowForm, flatten
from atlas.local.foundry.behaviour import Behaviour
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.parquet import to_parquet
from atlas.outside.sqlite.journal import open_journal
from tests.support.exports import export
from tests.support.processes import HOST
from tests.support.served_foundry import commit

NOW = datetime.now(UTC)
DAY = date(2026, 1, 2)
PULSE = "HKQuantityTypeIdentifierHeartRate"
ADA, BOB = User("auth0|ada"), User("auth0|bob")
AT = datetime(2026, 1, 3, tzinfo=UTC)


def phone_export(number, user=ADA, days=0.0, device="iPhone"):
    made = export(number)
    head = msgspec.structs.replace(made.head, user=user, device=device)
    summary = RowSummary({PULSE: "2026-01-02T11:00:00Z"}, "2.0", "18.1")
    table = msgspec.structs.replace(made.table, summary=summary)
    at = NOW - timedelta(days=days)
    return msgspec.structs.replace(made, head=head, at=at, table=table)


async def fill(path, exports=(), reports=()):
    with open_journal(path, CapacityLimits(free_bytes=0)) as journal:
        for each in exports:
            await journal.intake.append(each)
        for user, counts, *zone in reports:
            report = PhoneReport("sync_ended", AT, "iPhone", tuple(counts), *zone)
            await journal.phones.store_report(user, report, AT)


@pytest.fixture
def journal(tmp_path):
    """A journal with a phone that is active, one that is quiet, and one that is long gone."""
    path = tmp_path / "journal"
    exports = (
        phone_export(1),
        phone_export(2, BOB, days=5, device="=Bob's \x1b[31m very long name"),
        phone_export(3, User("auth0|cy"), days=40),
    )
    anyio.run(fill, path, exports)
    return path


def test_the_table_has_80_columns_and_the_totals(atlas, journal):
    ended = atlas("phones", "--journal", journal)

    heading, *rows, totals = ended.out.splitlines()
    assert ended.code == 0
    assert max(map(len, (heading, *rows))) <= 80
    assert [row.split()[-1] for row in rows] == ["active", "quiet", "quiet"]
    assert "\x1b" not in ended.out
    assert totals == "2 phones in 30 days: 1 active, 1 quiet for 3 days, 0 stuck"


def test_those_who_have_stopped_are_listed_and_a_limit_says_that_there_are_more(atlas, journal):
    quiet = atlas("phones", "--quiet", "3d", "--journal", journal)
    limited = atlas("phones", "--limit", "1", "--journal", journal)
    unlimited = atlas("phones", "--limit", "0", "--json", "--journal", journal)

    assert [row.split()[-1] for row in quiet.out.splitlines()[1:-1]] == ["quiet", "quiet"]
    assert limited.out.endswith("(more: --limit)\n")
    assert len(msgspec.json.decode(unlimited.out)["phones"]) == 3


def test_the_csv_has_a_line_for_each_phone_and_no_formula(atlas, journal):
    ended = atlas("phones", "--csv", "--journal", journal)

    rows = list(csv.DictReader(ended.out.splitlines()))
    assert [row["rows"] for row in rows] == ["1", "1", "0"]
    assert rows[0]["os_version"] == "18.1"
    assert rows[1]["device"].startswith("'=Bob")


def test_a_user_is_looked_up_with_the_last_sample_by_type(atlas, journal):
    ended = atlas("phones", "--sub", "auth0|ada", "--journal", journal)
    piped = atlas("phones", "--sub", "-", "--json", "--journal", journal, stdin=b"auth0|ada\n")
    nobody = atlas("phones", "--sub", "auth0|dan", "--journal", journal)

    assert ["2026-01-02T11:00:00", "HeartRate"] in [line.split() for line in ended.out.splitlines()]
    assert "system 18.1" in ended.out
    (phone,) = msgspec.json.decode(piped.out)["phones"]
    assert phone["samples"] == {PULSE: "2026-01-02T11:00:00Z"}
    assert nobody.out == "The journal knows no phone of this user.\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--quiet", "soon"), 2),
        (("--quiet", "3"), 2),
        (("--json", "--csv"), 2),
        (("--limit", "-1"), 2),
        (("--sub", "auth0|ada", "reconcile"), 2),
        (("--sub", "auth0|ada", "--quiet", "3d"), 2),
        (("reconcile", "--days", "0"), 2),
        (("reconcile", "--days", "1000000000"), 2),
        (("--journal", "absent"), 1),
    ],
)
def test_wrong_usage_is_one_line(atlas, arguments, code):
    ended = atlas("phones", *arguments)

    assert (ended.code, ended.out) == (code, "")
    assert "Traceback" not in ended.err


def samples(count, start="2026-01-02T11:00:00Z", type=PULSE, name="s"):
    return [
        msgspec.json.encode({"uuid": f"{name}{number}", "sampleType": type, "startDate": start})
        for number in range(count)
    ]


def rows_of(user, lines):
    return flatten(lines, Header(user.sub, "iPhone", "T", "T")).ndjson


def path_of(user, minutes=0):
    return identifiers.build_path(user, AT + timedelta(minutes=minutes))


def reconcile(atlas, url, journal, *more):
    return atlas("phones", "reconcile", "--from", url, "--journal", journal, *more)


@pytest.fixture
def reported(tmp_path):
    """Return a function that writes a journal with reports of these counts."""

    def write(*reports):
        path = tmp_path / "journal"
        anyio.run(fill, path, (), reports)
        return path

    return write


def test_a_gap_is_named_and_ends_with_1(atlas, url, emulator, reported):
    journal = reported(
        (ADA, [SampleCount(PULSE, DAY, 1_412), SampleCount("StepCount", DAY, 2)]),
    )
    commit(
        emulator, {path_of(ADA): rows_of(ADA, samples(2, type="HKQuantityTypeIdentifierStepCount"))}
    )
    ended = reconcile(atlas, url, journal)
    as_json = reconcile(atlas, url, journal, "--json", "--sub", ADA.sub)

    assert ended.out.splitlines() == [
        "HeartRate, 2026-01-02: phone 1,412, dataset 0",
        "2 counts of 1 user compared: 1 gap.",
    ]
    assert (ended.code, as_json.code) == (1, 1)
    (gap,) = msgspec.json.decode(as_json.out)["gaps"]
    assert (gap["type"], gap["day"], gap["phone"], gap["dataset"]) == (
        "HeartRate",
        "2026-01-02",
        1412,
        0,
    )


def test_what_is_twice_or_deleted_or_another_s_does_not_fill_a_gap(
    atlas,
    url,
    emulator,
    reported,
):
    journal = reported((ADA, [SampleCount(PULSE, DAY, 4)]))
    five = samples(5)
    shared = rows_of(BOB, samples(9, name="bob")) + rows_of(ADA, five[2:])
    commit(
        emulator,
        {
            path_of(ADA): rows_of(ADA, five[:3]),
            "healthkit/groups/2026-01-03T00-05-00-000Z.parquet": to_parquet(shared),
            path_of(ADA, 9): rows_of(ADA, [b'{"uuid":"s0"}', b'{"uuid":"s1"}']),
        },
    )
    ended = reconcile(atlas, url, journal)

    assert ended.out.splitlines()[0] == "HeartRate, 2026-01-02: phone 4, dataset 3"


def test_only_committed_files_count_and_the_latest_report_does(
    atlas,
    url,
    emulator,
    reported,
):
    journal = reported(
        (ADA, [SampleCount(PULSE, DAY, 9)]),
        (ADA, [SampleCount(PULSE, DAY, 3)]),
    )
    commit(emulator, {path_of(ADA): rows_of(ADA, samples(3))})
    fine = reconcile(atlas, url, journal)
    anyio.run(fill, journal, (), [(ADA, [SampleCount(PULSE, DAY, 5)])])
    commit(emulator, {path_of(ADA, 1): rows_of(ADA, samples(5))}, ends=False)
    short = reconcile(atlas, url, journal)

    assert (fine.code, fine.out) == (0, "1 count of 1 user compared: no gaps.\n")
    assert short.out.splitlines()[0] == "HeartRate, 2026-01-02: phone 5, dataset 3"


async def store_reports(path, counted):
    """Store reports in the order of their arrival, each of some hours after `AT`."""
    with open_journal(path, CapacityLimits(free_bytes=0)) as journal:
        for number, (hours, count) in enumerate(counted):
            at, counts = AT + timedelta(hours=hours), (SampleCount(PULSE, DAY, count),)
            report = PhoneReport("sync_ended", at, "iPhone", counts)
            await journal.phones.store_report(ADA, report, AT + timedelta(seconds=number))


@pytest.mark.parametrize(
    "counted",
    [
        [(0, 5), (-3, 9)],
        [(-3, 9), (0, 5)],
        [(0, 9), (0, 5)],
        [(24 * 365, 9), (1, 5)],
    ],
    ids=["late", "in order", "at the same time", "after one by a clock that is ahead"],
)
def test_the_latest_report_holds_in_whatever_order_they_arrive(
    atlas, url, emulator, tmp_path, counted
):
    path = tmp_path / "journal"
    anyio.run(store_reports, path, counted)
    commit(emulator, {path_of(ADA): rows_of(ADA, samples(3))})
    ended = reconcile(atlas, url, path)

    assert ended.out.splitlines()[0] == "HeartRate, 2026-01-02: phone 5, dataset 3"


def test_a_day_is_one_of_the_reports_time_zone(atlas, url, emulator, reported):
    """23:30 UTC is the next day in +02:00."""
    journal = reported(
        (ADA, [SampleCount(PULSE, DAY, 1)], "-02:00"),
        (BOB, [SampleCount(PULSE, DAY, 1)], "+02:00"),
    )
    late = samples(1, start="2026-01-02T23:30:00.000Z")
    commit(emulator, {path_of(user): rows_of(user, late) for user in (ADA, BOB)})
    ended = reconcile(atlas, url, journal)

    (gap, _) = ended.out.splitlines()
    assert gap.endswith("HeartRate, 2026-01-02: phone 1, dataset 0")


@pytest.mark.parametrize("day", [DAY, date(2026, 1, 1)], ids=["own offset", "UTC"])
def test_a_phone_that_names_no_time_zone_may_count_in_its_own_or_in_utc(
    atlas, url, emulator, reported, day
):
    """00:30 in Berlin is the day before in UTC."""
    journal = reported((ADA, [SampleCount(PULSE, day, 2)]))
    commit(emulator, {path_of(ADA): rows_of(ADA, samples(2, start="2026-01-02T00:30:00+01:00"))})
    ended = reconcile(atlas, url, journal)

    assert (ended.code, ended.out) == (0, "1 count of 1 user compared: no gaps.\n")


def test_rows_of_23_columns_count_as_those_of_21(atlas, url, emulator, reported):
    journal = reported((ADA, [SampleCount(PULSE, DAY, 4)]))
    lines = [*samples(4), b'{"uuid":"s0"}']
    header = Header(ADA.sub, "iPhone", "T", "T")
    commit(emulator, {path_of(ADA): flatten(lines, header, form=RowForm(columns=23)).ndjson})
    ended = reconcile(atlas, url, journal)

    assert ended.out.splitlines()[0] == "HeartRate, 2026-01-02: phone 4, dataset 3"


@pytest.mark.parametrize(("counted", "code"), [(1, 0), (2, 1)])
def test_what_rows_in_the_journal_may_fill_is_no_gap(atlas, url, emulator, reported, counted, code):
    journal = reported((ADA, [SampleCount(PULSE, DAY, counted)]))
    commit(emulator, {path_of(BOB): rows_of(BOB, samples(9))})
    anyio.run(fill, journal, [phone_export(1)])
    ended = reconcile(atlas, url, journal)
    as_json = msgspec.json.decode(reconcile(atlas, url, journal, "--json").out)

    assert ended.code == code
    assert ("not committed yet" in ended.out) == (code == 0)
    assert (len(as_json["gaps"]), len(as_json["waiting"])) == (code, 1 - code)


def test_rows_that_wait_fill_no_more_than_they_are(atlas, url, emulator, reported):
    days = [date(2026, 1, day) for day in (1, 2, 3)]
    journal = reported((ADA, [SampleCount(PULSE, day, 1) for day in days]))
    commit(emulator, {path_of(BOB): rows_of(BOB, samples(9))})
    anyio.run(fill, journal, [phone_export(1)])
    result = msgspec.json.decode(reconcile(atlas, url, journal, "--json").out)

    assert [gap["day"] for gap in result["gaps"]] == ["2026-01-01", "2026-01-02"]
    assert [gap["day"] for gap in result["waiting"]] == ["2026-01-03"]


def test_a_type_cannot_control_the_terminal(atlas, url, emulator, reported):
    journal = reported((ADA, [SampleCount("\x1b[31mHeart\u202eRate", DAY, 2)]))
    commit(emulator, {path_of(ADA): rows_of(ADA, samples(1))})
    ended = reconcile(atlas, url, journal)

    assert ended.out.splitlines()[0] == "?[31mHeart?Rate, 2026-01-02: phone 2, dataset 0"


def test_all_phones_are_printed_as_json_and_csv_and_some_in_the_table(atlas, tmp_path):
    path, users = tmp_path / "journal", [User(f"user {number}") for number in range(25)]
    anyio.run(fill, path, [phone_export(number, user) for number, user in enumerate(users)])
    as_json = msgspec.json.decode(atlas("phones", "--json", "--journal", path).out, type=PhonePage)
    as_csv = atlas("phones", "--csv", "--journal", path).out.splitlines()
    table = atlas("phones", "--journal", path).out.splitlines()
    three = atlas("phones", "--json", "--limit", "3", "--journal", path)
    none = atlas("phones", "--json", "--quiet", "9d", "--journal", path)

    assert (len(as_json.phones), as_json.before, as_json.totals.active) == (25, None, 25)
    assert len({phone.user for phone in as_json.phones}) == 25
    assert (len(as_csv), len(table)) == (26, 22)
    assert len(msgspec.json.decode(three.out)["phones"]) == 3
    assert msgspec.json.decode(none.out)["phones"] == []


def test_pages_of_phones_are_one_object_as_json_also_if_one_is_empty():
    phone = Phone("1f2e", "iPhone", "active", NOW, 1, 1, 0)
    full = PhonePage((phone, phone), PhoneTotals(active=5), 3, "1.1")
    last = PhonePage((phone,), PhoneTotals(active=5), 3)
    empty = PhonePage((), PhoneTotals(active=5), 3, "1.1")
    text = "".join(phone_tables.iterate_json([empty, full, empty, full, last]))

    assert msgspec.json.decode(text, type=PhonePage) == msgspec.structs.replace(
        last, phones=(phone,) * 5
    )


def test_a_phone_that_only_reports_has_never_exported(atlas, reported):
    journal = reported((ADA, [SampleCount(PULSE, DAY, 2)]))
    table = atlas("phones", "--journal", journal)
    details = atlas("phones", "--sub", ADA.sub, "--journal", journal)
    (row,) = csv.DictReader(atlas("phones", "--csv", "--journal", journal).out.splitlines())

    assert table.out.splitlines()[1].split()[1:] == ["iPhone", "never", "0", "0", "0.0%", "quiet"]
    assert ["last", "export", "never"] in [line.split() for line in details.out.splitlines()]
    assert (row["last_export_at"], row["last_event"]) == ("", "sync_ended")


def test_without_reports_that_is_said(atlas, url, reported):
    ended = reconcile(atlas, url, reported())

    assert (ended.code, ended.out) == (
        0,
        "No phone has reported counts: see POST /api/v1/healthkit/reports.\n",
    )


def test_a_file_that_foundry_does_not_serve_is_named_and_gaps_that_it_may_fill_are_not_certain(
    atlas, url, emulator, reported
):
    """The file is of January 3, so that samples of a later day are not in it."""
    later, early = date(2026, 1, 9), SampleCount(PULSE, DAY, 1_412)
    journal = reported((ADA, [early, SampleCount("StepCount", later, 7)]))
    steps = samples(3, "2026-01-09T11:00:00Z", "HKQuantityTypeIdentifierStepCount")
    served = rows_of(ADA, steps)
    large = rows_of(ADA, samples(1_412))
    commit(emulator, {path_of(ADA): large, path_of(ADA, 7 * 24 * 60): served})
    emulator.behaviour = Behaviour(content_bytes_max=len(large) - 1)
    ended = reconcile(atlas, url, journal)
    as_json = msgspec.json.decode(reconcile(atlas, url, journal, "--json").out)

    gap, unknown, file, about, summary = ended.out.splitlines()
    assert ended.code == 1
    assert gap == "StepCount, 2026-01-09: phone 7, dataset 3"
    assert unknown == "HeartRate, 2026-01-02: phone 1,412, dataset 0 in the files that were read"
    assert file.startswith("Not read: healthkit/raw/{user ")
    assert file.endswith("}/2026-01-03T00-00-00-000Z.ndjson")
    assert "no count of these days is certain" in about
    assert summary == (
        "2 counts of 1 user compared: 1 gap. 1 more may be in files that were not read."
    )
    assert [len(as_json[name]) for name in ("gaps", "unknown", "unread")] == [1, 1, 1]
    assert "ada" not in ended.out


def test_without_a_gap_a_file_that_was_not_read_is_named_once_for_all_users(
    atlas, url, emulator, reported
):
    journal = reported((ADA, [SampleCount(PULSE, DAY, 1)]), (BOB, [SampleCount(PULSE, DAY, 1)]))
    group = "healthkit/groups/2026-01-03T00-05-00-000Z.ndjson"
    large = rows_of(ADA, samples(9)) + rows_of(BOB, samples(9))
    own = {path_of(user): rows_of(user, samples(1)) for user in (ADA, BOB)}
    commit(emulator, {group: large, **own})
    emulator.behaviour = Behaviour(content_bytes_max=len(large) - 1)
    ended = reconcile(atlas, url, journal)
    rows = atlas("rows", "--from", url)

    assert ended.code == 1
    assert [line for line in ended.out.splitlines() if line.startswith("Not read")] == [
        f"Not read: {group}"
    ]
    assert ended.out.endswith("2 counts of 2 users compared: no gaps.\n")
    assert "2026-01-03T00-05-00-000Z.ndjson" in rows.in_one_line(1)


def settings_of(url, emulator, path):
    """Return the variables of an `atlas local` at this URL, with the journal at this path."""
    client, secret = emulator.client
    return {
        "FOUNDRY_HOST": f"http://{HOST}:{int(url.rpartition(':')[2]) + 1}",
        "FOUNDRY_CLIENT_ID": client,
        "FOUNDRY_CLIENT_SECRET": secret,
        "ATLAS_JOURNAL": f"sqlite:///{path}",
    }


def test_the_settings_of_an_atlas_local_name_its_reports_and_its_dataset(
    atlas, url, emulator, reported
):
    journal = reported((ADA, [SampleCount(PULSE, DAY, 4)]))
    commit(emulator, {path_of(ADA): rows_of(ADA, samples(3))})
    ended = atlas("phones", "reconcile", **settings_of(url, emulator, journal))

    assert ended.out.splitlines()[0] == "HeartRate, 2026-01-02: phone 4, dataset 3"


def test_a_journal_in_the_folder_of_the_atlas_local_is_its_own(atlas, url, reported):
    journal = reported((ADA, [SampleCount(PULSE, DAY, 4)]))
    ended = atlas("phones", "reconcile", "--from", url, ATLAS_JOURNAL=f"sqlite:///{journal}")

    assert ended.out.splitlines()[0] == "HeartRate, 2026-01-02: phone 4, dataset 0"


def test_reports_of_one_atlas_are_not_compared_with_the_dataset_of_another(
    atlas, url, reported, tmp_path
):
    journal = tmp_path / "other" / "journal"
    journal.parent.mkdir()
    reported((ADA, [SampleCount(PULSE, DAY, 4)])).rename(journal)
    ended = atlas("phones", "reconcile", "--from", url, ATLAS_JOURNAL=f"sqlite:///{journal}")

    assert f"the `atlas local` in {tmp_path}," in ended.in_one_line(1)


def test_the_journal_of_atlas_local_does_not_stand_in_for_that_of_a_foundry_elsewhere(
    atlas, reported, tmp_path
):
    journal = tmp_path / "var" / "local" / "journal.db"
    journal.parent.mkdir(parents=True)
    reported((ADA, [SampleCount(PULSE, DAY, 4)])).rename(journal)
    settings = {
        "FOUNDRY_HOST": "https://foundry.test",
        "FOUNDRY_CLIENT_ID": "id",
        "FOUNDRY_CLIENT_SECRET": "secret",
    }
    ended = atlas("phones", "reconcile", "--from-foundry", **settings)

    assert "knows nothing of the dataset at https://foundry.test" in ended.in_one_line(1)


def test_a_file_that_is_no_file_of_rows_is_named(atlas, url, emulator, reported):
    journal = reported((ADA, [SampleCount(PULSE, DAY, 1)]))
    commit(emulator, {path_of(ADA): b'"auth0|ada" CANARY\n'})
    ended = reconcile(atlas, url, journal)

    assert ended.code == 1
    assert "2026-01-03T00-00-00-000Z.ndjson has a line that is not a row" in ended.err
    assert "CANARY" not in ended.err
