"""The checks before a merge: the same here as in CI, and they detect unsafe code."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
A_KEY = "AKIA" + "Q3EGRZ7VXW2M5TNB"  # split so that the check does not find it here
A_LINE = "PASSWORD" + ' = "correct-horse"\n'


@pytest.fixture
def clone(tmp_path):
    """An almost empty clone without known false alarms."""
    for name in ("justfile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in ("atlas", "config", "tests", ".ci", ".github"):
        (tmp_path / folder).mkdir()
    assert just(tmp_path, "false-alarms").returncode == 0
    return tmp_path


def just(folder, verb):
    env = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    command = [BIN / "just", "--justfile", folder / "justfile", verb]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def verbs(file, line):
    (found,) = re.findall(line, (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    return found.split()


def test_ci_runs_what_check_runs():
    tested = verbs("README.md", r"\.venv/bin/just (.+)$")
    rest = verbs(".ci/run", r"^\.venv/bin/just (.+)$")
    assert verbs("justfile", r"^check: (.+)$") == tested + rest


@pytest.mark.slow
def test_a_clone_without_a_secret_passes(clone):
    assert just(clone, "secure").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        pytest.param("config/new.toml", f'key = "{A_KEY}"\n', "AWS Access Key", id="a key"),
        pytest.param(".env", f"KEY={A_KEY}\n", '"filename": ".env"', id="a key not added yet"),
        pytest.param("tests/test_new.py", A_LINE, "Secret Keyword", id="a password"),
        pytest.param("atlas/new.py", "assert_ = eval(input())\n", "B307", id="unsafe code"),
    ],
)
def test_what_is_unsafe_stops_the_check_and_is_named(clone, file, text, told):
    (clone / file).write_text(text)
    found = just(clone, "secure")
    assert found.returncode != 0
    assert told in found.stdout
    assert A_KEY not in found.stdout + found.stderr


@pytest.mark.slow
def test_a_false_alarm_that_is_gone_leaves_the_baseline(clone):
    (clone / "config" / "new.toml").write_text(f'key = "{A_KEY}"\n')
    assert just(clone, "false-alarms").returncode == 0
    assert just(clone, "secure").returncode == 0
    (clone / "config" / "new.toml").unlink()
    assert just(clone, "secure").returncode != 0
