"""What a build removes from the folder of a phase, and what it refuses to work beside.

Only what carries our marker or our full temporary name is removed, and nothing behind a link, where other disks and
other runs are. All of it only under the lock of the phase.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence, Set
from contextlib import suppress
from pathlib import Path

from ettin_data.base import files
from ettin_data.base.errors import BuildError
from ettin_data.base.progress import Progress
from ettin_data.storage.phase import MARKER, TRAIN, VALIDATION, Phase, is_order_file, is_split_folder, splits_in

_NAMED = 3  # of what is removed or refused


def refuse_foreign(phase: Phase) -> None:
    """Raise `BuildError` if there are folders where the build keeps order that are not ours to remove."""
    files.require_only(phase.order, is_order_file)
    foreign = [
        f"{part}/{name}"
        for part in (TRAIN, VALIDATION)
        for name in splits_in(phase.folder / part)
        if not is_split_folder(phase.folder / part / name)
    ]
    if foreign:
        raise BuildError(
            f"folders that ettin-data did not make lie where it keeps its splits: {_some(foreign)}",
            where=phase.folder / foreign[0],
            why=f"{TRAIN}/ and {VALIDATION}/ hold what the recipe says; what has no {MARKER} is never removed",
            remedy="move them elsewhere, or build into another folder with --out",
        )


def clean(phase: Phase, progress: Progress) -> None:
    """Remove what killed builds were writing."""
    left = list(phase.leftovers())
    for path in left:
        remove(path)
    if left:
        progress.say(f"removed what a stopped build had not finished: {_some([path.name for path in left])}")


def remove_others(phase: Phase, part: str, keep: Set[str], progress: Progress) -> list[str]:
    """Remove the splits `<source>/<folder>` of a part that are not in `keep`; returns their names.

    What lies behind a link stays, and is said.
    """
    root = phase.folder / part
    others = [name for name in splits_in(root) if name not in keep and is_split_folder(root / name)]
    linked = [name for name in others if any(path.is_symlink() for path in _way(root, name))]
    removed = [name for name in others if name not in set(linked)]
    for name in removed:
        files.remove_folder(root / name)
    for source in {root / name.partition("/")[0] for name in removed}:
        if not any(source.iterdir()):
            source.rmdir()
    if removed:
        progress.say(f"{part}: removed {len(removed):,} splits that the recipe no longer takes: {_some(removed)}")
    if linked:
        progress.say(f"{part}: left {len(linked):,} splits that lie behind a link and are not used: {_some(linked)}")
    return removed


def _way(root: Path, name: str) -> Iterator[Path]:
    yield from (root, root / name.partition("/")[0], root / name)


def sync_folders(phase: Phase) -> None:
    """Return when the names of all files of a phase are on the disk. The splits' own folders are, since they were made.

    What a machine that dies has lost of them would otherwise be missing in a run that says it is finished.
    """
    files.sync_all(list(phase.folders()))
    for folder in (phase.folder.parent, phase.folder.parent.parent):
        with suppress(PermissionError):  # of others
            files.sync(folder)


def remove(path: Path) -> None:
    """Remove a file, a folder, or of a link the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
