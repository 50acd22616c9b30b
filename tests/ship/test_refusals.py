"""Errors at start: one line with the problem and the remedy, and an exit code."""

import base64
import os
import socket
import subprocess
import tempfile
from pathlib import Path

import msgspec
import pytest

from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.sqlite.journal import open_journal
from tests.conftest import cannot_run, needs
from tests.support.processes import (
    COMMAND,
    ENVIRON,
    HOST,
    NOWHERE,
    fetched,
    four_free_ports,
    killed_at_last,
    local,
)
from tests.support.ready_line import read_ready_url

pytestmark = pytest.mark.slow

USER = 10001  # the user of the image
AS_USER = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
APART = ["unshare", "--map-root-user", "--mount"]
READ_ONLY = ["sh", "-c", 'mount -t tmpfs -o ro tmpfs "$0" && exec "$@"']
KEYS = [base64.b64encode(bytes([number]) * 32).decode() for number in range(2)]
SECRET = "a-client-secret"
SYSTEMS = NOWHERE | {
    "FOUNDRY_CLIENT_SECRET": SECRET,
    "ATLAS_JOURNAL": "sqlite:///volume/journal.db",
    "ATLAS_JOURNAL_KEY": KEYS[0],
}


@pytest.fixture
def folder():
    """A folder with an empty volume, open to every user, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        found = Path(name)
        found.chmod(0o755)
        (found / "volume").mkdir()
        yield found


def serve(folder: Path, *prefix: object, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, prefix), COMMAND, "serve"],
        cwd=folder,
        env=ENVIRON | SYSTEMS | environ,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def assert_one_line(ended: subprocess.CompletedProcess[str], code: int, *named: object) -> None:
    assert (ended.returncode, ended.stdout) == (code, ""), ended.stderr
    assert ended.stderr.count("\n") == 1
    told = msgspec.json.decode(ended.stderr)  # as the log is
    assert (told["level"], told["exitCode"]) == ("error", code)
    for each in named:
        assert str(each) in ended.stderr
    for secret in (SECRET, *KEYS):
        assert secret not in ended.stderr


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        pytest.param({"FOUNDRY_CLIENT_SECRET": ""}, ["FOUNDRY_CLIENT_SECRET"], id="no secret"),
        pytest.param({"AUTH0_DOMAIN": "x test"}, ["AUTH0_DOMAIN"], id="no host"),
        pytest.param(
            {"FOUNDRY_DATASET_RID": "healthkit"},
            ["FOUNDRY_DATASET_RID", "ri.foundry.main.dataset."],
            id="no RID",
        ),
        pytest.param(
            {"ATLAS_JOURNAL_KEY": "c2hvcnQ="},
            ["ATLAS_JOURNAL_KEY", "head -c 32 /dev/urandom | base64"],
            id="a key that is none",
        ),
    ],
)
def test_a_setting_that_is_missing_or_wrong(folder, environ, named):
    assert_one_line(serve(folder, **environ), 78, *named)


def test_a_key_that_does_not_fit(folder):
    sealed = folder / "volume" / "journal.db"
    with open_journal(sealed, CapacityLimits(), [base64.b64decode(KEYS[1])]):
        pass
    before = sealed.read_bytes()

    assert_one_line(
        serve(folder), 78, "ATLAS_JOURNAL_KEY", sealed.name, "encrypted with another key"
    )
    assert sealed.read_bytes() == before


@pytest.mark.parametrize("name", ["PORT", "ATLAS_OPERATOR_LISTEN"])
def test_a_port_that_is_taken(folder, name):
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        value = f"{HOST}:{port}" if name == "ATLAS_OPERATOR_LISTEN" else str(port)

        ended = serve(folder, **{name: value})

    assert_one_line(ended, 1, "in use", "choose another port")
    assert ended.stderr.count(str(port)) == 1, "Python itself would name it twice"


def test_a_volume_that_is_read_only(folder):
    needs(*APART, "true")
    volume = folder / "volume"

    assert_one_line(
        serve(folder, *APART, *READ_ONLY, volume),
        1,
        "read-only",
        f"Mount {volume}",
        "ATLAS_JOURNAL",
    )


def require_user_prefix() -> list[str]:
    """Return the command prefix with which root runs a command as the user of the image."""
    if os.geteuid() != 0:
        cannot_run("only root can run it as another user")
    needs(*AS_USER, COMMAND, "--version")
    return AS_USER


def test_a_volume_of_root(folder):
    """A new volume belongs to root under podman, Docker and Kubernetes."""
    assert_one_line(
        serve(folder, *require_user_prefix()),
        1,
        f"{folder / 'volume'} belongs to user 0, and Atlas is user {USER}.",
        f"chown -R {USER} {folder / 'volume'} ",
        f"fsGroup: {USER}",
        ":U",
    )


@pytest.mark.parametrize("ending", ["", ".lock", ".seal"])
def test_a_file_of_the_journal_that_root_has_left_there(folder, ending):
    """For example after a first start as root."""
    prefix, volume = require_user_prefix(), folder / "volume"
    os.chown(volume, USER, USER)
    file = volume / f"journal.db{ending}"
    file.touch(0o600)

    assert_one_line(serve(folder, *prefix), 1, f"{file} belongs to user 0", f"chown -R {USER}")


def test_a_key_that_only_root_may_read_is_not_given_up(folder):
    """A chown makes the key readable, so no message may suggest discarding exports."""
    prefix, volume = require_user_prefix(), folder / "volume"
    with open_journal(volume / "journal.db", CapacityLimits()):
        pass
    for each in (volume, *volume.iterdir()):
        if each.suffix != ".key":
            os.chown(each, USER, USER)
    ended = serve(folder, *prefix, ATLAS_JOURNAL_KEY="")

    assert_one_line(ended, 1, "journal.db.key belongs to user 0")
    assert "discard" not in ended.stderr


def test_a_folder_where_no_journal_can_be_made_by_default(folder):
    ended = serve(folder, *require_user_prefix(), ATLAS_JOURNAL="")

    assert_one_line(
        ended, 1, f"{folder} belongs to user 0", f"install -d -o {USER} {folder / 'var'}"
    )


def test_a_folder_that_keeps_its_owner_out(folder):
    prefix, volume = require_user_prefix(), folder / "volume"
    os.chown(volume, USER, USER)
    volume.chmod(0o500)

    assert_one_line(serve(folder, *prefix), 1, f"chmod u+rwX {volume}")


def test_a_file_where_a_folder_should_be(folder):
    (folder / "file").touch()
    ended = serve(folder, ATLAS_JOURNAL="sqlite:///file/journal.db")

    assert_one_line(ended, 1, "a folder above it is a file")


@pytest.mark.parametrize("name", ["config/atlas.toml", "other.toml"])
def test_a_configuration_file_that_may_not_be_read(folder, name):
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.touch(0o600)
    chosen = "" if name.startswith("config/") else name

    assert_one_line(
        serve(folder, *require_user_prefix(), ATLAS_CONFIG=chosen), 78, name, "Permission denied"
    )


def test_a_secrets_file_that_may_not_be_read(folder):
    file = folder / "secret"
    file.touch(0o600)
    environ = {"FOUNDRY_CLIENT_SECRET": "", "FOUNDRY_CLIENT_SECRET_FILE": str(file)}

    assert_one_line(
        serve(folder, *require_user_prefix(), **environ),
        78,
        f"FOUNDRY_CLIENT_SECRET_FILE: cannot read {file}: Permission denied.",
    )


# problems that do not prevent a start


def test_a_dataset_that_foundry_does_not_know_is_told_by_diagnose_and_stops_nothing(
    folder, tmp_path
):
    port = four_free_ports()
    with local(tmp_path) as systems:
        environ = ENVIRON | SYSTEMS | {
            "AUTH0_ISSUER": f"http://{HOST}:{systems.port + 2}/",
            "FOUNDRY_HOST": f"http://{HOST}:{systems.port + 1}",
            "FOUNDRY_CLIENT_ID": "local",
            "FOUNDRY_CLIENT_SECRET": "local-secret",
            "FOUNDRY_DATASET_RID": "ri.foundry.main.dataset.of-somebody-else",
            "PORT": str(port),
            "ATLAS_OPERATOR_LISTEN": f"{HOST}:{port + 1}",
        }  # fmt: skip
        how = {"cwd": folder, "env": environ, "text": True, "stdout": subprocess.PIPE}
        serving = subprocess.Popen([COMMAND, "serve"], stderr=subprocess.DEVNULL, **how)
        with killed_at_last(serving):
            url = read_ready_url(serving.stdout.readline())
            diagnosis = subprocess.run([COMMAND, "diagnose", "--url", url], check=False, **how)
            ready = fetched(f"{url}/health/ready")

    assert b'"status":"ready"' in ready.replace(b" ", b"")
    assert diagnosis.returncode == 17, diagnosis.stdout
    assert " 7  dataset         fail" in diagnosis.stdout
