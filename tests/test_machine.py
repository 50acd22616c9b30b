"""The default number of workers follows the CPU limit of the container."""

import pytest

from atlas.service.cgroup import CgroupLimits

MIB = 1024 * 1024


def build_machine(folder, files):
    """Lay out a machine with eight processors and these cgroup files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    return CgroupLimits(8, folder / "groups", folder / "ours")


@pytest.mark.parametrize(
    ("files", "workers"),
    [
        pytest.param({}, 4, id="no control groups"),
        pytest.param({"ours": "0::/\n", "groups/cpu.max": "max 100000\n"}, 4, id="no limit"),
        pytest.param({"ours": "0::/\n", "groups/cpu.max": "100000 100000\n"}, 0, id="one core"),
        pytest.param({"ours": "0::/\n", "groups/cpu.max": "50000 100000\n"}, 0, id="half a core"),
        pytest.param(
            {"ours": "0::/\n", "groups/cpu.max": "150000 100000\n"}, 2, id="one and a half"
        ),
        pytest.param({"ours": "0::/\n", "groups/memory.max": f"{256 * MIB}\n"}, 0, id="256 MB"),
        pytest.param({"ours": "0::/\n", "groups/memory.max": f"{304 * MIB}\n"}, 1, id="304 MB"),
        pytest.param({"ours": "0::/\n", "groups/memory.max": f"{352 * MIB}\n"}, 2, id="352 MB"),
        pytest.param({"ours": "0::/\n", "groups/memory.max": "max\n"}, 4, id="all memory"),
        pytest.param(
            {
                "ours": "0::/a.slice/b.service\n",
                "groups/a.slice/b.service/cpu.max": "200000 100000",
            },
            2,
            id="a unit of systemd",
        ),
        pytest.param(
            {
                "ours": "4:memory:/pod\n3:cpu,cpuacct:/pod\n",
                "groups/cpu/cpu.cfs_quota_us": "300000\n",
                "groups/cpu/cpu.cfs_period_us": "100000\n",
                "groups/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            3,
            id="the first version",
        ),
        pytest.param(
            {"groups/cpu/cpu.cfs_quota_us": "-1\n", "groups/cpu/cpu.cfs_period_us": "100000\n"},
            4,
            id="the first version, no limit",
        ),
    ],
)
def test_there_are_as_many_workers_as_the_container_has_room_for(tmp_path, files, workers):
    assert build_machine(tmp_path, files).count_workers() == workers
