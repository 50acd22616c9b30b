"""Runs the targets on the corpus, which includes all former finds; then fuzzes for a short time."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import cannot_run
from tests.fuzz.__main__ import CORPUS, list_targets
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parent.parent.parent
SECONDS = "60" if os.environ.get("TESTS_IN_FULL") else "5"
FILE_BYTES_MAX, FILES_MAX = 4 * 1024, 60
FILES = sorted(CORPUS.glob("*/*"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_file_of_the_corpus_is_taken_as_it_should_be(file):
    TARGETS[file.parent.name](file.read_bytes())


def test_each_target_has_a_corpus_and_it_is_small():
    assert list_targets() == sorted(TARGETS)
    assert max(file.stat().st_size for file in FILES) < FILE_BYTES_MAX
    assert max(sum(file.parent.name == name for file in FILES) for name in TARGETS) <= FILES_MAX


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_in_a_short_time_the_fuzzer_finds_nothing(name, tmp_path):
    if importlib.util.find_spec("atheris") is None:
        cannot_run("needs atheris, which is for Linux on x86-64")
    command = [sys.executable, "-m", "tests.fuzz", name, SECONDS]
    env = os.environ | {"TMPDIR": str(tmp_path)}
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr[-4_000:]


def test_who_asks_for_what_is_no_target_is_told_which_there_are():
    command = [sys.executable, "-m", "tests.fuzz", "nothing"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, "decode, deflated" in run.stderr) == (2, True)
