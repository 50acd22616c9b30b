"""`atlas import`: output, sent lines, and resumption after an interruption."""

import base64
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import msgspec
import pytest

from atlas.apple import CheckpointFile, Conversion, IdentityChoice, open_export
from atlas.cli.import_windows import ImportRun, find_sender
from atlas.cli.send import SendTarget, clean_token
from atlas.core.errors import CommandError
from atlas.settings import ExportSettings
from tests.apple.exports import ECG, ME, an_export, beats, element, gpx, record, write_zip, xml
from tests.conftest import ServiceHarness
from tests.support.listeners import listening

BOMB = '<!DOCTYPE HealthData [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>\n'
CLAIMS = base64.urlsafe_b64encode(b'{"sub":"auth0|ada"}').decode().rstrip("=")
NAME = "Ada’s Apple\u00a0Watch"


# output without a service


def test_a_dry_run_counts_by_type_and_sends_nothing(atlas, tmp_path):
    summary = element("ActivitySummary", dateComponents="2020-04-10")
    path = an_export(
        tmp_path / "export.zip",
        *beats(3),
        record(type="HKQuantityTypeIdentifierStepCount", startDate="2019-12-31 20:00:00 -0800"),
        summary,
        ecg_csv=ECG.encode(),
    )
    ended = atlas("import", path, "--dry-run", "--ecg")

    headings, *lines, total = ended.out.splitlines()
    assert headings.split() == ["TYPE", "SAMPLES", "FIRST", "LAST"]
    assert [line.split() for line in lines] == [
        ["HKQuantityTypeIdentifierHeartRate", "3", "2020-04-09", "2020-04-10"],
        ["HKDataTypeIdentifierElectrocardiogram", "1", "2026-03-14", "2026-03-14"],
        ["HKQuantityTypeIdentifierStepCount", "1", "2020-01-01", "2020-04-10"],
    ]
    assert total == "5 samples of 3 types"
    assert (ended.code, ended.err) == (0, "skipped, not samples: 1 ActivitySummary\n")


def test_a_program_gets_the_census_as_json(atlas, tmp_path):
    path = an_export(tmp_path / "export.zip", *beats(3), '<Record a="1" a="2"/>\n')
    summary = msgspec.json.decode(atlas("import", path, "--dry-run", "--json").out)

    assert (summary["samples"], summary["tags_left_out"]) == (3, 1)
    assert summary["types"] == [
        {
            "type": "HKQuantityTypeIdentifierHeartRate",
            "count": 3,
            "first": "2020-04-09T22:00:00.000Z",
            "last": "2020-04-10T01:33:34.000Z",
        }
    ]


def test_no_value_and_nothing_of_the_person_is_told(atlas, tmp_path):
    bad = record(value="4711", sourceName="Ada").replace("<Record", "<Record value='1'")
    path = an_export(tmp_path / "export.zip", record(value="4711"), bad, ecg_csv=ECG.encode())
    ended = atlas("import", path, "--dry-run", "--ecg")

    assert "1815" in ME
    for word in ("Ada", "4711", "1815", "Lovelace", "Sinus"):
        assert word not in ended.out + ended.err


@pytest.mark.parametrize(
    ("files", "said"),
    [
        pytest.param({"export.xml": xml(dtd=BOMB)}, "declares entities", id="an entity bomb"),
        pytest.param({"export.xml": b"<a/>" + b" " * 9_000_000}, "swell", id="a zip bomb"),
        pytest.param({"a.txt": b""}, "no XML", id="no XML"),
        pytest.param({"../export.xml": xml(record())}, "leads out", id="a path that leads out"),
        pytest.param({"export.xml": b"<a/>"}, "not a Health export", id="another XML"),
    ],
)
def test_what_must_not_be_imported_is_one_line_before_anything_is_sent(
    atlas,
    tmp_path,
    files,
    said,
):
    path = write_zip(tmp_path / "export.zip", files)

    assert said in atlas("import", path, "--dry-run").err
    ended = atlas("import", path, "--token", "t", "--to", "http://127.0.0.1:1")
    assert said in ended.err
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert ended.out == ""


