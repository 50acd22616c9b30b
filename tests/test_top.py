"""`atlas top`: the activity of a running service, on a terminal and for scripts."""

import io
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console

from atlas.cli.render import Rates, format_count, format_size, render, render_sparkline
from atlas.cli.top import fetch, list_operator_urls
from atlas.core.errors import CommandError
from atlas.core.identifiers import format_timestamp
from atlas.core.status import (
    FoundryStatus,
    HistoryPoint,
    JournalStatus,
    RecentCommit,
    Replica,
    ServiceVerdict,
    StageStatus,
    StatusCounts,
    StatusSnapshot,
)
from atlas.settings import OperatorSettings, Settings
from tests.support.exports import NOON
from tests.support.processes import (
    COMMAND,
    ENVIRON,
    HOST,
    SECONDS_OF_ALL,
    Local,
    atlas,
    four_free_ports,
    killed_at_last,
    local,
    started,
)

TOKEN = "a-secret-of-operators"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def make_status(seconds: int, handled: int, *history: int) -> StatusSnapshot:
    """Return a status at this many seconds after the start."""
    return StatusSnapshot(
        at=format_timestamp(NOON + timedelta(seconds=seconds)),
        version="1",
        started=format_timestamp(NOON),
        dataset="ri.1",
        branch="master",
        is_draining=False,
        verdict=ServiceVerdict("ok"),
        stages=(StageStatus("decode", handled, 0, 64, 0, 0.0),),
        counts=StatusCounts(handled),
        rejects={},
        refusals={},
        journal=JournalStatus(0, 0, 0.0, 0, None, 1, 1),
        foundry=FoundryStatus(),
        commits=(),
        history=tuple(HistoryPoint(0, each, 0.0) for each in history),
    )


def test_a_rate_is_that_since_the_start_and_then_that_of_five_seconds():
    rates = Rates(make_status(10, 100))
    assert rates.per_second("decode") == rates.per_second("edge") == 10
    for second in range(11, 21):
        rates.add(make_status(second, 100 + 2 * (second - 10)))
        assert rates.per_second("Foundry") == 0

    assert rates.per_second("decode") == 2


def test_a_picture_at_the_very_start_has_no_rate():
    assert Rates(make_status(0, 5)).per_second("decode") == 0


def test_a_service_that_has_started_anew_has_the_rate_since_its_start():
    rates = Rates(make_status(10, 100))
    again = msgspec.structs.replace(make_status(14, 6), started=make_status(12, 0).at)
    rates.add(again)

    assert rates.per_second("decode") == 3


@pytest.mark.parametrize(
    ("numbers", "drawn"),
    [
        ([], ""),
        ([0, 0], "▁▁"),
        ([0, 7], "▁█"),
        ([1, 2, 3, 4, 5, 6, 7, 7], "▂▃▄▅▆▇██"),
        ([0] * 119 + [9], "▁" * 59 + "█"),
    ],
)
def test_a_line_of_sparks_shows_the_highest(numbers, drawn):
    assert render_sparkline(numbers) == drawn


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1536, "1.5 KiB"),
        (5 * 2**30, "5.0 GiB"),
        (2**51, "2,048.0 TiB"),
    ],
)
def test_a_size_is_told_in_the_largest_unit_that_it_fills(number, told):
    assert format_size(number) == told


REPLICAS = (
    Replica("atlas [b]one[/b] 1f", "1.0", NOON, 1_234),
    Replica("atlas two 2e", "1.1", NOON, is_this=True),
)


def test_all_replicas_are_shown_with_their_versions_and_which_one_leads():
    shared = msgspec.structs.replace(make_status(1, 1), replicas=REPLICAS)
    lines = drawn_as_text(shared).splitlines()

    (one,) = (line for line in lines if "[b]one[/b]" in line)
    (two,) = (line for line in lines if "atlas two 2e" in line)
    assert one.split()[3:] == ["1.0", "leads", "(epoch", "1,234)", "12:00:00"]
    assert two.split()[3:] == ["1.1", "follows", "12:00:00", "this", "one"]
    assert "The journal is that of all replicas" in "".join(lines)


def test_a_service_without_other_replicas_shows_none():
    assert "eplica" not in drawn_as_text(make_status(1, 1))


