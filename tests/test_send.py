"""`atlas send`: files that are no NDJSON, and the outcome of a transfer."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from anyio.from_thread import start_blocking_portal

from atlas.cli.ndjson_input import LINES_SEARCHED, open_records
from atlas.cli.transfer_report import SHOWN_MAX, build_report, print_outcome
from atlas.client import LineAccounting
from atlas.client.replies import StoredExport
from atlas.client.sending import BATCH
from tests.apple.exports import record, xml
from tests.support.replies import hangs_up, says
from tests.support.zstandard import zstd

RECORD = '{"uuid":"Zoë"}\n'
NOBODY = ("--token", "a-token", "--to", "http://127.0.0.1:1")  # nothing must be sent there


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("apple_health_export/export.xml", "<HealthData/>")
    return file.getvalue()


def empty_zip() -> bytes:
    file = io.BytesIO()
    zipfile.ZipFile(file, "w").close()
    return file.getvalue()


def tape() -> bytes:
    file = io.BytesIO()
    tarfile.open(fileobj=file, mode="w").close()
    return file.getvalue()


BYTES = RECORD.encode()
WRONG = [
    pytest.param(zipped(), "zip archive", "atlas import a\\ file", id="zip"),
    pytest.param(empty_zip(), "empty zip", "nothing can be sent", id="an empty zip"),
    pytest.param(b"<?xml version='1.0'?>", "XML", "atlas import a\\ file", id="XML"),
    pytest.param(b"\xef\xbb\xbf\n <HealthData>", "XML", "atlas import", id="XML with a mark"),
    pytest.param(gzip.compress(BYTES), "gzip", "gunzip -c a\\ file | atlas send -", id="gzip"),
    pytest.param(zstd.compress(BYTES), "zstd", "zstd -dc a\\ file | atlas send -", id="zstd"),
    pytest.param(lzma.compress(BYTES), "xz", "xz -dc a\\ file | atlas send -", id="xz"),
    pytest.param(bz2.compress(BYTES), "bzip2", "bzip2 -dc a\\ file | atlas send -", id="bzip2"),
    pytest.param(RECORD.encode("utf-16"), "UTF-16", "iconv -f UTF-16 -t UTF-8", id="UTF-16"),
    pytest.param(RECORD.encode("utf-16-le"), "UTF-16", "iconv -f UTF-16LE", id="UTF-16LE"),
    pytest.param(RECORD.encode("utf-16-be"), "UTF-16", "iconv -f UTF-16BE", id="UTF-16BE"),
    pytest.param(b"PAR1\x15\x04", "Parquet", "NDJSON", id="Parquet"),
    pytest.param(b'[{"uuid":"a"},\n{"uuid":"b"}]\n', "JSON array", "jq -c '.[]'", id="an array"),
    pytest.param(b'[\n{"uuid":"a"}\n]\n', "JSON array", "jq -c '.[]'", id="an indented array"),
    pytest.param(b'\n{\n  "uuid": "a"\n}\n', "on several lines", "jq -c .", id="an object"),
    pytest.param(b'{"uuid": "a",\n "unit": ""}', "on several lines", "jq -c .", id="two lines"),
    pytest.param(b"uuid,unit\na,count\n", "CSV", "atlas sample", id="CSV"),
    pytest.param(b"uuid;unit\na;count\n" * 999, "CSV", "atlas sample", id="a long CSV"),
    pytest.param(b"Once upon a time\n", "does not look like JSON", "atlas sample", id="a text"),
    pytest.param(tape(), "binary", "atlas sample", id="a tape"),
    pytest.param(b"\xff\xd8\xff\xe0" * 9 + b"\n", "not text", "atlas sample", id="a picture"),
    pytest.param(b"\xd2\x1f,\x07;\xfe\t{}\n" * 9, "binary", "atlas sample", id="random bytes"),
    pytest.param(b"", "empty", "nothing to send", id="nothing"),
    pytest.param(b"\xef\xbb\xbf\r\n \n", "empty", "nothing to send", id="blank lines"),
]


@pytest.mark.parametrize(("content", "kind", "advice"), WRONG)
def test_what_is_no_ndjson_is_one_line_that_says_what_it_is_and_what_to_use(
    atlas, tmp_path, content, kind, advice
):
    (tmp_path / "a file").write_bytes(content)
    told = atlas("send", "a file", *NOBODY).in_one_line(1).replace("'a file'", "a\\ file")

    assert told.startswith("atlas: a file ")
    assert kind in told
    assert advice in told
    assert "Zoë" not in told


@pytest.mark.parametrize(("content", "kind", "advice"), WRONG)
def test_standard_input_is_recognised_as_well(atlas, content, kind, advice):
    told = atlas("send", "-", *NOBODY, stdin=content).in_one_line(1)

    assert told.startswith("atlas: Standard input ")
    assert kind in told
    assert advice.replace("a\\ file", "FILE") in told


def test_a_folder_is_one_line_that_names_the_command_for_an_unpacked_export(atlas, tmp_path):
    (tmp_path / "apple_health_export").mkdir()
    told = atlas("send", "apple_health_export", *NOBODY).in_one_line(1)

    assert "is a folder" in told
    assert "atlas import apple_health_export" in told


class Pipe(io.BufferedReader):
    """A file that cannot be read twice."""

    def seekable(self):
        return False


@pytest.mark.parametrize("kind", [io.BytesIO, lambda text: Pipe(io.BytesIO(text))])
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(BYTES * 3, id="records"),
        pytest.param(b"\xef\xbb\xbf" + BYTES, id="a byte order mark"),
        pytest.param(b"\n" * (LINES_SEARCHED + 1) + BYTES, id="blank lines"),
        pytest.param(b"bad\n\n" + BYTES, id="a damaged line"),
        pytest.param(b"x" * 200_000 + b"\n" + BYTES, id="a long damaged line"),
        pytest.param(b'{"a":"' + b"x" * 200_000 + b'"}\n' + BYTES, id="a long record"),
        pytest.param(b'{"uuid":\n' + BYTES, id="a record that is cut off"),
        pytest.param(BYTES.rstrip(), id="no line end"),
    ],
)
def test_records_are_read_line_by_line_from_the_first_byte(monkeypatch, tmp_path, text, kind):
    path = tmp_path / "records"
    path.write_bytes(text)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(kind(text)))

    for each in (path, path.with_name("-").relative_to(tmp_path)):
        with open_records(each) as records:
            assert list(records.lines) == text.splitlines(keepends=True)


def test_a_file_of_many_blank_lines_is_no_success(atlas, tmp_path, server):
    (tmp_path / "blank").write_bytes(b"\n" * (LINES_SEARCHED + 1))
    ended = atlas("send", "blank", "--token", "a-token", "--to", server(says(500)))

    assert ended.code == 1
    assert "only blank lines" in ended.err


# the outcome


PROBED = says(200)


@pytest.fixture
def server():
    """Serve one scripted reply to all batches; the fixture's value returns the URL."""
    with start_blocking_portal() as portal:
        servers = []

        def serve(reply, probe=PROBED) -> str:
            async def take(request):
                return await reply(request, await request.read())

            async def take_probe(request):
                return await probe(request, b"")

            async def build() -> TestServer:
                app = web.Application()
                app.router.add_post(BATCH, take)
                app.router.add_get("/health/live", take_probe)
                built = TestServer(app)
                await built.start_server()
                return built

            servers.append(portal.call(build))
            return str(servers[-1].make_url("")).rstrip("/")

        yield serve
        for each in servers:
            portal.call(each.close)