def test_a_file_of_another_kind_is_one_line(atlas, tmp_path):
    (tmp_path / "cat.jpg").write_bytes(b"\xff\xd8\xff\xe0")

    said = atlas("import", "cat.jpg", "--dry-run").in_one_line(1)
    assert said.endswith("neither a zip nor XML: give the export.zip that the phone made.\n")


def test_an_export_in_which_nothing_is_has_an_empty_balance(atlas, tmp_path):
    path = an_export(tmp_path / "export.zip")

    counted = atlas("import", path, "--dry-run")
    assert counted.out.endswith("\n0 samples of 0 types\n")
    sent = atlas("import", path, "--token", "t", "--to", "http://127.0.0.1:1")
    assert sent.out == "0 lines read = 0 rows committed + 0 accepted + 0 rejected\n"
    assert (counted.code, sent.code) == (0, 0)


def test_what_the_next_ios_adds_is_counted(atlas, tmp_path):
    news = element("StateOfMind", valence="0.5")
    path = an_export(tmp_path / "export.zip", *beats(2), news, news)

    said = atlas("import", path, "--dry-run").err
    assert said == "skipped, not samples: 2 of a kind that is newer than this program\n"


@pytest.mark.parametrize("token", ["a\nb", "a\x00b", "tokén"], ids=ascii)
def test_a_token_that_no_header_can_hold_is_one_line(atlas, token):
    assert "A token must be" in atlas("import", ".", "--token", token).in_one_line(2)


def test_a_token_from_a_file_may_have_a_line_end_behind_it():
    assert clean_token("token\r\n") == "token"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        pytest.param([], "EXPORT", id="no export"),
        pytest.param(["nowhere.zip"], "nowhere.zip", id="one that is not there"),
    ],
)
def test_wrong_usage_is_one_line(atlas, arguments, named):
    assert named in atlas("import", *arguments).in_one_line(2)


def test_an_export_without_a_service_says_where_it_was_looked_for(atlas, tmp_path):
    path = an_export(tmp_path / "export.zip", record())

    elsewhere = atlas("import", path, "--to", "https://atlas.test")
    assert "is not `atlas local`" in elsewhere.in_one_line(1)


# with the real service


@dataclass(frozen=True)
class Atlas:
    """A running service as the target of imports."""

    port: int
    life: ServiceHarness

    def target(self, token: str, device: str | None = None) -> SendTarget:
        return SendTarget(f"http://127.0.0.1:{self.port}", token, device, is_streamed=False)

    async def run_import(
        self, path, token="token-of-ada", device=None, choice=None, **options
    ) -> ImportRun:
        with open_export(path) as export:
            begin = partial(begin_test_conversion, export, options)
            sending = ImportRun(begin, window_lines=1_000, choice=choice)
            await sending.run(path, self.target(token, device))
        assert sending.balance.is_balanced
        return sending

    async def run_interrupted_import(
        self, path, after_lines: int, token="token-of-ada", choice=None
    ) -> None:
        """Import until a crash after `after_lines` samples."""
        with open_export(path) as export:
            begin = partial(InterruptedConversion.begin, export, after_lines)
            sending = ImportRun(begin, 1_000, choice)
            with pytest.raises(BaseExceptionGroup):
                await sending.run(path, self.target(token))


def begin_test_conversion(export, options, choice: IdentityChoice) -> Conversion:
    return Conversion(export, identity=choice.version, replaced_identity=choice.replaced, **options)


class Interruption(Exception):
    pass


class InterruptedConversion(Conversion):
    """A conversion that raises after `after_lines` samples."""

    @classmethod
    def begin(cls, export, after_lines: int, choice: IdentityChoice):
        conversion = cls(export, identity=choice.version, replaced_identity=choice.replaced)
        conversion.after_lines = after_lines
        return conversion

    def samples(self):
        for number, sample in enumerate(Conversion.samples(self)):
            if number == self.after_lines:
                raise Interruption
            yield sample