def drawn_as_text(picture: StatusSnapshot, away: str = "", width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(render(picture, Rates(picture), away))
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param({}, "No commits since the start.", id="nothing yet"),
        pytest.param({"verdict": ServiceVerdict("ok")}, "OK\n", id="well"),
        pytest.param(
            {"verdict": ServiceVerdict("degraded", ("[b]No[/b] role",))},
            "degraded\nri.1  master\n[b]No[/b] role\n",
            id="degraded, and why",
        ),
        pytest.param(
            {"stages": (StageStatus("[i]x", 1, 9, 10, 2, 0.0),)}, "2 crashed", id="a crash"
        ),
        pytest.param(
            {"stages": (StageStatus("[i]x", 1, 0, 0, 0, 0.0),)}, "[i]x", id="text as text"
        ),
        pytest.param({"rejects": {"a": 1, "b": 2}}, "2 b, 1 a", id="the most frequent first"),
        pytest.param(
            {"journal": JournalStatus(2, 0, 7.4, 0, None, 9, 9, 1, "[b]400[/b]")},
            "1 failed and are retried separately: [b]400[/b]",
            id="failed",
        ),
        pytest.param(
            {"journal": JournalStatus(2, 1536, 7.4, 1, 2**30, 2**31, 9)},
            "the oldest for 7 s",
            id="waits",
        ),
    ],
)
def test_what_stands_is_told_in_words(change, told):
    assert told in drawn_as_text(msgspec.structs.replace(make_status(1, 1), **change))


MANY = 123_456_789_012
RID = "ri.foundry.main.{}.01234567-89ab-cdef-0123-456789abcdef"
REASON = f"Foundry answers 400 FileContentRefused (errorInstanceId {RID.rpartition('.')[2]})."
NAMES = ("authenticate", "decode", "flatten", "journal", "upload")
LARGE = StatusSnapshot(
    at=format_timestamp(NOON),
    version="1.2.3.dev4+g0123456",
    started=format_timestamp(NOON - timedelta(days=1)),
    dataset=RID.format("dataset"),
    branch="a-long-branch-name/with/slashes",
    is_draining=False,
    verdict=ServiceVerdict("degraded", (f"Uploads are paused: {REASON}",)),
    stages=tuple(StageStatus(name, MANY, 999_999, 1_000_000, 12_345, 1.0) for name in NAMES),
    counts=StatusCounts(*[MANY] * 12),
    rejects={"not a JSON object": MANY, "nested too deeply": MANY},
    refusals={"TOKEN_EXPIRED": MANY, "INVALID_NDJSON": MANY},
    journal=JournalStatus(
        999_999, 2**41, MANY, 12_345, 2**45, 2**42, 1_000_000, 1_000, REASON, 2**50
    ),
    foundry=FoundryStatus(REASON),
    commits=tuple(
        RecentCommit(
            format_timestamp(NOON), RID.format("transaction"), MANY, MANY, MANY, 9_999.9, "interval"
        )
        for _ in range(9)
    ),
    history=tuple(HistoryPoint(0, number, 1.0) for number in range(360)),
    replicas=tuple(
        Replica(
            f"atlas-7d9f8b6c5d-x2x4{number} 0123456789abcdef",
            f"1.2.{number}.dev4+g0123456",
            NOON,
            123_456 if number == 1 else None,
            number == 2,
        )
        for number in range(4)
    ),
)


def test_long_ids_large_numbers_and_several_replicas_fit_80_columns_and_none_is_cut():
    lines = drawn_as_text(LARGE, "Atlas does not respond.", width=80).splitlines()
    text = "\n".join(lines)

    assert max(map(len, lines)) <= 80
    assert "…" not in text
    (first, *_) = [line.split() for line in lines if line.startswith("12:00:00")]
    assert first == [
        *("12:00:00", "123.5", "G", "123.5", "G", "9,999.9", "s", "interval"),
        RID.rpartition(".")[2],
    ]
    assert "leads (epoch 123,456) 12:00:00" in text
    rows = [line for line in lines if line.split()[:1] and line.split()[0] in NAMES]
    assert len(rows) == len(NAMES), "a row is one line"
    assert all(line.rstrip().endswith("12,345 crashed") for line in rows)


@pytest.mark.parametrize(
    ("number", "told"),
    [(0, "0"), (999_999, "999,999"), (10**6, "1.0 M"), (MANY, "123.5 G"), (10**13, "10.0 T")],
)
def test_a_large_number_is_told_with_a_unit(number, told):
    assert format_count(number) == told


def test_who_is_away_is_said_above_what_was_heard_last():
    head = drawn_as_text(make_status(1, 1), "Atlas does not respond.").partition("Flow")[0]

    assert "Atlas does not respond." in head


@pytest.mark.parametrize(
    ("listen", "places"),
    [
        ("127.0.0.1:9464", ["http://127.0.0.1:9464", "http://127.0.0.1:8083"]),
        ("[::1]:9000", ["http://[::1]:9000"]),
    ],
)
def test_it_asks_where_the_settings_say_and_by_default_also_where_local_is(listen, places):
    assert [
        str(url) for url in list_operator_urls(Settings(operator=OperatorSettings(listen)))
    ] == places


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Local]:
    folder = tmp_path_factory.mktemp("running")
    settings(folder, TOKEN)
    with local(folder, "--config", "atlas.toml") as one:
        yield one


