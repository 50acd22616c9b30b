"""The line that says why a service does not start, or has ended: in the format of the log."""

import json
import sys

import pytest

from tests.support.processes import NOWHERE

SYSTEMS = {**NOWHERE, "ATLAS_JOURNAL": "memory:"}


@pytest.fixture(autouse=True)
def _own_hook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # each command installs its own


@pytest.mark.parametrize("log_format", ["json", "auto"])
def test_a_wrong_setting_is_one_line_of_json_if_the_log_is(atlas, log_format):
    ended = atlas("serve", ATLAS_LOG_FORMAT=log_format, PORT="high")
    line = json.loads(ended.err)

    assert (ended.code, ended.out) == (78, "")
    assert (line["level"], line["exitCode"]) == ("error", 78)
    assert "PORT must be an integer." in line["message"]


def test_a_wrong_setting_is_text_if_the_log_is(atlas):
    ended = atlas("serve", ATLAS_LOG_FORMAT="text", PORT="high")

    assert ended.err.startswith("atlas: ")
    assert "PORT must be an integer." in ended.err


def test_a_format_that_there_is_not_is_named(atlas):
    said = atlas("serve", **SYSTEMS, ATLAS_LOG_FORMAT="xml").in_one_line(78)

    assert "ATLAS_LOG_FORMAT must be auto, json or text." in said


def test_the_file_says_how_a_failure_after_it_was_read_is_told(atlas, tmp_path):
    (tmp_path / "atlas.toml").write_text('[log]\nformat = "text"\n[edge]\nhost = "192.0.2.1"')
    ended = atlas("serve", "--config", "atlas.toml", **SYSTEMS)

    assert ended.code == 1
    assert "\natlas: Cannot listen at 192.0.2.1" in f"\n{ended.err}"


def test_an_error_of_the_system_is_a_line_of_json(atlas, monkeypatch):
    def fail(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("atlas.cli.serve.run", fail)

    assert "No space left on device." in atlas("serve", **SYSTEMS).in_one_line(1)


def test_a_bug_of_a_service_is_a_line_of_json_without_a_value(atlas, monkeypatch, capsysbinary):
    def fail(*_arguments, **_options):
        try:
            raise ZeroDivisionError("72 beats of Ada")
        except ZeroDivisionError as error:
            raise ExceptionGroup("of tasks", [error]) from None

    monkeypatch.setattr("atlas.cli.serve.run", fail)
    with pytest.raises(ExceptionGroup) as ended:
        atlas("serve", **SYSTEMS)
    capsysbinary.readouterr()
    sys.excepthook(ended.type, ended.value, ended.tb)
    told = capsysbinary.readouterr().err.decode()
    line = json.loads(told)

    assert (line["level"], line["error"]) == ("error", "ZeroDivisionError")
    assert line["message"].startswith("Ended by a bug")
    assert line["where"][-1].endswith(" fail")
    assert "Ada" not in told