@asynccontextmanager
async def run_service(tmp_path):
    life = ServiceHarness(tmp_path / "journal", journal_bytes_max=100_000_000)
    life.export = ExportSettings(bytes_max=1_000_000)
    async with listening(life) as server:
        yield Atlas(server.port, life)


async def test_every_sample_of_an_export_is_a_row(tmp_path):
    async with run_service(tmp_path) as there:
        path = an_export(
            tmp_path / "export.zip", *beats(2_500), ecg_csv=ECG.encode(), route_gpx=gpx(3)
        )
        sending = await there.run_import(path, with_ecgs=True, with_routes=True)

        assert sending.balance.committed == sending.balance.read == 2_502
        rows = there.life.dataset.rows()
        assert len({row["uuid"] for row in rows}) == 2_502
        beat = next(row for row in rows if row["unit"] == "count/min")
        assert (beat["source_name"], beat["device_hardware_version"]) == (NAME, "Watch5,3")
        assert beat["value_double"] >= 60


async def test_the_same_export_again_adds_nothing(tmp_path):
    async with run_service(tmp_path) as there:
        path = an_export(tmp_path / "export.zip", *beats(2_500))
        await there.run_import(path)
        before = dict(there.life.dataset.files())
        again = await there.run_import(path)

        assert again.balance.replayed == 2_500
        assert there.life.dataset.files() == before


async def test_the_export_of_next_month_has_the_same_uuids(tmp_path):
    async with run_service(tmp_path) as there:
        await there.run_import(an_export(tmp_path / "may.zip", *beats(10)))
        later = [each.replace("0x282d03020", "0x3015d5ef0") for each in beats(12)]
        await there.run_import(an_export(tmp_path / "june.zip", *later))

        assert len(there.life.dataset.rows()) == 22
        assert len(set(there.life.dataset.uuids())) == 12


async def test_after_an_interrupt_it_goes_on_where_it_ended(tmp_path):
    async with run_service(tmp_path) as there:
        path = an_export(tmp_path / "export.zip", *beats(5_000))
        await there.run_interrupted_import(path, after_lines=3_500)
        stands = len(there.life.dataset.rows())
        rest = await there.run_import(path)

        assert stands >= 3_000
        assert rest.already_safe == 3_000
        assert rest.balance.read == 2_000
        assert len(there.life.dataset.rows()) == len(set(there.life.dataset.uuids())) == 5_000


async def test_a_place_that_is_lost_costs_time_and_no_row(tmp_path):
    async with run_service(tmp_path) as there:
        path = an_export(tmp_path / "export.zip", *beats(5_000))
        await there.run_interrupted_import(path, after_lines=3_500)
        (tmp_path / "export.zip.atlas").unlink()
        again = await there.run_import(path)

        assert (again.already_safe, again.balance.read) == (0, 5_000)
        assert len(there.life.dataset.rows()) == 5_000


async def test_of_another_export_in_its_place_nothing_is_passed_over(tmp_path):
    async with run_service(tmp_path) as there:
        path = an_export(tmp_path / "export.zip", *beats(5_000))
        await there.run_interrupted_import(path, after_lines=3_500)
        an_export(path, *beats(5_000, 1))
        other = await there.run_import(path)

        assert (other.already_safe, other.balance.read) == (0, 5_000)
        assert len(set(there.life.dataset.uuids())) == 5_001


async def test_a_shorter_one_in_its_place_is_sent_as_well(tmp_path):
    async with run_service(tmp_path) as there:
        path = an_export(tmp_path / "export.zip", *beats(5_000))
        await there.run_interrupted_import(path, after_lines=3_500)
        an_export(path, *beats(10))
        other = await there.run_import(path)

        assert (other.already_safe, other.balance.read) == (0, 10)


