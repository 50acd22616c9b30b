"""The release: wheel, source archive, version and changelog entry."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import atlas
from tests.ship.image import ROOT, run, version

BIN = Path(sys.executable).parent
CHANGELOG = "# Changelog\n\n## 0.2.0, not released yet\n\n- It is better.\n"
IN_A_CLUSTER = [
    "config/kubernetes/kustomization.yaml",
    "config/kubernetes/replicas/kustomization.yaml",
]
DOCUMENTS = ["config/openapi.json", "config/openapi-operator.json"]
GIT_IDENTITY = ["-c", "user.name=a", "-c", "user.email=a@b.test", "-c", "commit.gpgsign=false"]


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    run(str(BIN / "uv"), "build", "--quiet", "--out-dir", str(folder), str(ROOT))
    return folder


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(dist):
    (wheel,) = dist.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "atlas").rglob("*") if is_source(path)}
    assert wheel.name == f"atlas_healthkit-{version()}-py3-none-any.whl"
    assert {name for name in names if ".dist-info/" not in name} == ours
    assert "atlas/py.typed" in names


def is_source(path):
    """True if a file belongs in the wheel; Markdown pages do not."""
    return path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md"


@pytest.mark.slow
def test_the_source_can_be_tested_and_shipped(dist):
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"pyproject.toml", "justfile", "Containerfile", "tests/ship/test_dist.py"} <= names
    assert "config/atlas.toml" in names


@pytest.mark.slow
def test_what_was_built_runs_without_the_rest_of_the_repository(dist, tmp_path):
    (wheel,) = dist.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path)
    row = subprocess.check_output(
        [sys.executable, "-m", "atlas", "flatten"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        input=b'{"uuid": "1"}\n',
    )
    assert b'"uuid":"1"' in row


@pytest.fixture
def clone(tmp_path):
    """A git repository with the files that a release changes."""
    shutil.copy(ROOT / "justfile", tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "0.1.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "config" / "kubernetes" / "replicas").mkdir(parents=True)
    for file in IN_A_CLUSTER:
        (tmp_path / file).write_text('    newTag: "0.1.0"\n')
    (tmp_path / "atlas").mkdir()
    (tmp_path / "atlas" / "__init__.py").write_text('__version__ = "0.1.0"\n')
    for file in DOCUMENTS:
        (tmp_path / file).write_text('    "version": "0.1.0",\n       "version": "1.0.0",\n')
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "all")
    return tmp_path


def git(folder, *words):
    return run("git", "-C", str(folder), *GIT_IDENTITY, *words)


def just(folder, *words):
    names = ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL")
    return subprocess.run(
        [BIN / "just", "--justfile", folder / "justfile", *words],
        env=os.environ | {f"GIT_{name}": "a" for name in names},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_release_dates_the_changelog_sets_the_version_and_tags_it(clone):
    assert just(clone, "releasable", "0.2.0").returncode == 0
    assert just(clone, "versioned", "0.2.0").returncode == 0
    assert re.search(
        r"^## 0\.2\.0, \d{4}-\d\d-\d\d$", (clone / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert 'version = "0.2.0"\n' in (clone / "pyproject.toml").read_text()
    for file in IN_A_CLUSTER:
        assert (clone / file).read_text() == '    newTag: "0.2.0"\n'
    assert (clone / "atlas" / "__init__.py").read_text() == '__version__ = "0.2.0"\n'
    for file in DOCUMENTS:
        versions = '    "version": "0.2.0",\n       "version": "1.0.0",\n'
        assert (clone / file).read_text() == versions, "that of the document, not of an example"
    assert git(clone, "describe", "--tags") == "v0.2.0"
    assert git(clone, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("version", "before", "message"),
    [
        pytest.param("2", [], "2 is not a version", id="no version"),
        pytest.param("0.3.0", [], "not released yet", id="nothing in the changelog"),
        pytest.param("0.2.0", ["tag", "v0.2.0"], "exists as a tag", id="tagged"),
        pytest.param("0.2.0", ["rm", "--cached", "justfile"], "uncommitted changes", id="changes"),
    ],
)
def test_what_cannot_be_released_is_said_before_anything_is_done(clone, version, before, message):
    if before:
        git(clone, *before)
    head = git(clone, "rev-parse", "HEAD")
    done = just(clone, "release", version)
    assert done.returncode != 0
    assert message in done.stderr
    assert git(clone, "rev-parse", "HEAD") == head


def test_the_package_has_this_version():
    assert atlas.__version__ == version()


def test_the_changelog_has_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(version())}, ", text, re.MULTILINE)
