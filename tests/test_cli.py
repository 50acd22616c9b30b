"""The command line: its output, the stream it goes to, and its exit codes."""

import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import msgspec
import pytest
import typer
from aiohttp.test_utils import TestServer
from anyio.abc import SocketAttribute
from anyio.from_thread import start_blocking_portal

from atlas import __version__, service
from atlas.cli.exports import render_table
from atlas.cli.flatten import BLOCK_BYTES
from atlas.cli.main import COMMANDS, build_app
from atlas.cli.personal_data import open_receipt
from atlas.core import identifiers
from atlas.core.messages import DecodedExport, ExportMetadata, JournalEntry, JournalPage, User
from atlas.core.personal_data import ErasureReceipt, PersonalDataReport
from atlas.local import foundry as local_foundry
from atlas.local.foundry.branches import Transaction
from atlas.local.foundry.faults import Fault
from atlas.local.foundry.state import DATASET
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.sqlite import keys
from atlas.outside.sqlite.journal import open_journal
from tests.conftest import ServiceHarness, an_export, no_file_may_grow
from tests.support.command_line import Ended
from tests.support.exports import ADA, NOON

SYSTEMS = {
    "AUTH0_DOMAIN": "atlas.test",
    "FOUNDRY_HOST": "foundry.test",
    "FOUNDRY_CLIENT_ID": "client",
    "FOUNDRY_CLIENT_SECRET": "a-secret",
}


def every_command():
    """Return the names of all commands, as the user types them."""

    yield []
    for name, *_ in COMMANDS:
        yield [name]
        yield from ([name, child] for child in getattr(command_of(name), "commands", {}))


def command_of(name):
    return typer.main.get_command(build_app([name])).commands[name]


@pytest.mark.parametrize(
    "command", list(every_command()), ids=lambda path: " ".join(["atlas", *path])
)
def test_every_command_explains_itself_with_an_example(atlas, command):
    ended = atlas(*command, "--help")

    paragraphs = [" ".join(each.split()) for each in ended.out.split("\n\n")]
    examples = [each for each in paragraphs if each.startswith("Example")]
    assert (ended.code, ended.err) == (0, "")
    assert any("atlas " + " ".join(command) in example for example in examples)