@pytest.mark.parametrize("other", [{"token": "token-of-eve"}, {"device": "Watch"}], ids=str)
async def test_what_was_sent_as_one_sender_is_not_passed_over_for_another(tmp_path, other):
    async with run_service(tmp_path) as there:
        path = an_export(tmp_path / "export.zip", *beats(3_000))
        await there.run_interrupted_import(path, after_lines=2_500)
        sending = await there.run_import(path, **other)

        assert (sending.already_safe, sending.balance.committed) == (0, 3_000)


async def test_a_token_that_ran_out_in_between_costs_no_row_and_no_place(tmp_path):
    good, ran_out = (f"{word}.{CLAIMS}.signature" for word in ("token-of-", "ran-out"))
    async with run_service(tmp_path) as there:
        path = an_export(tmp_path / "export.zip", *beats(5_000))
        await there.run_interrupted_import(path, after_lines=3_500, token=good)
        stopped = await there.run_import(path, token=ran_out)
        rest = await there.run_import(path, token=good)

        assert "401" in stopped.balance.last_error
        assert stopped.already_safe == rest.already_safe == 3_000
        assert len(there.life.dataset.rows()) == 5_000


async def test_the_place_is_a_number_and_digests_and_gone_when_it_is_done(tmp_path):
    async with run_service(tmp_path) as there:
        path = an_export(tmp_path / "export.zip", *beats(3_000))
        await there.run_interrupted_import(path, after_lines=2_500)
        place = (tmp_path / "export.zip.atlas").read_text()

        assert msgspec.json.decode(place)["lines"] == 2_000
        assert not {"Ada", "HeartRate", "token"} & set(place.replace('"', " ").split())
        assert len(place) < 250
        await there.run_import(path)
        assert [each.name for each in tmp_path.iterdir() if "export" in each.name] == ["export.zip"]


# the identity of samples


@pytest.mark.parametrize("form", ["this version", "the version before"])
async def test_an_import_that_began_with_an_identity_goes_on_with_it(tmp_path, capsys, form):
    async with run_service(tmp_path) as there:
        path = an_export(tmp_path / "export.zip", *beats(5_000))
        before = IdentityChoice(identity=1)
        await there.run_interrupted_import(path, after_lines=3_500, choice=before)
        place = tmp_path / "export.zip.atlas"
        stored = msgspec.json.decode(place.read_bytes())
        assert stored.pop("identity") == 1
        if form == "the version before":
            place.write_bytes(msgspec.json.encode(stored))
        rest = await there.run_import(path)

        assert rest.already_safe == 3_000
        assert rest.choice == IdentityChoice(1, None)
        assert len(there.life.dataset.rows()) == len(set(there.life.dataset.uuids())) == 5_000
        assert capsys.readouterr().err.count("continuing with --identity 1\n") == 1


@pytest.mark.parametrize(
    "choice", [IdentityChoice(2), IdentityChoice(2, 1), IdentityChoice(None, 1)]
)
async def test_an_import_never_goes_on_with_another_identity_in_silence(tmp_path, choice):
    async with run_service(tmp_path) as there:
        path = an_export(tmp_path / "export.zip", *beats(3_000))
        await there.run_interrupted_import(path, 2_500, choice=IdentityChoice(identity=1))
        with pytest.raises(CommandError, match="began with --identity 1: finish") as refused:
            await there.run_import(path, choice=choice)

        assert "\n" not in str(refused.value)
        assert len(there.life.dataset.rows()) == 2_000


async def test_what_an_earlier_identity_wrote_is_gone_after_it_was_replaced(tmp_path):
    async with run_service(tmp_path) as there:
        path = an_export(tmp_path / "export.zip", *beats(100))
        await there.run_import(path, choice=IdentityChoice(identity=1))
        assert len(list_remaining(there.life.dataset.rows())) == 100
        await there.run_import(path)
        assert len(list_remaining(there.life.dataset.rows())) == 200
        await there.run_import(path, choice=IdentityChoice(replaced=1))

        rows = there.life.dataset.rows()
        assert len(list_remaining(rows)) == 100
        assert sum(not row["sample_type"] for row in rows) == 100


