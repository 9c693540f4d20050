"""One index of a tree of MDS folders, which a published tree does not have: each of its folders has its own.

Positions in an order mean the samples in the order of the merged index (ARCHITECTURE 5.6), so the order of the folders
is a choice that the caller states. Shards are read by nobody here and never touched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ettin_data.base import files
from ettin_data.base.errors import ShardError, near
from ettin_data.storage.mds.index import ShardInfo, index_text, merged_index, read_index
from ettin_data.storage.phase import INDEX


def _natural(name: str) -> Any:
    words = re.split(r"(\d+)", name)
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in words], name


ORDERS: dict[str, Callable[[str], Any]] = {"sorted": str, "natural": _natural}
"""Keys by which folders stand in an index; `natural` has part-9 before part-10."""

_SHARDS = (".mds", ".mds.zstd", ".mds.zst", ".mds.gz")


@dataclass(frozen=True)
class Tree:
    """The shards of a tree of folders.

    Attributes:
        root: the folder.
        folders: path relative to it, posix -> its shards, in the order of its own index; the folders sorted.
        missing: shards that an index names and that are not there, raw or compressed, as paths relative to the root.
    """

    root: Path
    folders: dict[str, list[ShardInfo]]
    missing: list[str]

    def ordered(self, names: Sequence[str]) -> list[ShardInfo]:
        """The shards of these folders, one after the other; a name may also be that of a single shard.

        Raises:
            ShardError: a name is none of them, or a shard is named twice.
        """
        single = {shard.basename: shard for shards in self.folders.values() for shard in shards}
        chosen: list[ShardInfo] = []
        for name in names:
            if name in self.folders:
                chosen += self.folders[name]
            elif name in single:
                chosen.append(single[name])
            else:
                known = [*self.folders, *single] if len(single) < 10_000 else self.folders
                raise ShardError(f"{name!r} is no folder with an index", where=self.root, remedy=near(name, known))
        seen: set[str] = set()
        for shard in chosen:
            if shard.basename in seen:
                raise ShardError(f"{shard.basename!r} is named twice", where=self.root, remedy="name each shard once")
            seen.add(shard.basename)
        return chosen


def find_shards(root: Path) -> Tree:
    """All shards below a folder, by the indices that lie beside them.

    An index further up, as one that was merged before, says nothing that those do not say, and is passed over.

    Raises:
        ShardError: there are none; an index is damaged; a folder has shards and no index; an index that is not merged
            lies in the root itself, where the merged one would have to stand.
    """
    listed: dict[str, set[str]] = {}
    for place, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        listed[PurePosixPath(os.path.relpath(place, root)).as_posix()] = set(names)
    folders: dict[str, list[ShardInfo]] = {}
    for name in sorted(listed):
        if INDEX not in listed[name]:
            if stray := sorted(file for file in listed[name] if file.endswith(_SHARDS)):
                raise ShardError(
                    f"{stray[0]!r} and {len(stray) - 1} further shards lie in a folder without an index",
                    where=root / name,
                    why="only an index says how many samples a shard has, and its place among the others",
                    remedy=f"download its {INDEX}, or move the folder out of the tree",
                )
            continue
        shards = read_index(root / name) if name == "." else merged_index([(name, root / name)])
        beside = [shard for shard in shards if str(PurePosixPath(shard.basename).parent) == name]
        if beside and name == ".":
            raise ShardError(
                "this folder has shards of its own, listed in its index",
                where=root / INDEX,
                why="the merged index would have to stand in its place",
                remedy="name the folder above, or one without shards of its own",
            )
        if beside:
            folders[name] = beside
    if not folders:
        raise ShardError("no folder below this one has an index of its shards", where=root)
    missing = [
        shard.basename for name, shards in folders.items() for shard in shards if not _is_there(shard, listed[name])
    ]
    return Tree(root, folders, missing)


def _is_there(shard: ShardInfo, names: set[str]) -> bool:
    stored = [shard.basename, *([shard.zip_data["basename"]] if shard.zip_data else [])]
    return any(PurePosixPath(name).name in names for name in stored)


def read_names(path: Path) -> list[str]:
    """The names in an order file: one on each line; empty lines and those that begin with `#` are passed over.

    Raises:
        ShardError: there is no such file.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ShardError(
            f"{str(path)!r} is no order of folders", why=error, remedy=f"{', '.join(ORDERS)}, or a file that names them"
        ) from error
    return [line.strip().strip("/") for line in lines if line.strip() and not line.lstrip().startswith("#")]


def put_index(root: Path, shards: Sequence[ShardInfo], *, replace: bool = False) -> bool:
    """Write `<root>/index.json` with these shards in this order. Returns whether it was not there already.

    Raises:
        ShardError: another index stands there, and is not to be replaced.
    """
    text, path = index_text(shards), root / INDEX
    if path.is_file():
        if path.read_text(errors="replace") == text:
            return False
        if not replace:
            raise ShardError(
                "another index stands here",
                where=path,
                why="positions of an order that was made by it mean other samples in the new one",
                remedy="keep it, or write over it with --replace",
            )
    files.write(path, text)
    return True
