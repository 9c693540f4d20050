"""The index of a tree of MDS folders in the order that a publication was made by, found from its rows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import files
from ettin_data.base.errors import OrderError
from ettin_data.base.progress import SILENT, Progress
from ettin_data.order.proof.outcome import Request, Verification
from ettin_data.order.proof.report import headline
from ettin_data.order.proof.verify import verify_order
from ettin_data.storage.mds import INDEX, ShardInfo, index_text
from ettin_data.storage.mds.merge import Tree

_ENOUGH = 0.9  # share of the rows that have to stand where the order that was found says


@dataclass(frozen=True)
class Like:
    """Shards in the order that was found, and the verification that found it."""

    shards: list[ShardInfo]
    found: Verification


def order_like(tree: Tree, request: Request, progress: Progress = SILENT) -> Like:
    """The shards of a tree in the order that explains a publication.

    A shard that is here is placed by its own rows; the others of its folder stand beside it as in the folder's index.

    Args:
        request: what to verify; its `data` and `index` are set here.

    Raises:
        OrderError: the rows follow no law in any order that was tried, or leave folders without a place.
    """
    shards = tree.ordered(sorted(tree.folders))
    with tempfile.TemporaryDirectory(prefix="ettin-index-") as scratch:
        path = Path(scratch) / INDEX
        files.write(path, index_text(shards))
        found = verify_order(replace(request, data=str(tree.root), index=path), progress)
    _, judged, agree = found.looked_up
    if not found.fits or found.verdict in ("cannot tell", "unchecked") or agree < _ENOUGH * judged:
        raise OrderError(
            "the order of the folders cannot be told from this publication",
            where=request.published,
            why=headline(found),
            remedy="download more shards or published files, or name the order with --order",
        )
    if found.explanation.starts is None:
        return Like(shards, found)
    sizes = np.array([shard.samples for shard in shards])
    folders = [str(PurePosixPath(shard.basename).parent) for shard in shards]
    places = place_folders(np.array(found.explanation.starts, np.int64), sizes, folders)
    order = np.argsort(places, kind="stable")
    ends = np.append(0, np.cumsum(sizes[order]))
    if (lost := np.flatnonzero(places < 0)).size or (places[order] != ends[:-1]).any():
        odd = sorted({folders[i] for i in lost} or {folders[i] for i in order[places[order] != ends[:-1]]})
        raise OrderError(
            f"{len(odd):,} of {len(set(folders)):,} folders cannot be placed, such as {odd[0]}",
            where=tree.root,
            why="no shard of them is here, or none of their rows was published"
            if lost.size
            else "the shards before them do not fill the places up to theirs: the trainer had others",
            remedy="download a shard of each, and more published files; or name the order with --order",
        )
    return Like([shards[i] for i in order], found)


def place_folders(places: NDArray[np.int64], sizes: NDArray[np.int64], folders: Sequence[str]) -> NDArray[np.int64]:
    """Places of all shards, by those that have one; -1 for those that still have none.

    Args:
        places: first position of each shard in the order that was found, -1 where its rows did not say it.
        sizes: samples of each. folders: of each; shards of a folder follow each other, in its own order.
    """
    places, starts = places.copy(), np.cumsum(sizes) - sizes
    groups = [np.flatnonzero(np.array(folders) == name) for name in dict.fromkeys(folders)]
    for mine in groups:
        known = mine[places[mine] >= 0]
        shifts = np.unique(places[known] - starts[known])
        if len(shifts) == 1:
            places[mine] = starts[mine] + shifts[0]
    # a folder without a place takes the one gap that is as large, if no other folder is
    waiting = [mine for mine in groups if (places[mine] < 0).all()]
    known = np.flatnonzero(places >= 0)
    known = known[np.argsort(places[known])]
    begins = np.append(0, places[known] + sizes[known])
    gaps = np.append(places[known], sizes.sum()) - begins
    for mine in waiting:
        size = int(sizes[mine].sum())
        if (gaps == size).sum() == 1 and sum(int(sizes[other].sum()) == size for other in waiting) == 1:
            places[mine] = starts[mine] - starts[mine[0]] + begins[gaps == size][0]
    return places
