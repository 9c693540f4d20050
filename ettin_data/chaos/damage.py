"""Damage to finished files, as disks, people and half-done copies do it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

from ettin_data.base import files
from ettin_data.storage.phase import MARKER, ORDER, PARTS, POOLS, Phase


def harm(phase: Path, what: str, pick: int) -> str | None:
    """Damage something in a phase on which no build works.

    Args:
        phase: its folder.
        what: one of `schedule.HARMS`.
        pick: decides which file, and which byte.

    Returns:
        What was done; None when there is nothing yet to do it to.
    """
    random = np.random.default_rng(pick)
    splits = Phase(phase, phase.name).splits(*PARTS)
    if what == "leave temporary":
        return _leave_temporary(phase, splits)
    if what == "lose power":
        return _lose_power(phase, _files(phase, splits), random)
    if what == "swap splits":
        return _swap(phase, [name for name in splits if name.startswith(f"{POOLS}/")], random)
    if what == "remove marker":
        markers = [phase / name / MARKER for name in splits]
        path = _one([marker for marker in markers if marker.exists()], random)
        if path is not None:
            path.unlink()
        return None if path is None else f"remove {path.relative_to(phase)}"
    path = _one(_files(phase, splits), random)
    if path is None:
        return None
    status, size = path.stat(), path.stat().st_size
    at = int(random.integers(size))
    if what in ("flip", "rot"):
        with open(path, "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0] ^ int(random.integers(1, 256))
            file.seek(at)
            file.write(bytes([byte]))
        if what == "rot":
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif what == "truncate":
        os.truncate(path, at)
    elif what == "append":
        with open(path, "ab") as file:
            file.write(b"\0" * 16)
    elif what == "remove":
        path.unlink()
    return f"{what} {path.relative_to(phase)} at byte {at:,} of {size:,}"


def _files(phase: Path, splits: list[str]) -> list[Path]:
    """Files with something in them that a build has finished: of splits, and of the order index."""
    found = [path for name in splits for path in sorted((phase / name).iterdir())]
    found += sorted(path for path in (phase / ORDER).glob("*") if path.is_file())
    return [path for path in found if path.is_file() and path.stat().st_size]


def _lose_power(phase: Path, files: list[Path], random: np.random.Generator) -> str | None:
    """What a machine that dies leaves of the last files whose bytes were not on the disk: nothing, half, or zeros."""
    newest = sorted(files, key=lambda path: path.stat().st_mtime_ns)[-int(random.integers(1, 9)) :]
    for path in newest:
        data = path.read_bytes()
        half = len(data) // 2
        kept = (b"", data[:half], bytes(len(data)), data[:half] + bytes(len(data) - half))
        path.write_bytes(kept[int(random.integers(len(kept)))])
    return f"lose power: the last {len(newest)} files, such as {newest[0].relative_to(phase)}" if newest else None


def _one(paths: list[Path], random: np.random.Generator) -> Path | None:
    return paths[int(random.integers(len(paths)))] if paths else None


def _swap(phase: Path, splits: list[str], random: np.random.Generator) -> str | None:
    """Two splits under each other's names: whole, marked, and not what their names say."""
    if len(splits) < 2:
        return None
    one, other = (phase / splits[i] for i in random.choice(len(splits), 2, replace=False).tolist())
    aside = one.with_name(".swapped")
    for path, target in ((one, aside), (other, one), (aside, other)):
        shutil.move(path, target)
    return f"swap {one.relative_to(phase)} and {other.relative_to(phase)}"


def _leave_temporary(phase: Path, splits: list[str]) -> str | None:
    """What a killed worker leaves: a private folder with half of a split in it."""
    if not splits:
        return None
    first = phase / splits[0]
    left = files.private_folder(first.parent, "left-by-chaos")
    shutil.copytree(first, left, dirs_exist_ok=True)
    (left / MARKER).unlink(missing_ok=True)
    return f"leave {left.relative_to(phase)}"