def commit(**changes) -> str:
    result = {
        "chunkIndex": 0,
        "status": "committed",
        "records_ingested": 1,
        "records_rejected": 0,
        "rejects": [],
        "replayed": False,
        "receipt_id": "5f0c",
        "dataset_rid": "ri.dataset",
        "transaction_rid": "ri.transaction",
        "file_path": "healthkit/raw/ada/1.ndjson",
    }
    return msgspec.json.encode({"upload_results": [result | changes]}).decode()


def test_the_end_says_where_the_rows_are(atlas, server):
    ended = atlas("send", "-", "--token", "t", "--to", server(says(200, commit())), stdin=BYTES)

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "1 lines read = 1 rows committed + 0 accepted + 0 rejected",
        "Dataset      ri.dataset",
        "Transaction  ri.transaction",
        "File         healthkit/raw/ada/1.ndjson",
        "Receipt      5f0c",
    ]


def test_json_is_for_programs(atlas, server):
    url = server(says(200, commit()))
    ended = atlas("send", "-", "--json", "--token", "t", "--to", url, stdin=BYTES)

    assert (ended.code, ended.err) == (0, "")
    assert msgspec.json.decode(ended.out) == {
        "lines": 1,
        "committed": 1,
        "accepted": 0,
        "rejected": 0,
        "not_sent": 0,
        "already_stored": 0,
        "already_sent": 0,
        "dataset_rid": "ri.dataset",
        "branch": None,
        "folder": None,
        "transactions": ["ri.transaction"],
        "files": ["healthkit/raw/ada/1.ndjson"],
        "receipts": ["5f0c"],
        "rejects": [],
        "error": None,
    }


def test_rows_that_are_only_accepted_are_said_to_be_on_their_way(atlas, server):
    accepted = commit(status="accepted", transaction_rid=None, file_path=None)
    ended = atlas("send", "-", "--token", "t", "--to", server(says(202, accepted)), stdin=BYTES)

    assert ended.code == 0
    assert ended.out.splitlines()[1:] == [
        "Dataset      ri.dataset",
        "Receipt      5f0c",
        "1 rows are stored by Atlas, and not in the dataset yet.",
    ]


REJECTED = (
    '{"upload_results":[],"errors":[{"chunkIndex":0,"code":"INVALID_NDJSON","error":"No line."}]}'
)


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "JSON"])
def test_a_file_whose_lines_are_all_rejected_is_a_failure(atlas, server, options):
    url = server(says(400, REJECTED))
    ended = atlas("send", "-", *options, "--token", "t", "--to", url, stdin=b"{bad\n")

    assert ended.code == 1
    assert ended.err.endswith("atlas: All lines were rejected (1).\n")
    assert "1 rejected" in ended.out or msgspec.json.decode(ended.out)["rejected"] == 1


