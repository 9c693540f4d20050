"""`ettin-data index`: one index of a tree of MDS folders."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from ettin_data.base.errors import OrderError
from ettin_data.cli.shared import PhaseName, bar, tell


def index(
    folder: Annotated[Path, typer.Argument(help="A folder with MDS folders below it, each with its index.json.")],
    order: Annotated[
        str, typer.Option(help="Of the folders: sorted, natural (9 before 10), or a file with one folder on each line.")
    ] = "sorted",
    like: Annotated[
        str | None, typer.Option(help="Or that of a published batch order, found from its rows: a folder or URL.")
    ] = None,
    phase: PhaseName = None,
    seed: Annotated[int, typer.Option(help="Of that batch order; others are tried.")] = 21,
    replace: Annotated[bool, typer.Option(help="Write over another index.json that stands there.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what the index would be, and write nothing.")] = False,
) -> None:
    """Write the index.json of a whole tree from those of its folders, as `order verify` and training need it.

    A published tree has none of its own. Shards are neither read nor touched. An order file may name folders or single
    shards; what it does not name is not in the index.
    """
    from ettin_data.order.proof.like import order_like
    from ettin_data.order.proof.outcome import Request
    from ettin_data.order.proof.report import headline
    from ettin_data.storage.mds import merge

    tree = merge.find_shards(folder)
    if like is not None:
        if order != "sorted":
            raise OrderError(f"--order {order} and --like are two orders", remedy="name one of them")
        found = order_like(tree, Request("", like, seed=seed, phase=phase), bar())
        shards = found.shards
        names = list(dict.fromkeys(str(PurePosixPath(shard.basename).parent) for shard in shards))
        tell(headline(found.found))
    else:
        key = merge.ORDERS.get(order)
        names = sorted(tree.folders, key=key) if key else merge.read_names(Path(order))
        shards = tree.ordered(names)
    here = {shard.basename for shard in shards}
    left_out = [
        shard.basename for of_folder in tree.folders.values() for shard in of_folder if shard.basename not in here
    ]
    for what, some in (("are not named, and not in the index", left_out), ("are not here yet", tree.missing)):
        if some:
            tell(f"{len(some):,} shards {what}, such as {some[0]}")
    samples = sum(shard.samples for shard in shards)
    said = f"{samples:,} samples in {len(shards):,} shards of {len(tree.folders):,} folders"
    if dry_run:
        tell(f"{folder}: the index would list {said}, in this order:", *(f"  {name}" for name in names))
        return
    written = merge.put_index(folder, shards, replace=replace)
    tell(f"{folder}: {'an index of' if written else 'there is an index already of just these'} {said}")


COMMANDS = (index,)
