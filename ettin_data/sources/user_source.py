"""A user's own source: `--add-source name=path_or_url:tokens`, in any of the formats that are read."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ettin_data.base.errors import BuildError, SourceError
from ettin_data.sources import formats, globs
from ettin_data.sources.base import NAME, NAME_RULE, Source, is_local, local_path, shown
from ettin_data.sources.formats.format import Format
from ettin_data.storage.phase import phases_in

_ON_THE_HUB = re.compile(r"[\w.\-]+/[\w.\-]+(@[\w.\-]+)?(\?[\w.\-=&]+)?")


def own_source(
    key: str,
    path_or_url: str,
    *,
    category: str = "own",
    text_key: str = "text",
    id_key: str = "id",
    tokenizer: str | None = None,
    format: str | None = None,
) -> Source:
    """A source from a file, a folder, a URL or a glob of those.

    A name with `*` or `{` is a glob below its fixed part; one with a known suffix is a file; anything else is a folder,
    of which is taken what `Format.in_folder` says, of every format or of the one that is named. Shards are found by
    their index, so a pool of a run is a source as it lies there.
    `datasets://org/name@revision?config=…&split=…` is read row by row through `datasets`, and so is `org/name` where
    there is no such path here, nor a folder that it could be in. MDS shards of
    token ids are of the run's own tokenizer, if its framing tokens show that, or of the one that `tokenizer` names.

    Raises `SourceError` for a key that cannot be a folder name, a path that is not UTF-8, an unknown format, and a
    folder that is a run and not one of its pools.
    """
    if not NAME.fullmatch(key):
        raise SourceError(f"{key!r} cannot name a source", why=NAME_RULE, remedy="choose another name")
    named = formats.named(format, where=f"sources.{key}.format") if format is not None else None
    if shown(path_or_url) != path_or_url:
        raise SourceError(f"source {key!r}: {shown(path_or_url)!r} is not UTF-8", remedy="rename the folder or file")
    if _ON_THE_HUB.fullmatch(path_or_url) and formats.by_name(path_or_url) is None:
        folder = os.path.dirname(os.path.abspath(path_or_url))
        if not os.path.isdir(folder):
            path_or_url = f"datasets://{path_or_url}"
    _refuse_run(key, path_or_url)
    root, patterns, said, is_folder = _place(path_or_url)
    return Source(
        key=key,
        category=category,
        title=key,
        root=root,
        globs=patterns,
        format=(named or said or formats.LINES).name,
        text_key=text_key,
        id_key=id_key,
        licence="your own",
        tokenizer=tokenizer,
        pick=tuple(formats.FORMATS if named is None else (named.name,)) if is_folder else (),
        complete=True,
    )


def _refuse_run(key: str, path: str) -> None:
    """Raise `SourceError` for the folder of a run or a phase, in which the same documents lie several times."""
    folder = Path(os.path.expanduser(local_path(path)))
    if not is_local(path) or not folder.is_dir():
        return
    try:
        phases = [phase for phase in phases_in(folder) if phase.run_json.is_file() or phase.plan_json.is_file()]
    except BuildError:
        return
    if phases:
        phase = phases[0].folder
        raise SourceError(
            f"source {key!r}: {path} is a run, not one source of it",
            where=f"sources.{key}.root",
            remedy=f"name what of it is meant: {phase}/train, or a pool: {phase}/pools/<source>",
        )


def _place(url: str) -> tuple[str, tuple[str, ...], Format | None, bool]:
    """(root, globs below it, the format that the name says, whether it is a folder of which files are picked)."""
    if rows := formats.of_root(url):
        return url, ("**",), rows, False
    if is_local(url):
        url = os.path.abspath(os.path.expanduser(local_path(url))) + ("/" if url.endswith("/") else "")
    said = formats.by_name(url)
    if globs.is_glob(url) and not (is_local(url) and os.path.isdir(url)):
        folder = globs.fixed_prefix([url])
        return folder, (url[len(folder) :],), said, False
    if os.path.isdir(url) if is_local(url) else said is None:
        return url.rstrip("/") + "/", ("**",), None, True
    head, _, name = url.rpartition("/")
    return head + "/", (name,), said, False