def list_remaining(rows) -> set[str]:
    """List what the transform that is documented leaves of the rows."""
    deleted = {row["uuid"] for row in rows if not row["sample_type"] and not row["start_date"]}
    return {row["uuid"] for row in rows} - deleted


async def test_an_import_that_replaces_goes_on_to_replace(tmp_path):
    async with run_service(tmp_path) as there:
        path = an_export(tmp_path / "export.zip", *beats(2_500))
        await there.run_interrupted_import(path, 4_500, choice=IdentityChoice(replaced=1))
        rest = await there.run_import(path)

        assert rest.already_safe == 4_000
        assert rest.choice == IdentityChoice(2, 1)
        assert len(set(there.life.dataset.uuids())) == 5_000


def test_a_dry_run_says_how_many_rows_would_be_deleted(atlas, tmp_path):
    path = an_export(tmp_path / "export.zip", *beats(3))
    ended = atlas("import", path, "--dry-run", "--replace-identity", 1)

    assert ended.out.endswith("\n3 samples of 1 types\n")
    assert ended.err == "lines that delete rows of an earlier identity: 3\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--identity", 3], "less than or equal to 2"),
        (["--identity", 1, "--replace-identity", 1], "cannot delete the rows that it writes"),
        (["--replace-identity", 2], "cannot delete the rows that it writes"),
    ],
    ids=str,
)
def test_an_identity_that_cannot_be_is_one_line(atlas, tmp_path, options, said):
    path = an_export(tmp_path / "export.zip", *beats(3))

    assert said in atlas("import", path, "--dry-run", *options).in_one_line(2)


@pytest.mark.parametrize("text", [b"", b"{", b'{"lines":1}', b"\xff"], ids=str)
def test_a_place_that_cannot_be_read_is_none(tmp_path, text):
    place = CheckpointFile.for_export(tmp_path / "export.zip", "anybody")
    place.path.write_bytes(text)

    assert place.read() is None


async def test_where_no_place_can_be_kept_it_is_told_and_all_is_sent(tmp_path, capsys):
    async with run_service(tmp_path) as there:
        path = an_export(tmp_path / "export.zip", *beats(3_000))
        (tmp_path / "export.zip.atlas.new").mkdir()
        sending = await there.run_import(path)

        assert sending.balance.committed == 3_000
        assert capsys.readouterr().err.count("Cannot write") == 1


async def test_of_an_export_that_is_cut_short_all_is_sent_that_is_there(tmp_path):
    async with run_service(tmp_path) as there:
        (tmp_path / "export.xml").write_bytes(xml(*beats(100))[:-500])
        sending = await there.run_import(tmp_path / "export.xml")

        assert sending.balance.committed == 98
        assert "ends in the middle" in sending.conversion.error


async def test_a_record_that_the_service_refuses_is_told_by_its_number(tmp_path):
    async with run_service(tmp_path) as there:
        elements = [*beats(1_500), record(sourceName="a" * 1_500_000), *beats(5, 1_500)]
        (tmp_path / "export.xml").write_bytes(xml(*elements))
        sending = await there.run_import(tmp_path / "export.xml")

        assert (sending.balance.committed, sending.balance.rejected) == (1_505, 1)
        assert [number for number, _ in sending.balance.rejects] == [1_501]


def a_token(claims: bytes) -> str:
    return f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.signature"


@pytest.mark.parametrize(
    ("token", "who"),
    [
        (a_token(b'{"sub":"auth0|ada","exp":1}'), "auth0|ada"),
        (a_token(b'{"exp":1}'), a_token(b'{"exp":1}')),
        (a_token(b"\xff"), a_token(b"\xff")),
        ("opaque", "opaque"),
        ("a.é.b", "a.é.b"),
    ],
    ids=["a token", "no sub", "no JSON", "opaque", "no base64"],
)
def test_a_fresh_token_of_the_same_person_is_the_same_sender(token, who):
    assert find_sender(token) == who
