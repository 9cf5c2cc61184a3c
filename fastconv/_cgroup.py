"""What the control groups that this process is in leave it: CPUs and memory, on Linux."""

from pathlib import Path, PurePosixPath

__all__ = ["cpu_quota", "memory_limit"]

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def cpu_quota():
    """Whole CPUs, or None without a limit."""
    shares = [
        *_numbers("cpu", "cpu.max"),
        *_numbers("cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
    ]
    counts = [-(-quota // period) for quota, period in shares if quota > 0 and period > 0]
    return max(1, min(counts)) if counts else None


def memory_limit():
    """Bytes, or None without a limit."""
    found = [*_numbers("memory", "memory.max"), *_numbers("memory", "memory.limit_in_bytes")]
    return min((limit for (limit,) in found), default=None)


def _numbers(controller, *names):
    """The numbers in these files of each group, where they are there; "max" is no number."""
    for folder in _groups(controller):
        try:
            words = [(folder / name).read_text(encoding="ascii").split() for name in names]
            yield [int(word) for line in words for word in line]
        except (OSError, ValueError):
            continue


def _groups(controller):
    """The folders of the process's group and of those above it, of either version.

    In a container without a name space of its own only the root of what is named is there.
    """
    try:
        lines = OWN.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        group = PurePosixPath(name).relative_to("/")
        for part in (group, *group.parents):
            yield (ROOT / controller if controllers else ROOT) / part
