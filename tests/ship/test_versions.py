"""Every dependency has a lower bound; other versions can be tested if uv is installed."""

import re
import tomllib

import pytest

from tests.ship import versions
from tests.ship.image import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_package_has_a_lowest_version():
    extras = PROJECT["optional-dependencies"].values()
    needed = [*PROJECT["dependencies"], *(each for extra in extras for each in extra)]
    assert [each for each in needed if not re.match(r"[\w.-]+(\[[\w,-]+\])?>=\d", each)] == []


@pytest.mark.parametrize("which", versions.RESOLUTIONS)
def test_without_uv_no_other_versions_are_tried_and_that_is_said(which, monkeypatch, capsys):
    monkeypatch.setattr(versions, "find_uv", lambda: None)
    assert versions.main(which) == versions.CANNOT
    assert "uv cannot be run here" in capsys.readouterr().err
