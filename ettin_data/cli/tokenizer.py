"""`ettin-data tokenizer`: what a tokenizer is; `tokenizer check`: which library may encode a user's text with it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ettin_data.base import files
from ettin_data.base.errors import ExitStatus, TokenizerError
from ettin_data.cli.shared import FrameText, by_default, console, frame_of, tell, tell_json

_SHOW = "show"
_LARGEST = 1 << 26
"""Bytes of a file that `check` reads; larger ones are data."""


# `ettin-data tokenizer PATH` is `tokenizer show PATH`, as it was before there was another command.
app = typer.Typer(cls=by_default(_SHOW), help="What a tokenizer is, and which library encodes with it.")


@app.command(_SHOW)
def show_tokenizer(
    name: Annotated[str | None, typer.Argument(help="Path or hub id; default: ModernBERT's.")] = None,
    text: Annotated[str | None, typer.Option(help="Text to encode.")] = None,
    frame: FrameText = None,
) -> None:
    """Find a tokenizer, check it, and show what it is: its digest and its tokens by role."""
    from ettin_data.tokenizer import files as tokenizer_files
    from ettin_data.tokenizer.encoder import Tokenizer, resolve

    given = tokenizer_files.found(name) if name else resolve()
    found = Tokenizer(given, frame=frame_of(frame, name))
    tell_json({"path": str(found.file.path), **found.describe(), "vocabulary": found.vocabulary.to_json()})
    if text is not None:
        ids, _ = found.encode_batch([text])
        tell(json.dumps([int(i) for i in ids]))


@app.command("check")
def check_tokenizer(
    name: Annotated[str, typer.Argument(help="Path or hub id.")],
    text: Annotated[Path, typer.Option(help="A file or a folder of text files, each a document.")],
    frame: FrameText = None,
    megabytes: Annotated[float, typer.Option(min=0, help="Of text, in the order of the files' names.")] = 20.0,
) -> None:
    """Compare each library with `tokenizers`, on texts made from the tokenizer and on your own.

    Says which one a build would use, how fast each is on your text, and where the first difference is. What is found is
    kept, so that a library that is wrong about your text is not used. A frame is needed only if it has tokens that the
    file does not mark as special. Ends with 1 where an installed library is not exact.
    """
    from ettin_data.tokenizer import files as tokenizer_files
    from ettin_data.tokenizer.check import check_libraries

    given, chosen = tokenizer_files.found(name), frame_of(frame, name)
    documents = list(_documents(text, int(megabytes * 1e6)))
    if not documents:
        raise TokenizerError("there is no text to check with", where=text, remedy="name a folder that holds text files")
    console.tell(f"{len(documents):,} documents of {sum(len(text) for _, text in documents):,} characters")
    found = check_libraries(given, chosen, documents)
    tell(*found.said())
    if any(each.difference for each in found.checked):
        sys.exit(ExitStatus.WRONG)


def _documents(place: Path, most: int) -> Iterator[tuple[str, str]]:
    """(name, text) of the files of a folder, in the order of their names, up to so many bytes."""
    paths = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    for path in paths:
        if most <= 0:
            return
        try:
            text = files.read(path, _LARGEST).decode()
        except (OSError, UnicodeDecodeError) as error:
            console.tell(f"{path} is left out: {error}")
            continue
        most -= len(text.encode())
        yield str(path), text
