"""`ettin-data inspect`: one folder of shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ettin_data.cli.shared import FrameText, TokenizerName, tell, words


def inspect(
    folder: Annotated[Path, typer.Argument(help="A folder with an MDS index.json, such as runs/demo/pretrain/train")],
    first: Annotated[int, typer.Option(min=0, help="Position of the first sample.")] = 0,
    number: Annotated[int, typer.Option(help="How many.")] = 5,
    characters: Annotated[int, typer.Option(help="Of text shown for each; 0 shows all.")] = 300,
    tokenizer: TokenizerName = None,
    frame: FrameText = None,
) -> None:
    """Decode samples of a folder of shards, with their source and length."""
    from ettin_data.order.data import run_of
    from ettin_data.order.loader_edits import vocabulary_of
    from ettin_data.storage.mds import MdsReader

    run = run_of(folder)
    reader, decode = MdsReader(folder), words(vocabulary_of(run) if run else None, tokenizer, frame).decode
    for position in range(first, min(first + number, len(reader))):
        sample = reader[position]
        shard, row = reader.locate(position)
        text = decode(sample["input_ids"])
        shown = text if not characters or len(text) <= characters else f"{text[:characters]}…"
        source = reader.infos[shard].basename
        tell(f"[{position}] {source} row {row}  id {sample['id']}  {len(sample['input_ids'])} tokens")
        tell(*(f"  {line}" for line in shown.split("\n")), "")
    tell(f"{len(reader):,} samples in {len(reader.infos):,} shards")


COMMANDS = (inspect,)
