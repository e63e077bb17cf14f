"""CPU quota and memory limit from cgroup trees of both versions."""

import os
from pathlib import Path

import pytest

from server.machine import Machine, read_machine

MIB = 2**20
NESTED_V2 = "0::/system.slice/service.slice\n"


def make_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def v1(quota_us: str, *, group: str = "/", folder: str = "") -> dict[str, str]:
    return {
        "proc/self/cgroup": f"3:memory:{group}\n2:cpu,cpuacct:{group}\n",
        f"sys/fs/cgroup/cpu,cpuacct{folder}/cpu.cfs_quota_us": f"{quota_us}\n",
        f"sys/fs/cgroup/cpu,cpuacct{folder}/cpu.cfs_period_us": "100000\n",
    }


def v2(cpu_max: str) -> dict[str, str]:
    return {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{cpu_max} 100000\n"}


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        (v2("50000"), 0.5),
        (v2("100000"), 1),
        (v2("250000"), 2.5),
        (v2("max"), None),
        (v1("50000"), 0.5),
        (v1("100000"), 1),
        (v1("250000"), 2.5),
        (v1("-1"), None),
        # The path is the host's, the mount shows the container's own group.
        (v1("50000", group="/docker/0a1b"), 0.5),
        (v1("50000", group="/docker/0a1b", folder="/docker/0a1b"), 0.5),
        ({}, None),
    ],
)
def test_quota_is_read(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    assert read_machine(make_tree(tmp_path, files), 4, MIB) == Machine(4, quota, MIB)


@pytest.mark.parametrize(
    ("outer", "inner", "quota"),
    [("100000", "300000", 1), ("300000", "150000", 1.5), ("max", "200000", 2)],
)
def test_tightest_group_wins_when_they_are_nested(
    tmp_path: Path, outer: str, inner: str, quota: float
) -> None:
    groups = "sys/fs/cgroup/system.slice"
    files = {
        "proc/self/cgroup": NESTED_V2,
        f"{groups}/cpu.max": f"{outer} 100000",
        f"{groups}/service.slice/cpu.max": f"{inner} 100000",
    }
    assert read_machine(make_tree(tmp_path, files)).cpu_quota == quota


@pytest.mark.parametrize(
    ("files", "mib"),
    [
        ({"sys/fs/cgroup/memory.max": str(512 * MIB)}, 512),
        ({"sys/fs/cgroup/memory.max": "max"}, 2048),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": str(256 * MIB)}, 256),
        ({"sys/fs/cgroup/memory.max": str(4096 * MIB)}, 2048),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, 2048),
    ],
)
def test_memory_limit_is_read(tmp_path: Path, files: dict[str, str], mib: int) -> None:
    machine = read_machine(make_tree(tmp_path, files), physical_bytes=2048 * MIB)
    assert machine.memory_bytes == mib * MIB


def test_memory_is_known_when_proc_is_hidden(tmp_path: Path) -> None:
    memory = read_machine(tmp_path).memory_bytes
    assert memory is not None
    assert memory > 64 * MIB


def test_limits_are_those_of_another_process_when_it_is_named(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/user.slice\n",
        f"proc/{os.getpid()}/cgroup": "0::/service\n",
        "sys/fs/cgroup/service/cpu.max": "150000 100000",
    }
    root = make_tree(tmp_path, files)
    assert read_machine(root).cpu_quota is None
    assert read_machine(root, pid=os.getpid()).cpu_quota == 1.5


def test_cores_are_those_of_this_process_when_there_is_no_cgroup(tmp_path: Path) -> None:
    assert read_machine(tmp_path).cores >= 1