def test_of_a_few_rejected_lines_each_is_told_and_that_is_no_failure(atlas, server):
    some = commit(records_rejected=1, rejects=[{"line": 2, "reason": "not valid JSON"}])
    url = server(says(200, some))
    ended = atlas("send", "-", "--token", "t", "--to", url, stdin=BYTES + b"{bad\n")

    assert (ended.code, ended.err) == (0, "line 2: not valid JSON\n")


def test_a_token_that_is_not_good_is_one_line_that_says_where_another_goes(atlas, server):
    url = server(says(401, '{"error":{"code":"TOKEN_EXPIRED","message":"It is expired."}}'))
    ended = atlas("send", "-", "--token", "a-secret-token", "--to", url, stdin=BYTES)

    assert ended.code == 1
    assert ended.err == (
        "atlas: 401 TOKEN_EXPIRED: It is expired. Pass a new token with --token or ATLAS_TOKEN.\n"
    )


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://127.0.0.1:1", "Nothing listens at http://127.0.0.1:1"),
        ("http://nowhere.invalid", "The host of http://nowhere.invalid is unknown"),
    ],
)
@pytest.mark.parametrize("command", ["send", "import"])
def test_a_server_that_is_not_there_is_one_line_that_says_what_to_do(
    atlas, tmp_path, command, url, problem
):
    (tmp_path / "export.xml").write_bytes(xml(record()))
    (tmp_path / "records").write_bytes(BYTES)
    file = "records" if command == "send" else "export.xml"
    told = atlas(command, file, "--token", "t", "--to", url).in_one_line(1)

    assert told == f"atlas: {problem}: run atlas local, or name the URL of Atlas with --to.\n"


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "JSON"])
def test_an_import_ends_as_a_transfer_of_lines_does(atlas, tmp_path, server, options):
    (tmp_path / "export.xml").write_bytes(xml(record()))
    url = server(says(200, commit()))
    ended = atlas("import", "export.xml", *options, "--token", "t", "--to", url)

    assert (ended.code, ended.err) == (0, "")
    if options:
        report = msgspec.json.decode(ended.out)
        assert (report["lines"], report["transactions"]) == (1, ["ri.transaction"])
    else:
        assert "Transaction  ri.transaction" in ended.out.splitlines()


def test_an_import_whose_samples_are_all_rejected_is_a_failure(atlas, tmp_path, server):
    (tmp_path / "export.xml").write_bytes(xml(record()))
    url = server(says(400, REJECTED))
    ended = atlas("import", "export.xml", "--token", "t", "--to", url)

    assert ended.code == 1
    assert ended.err.splitlines()[-1] == "atlas: All lines were rejected (1)."


def test_a_server_that_always_hangs_up_is_one_line_that_says_what_to_do(atlas, server, monkeypatch):
    monkeypatch.setattr("atlas.cli.send.PROBE_PAUSE_SECONDS", 0.01)
    url = server(hangs_up, hangs_up)
    told = atlas("send", "-", "--token", "t", "--to", url, stdin=BYTES).in_one_line(1)

    assert told == (
        f"atlas: What listens at {url} does not answer: "
        "run atlas local, or name the URL of Atlas with --to.\n"
    )


def test_a_server_that_hangs_up_at_first_is_not_taken_for_none(atlas, server, monkeypatch):
    monkeypatch.setattr("atlas.cli.send.PROBE_PAUSE_SECONDS", 0.01)
    moods = iter([hangs_up, PROBED])

    async def probe(request, body):
        return await next(moods)(request, body)

    url = server(says(200, commit()), probe)

    assert atlas("send", "-", "--token", "t", "--to", url, stdin=BYTES).code == 0


def test_of_many_files_the_first_are_shown_and_json_lists_all(capsys):
    stored = [StoredExport(f"{n}", "ri.dataset", "ri.t", f"{n}.ndjson") for n in range(9)]
    balance = LineAccounting(read=9, committed=9, exports=stored)
    print_outcome(balance, None, json=False)

    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("File ") for line in lines) == SHOWN_MAX
    assert sum("and 6 more" in line for line in lines) == 2
    assert len(build_report(balance, None, 0).files) == 9


def test_a_folder_is_only_shown_if_the_file_is_in_it(tmp_path):
    balance = LineAccounting(exports=[StoredExport("id", "ri.dataset", "ri.t", "a/1.ndjson")])
    assert build_report(balance, tmp_path, 0).folder is None
    (tmp_path / "ri.dataset" / "develop").mkdir(parents=True)
    assert build_report(balance, tmp_path, 0).folder is None

    file = tmp_path / "ri.dataset" / "master" / "a" / "1.ndjson"
    file.parent.mkdir(parents=True)
    file.touch()
    report = build_report(balance, tmp_path, 0)
    assert (report.branch, report.folder) == ("master", str(tmp_path / "ri.dataset" / "master"))
