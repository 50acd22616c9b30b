"""A journal on a network file system is rejected."""

import os

import pytest

from atlas.core.diagnosis import CheckFailed
from atlas.core.errors import CommandError
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.sqlite.disk import filesystem_type
from atlas.outside.sqlite.disk.filesystem_type import NETWORKED, find_type
from atlas.outside.sqlite.journal import open_journal
from atlas.outside.sqlite.readonly import ReadOnlyInspector

MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,noatime shared:1 master:2 - ext4 /dev/root rw
99 27 0:48 / /mnt/share\\040of\\040all rw shared:9 - nfs4 server:/export rw,vers=4.2
"""


def test_the_kind_is_that_of_the_mount_with_the_number():
    assert find_type(os.makedev(254, 0), MOUNTS) == "ext4"
    assert find_type(os.makedev(0, 48), MOUNTS) == "nfs4"
    assert find_type(os.makedev(7, 7), MOUNTS) == ""
    assert find_type(0, "nonsense\n\n") == ""


@pytest.mark.parametrize("name", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "ceph"])
def test_what_goes_over_a_network_is_known_by_its_name(name):
    assert NETWORKED.match(name)


@pytest.mark.parametrize("name", ["", "ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs", "fuseblk"])
def test_a_disk_is_a_disk(name):
    assert not NETWORKED.match(name)


@pytest.fixture
def share(tmp_path, monkeypatch):
    """A folder that appears to be an NFS mount, by means of a fake mountinfo."""
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"9 1 {os.major(device)}:{os.minor(device)} / / rw - nfs4 server:/ rw\n")
    monkeypatch.setattr(filesystem_type, "MOUNTS", mounts)
    return tmp_path


def test_a_journal_there_is_refused_and_nothing_is_made(share):
    with (
        pytest.raises(CommandError, match=r"nfs4.*ATLAS_JOURNAL"),
        open_journal(share / "journal", CapacityLimits(free_bytes=0)),
    ):
        pass
    assert [each.name for each in share.iterdir()] == ["mountinfo"]


async def test_a_journal_there_is_amiss_to_whoever_looks_at_it(share):
    (share / "journal").touch()
    with pytest.raises(CheckFailed, match="a network file system"):
        await ReadOnlyInspector(share / "journal", CapacityLimits(), ()).inspect()