@pytest.mark.parametrize(
    "command", list(every_command()), ids=lambda path: " ".join(["atlas", *path])
)
def test_the_help_fits_80_columns_cuts_nothing_and_names_no_type_of_python(atlas, command):
    lines = atlas(*command, "--help", COLUMNS="80").out.splitlines()

    assert [line for line in lines if len(line) > 80] == []
    assert [line for line in lines[1:] if line.endswith("...")] == []
    assert [
        line for line in lines if line.startswith("Usage:") and re.search(r"[{}]|\[\[", line)
    ] == []
    assert [line for line in lines if re.search(r"<(str|int|float|File|bool|Path)", line)] == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("atlas exp", ["exports"]),
        ("atlas exports re", ["replay"]),
        ("atlas send --st", ["--stream"]),
        ("atlas nothing-of-the-kind --a", []),
    ],
)
def test_the_completion_that_is_printed_for_bash_completes_commands_and_options(line, words):
    words_before = line.split(" ")
    script = f"""
        source <("$ATLAS" --show-completion bash)
        COMP_WORDS=({line}); COMP_CWORD={len(words_before) - 1}
        _atlas_completion "$ATLAS"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environ = os.environ | {"ATLAS": f"{Path(sys.executable).parent}/atlas"}
    done = subprocess.run(
        ["bash", "-c", script], env=environ, capture_output=True, text=True, check=True
    )

    assert (done.stdout.split(), done.stderr) == (words, "")


@pytest.mark.parametrize(
    "group", [[], ["exports"], ["person"], ["config"]], ids=lambda path: " ".join(["atlas", *path])
)
def test_a_group_without_a_command_lists_what_there_is(atlas, group):
    assert atlas(*group) == atlas(*group, "--help")


@pytest.mark.parametrize(
    ("name", "summary"),
    [(name, summary) for name, _, summary in COMMANDS],
    ids=[name for name, *_ in COMMANDS],
)
def test_the_list_says_of_a_command_what_it_says_of_itself(name, summary):
    """The list is built without importing the commands."""
    itself = command_of(name)

    assert summary.rstrip(".") == itself.get_short_help_str(limit=1000).rstrip(".")


def test_a_command_that_reads_the_journal_imports_no_server_and_no_foundry():
    """Half a second of `atlas phones` would be these imports."""
    code = "import sys, atlas.cli.phones; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    loaded = set(modules.decode().split())

    assert "atlas.cli.reconcile" in loaded
    assert not loaded & {"atlas.server", "atlas.edge.app", "atlas.outside.foundry", "starlette"}


def test_the_service_offers_each_name_that_it_lists():
    assert set(service.MODULES) == set(service.__all__)
    assert all(hasattr(service, name) for name in service.__all__)
    assert not hasattr(service, "absent")


def test_the_version_is_that_of_the_package(atlas):
    assert atlas("--version") == Ended(0, f"atlas {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        pytest.param(["--nonsense"], "--nonsense", id="an option of nobody"),
        pytest.param(["send", "--nonsense"], "--nonsense", id="an option of another"),
        pytest.param(["nonsense"], "nonsense", id="a command"),
        pytest.param(["exports", "lst"], "'list'", id="a slip of the finger"),
        pytest.param(["send"], "FILE", id="no file"),
        pytest.param(["send", "nowhere.ndjson"], "nowhere.ndjson", id="a file that is not there"),
        pytest.param(["flatten", "."], "directory", id="a folder, flattened"),
        pytest.param(["flatten", "-", "--device"], "--device", id="an option without its value"),
        pytest.param(["send", "-", "--to", "ftp://a.test"], "ftp://a.test", id="another scheme"),
        pytest.param(["send", "-", "--to", "a.test"], "a.test", id="no scheme"),
        pytest.param(["send", "-", "--to", "http://"], "http://", id="no host"),
        pytest.param(["send", "-", "--to", "http://a.test:x"], "a.test:x", id="no port"),
        pytest.param(["local", "--port", "0"], "--port", id="a port too low"),
        pytest.param(["local", "--port", "65533"], "--port", id="no room for three more"),
        pytest.param(["local", "--foundry-latency", "-1"], "--foundry-latency", id="time back"),
        pytest.param(
            ["local", "--foundry-behaviour", "busy=very"],
            "named, unnamed, bad_request",
            id="a mode of Foundry that has no such value",
        ),
        pytest.param(["exports", "list", "--status", "lost"], "lost", id="a status"),
        pytest.param(["exports", "list", "--limit", "0"], "--limit", id="a limit"),
        pytest.param(["exports", "list", "--before", f"{10**30}"], "--before", id="a page"),
        pytest.param(["exports", "show"], "ID", id="no id"),
        pytest.param(["top", "--operator", "a.test"], "--operator", id="no URL of a listener"),
    ],
)
def test_wrong_usage_is_one_line_that_names_it(atlas, arguments, named):
    assert named in atlas(*arguments).in_one_line(2)


# flatten


GOOD = '{"uuid":"a","valueDouble":0,"sourceName":"Zoë’s iPhone"}'


def rows(ended: Ended) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for line in ended.out.splitlines()]


def test_flatten_writes_rows_and_tells_the_rest_on_stderr(atlas, tmp_path):
    (tmp_path / "watch.ndjson").write_text(f"{GOOD}\n\nbad\n[]\r\n{GOOD}", encoding="utf-8")
    ended = atlas("flatten", "watch.ndjson", "--device", "Watch", "--sub", "auth0|zoë")

    first, second = rows(ended)
    assert first == second
    assert first["raw_healthkit_record"] == GOOD
    assert (first["device"], first["auth0_user_id"]) == ("Watch", "auth0|zoë")
    assert (first["value_double"], first["source_name"]) == (0, "Zoë’s iPhone")
    assert ended.err == "line 3: not valid JSON\nline 4: not a JSON object\n"
    assert ended.code == 0


@pytest.mark.parametrize("file", [[], ["-"]], ids=["no file", "a dash"])
def test_flatten_reads_standard_input(atlas, file):
    ended = atlas("flatten", *file, stdin=b'\xef\xbb\xbf{"uuid":"a"}\r\n')

    (row,) = rows(ended)
    assert (row["uuid"], row["raw_healthkit_record"]) == ("a", '{"uuid":"a"}')
    assert (row["device"], ended.err) == ("unknown", "")


@pytest.mark.parametrize("text", [b"", b"\n \r\n", b"\xef\xbb\xbf"], ids=["empty", "blank", "mark"])
def test_flatten_makes_nothing_of_nothing(atlas, text):
    assert atlas("flatten", "--strict", stdin=text) == Ended(0, "", "")


@pytest.mark.parametrize(("text", "code"), [(b"{}\n", 0), (b"{}\nbad\n", 1)], ids=["good", "bad"])
def test_strict_is_failing_when_a_line_is_rejected(atlas, text, code):
    ended = atlas("flatten", "--strict", stdin=text)

    assert ended.code == code
    assert len(rows(ended)) == 1
    assert ended.err.endswith("atlas: 1 lines were rejected.\n" if code else "")


def test_lines_have_their_right_number_however_large_the_file_is(atlas):
    line = b'{"uuid":"%b"}\n' % (b"a" * 100_000)
    lines = [line] * (BLOCK_BYTES // len(line) + 5)
    lines[0], lines[1], lines[-1] = b"\n", b"bad\n", b"{\n"
    ended = atlas("flatten", stdin=b"".join(lines))

    assert sum(map(len, lines)) > BLOCK_BYTES
    assert ended.out.count("\n") == len(lines) - 3
    assert ended.err == f"line 2: not valid JSON\nline {len(lines)}: not valid JSON\n"


def test_of_very_many_rejects_the_first_are_told_and_the_others_counted(atlas):
    told = atlas("flatten", stdin=b"bad\n" * 50).err.splitlines()

    lines = [f"line {n}: not valid JSON" for n in range(1, 21)]
    assert told == [*lines, "and 30 more", "atlas: 50 lines were rejected."]


def test_a_reader_that_has_seen_enough_is_no_error(atlas, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    pipe = os.fdopen(writing, "w")
    monkeypatch.setattr(sys, "stdout", pipe)
    ended = atlas("flatten", stdin=b"{}\n")
    with suppress(BrokenPipeError):
        pipe.close()

    assert (ended.code, ended.err) == (1, "")


class Broken(io.RawIOBase):
    """A full disk with read errors."""

    def readable(self):
        return True

    def writable(self):
        return True

    def readinto(self, _buffer):
        raise OSError(5, "Input/output error")

    def write(self, _bytes):
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_one_line(atlas, monkeypatch):
    full = io.TextIOWrapper(io.BufferedWriter(Broken()))
    monkeypatch.setattr(sys, "stdout", full)

    assert atlas("flatten", stdin=b"{}\n").in_one_line(1) == "atlas: No space left on device.\n"
    with pytest.raises(OSError, match="No space left"):
        full.close()


def test_a_torn_disk_is_one_line(atlas):
    torn = io.BufferedReader(Broken())

    assert atlas("flatten", stdin=torn).in_one_line(1) == "atlas: Input/output error.\n"


# settings


@pytest.mark.parametrize("command", [["serve"], ["local"], ["exports", "list"]], ids=" ".join)
@pytest.mark.parametrize(
    ("environ", "named"),
    [
        pytest.param({"ATLAS_NONSENSE": "1"}, "ATLAS_NONSENSE", id="unknown"),
        pytest.param({"PORT": "high"}, "PORT", id="no port"),
        pytest.param({"ATLAS_JOURNAL": "mysql://a"}, "ATLAS_JOURNAL", id="no journal"),
        pytest.param({"ATLAS_CONFIG": "nowhere.toml"}, "nowhere.toml", id="no file"),
    ],
)
def test_a_bad_setting_is_one_line_that_names_it(atlas, command, environ, named):
    assert named in atlas(*command, **SYSTEMS | environ).in_one_line(78)


def test_a_bad_file_is_one_line_that_names_the_place(atlas, tmp_path):
    (tmp_path / "a.toml").write_text("[edge]\nprot = 8080")

    assert "prot" in atlas("serve", "--config", "a.toml", **SYSTEMS).in_one_line(78)


@pytest.mark.parametrize("name", SYSTEMS)
def test_serve_names_the_setting_that_is_missing(atlas, name):
    said = atlas("serve", **(SYSTEMS | {name: ""})).in_one_line(78)

    assert said.startswith(f"atlas: {name} is not set.")
    assert "atlas local" in said
    assert "a-secret" not in said


# leftovers of a bug


def test_a_bug_is_told_by_its_place_and_without_a_value(atlas, monkeypatch):
    def bug(*_arguments):
        raise ExceptionGroup("of tasks", [ZeroDivisionError("72 beats of Ada")])

    monkeypatch.setattr("atlas.core.rows.flatten", bug)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # main installs its own
    with pytest.raises(ExceptionGroup) as ended:
        atlas("flatten", stdin=b"{}")
    told = io.StringIO()
    monkeypatch.setattr(sys, "stderr", told)
    sys.excepthook(ended.type, ended.value, ended.tb)

    assert told.getvalue().endswith(
        "Ended by a bug (ZeroDivisionError). Please report the above.\n"
    )
    assert "Ada" not in told.getvalue()


# the journal


@pytest.fixture
def journal(tmp_path):
    """A journal with three exports that no process holds; the second has a rejected line."""

    async def fill():
        async with ServiceHarness(path).running() as flow:
            await flow.post(an_export(b'{"uuid":"a"}\n'))
            await flow.post(an_export(b'{"uuid":"b"}\nbad\n'))
            await flow.post(an_export(b'{"uuid":"c"}\n'))

    path = tmp_path / "journal"
    anyio.run(fill)
    return path


def test_the_list_is_a_table_and_the_totals_of_the_whole_journal(atlas, journal):
    ended = atlas("exports", "list", "--journal", journal)

    headings, *lines, totals = ended.out.splitlines()
    assert headings.split()[:5] == ["STATUS", "ACCEPTED", "ROWS", "REJECTED", "BYTES"]
    assert [line.split()[:4] for line in lines] == [
        ["committed", "2026-01-02T12:00:00.000Z", "1", rejected] for rejected in "010"
    ]
    assert totals == "0 accepted, 3 committed, 0 set_aside"
    assert (ended.code, ended.err) == (0, "")


def test_the_list_goes_on_where_its_last_line_says(atlas, journal):
    page = atlas("exports", "list", "--journal", journal, "--limit", 2).out.splitlines()
    hint = page[-1].partition("(older: --before ")[2].rstrip(")")
    rest = atlas("exports", "list", "--journal", journal, "--before", hint).out.splitlines()

    assert (len(page), len(rest)) == (4, 3)
    assert "--before" not in rest[-1]


def test_the_list_shows_only_those_that_stand_so(atlas, journal):
    none = atlas("exports", "list", "--journal", journal, "--status", "set_aside")

    assert len(none.out.splitlines()) == 2


def test_the_list_tells_why_an_export_was_set_aside(atlas, journal):
    async def set_aside():
        with open_journal(journal, CapacityLimits(free_bytes=0)) as found:
            original = DecodedExport("id", ExportMetadata(ADA, "", "", ""), b"{}")
            await found.dead_letters.store(original, "id", NOON)

    anyio.run(set_aside)
    listed = atlas("exports", "list", "--journal", journal, "--status", "set_aside")

    _, line, reason, _ = listed.out.splitlines()
    assert line.startswith("set_aside  2026-01-02T12:00:00.000Z")
    assert reason.strip() == "it crashes a stage"


@pytest.mark.parametrize(
    ("isolation", "told"),
    [
        (1, "tried in a file of its own: Foundry answers 400."),
        (2, "tried in a small group: Foundry answers 400."),
        (3, "tried in a small group: Foundry answers 400."),
        (4, "tried alone: Foundry answers 400."),
        (9, "tried alone: Foundry answers 400."),
    ],
)
def test_the_list_tells_of_what_failed_and_waits_why_and_how_it_is_tried(
    atlas, journal, isolation, told
):
    with closing(sqlite3.connect(journal)) as db, db:
        db.execute(
            "UPDATE export SET status = 'accepted', tries = 2, isolation = ?,"
            " reason = 'Foundry answers 400.' WHERE number = 2",
            [isolation],
        )
    listed = atlas("exports", "list", "--journal", journal, "--status", "failed").out.splitlines()
    id = listed[1].split()[7]
    shown = atlas("exports", "show", id, "--journal", journal)

    assert len(listed) == 4
    assert (listed[1].split()[0], listed[1].split()[5]) == ("accepted", "2")
    assert listed[2].strip() == told
    entry = msgspec.json.decode(shown.out, type=JournalEntry)
    assert (entry.tries, entry.reason) == (2, "Foundry answers 400.")
    assert entry.isolation != "none"


def test_the_list_shows_only_what_was_sought(atlas, journal):
    newest = atlas("exports", "list", "--journal", journal).out.splitlines()[1].split()[7]
    found = atlas("exports", "list", "--journal", journal, "--find", newest).out.splitlines()
    none = atlas("exports", "list", "--journal", journal, "--find", "nothing").out.splitlines()

    assert [line.split()[7] for line in found[1:-1]] == [newest]
    assert none == ["There are no such exports.", none[-1]]


def test_a_search_that_has_looked_no_further_says_so():
    lines = render_table(JournalPage({"accepted": 20_000}, (), 9_999, 10_000)).splitlines()

    assert lines[1] == "Stopped after searching 10,000 exports."
    assert lines[2].endswith("(older: --before 9999)")


def test_a_program_gets_the_list_as_json(atlas, journal):
    ended = atlas("exports", "list", "--json", "--journal", journal)

    listing = msgspec.json.decode(ended.out, type=JournalPage)
    assert listing.totals == {"accepted": 0, "committed": 3, "set_aside": 0}
    assert [entry.receipt.rejected for entry in listing.entries] == [0, 1, 0]


def test_show_tells_one_export_by_the_beginning_of_its_id(atlas, journal):
    table = atlas("exports", "list", "--journal", journal).out.splitlines()
    shown = table[2].split()[7]
    ended = atlas("exports", "show", shown, "--journal", journal)

    entry = msgspec.json.decode(ended.out, type=JournalEntry)
    assert entry.receipt.id.startswith(shown)
    assert (entry.receipt.ingested, entry.receipt.rejected) == (1, 1)
    assert "/ada/" not in ended.out, "the folder of a file is the sub"


def test_what_is_not_in_the_journal_is_said_in_one_line(atlas, journal):
    said = atlas("exports", "show", "none", "--journal", journal).in_one_line(1)

    assert "No export in the journal has this id" in said


def test_without_a_journal_where_the_settings_say_that_of_local_is_shown(atlas, journal, tmp_path):
    local = tmp_path / "var" / "local"
    local.mkdir(parents=True)
    keys.default_key_path(journal).rename(keys.default_key_path(local / "journal.db"))
    journal.rename(local / "journal.db")

    assert "3 committed" in atlas("exports", "list").out
    another = atlas("exports", "list", ATLAS_JOURNAL="sqlite:///var/other.db")
    assert "var/other.db" in another.in_one_line(1)


@pytest.fixture
def aside(tmp_path):
    """A journal with one export that Foundry rejected and one that is waiting."""

    async def fill():
        life = ServiceHarness(path)
        life.dataset.refuses.add("healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson")
        async with life.running() as flow:
            await flow.post(an_export(b'{"uuid":"a"}\n'))
            life.dataset.down = True
            await flow.post(an_export(b'{"uuid":"b"}\n'), Prefer="respond-async")

    path = tmp_path / "journal"
    anyio.run(fill)
    return path


def test_what_was_set_aside_is_sent_again_at_the_next_start(atlas, aside):
    assert (
        "1 accepted, 0 committed, 1 set_aside" in atlas("exports", "list", "--journal", aside).out
    )

    said = atlas("exports", "replay", "--all", "--journal", aside)
    assert (said.code, said.out) == (0, "1 replayed, 0 failed again.\n")
    assert (
        "2 accepted, 0 committed, 0 set_aside" in atlas("exports", "list", "--journal", aside).out
    )


def test_one_that_was_set_aside_is_given_up_and_its_entry_stays(atlas, aside):
    table = atlas("exports", "list", "--status", "set_aside", "--journal", aside).out.splitlines()
    id = table[1].split()[7]

    assert "confirm with --yes" in atlas("exports", "discard", id, "--journal", aside).in_one_line(
        2
    )
    assert atlas("exports", "discard", id, "--yes", "--journal", aside).out == "1 discarded.\n"
    shown = atlas("exports", "list", "--journal", aside).out
    assert "1 abandoned, 1 accepted, 0 committed, 0 set_aside" in shown
    for order in (["replay", id], ["discard", id, "--yes", "--json"]):
        said = atlas("exports", *order, "--journal", aside).in_one_line(1)
        assert f"Export {id} was discarded: its data are gone" in said


@pytest.mark.parametrize("order", [["replay"], ["discard", "--yes"]], ids=["replay", "discard"])
@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--json"]], ids=["", "dry run", "JSON"])
def test_an_order_on_what_waits_or_is_unknown_is_an_error(atlas, aside, order, more):
    table = atlas("exports", "list", "--status", "accepted", "--journal", aside).out.splitlines()
    id = table[1].split()[7]

    waits = atlas("exports", *order, id, *more, "--journal", aside).in_one_line(1)
    unknown = atlas("exports", *order, "ffffffff", *more, "--journal", aside).in_one_line(1)

    assert f"Export {id} is accepted and waits for Foundry" in waits
    assert "No export in the journal has this id" in unknown


def test_a_dry_run_says_what_would_be_replayed_or_discarded_and_changes_nothing(atlas, aside):
    before = atlas("exports", "list", "--journal", aside).out
    entry = json.loads(
        atlas("exports", "list", "--status", "set_aside", "--json", "--journal", aside).out
    )["entries"][0]
    id = entry["receipt"]["id"]

    all_ = atlas("exports", "replay", "--all", "--dry-run", "--journal", aside)
    one = atlas("exports", "discard", id[:8], "--dry-run", "--journal", aside)
    as_json = atlas("exports", "replay", "--all", "--dry-run", "--json", "--journal", aside)

    assert all_.out.startswith(f"{id[:12]}         1 rows")
    assert all_.out.endswith("1 would be replayed. Nothing was changed.\n")
    assert one.out.endswith("1 would be discarded. Nothing was changed.\n")
    assert json.loads(as_json.out) == {"exports": [entry]}
    assert atlas("exports", "list", "--journal", aside).out == before


def test_a_user_is_found_by_the_sub_of_a_ticket(atlas, aside):
    found = atlas("exports", "list", "--find", " ada ", "--json", "--journal", aside)
    nobody = atlas("exports", "list", "--find", "eve", "--json", "--journal", aside)

    assert [len(json.loads(each.out)["entries"]) for each in (found, nobody)] == [2, 0]


@pytest.mark.parametrize("text", ["", "a" * 256, "\udcff"], ids=["empty", "long", "not UTF-8"])
def test_what_cannot_be_found_is_wrong_usage(atlas, aside, text):
    assert "--find" in atlas("exports", "list", "--find", text, "--journal", aside).in_one_line(2)


@pytest.mark.parametrize("options", [[], ["5f0c1d", "--all"]], ids=["none", "both"])
def test_replay_wants_one_or_all(atlas, aside, options):
    said = atlas("exports", "replay", *options, "--journal", aside)
    assert "Name one export or --all" in said.in_one_line(2)


def test_a_lost_key_stops_the_start_until_what_it_sealed_is_given_up(atlas, aside):
    keys.default_key_path(aside).unlink()
    before = aside.read_bytes()
    said = atlas("exports", "list", "--journal", aside).in_one_line(78)
    assert "ATLAS_JOURNAL_KEY" in said
    assert "atlas exports discard" in said
    assert aside.read_bytes() == before

    would_be = atlas("exports", "discard", "--dry-run", "--journal", aside)
    assert would_be.out.startswith("2 exports would be discarded")
    assert atlas("exports", "list", "--journal", aside).code == 78
    given_up = atlas("exports", "discard", "--yes", "--journal", aside)
    assert given_up.out == "2 exports discarded; the journal now uses the current key.\n"
    shown = atlas("exports", "list", "--journal", aside)
    assert "2 abandoned, 0 accepted, 0 committed, 0 set_aside" in shown.out
    assert "auth0" not in shown.out


def test_with_the_right_key_nothing_is_lost_and_nothing_given_up(atlas, aside):
    said = atlas("exports", "discard", "--yes", "--journal", aside).in_one_line(1)
    assert "nothing is lost" in said


@pytest.mark.parametrize(
    ("options", "environ", "named"),
    [
        pytest.param([], {}, "var/journal.db", id="none at all"),
        pytest.param(["--journal", "nowhere.db"], {}, "nowhere.db", id="not there"),
        pytest.param(["--journal", "."], {}, "no journal at .", id="a folder"),
        pytest.param(
            ["--journal", "text"], {}, "text is not a readable journal", id="something else"
        ),
        pytest.param([], {"ATLAS_JOURNAL": "memory:"}, "in memory", id="in memory"),
    ],
)
def test_a_journal_that_cannot_be_read_is_one_line(atlas, tmp_path, options, environ, named):
    (tmp_path / "text").write_text("Once upon a time there was no journal." * 99)

    assert named in atlas("exports", "list", *options, **environ).in_one_line(1)


def test_serve_leaves_a_journal_alone_that_another_holds(atlas, monkeypatch, tmp_path):
    monkeypatch.setattr("atlas.service.store.sqlite_journal.LOCK_WAIT_SECONDS", 0.0)
    with open_journal(tmp_path / "journal", CapacityLimits(free_bytes=0)):
        said = atlas("serve", **SYSTEMS, ATLAS_JOURNAL="sqlite:///journal").in_one_line(75)

    assert said == (
        f"atlas: The journal journal is held by another process (pid {os.getpid()}): "
        "stop it, or set ATLAS_JOURNAL to another path.\n"
    )


def test_a_journal_whose_owner_does_not_answer_is_one_line_that_says_who(atlas, tmp_path):
    with open_journal(
        tmp_path / "journal", CapacityLimits(free_bytes=0), owner=f"127.0.0.1:{a_free_port()}"
    ):
        said = atlas("exports", "list", "--journal", "journal").in_one_line(1)

    assert f"(pid {os.getpid()})" in said
    assert "does not respond at 127.0.0.1" in said


@pytest.mark.parametrize("command", [["exports", "list"], ["person", "show", "ada"]])
def test_a_journal_that_another_command_holds_is_one_line(atlas, tmp_path, command):
    with open_journal(tmp_path / "journal", CapacityLimits(free_bytes=0)):
        said = atlas(*command, "--journal", "journal").in_one_line(1)

    assert said.startswith(
        f"atlas: The journal journal is held by another process (pid {os.getpid()}): stop it, or "
    )


# one person


@dataclass
class StandIn:
    """Emulated Foundry and the settings of Atlas for it; the dataset holds files of Ada and Zoë."""

    foundry: local_foundry.FoundryEmulator
    environ: dict[str, str]

    def last(self) -> Transaction:
        return self.foundry.branches.get_branch(DATASET, "master").history[-1]

    def files(self) -> list[str]:
        return sorted(self.foundry.branches.get_branch(DATASET, "master").view)


@pytest.fixture
def stand_in(tmp_path):
    foundry = local_foundry.FoundryEmulator(tmp_path / "foundry")
    begun = foundry.branches.begin(DATASET, "master", "APPEND")
    for user in ("ada", "ada|zoë"):
        path = identifiers.build_user_prefix(User(user)) + "2026-01-02T12-00-00-000Z.ndjson"
        foundry.branches.put(begun, path, b"{}\n")
    foundry.branches.commit(begun)

    async def served() -> TestServer:
        return TestServer(local_foundry.build_application(foundry))

    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(portal.call(served)) as server,
    ):
        host = str(server.make_url("")).rstrip("/")
        client = {"FOUNDRY_CLIENT_ID": "local", "FOUNDRY_CLIENT_SECRET": "local-secret"}
        yield StandIn(foundry, {"FOUNDRY_HOST": host} | client)


def test_where_tells_what_there_is_of_a_person(atlas, journal, stand_in):
    ended = atlas("person", "show", "ada", "--files", "--journal", journal, **stand_in.environ)
    user, files, receipts, phone, file = ended.out.splitlines()

    assert (ended.code, ended.err) == (0, "")
    assert re.fullmatch(r"User       [0-9a-f]{16}  \(the pseudonym in the log\)", user)
    assert files.startswith("Files      1 of their own, 3 bytes, written from 20")
    assert receipts == "Journal    3 committed, 0 digests"
    assert phone == "Phone      unknown, last export 2026-01-02T12:00:00.000Z, 0 types"
    assert file.startswith("healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson  3 bytes  since 20")


def test_where_tells_a_program_in_json_and_standard_input_can_name_the_user(
    atlas, journal, stand_in
):
    ended = atlas(
        "person", "show", "-", "--json", "--journal", journal, stdin=b"ada\r\n", **stand_in.environ
    )

    found = msgspec.json.decode(ended.out, type=PersonalDataReport)
    assert (found.files, found.exports, found.listed) == (1, {"committed": 3}, ())


def test_where_says_that_there_is_nothing(atlas, journal, stand_in):
    ended = atlas("person", "show", "nobody", "--journal", journal, **stand_in.environ)

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[1:] == ["There are no data of this user."]


def test_a_receipt_that_cannot_be_written_leaves_no_file_in_its_own_way(tmp_path):
    receipt = tmp_path / "receipt.json"
    with pytest.raises(OSError), open_receipt(receipt) as keep, no_file_may_grow():  # noqa: PT011
        keep(bytes(100_000))

    assert not receipt.exists()


def test_forget_leaves_nothing_and_writes_a_receipt_without_the_sub(atlas, journal, stand_in):
    before = stand_in.files()
    arguments = (
        "person",
        "erase",
        "ada",
        "--yes",
        "--receipt",
        "receipt.json",
        "--journal",
        journal,
    )
    ended = atlas(*arguments, **stand_in.environ)
    receipt = journal.with_name("receipt.json").read_bytes()
    done = msgspec.json.decode(receipt, type=ErasureReceipt)

    assert (ended.code, ended.err) == (0, "")
    assert "Removed    1 files, 3 bytes" in ended.out.splitlines()
    assert "Purged     3 committed, 1 phone" in ended.out.splitlines()
    assert all(each in ended.out for each in (*done.transactions, *done.to_do))
    assert not re.search(rb"\bada\b", receipt)  # a digest may contain these letters
    assert len(before) == 2
    assert stand_in.files() == before[1:]
    assert stand_in.foundry.log.violations == []
    assert (
        "There are no data"
        in atlas("person", "show", "ada", "--journal", journal, **stand_in.environ).out
    )


def test_a_receipt_is_not_written_over_and_nothing_is_done_without_one(atlas, journal, stand_in):
    journal.with_name("receipt.json").write_text("an older one")
    arguments = ("person", "erase", "ada", "--yes", "--journal", journal, "--receipt")
    over = atlas(*arguments, "receipt.json", **stand_in.environ)
    nowhere = atlas(*arguments, "no/such/folder.json", **stand_in.environ)

    assert "already exists" in over.in_one_line(1)
    assert "Cannot write" in nowhere.in_one_line(1)
    assert journal.with_name("receipt.json").read_text() == "an older one"
    assert len(stand_in.files()) == 2


@pytest.mark.parametrize("answer", [b"n\n", b"\n", b""])
def test_who_does_not_say_yes_forgets_nobody(atlas, journal, stand_in, answer):
    ended = atlas("person", "erase", "ada", "--journal", journal, stdin=answer, **stand_in.environ)

    assert ended.code == 130
    assert "3 committed" in ended.out
    assert "Erase all of this for good?" in ended.err
    assert len(stand_in.files()) == 2


def test_a_person_of_whom_nothing_is_known_gets_no_receipt_of_success(atlas, journal, stand_in):
    nobody = ("person", "erase", "adda", "--journal", journal)
    told = atlas(*nobody, "--yes", "--receipt", "receipt.json", **stand_in.environ)
    as_json = atlas(*nobody, "--yes", "--json", **stand_in.environ)
    asked = atlas(*nobody, stdin=b"y\n", **stand_in.environ)

    assert (told.code, as_json.code, asked.code) == (0, 0, 0)
    assert "Nothing is known of this person, and nothing was erased.\n" in told.out
    assert "Searched   the dataset" in told.out
    assert "Removed" not in told.out
    assert "adda" not in told.out
    assert [json.loads(as_json.out)[each] for each in ("known", "to_do")] == [False, []]
    assert json.loads(journal.with_name("receipt.json").read_text())["known"] is False
    assert "Search the shared files as well" in asked.err
    assert len(stand_in.files()) == 2


def test_an_erasure_as_json_is_the_receipt_and_says_that_the_person_was_known(
    atlas, journal, stand_in
):
    ended = atlas(
        "person", "erase", "ada", "--yes", "--json", "--journal", journal, **stand_in.environ
    )

    assert (ended.code, ended.err) == (0, "")
    receipt = json.loads(ended.out)
    assert (receipt["known"], receipt["files"]) == (True, 1)
    assert len(stand_in.files()) == 1


def test_a_dry_run_of_an_erasure_lists_what_would_be_erased_and_keeps_it(atlas, journal, stand_in):
    arguments = ("person", "erase", "ada", "--dry-run", "--journal", journal)
    told = atlas(*arguments, **stand_in.environ)
    as_json = atlas(*arguments, "--json", **stand_in.environ)
    after = atlas("person", "show", "ada", "--json", "--journal", journal, **stand_in.environ)

    assert (told.code, told.err) == (0, "")
    assert "Nothing was erased." in told.out
    assert "3 committed" in told.out
    assert len(json.loads(as_json.out)["listed"]) == 1
    assert json.loads(after.out) == json.loads(as_json.out) | {"listed": []}
    assert len(stand_in.files()) == 2


def test_who_says_yes_is_asked_once(atlas, journal, stand_in):
    ended = atlas("person", "erase", "ada", "--journal", journal, stdin=b"y\n", **stand_in.environ)

    assert ended.code == 0
    assert len(stand_in.files()) == 1


@pytest.mark.parametrize(
    ("arguments", "stdin", "named"),
    [
        pytest.param(["person", "show", ""], b"", "USER is empty", id="an empty user"),
        pytest.param(["person", "show", "-"], b"", "USER is empty", id="an empty input"),
        pytest.param(["person", "show", "-"], b"\n", "USER is empty", id="an empty line"),
        pytest.param(
            ["person", "show", "-"], b"\xff\n", "must be UTF-8 text", id="input in no UTF-8"
        ),
        pytest.param(["person", "show", "ada\udcff"], b"", "must be UTF-8 text", id="no UTF-8"),
        pytest.param(["person", "show"], b"", "USER", id="no user"),
        pytest.param(["person", "erase", "", "--yes"], b"", "USER is empty", id="nobody to forget"),
        pytest.param(
            ["person", "erase", "-"], b"ada\n", "confirm with --yes", id="the input is taken"
        ),
    ],
)
def test_what_names_nobody_is_wrong_usage(atlas, journal, stand_in, arguments, stdin, named):
    ended = atlas(*arguments, "--journal", journal, stdin=stdin, **stand_in.environ)

    assert named in ended.in_one_line(2)
    assert len(stand_in.files()) == 2


@pytest.mark.parametrize(
    "command", [["person", "show"], ["person", "erase", "--yes", "--receipt", "receipt.json"]]
)
def test_without_a_foundry_nothing_is_told_and_nothing_done(atlas, journal, stand_in, command):
    unset = atlas(*command, "ada", "--journal", journal)
    stand_in.foundry.faults.add(
        Fault("any", "status", status=503, do_not_retry=True, count=0, retry_after=0)
    )
    away = atlas(*command, "ada", "--journal", journal, **stand_in.environ)

    assert "Not set: FOUNDRY_HOST, FOUNDRY_CLIENT_ID" in unset.in_one_line(78)
    assert "Foundry" in away.in_one_line(1)
    assert not journal.with_name("receipt.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_who_is_interrupted_leaves_nothing_open_and_the_next_one_ends_it(
    atlas, journal, stand_in, number
):
    stand_in.foundry.faults.add(Fault("delete", "latency", seconds=3.0))
    command = [Path(sys.executable).with_name("atlas"), "person", "erase", "ada", "--yes"]
    environ = os.environ | stand_in.environ
    with subprocess.Popen([*command, "--journal", journal], env=environ) as process:
        while stand_in.last().kind != "DELETE":
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
    begun = stand_in.last()
    after = begun.status
    ended = atlas("person", "erase", "ada", "--yes", "--journal", journal, **stand_in.environ)

    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert after == ("ABORTED" if number == signal.SIGINT else "OPEN")
    assert begun.status == "ABORTED"
    assert ended.code == 0
    assert "Removed    1 files, 3 bytes" in ended.out
    assert len(stand_in.files()) == 1


# tokens


def a_free_port() -> int:
    async def find() -> int:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            return listener.listeners[0].extra(SocketAttribute.local_port)

    return anyio.run(find)


def test_a_token_without_a_stand_in_is_one_line_that_says_what_to_do(atlas):
    said = atlas("token", "--auth0", f"http://127.0.0.1:{a_free_port()}").in_one_line(1)

    assert "run atlas local" in said


@pytest.mark.parametrize("url", ["nonsense", "http://", "http://a b/"])
def test_what_is_no_address_of_a_stand_in_is_one_line(atlas, url):
    assert "run atlas local" in atlas("token", "--auth0", url).in_one_line(1)


def test_send_without_a_token_says_where_one_could_come_from(atlas):
    to = f"http://127.0.0.1:{a_free_port() - 2}"
    said = atlas("send", "-", "--to", to, stdin=b"{}\n").in_one_line(1)

    assert "run atlas local" in said
    assert "--token" in said


@pytest.mark.parametrize("url", ["https://atlas.test", "http://127.0.0.1:65535"])
def test_no_stand_in_is_looked_for_where_none_can_be(atlas, url):
    said = atlas("send", "-", "--to", url, stdin=b"{}\n").in_one_line(1)

    assert "is not `atlas local`" in said
    assert "--token" in said


def test_flatten_fails_if_all_lines_are_rejected(atlas):
    ended = atlas("flatten", stdin=b"<HealthData>\n</HealthData>\n")

    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines()[-1] == "atlas: 2 lines were rejected."


def test_flatten_of_nothing_is_nothing(atlas):
    assert atlas("flatten") == Ended(0, "", "")
