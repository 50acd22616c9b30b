"""`atlas import` as a process that is interrupted and started again."""

import re
import signal
import time

import pytest

from atlas.cli.import_windows import WINDOW_LINES
from tests.apple.exports import an_export, beats
from tests.support.processes import SECONDS, killed_at_last, local, started

pytestmark = pytest.mark.slow
COUNT = WINDOW_LINES + 6_000
PATIENCE = 120.0  # for a little more than a window on a busy machine


def wait_until(is_so) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def run_import(folder, path, url) -> tuple[int, str, str]:
    with killed_at_last(started(folder, "import", path, "--to", url), PATIENCE) as importing:
        out, err = importing.communicate(timeout=PATIENCE)
    return importing.returncode, out, err


def test_who_presses_ctrl_c_is_told_how_to_go_on_and_no_row_stands_twice(tmp_path):
    path = an_export(tmp_path / "export.zip", *beats(20_000))
    with local(tmp_path) as one:
        with killed_at_last(started(tmp_path, "import", path, "--to", one.url)) as importing:
            wait_until(one.files)
            importing.send_signal(signal.SIGINT)
            out, err = importing.communicate(timeout=SECONDS)
        again = run_import(tmp_path, path, one.url)
        uuids = one.uuids()

    assert importing.returncode == 130
    assert "not sent" in out
    assert "Run the same command again" in err
    assert "Traceback" not in err
    assert (again[0], again[2]) == (0, "")
    assert len(uuids) == len(set(uuids)) == 20_000


def test_what_was_safe_before_it_was_killed_is_not_sent_again(tmp_path):
    path = an_export(tmp_path / "export.zip", *beats(COUNT))
    place = tmp_path / "export.zip.atlas"
    with local(tmp_path) as one:
        with killed_at_last(started(tmp_path, "import", path, "--to", one.url), PATIENCE) as first:
            wait_until(place.exists)
            first.kill()
        code, out, err = run_import(tmp_path, path, one.url)
        uuids = one.uuids()

    assert (code, err) == (0, "")
    assert re.search(rf"{WINDOW_LINES:,} already sent", out)
    assert len(uuids) == len(set(uuids)) == COUNT
    assert not place.exists()
