"""Atlas as its users run it: real processes, real signals, files on a disk."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import pytest

from atlas.core.identifiers import API_PREFIX
from tests.conftest import an_export
from tests.support import generator
from tests.support.processes import (
    COMMAND,
    DATASET,
    ENVIRON,
    HOST,
    SECONDS,
    Local,
    atlas,
    children,
    fetched,
    killed_at_last,
    local,
    started,
)
from tests.support.waiting import is_gone, until

pytestmark = pytest.mark.slow


GOOD = [
    f'{{"uuid":"{number}","sourceName":"Zoë’s Apple\u00a0Watch","valueDouble":{number % 3}}}'
    for number in range(1_600)
]
BAD = {3: "", 700: '{"uuid":"Zoë’s', 1_300: '["Zoë"]', 1_601: "Zoë"}
UNTOLD = ["Zoë", "Apple", "auth0|", "local-secret", "eyJ", "Bearer", "Traceback"]


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """1,600 records, three invalid lines and a blank one."""
    lines = list(GOOD)
    for number, line in BAD.items():
        lines.insert(number - 1, line)
    path = tmp_path_factory.mktemp("file") / "watch.ndjson"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Local]:
    """One service for all tests that only send exports to it."""
    with local(tmp_path_factory.mktemp("running")) as one:
        yield one


@pytest.fixture(scope="module")
def sent(running, file) -> subprocess.CompletedProcess[str]:
    """Send the file for the first time."""
    return atlas(file.parent, "send", file, "--to", running.url, "--device", "Zoë’s Watch")


def test_every_line_of_a_file_is_accounted_for(sent):
    assert sent.stdout.splitlines()[0] == (
        "1,603 lines read = 1,600 rows committed + 0 accepted + 3 rejected"
    )
    assert sent.stderr.splitlines() == [
        "line 700: not valid JSON",
        "line 1300: not a JSON object",
        "line 1601: not valid JSON",
    ]
    assert sent.returncode == 0


def test_the_end_says_where_the_rows_lie_on_this_machine(running, sent):
    told = [line.split(maxsplit=1) for line in sent.stdout.splitlines()[1:]]
    (folder,) = (Path(text) for label, text in told if label == "Folder")
    files = [text for label, text in told if label == "File"]

    assert told[0] == ["Dataset", f"{DATASET}  (branch master)"]
    assert len(files) == 2
    assert set(files) <= set(running.files())
    assert sum((folder / file).read_bytes().count(b"\n") for file in files) == 1_600


def test_what_was_sent_lies_on_the_disk_byte_for_byte(running, sent):
    rows = [row for row in running.rows() if row["device"] == "Zoë’s Watch"]

    assert sorted(str(row["raw_healthkit_record"]) for row in rows) == sorted(GOOD)
    assert {row["source_name"] for row in rows} == {"Zoë’s Apple\u00a0Watch"}
    assert {row["value_double"] for row in rows} == {0, 1, 2}
    assert {row["auth0_user_id"] for row in rows} == {"auth0|local"}
    assert all(path.startswith("healthkit/raw/auth0|local/") for path in running.files())


def test_the_same_file_adds_nothing(running, sent, file):
    before = running.files()
    again = atlas(file.parent, "send", file, "--to", running.url, "--device", "Zoë’s Watch")

    first, *places = sent.stdout.splitlines()
    assert again.stdout.splitlines() == [f"{first}  (1,600 already stored)", *places]
    assert running.files() == before


def test_the_owner_of_the_journal_is_asked_for_what_stands_in_it(running, sent):
    table = atlas(running.folder, "exports", "list", "--journal", running.journal)
    shown = table.stdout.splitlines()[1].split()[7]
    one = atlas(running.folder, "exports", "show", shown, "--journal", running.journal)

    assert "0 accepted" in table.stdout.splitlines()[-1]
    found = msgspec.json.decode(one.stdout)
    assert found["receipt"]["id"].startswith(shown)
    assert found["user"] in found["receipt"]["path"], "a folder is called as the user is"
    assert (table.stderr, one.stderr) == ("", "")


def test_what_the_owner_does_not_know_is_one_line(running, sent):
    none = atlas(running.folder, "exports", "show", "a/b", "--journal", running.journal)

    assert (none.returncode, none.stdout) == (1, "")
    assert none.stderr.startswith("atlas: No export has this id")
    assert none.stderr.count("\n") == 1


def test_a_person_is_told_of_and_forgotten_by_the_owner_of_the_journal(running, sent):
    auth0 = f"http://{HOST}:{running.port + 2}"
    for user in ("auth0|gone", "auth0|gone too"):
        token = atlas(running.folder, "token", "--auth0", auth0, "--sub", user).stdout.strip()
        assert running.post("a", "wait=20", token)[0] == 200
    before = running.files().keys()
    of = ("auth0|gone", "--journal", running.journal)
    found = atlas(running.folder, "person", "show", *of, "--files")
    receipt = atlas(running.folder, "person", "erase", *of, "--yes", "--receipt", "receipt.json")
    nothing = atlas(running.folder, "person", "show", *of)

    assert found.stdout.splitlines()[-1].startswith("healthkit/raw/auth0|gone/")
    assert (found.returncode, receipt.returncode, nothing.returncode) == (0, 0, 0)
    assert "Removed    1 files" in receipt.stdout
    assert nothing.stdout.endswith("There are no data of this user.\n")
    (gone,) = before - running.files().keys()
    assert gone.startswith("healthkit/raw/auth0|gone/")
    assert "auth0" not in receipt.stdout + (running.folder / "receipt.json").read_text()
    assert running.stand_in()["complaints"] == []
    running.tells("User forgotten")


def test_who_is_killed_while_a_person_is_forgotten_ends_that_before_anything_else(tmp_path):
    of = ("auth0|local", "--journal", Path("state") / "journal.db")
    with local(tmp_path, "--foundry-latency", "0.5") as one:
        assert one.post("a", "wait=20")[0] == 200
        with killed_at_last(started(tmp_path, "person", "erase", *of, "--yes")) as forgetting:
            while not removals(one):
                assert forgetting.poll() is None
                time.sleep(0.01)
            assert one.ended(signal.SIGKILL) == -signal.SIGKILL

    with local(tmp_path) as one:
        assert one.post("b", "wait=20")[0] == 200
        statuses = {each["status"] for each in one.stand_in()["transactions"]}
        assert statuses == {"COMMITTED", "ABORTED"}
        receipt = atlas(tmp_path, "person", "erase", *of, "--yes")

        assert receipt.returncode == 0
        assert "Purged     2 committed" in receipt.stdout
        assert one.files() == {}
        assert one.stand_in()["complaints"] == []


def removals(one: Local) -> list[dict[str, object]]:
    seen = one.stand_in()["transactions"]
    return [each for each in seen if each["kind"] == "DELETE"]


def test_a_token_of_anybody_is_good_for_sending(running, tmp_path):
    auth0 = f"http://{HOST}:{running.port + 2}"
    given = atlas(tmp_path, "token", "--auth0", auth0, "--sub", "auth0|ada")
    status, answer = running.post("a", "wait=20", given.stdout.strip())

    assert (status, answer["records_ingested"]) == (200, 1)
    assert str(answer["file_path"]).startswith("healthkit/raw/auth0|ada/")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_told_to_end_ends_in_time_with_nothing_lost(tmp_path, number):
    with local(tmp_path, "--foundry-latency", "0.1") as one:
        status, _ = one.post("a", "respond-async")
        began = time.monotonic()
        code = one.ended(number)

        assert (status, code) == (202, 0)
        assert time.monotonic() - began < 10
        assert one.uuids() == ["a"]
        assert '"Shut down"' in one.log
        assert not leaks(one.log)


def test_who_waits_for_a_commit_at_the_end_is_told_that_the_connection_closes(tmp_path):
    with local(tmp_path, "--foundry-latency", "1") as one:
        sender = HTTPConnection(HOST, one.port, timeout=SECONDS)
        token = fetched(f"http://{HOST}:{one.port + 2}/stand-in/tokens").decode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        body = msgspec.json.encode(an_export(b'{"uuid":"a"}'))
        sender.request("POST", f"{API_PREFIX}/export", body, headers)
        one.tells("Uploading HealthKit data to dataset")
        one.process.send_signal(signal.SIGTERM)
        answer = sender.getresponse()

        assert (answer.status, answer.getheader("Connection")) == (202, "close")
        sender.close()


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("Uploading HealthKit data to dataset", id="accepted"),
        pytest.param("Foundry transaction opened", id="in an open transaction"),
    ],
)
def test_who_is_killed_commits_once_after_the_next_start(tmp_path, moment):
    with local(tmp_path, "--foundry-latency", "0.2") as one:
        assert [one.post(uuid, "respond-async")[0] for uuid in "abc"] == [202] * 3
        one.tells(moment)
        assert one.ended(signal.SIGKILL) == -signal.SIGKILL
        assert one.files() == {}

    with local(tmp_path) as one:
        answers = [one.post(uuid, "wait=20") for uuid in "abc"]
        seen = one.stand_in()

        assert [status for status, _ in answers] == [200] * 3
        assert all(answer["replayed"] for _, answer in answers)
        assert one.uuids() == ["a", "b", "c"]
        assert {each["status"] for each in seen["transactions"]} <= {"COMMITTED", "ABORTED"}
        assert seen["complaints"] == []


def test_who_is_killed_in_the_middle_of_flattening_leaves_no_worker_and_starts_at_once(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(ENVIRON, "ATLAS_WORKERS", "2")
    count, path = 40_000, tmp_path / "years.ndjson"  # six parts
    path.write_bytes(generator.export(count))
    with local(tmp_path) as one:
        sending_it = ["send", path, "--stream", "--to", one.url]
        with killed_at_last(started(tmp_path, *sending_it)) as sending:
            one.tells("Uploading HealthKit data to dataset")
            workers = children(one.process.pid)
            assert one.ended(signal.SIGKILL) == -signal.SIGKILL
            sending.kill()

    with local(tmp_path) as one:
        until(lambda: all(map(is_gone, workers)))
        again = atlas(tmp_path, *sending_it[:-1], one.url)

        assert workers
        assert again.returncode == 0
        assert "already stored" in again.stdout
        assert f"{count:,} already stored" not in again.stdout
        assert len(one.rows()) == count
        assert "Journal damaged" not in one.log


def test_a_file_whose_sending_is_interrupted_is_sent_again_and_stands_once(tmp_path, file):
    with local(tmp_path, "--foundry-latency", "0.2") as one:
        with killed_at_last(started(tmp_path, "send", file, "--to", one.url)) as sending:
            one.tells("Uploading HealthKit data to dataset")
            sending.send_signal(signal.SIGINT)
            out, err = sending.communicate(timeout=SECONDS)
        again = atlas(tmp_path, "send", file, "--to", one.url)

        nothing_came_back = "0 rows committed + 0 accepted + 0 rejected + 1,603 not sent"
        assert (sending.returncode, out) == (130, f"1,603 lines read = {nothing_came_back}\n")
        assert err.startswith("atlas: Interrupted")
        assert err.count("\n") == 1
        assert "1,600 rows committed + 0 accepted + 3 rejected" in again.stdout
        assert len(one.rows()) == 1_600


def test_a_stream_whose_sending_is_interrupted_is_sent_again_and_stands_once(tmp_path):
    count, path = 30_000, tmp_path / "years.ndjson"  # four parts
    path.write_bytes(generator.export(count))
    with local(tmp_path, "--foundry-latency", "0.2") as one:
        sending_it = ["send", path, "--stream", "--to", one.url]
        with killed_at_last(started(tmp_path, *sending_it)) as sending:
            one.tells("Uploading HealthKit data to dataset")
            sending.send_signal(signal.SIGINT)
            out, err = sending.communicate(timeout=SECONDS)
        again = atlas(tmp_path, *sending_it)

        read, nothing_came_back = out.split(" lines read = ")
        assert (
            nothing_came_back == f"0 rows committed + 0 accepted + 0 rejected + {read} not sent\n"
        )
        assert sending.returncode == 130
        assert err.startswith("atlas: Interrupted")
        assert err.count("\n") == 1
        assert (again.returncode, again.stderr) == (0, "")
        assert f"{count:,} lines read = {count:,} rows committed + 0 accepted" in again.stdout
        assert "already stored" in again.stdout
        assert len(one.rows()) == count


def test_a_stream_tells_every_line_as_batches_do(running, tmp_path, file):
    told = atlas(tmp_path, "send", file, "--stream", "--to", running.url, "--device", "Other")

    assert told.returncode == 0
    assert told.stdout.splitlines()[0] == (
        "1,603 lines read = 1,600 rows committed + 0 accepted + 3 rejected"
    )
    assert [line.partition(":")[0] for line in told.stderr.splitlines()] == [
        "line 700",
        "line 1300",
        "line 1601",
    ]


def test_a_stream_that_nobody_takes_ends_with_1_and_a_pipe_is_none(running, tmp_path, file):
    streaming = ["send", "--stream", "--to", running.url, "--token", "stolen"]
    stolen = atlas(tmp_path, *streaming, file)
    pipe = subprocess.run(
        [COMMAND, *streaming, "-"],
        input=b"{}\n",
        env=ENVIRON,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )

    assert stolen.returncode == 1
    assert stolen.stdout.endswith("+ 1,603 not sent\n")
    assert stolen.stderr.startswith("atlas: 401 INVALID_TOKEN: ")
    assert (pipe.returncode, pipe.stdout) == (2, b"")
    assert b"cannot read a pipe again" in pipe.stderr


def test_who_sends_to_a_service_that_is_busy_is_told_why_it_takes_so_long(tmp_path, file):
    with busy_server() as to:
        arguments = ["send", file, "--to", to, "--token", "a-token"]
        with killed_at_last(started(tmp_path, *arguments)) as sending:
            assert sending.stderr is not None
            told = sending.stderr.readline()
            sending.send_signal(signal.SIGINT)
            out, err = sending.communicate(timeout=SECONDS)

    assert told == "atlas: 503; trying again\n"
    assert "1,603 not sent" in out
    assert (sending.returncode, err.count("\n")) == (130, 1)


class BusyHandler(BaseHTTPRequestHandler):
    """Answers 503 to every upload."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_error(503)

    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def busy_server() -> Iterator[str]:
    with ThreadingHTTPServer((HOST, 0), BusyHandler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{server.server_port}"
        server.shutdown()


def test_a_reader_that_has_seen_enough_hears_no_complaint(tmp_path, file):
    pipeline = f"'{COMMAND}' flatten '{file}' | head -1"
    head = subprocess.run(
        ["sh", "-c", pipeline], env=ENVIRON, capture_output=True, timeout=SECONDS, check=True
    )

    assert msgspec.json.decode(head.stdout)["uuid"] == "0"
    assert b"Traceback" not in head.stderr
    assert b"ignored" not in head.stderr


def test_the_log_is_a_json_object_a_line_and_tells_nothing_of_anybody(running, sent):
    lines = [msgspec.json.decode(line) for line in running.log.splitlines()]

    assert len(lines) > 5
    assert all(list(line)[:3] == ["timestamp", "level", "message"] for line in lines)
    assert not leaks(running.log)


def leaks(log: str) -> list[str]:
    """Return the text in the log that must not be there."""
    return [text for text in UNTOLD if text in log]
