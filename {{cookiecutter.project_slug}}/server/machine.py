"""What this process may use of the machine: CPU quota, cores and memory."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# Where a system without /proc/self/cgroup would have its limits.
_ROOT_GROUPS = ("0::/", "1:cpu,cpuacct:/", "2:memory:/")
# Version 1 writes the largest number of pages there is for "no limit".
_NO_LIMIT_BYTES = 2**60


@dataclass(frozen=True)
class Machine:
    """`cpu_quota` is in cores; None means that nothing limits it or nothing is known."""

    cores: int
    cpu_quota: float | None = None
    memory_bytes: int | None = None


def read_machine(
    root: Path = Path("/"),
    cores: int | None = None,
    physical_bytes: int | None = None,
    pid: int | None = None,
) -> Machine:
    """Of this process, or of `pid`: a shell is limited by other groups than a service."""
    folders = list(_cgroup_folders(root, pid))
    quotas = [quota for folder in folders for quota in _cpu_quotas(folder)]
    memory = [limit for folder in folders for limit in _memory_limits(folder)]
    # Not /proc/meminfo: systemd's ProcSubset=pid hides it.
    memory.append(physical_bytes or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return Machine(
        cores=cores or _usable_cores(pid),
        cpu_quota=min(quotas, default=None),
        memory_bytes=min(memory),
    )


def _usable_cores(pid: int | None) -> int:
    # 3.13 and newer: the affinity mask, and PYTHON_CPU_COUNT if somebody set it.
    count = getattr(os, "process_cpu_count", None)
    if count is not None and pid is None:
        return int(count() or 1)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(pid or 0))
    return os.cpu_count() or 1


def _cgroup_folders(root: Path, pid: int | None) -> Iterator[Path]:
    """The group of this process and all groups above it: every one of them limits it.

    https://docs.kernel.org/admin-guide/cgroup-v2.html and cgroup-v1/
    """
    mounts = root / "sys/fs/cgroup"
    for line in _read(root / f"proc/{pid or 'self'}/cgroup").splitlines() or _ROOT_GROUPS:
        _, controllers, path = line.split(":", 2)
        # A container may see the path that the host sees; those folders are missing then, and
        # its own limits stand at the mount itself.
        parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
        for mount in _mounts(controllers):
            for depth in range(len(parts), -1, -1):
                yield (mounts / mount).joinpath(*parts[:depth])


def _mounts(controllers: str) -> tuple[str, ...]:
    if not controllers:
        return ("", "unified")  # version 2, alone or next to version 1
    return (controllers, *controllers.split(","))


def _cpu_quotas(folder: Path) -> Iterator[float]:
    yield from _quota(*_read(folder / "cpu.max").split())
    period = _read(folder / "cpu.cfs_period_us")
    yield from _quota(_read(folder / "cpu.cfs_quota_us"), period)


def _quota(quota_us: str = "", period_us: str = "") -> Iterator[float]:
    # "max" and -1 mean none.
    if quota_us.isdecimal() and period_us.isdecimal() and int(period_us) > 0:
        yield int(quota_us) / int(period_us)


def _memory_limits(folder: Path) -> Iterator[int]:
    for name in ("memory.max", "memory.limit_in_bytes"):
        text = _read(folder / name)
        if text.isdecimal() and int(text) < _NO_LIMIT_BYTES:
            yield int(text)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
