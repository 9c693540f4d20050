"""A whole build of the demo's first phase: the most disk and memory that it takes on the way.

    python -m benchmarks.build [--megabytes 24] [--workers 2] [--json FILE]

The run folder (the mirror of the sources is beside it) is measured twenty times a second while the build runs: the
sizes of all files, each inode once. The claim: at most 1.1 times what is there at the end, beside 2.7 times for the
reference scripts. Memory is the most that any one process of the build held, as the kernel counted it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measure import peak_rss, report

CLAIM = 1.1
_PAUSE = 0.05


def disk_bytes(folder: Path) -> int:
    """Bytes of all files below a folder, hard links counted once."""
    sizes: dict[tuple[int, int], int] = {}
    waiting = [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        status = entry.stat(follow_symlinks=False)
                        sizes[status.st_dev, status.st_ino] = status.st_size
        except FileNotFoundError:  # renamed or removed while we looked
            continue
    return sum(sizes.values())


class Watch(threading.Thread):
    """Looks at a folder and at the processes below this one until it is stopped."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.disk, self.memory = folder, 0, 0
        self._end = threading.Event()

    def run(self) -> None:
        own = psutil.Process()
        while not self._end.wait(_PAUSE):
            self.disk = max(self.disk, disk_bytes(self.folder))
            for child in own.children(recursive=True):
                self.memory = max(self.memory, _held(child))

    def stop(self) -> None:
        self._end.set()
        self.join()


def _held(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def measure(folder: Path, megabytes: float, workers: int) -> dict[str, Any]:
    """Build the first phase of a demo of this size; the row of the table."""
    from ettin_data.build import build as run
    from ettin_data.demo import demo
    from ettin_data.executor import ExecutorOptions

    demo.mirror(folder, megabytes)
    out = folder / "run"
    recipe = demo.recipes(megabytes)[0]
    options = run.BuildOptions(out, str(demo.mirror_folder(folder)), ExecutorOptions(workers=workers))
    watch = Watch(out)
    watch.start()
    began = time.perf_counter()
    summary = run.build_phase(recipe, options)
    seconds = time.perf_counter() - began
    watch.stop()
    final = disk_bytes(out)
    peak = max(watch.disk, final)
    return {
        "text MB": megabytes,
        "M tokens": summary.totals["tokens"] / 1e6,
        "splits": summary.totals["splits"],
        "workers": workers,
        "wall s": seconds,
        "final MB": final / 1e6,
        "peak MB": peak / 1e6,
        "peak / final": peak / final,
        "final / peak": final / peak,
        "worker MB": watch.memory / 1e6,
        "driver MB": peak_rss() / 1e6,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=24, help="of the demo's mirror, all phases")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="ettin-build-") as folder:
        row = measure(Path(folder), options.megabytes, options.workers)
    report("A build: disk and memory", [row], options.json, {"peak disk / final": row["peak / final"]})
    print(f"claimed: at most {CLAIM:g} times the final size")


if __name__ == "__main__":
    main()
