"""What the machine allows: cores, the environment of a worker, why a process ended."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "FASTOKENS_BPE_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Set for every worker, over what the driver has: the parallelism is one process a core, and a library that starts a
thread for every core in each of them makes all of them slower."""


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use: its CPU affinity, cut by the CPU quota of its cgroup (v1 or v2); at least 1.

    `root` is where `/proc` and `/sys` are found.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, min([cores, *(int(quota) for quota in _cgroup_quotas(root))]))


def _cgroup_quotas(root: Path) -> Iterator[float]:
    """CPUs allowed by each cgroup from this process's own up to the root; a parent's quota binds its children too."""
    try:
        groups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except OSError:  # not Linux
        return
    for _, controllers, path in groups:
        if controllers == "":
            mount, read = root / "sys/fs/cgroup", _quota_v2
        elif "cpu" in controllers.split(","):
            mount, read = root / "sys/fs/cgroup/cpu", _quota_v1
        else:
            continue
        own = mount / path.strip("/")
        for folder in (own, *own.parents):
            with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
                yield read(folder)
            if folder == mount:
                break


def _quota_v2(folder: Path) -> float:
    quota, period = (folder / "cpu.max").read_text().split()
    return int(quota) / int(period)  # "max" is no number: ValueError, no quota


def _quota_v1(folder: Path) -> float:
    quota = int((folder / "cpu.cfs_quota_us").read_text())
    if quota <= 0:
        raise ValueError("no quota")
    return quota / int((folder / "cpu.cfs_period_us").read_text())


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed for memory since this machine started; 0 where it does not say."""
    try:
        with open("/proc/vmstat") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    except (OSError, StopIteration):
        return 0


def describe_exit(status: int | None, oom_kills: int) -> str:
    """Why a worker process ended, from its exit status as `subprocess` gives it; None: it lives, but does not listen.

    `oom_kills` is how many times the kernel killed for memory during the worker's task.
    """
    if status is None:
        return "the worker closed its connection to the driver"
    if status >= 0:
        return f"the worker exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    text = f"the worker was killed by {name}"
    if name != "SIGKILL":
        return text
    if oom_kills:
        return f"{text}: most likely out of memory (the kernel killed {oom_kills} process(es) for memory meanwhile)"
    return f"{text}: it may have run out of memory"


@contextlib.contextmanager
def environment(values: dict[str, str], also_restored: Iterable[str] = ()) -> Iterator[None]:
    """`os.environ` with these values for a while; the only way to give them to processes that a library starts.

    What the library itself sets meanwhile stays, but for the variables `also_restored`.
    """
    before = {key: os.environ.get(key) for key in (*values, *also_restored)}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