def settings(folder: Path, token: str) -> None:
    (folder / "atlas.toml").write_text(f'[operator]\ntoken = "{token}"\n')


def operator(local: Local) -> str:
    return f"http://{HOST}:{local.port + 3}"


def top(local: Local, *arguments: str) -> subprocess.CompletedProcess[str]:
    where = ["--config", "atlas.toml", "--operator", operator(local)]
    return atlas(local.folder, "top", *where, *arguments)


@pytest.mark.slow
def test_one_picture_shows_the_flow_in_its_order_and_what_went_through(running):
    assert running.post("a", "wait=20")[0] == 200
    ended = top(running, "--once")

    assert (ended.returncode, ended.stderr) == (0, "")
    stages = ["edge", "authenticate", "decode", "flatten", "journal", "upload", "Foundry"]
    lines = [line.split() for line in ended.stdout.splitlines()]
    assert [line[0] for line in lines if line and line[0] in stages] == stages
    assert "Journal  0 of " in ended.stdout
    assert "Rejected lines    none" in ended.stdout
    assert " idle " in ended.stdout


@pytest.mark.slow
def test_without_a_terminal_it_is_one_picture(running):
    assert "Flow" in top(running).stdout


@pytest.mark.slow
def test_a_program_gets_the_picture_as_it_is_sent(running):
    ended = top(running, "--once", "--json")

    picture = msgspec.json.decode(ended.stdout)
    assert picture["counts"]["rejected"] == 0
    assert {"stages", "journal", "commits", "history"} < picture.keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("token", "port", "told"),
    [
        pytest.param("wrong", 3, "The operator token is missing or wrong.", id="the wrong token"),
        pytest.param("", 3, "The operator token is missing or wrong.", id="no token"),
        pytest.param(TOKEN, 0, "not the operator listener", id="the public listener"),
        pytest.param(TOKEN, 2, "not the operator listener", id="Auth0"),
    ],
)
def test_who_does_not_tell_is_named_in_one_line(running, tmp_path, token, port, told):
    settings(tmp_path, token)
    where = f"http://{HOST}:{running.port + port}"
    ended = atlas(tmp_path, "top", "--config", "atlas.toml", "--operator", where)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert told in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("text", [b"data: {}\n\n", b"data: <html>\n\n", b"\xff\n\n"])
async def test_what_tells_no_picture_is_said_to_be_no_atlas(text):
    """It may be a proxy, or an Atlas of another version."""

    async def picture(_request):
        return web.Response(body=text)

    app = web.Application()
    app.router.add_get("/status", picture)
    async with TestServer(app) as server:
        with pytest.raises(
            CommandError, match="is not the operator listener of this version of Atlas"
        ):
            await fetch(server.make_url("/"), "")


def test_where_nobody_answers_is_said_in_one_line(tmp_path):
    where = f"http://{HOST}:{four_free_ports()}"
    ended = atlas(tmp_path, "top", "--operator", where)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"atlas: Atlas does not respond at {where}: see --operator.\n"


@dataclass
class Terminal:
    """Records the output of a command."""

    process: subprocess.Popen[bytes]
    screen: int
    seen: str = ""

    def shows(self, text: str) -> None:
        """Return once this text has been drawn after the previous call."""
        while text not in self.seen:
            self.seen += ESCAPES.sub("", os.read(self.screen, 65_536).decode(errors="replace"))
        self.seen = self.seen.partition(text)[2]


@contextmanager
def terminal(local: Local) -> Iterator[Terminal]:
    screen, end = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "top", "--config", "atlas.toml", "--operator", operator(local)],
        cwd=local.folder,
        env=ENVIRON | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
        stdin=end,
        stdout=end,
        stderr=end,
    )
    os.close(end)
    with killed_at_last(process, SECONDS_OF_ALL):
        yield Terminal(process, screen)
    os.close(screen)


@pytest.mark.slow
def test_it_looks_on_says_when_atlas_is_away_and_ends_at_ctrl_c(tmp_path):
    settings(tmp_path, TOKEN)
    with local(tmp_path, "--config", "atlas.toml") as running, terminal(running) as shown:
        shown.shows("No commits since the start.")
        running.post("a", "wait=20")
        shown.shows("trigger")
        running.ended(signal.SIGKILL)
        shown.shows("Atlas does not respond. Last update at")
        arguments = ["local", "--port", running.port, "--state", "state", "--config", "atlas.toml"]
        with killed_at_last(started(tmp_path, *arguments, log=subprocess.DEVNULL)):
            shown.shows("No commits since the start.")
            shown.process.send_signal(signal.SIGINT)
            assert shown.process.wait(SECONDS_OF_ALL) == 130
