"""A user's own source: `--add-source name=path_or_url:tokens`, in any of the formats that are read."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

from ettin_data.base.errors import SourceError
from ettin_data.sources import globs
from ettin_data.sources.base import Source, is_local, local_path
from ettin_data.sources.formats import hub_rows

SUFFIXES: Final = (
    "json", "json.gz", "json.zst", "jsonl", "jsonl.gz", "jsonl.zst", "jsonl.zstd", "ndjson", "ndjson.gz", "ndjson.zst",
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]*")


def own_source(
    key: str,
    path_or_url: str,
    *,
    tokens: Mapping[str, int] | None = None,
    category: str = "own",
    text_key: str = "text",
    id_key: str = "id",
    tokenizer: str | None = None,
    format: str | None = None,
) -> Source:
    """A source from a file, a folder, a URL or a glob of those.

    A name with `*` or `{` is a glob below its fixed part; one with a known suffix is a file; anything else is a folder,
    in which every JSON Lines and parquet file is taken (but no plain `.json`), and the shards of every `index.json`.
    `datasets://org/name@revision?config=…&split=…` is read row by row through `datasets`. MDS shards are taken as
    ModernBERT token ids unless `tokenizer` names the tokenizer that decodes them.

    Raises `SourceError` for a key that cannot be a folder name.
    """
    if not _NAME.fullmatch(key):
        raise SourceError(f"{key!r} cannot name a source", remedy="use letters, digits, _ and -")
    url = path_or_url
    if hub_rows.is_rows(url):
        return _own(key, category, url, ("**",), "rows", text_key, id_key, tokens, None)
    if is_local(url):
        url = os.path.abspath(os.path.expanduser(local_path(url))) + ("/" if url.endswith("/") else "")
    kind = format or _kind(url)
    if globs.is_glob(url):
        folder = globs.fixed_prefix([url])
        patterns: tuple[str, ...] = (url[len(folder) :],)
    elif os.path.isdir(url) if is_local(url) else not _kind(url):
        folder = url.rstrip("/") + "/"
        patterns = _folder_patterns(folder, format)
    else:
        head, _, name = url.rpartition("/")
        folder, patterns = head + "/", (name,)
    return _own(key, category, folder, patterns, kind or "jsonl", text_key, id_key, tokens, tokenizer)


def _own(
    key: str,
    category: str,
    root: str,
    patterns: tuple[str, ...],
    kind: str,
    text_key: str,
    id_key: str,
    tokens: Mapping[str, int] | None,
    tokenizer: str | None,
) -> Source:
    return Source(
        key=key,
        category=category,
        title=key,
        root=root,
        globs=patterns,
        format=kind,
        text_key=text_key,
        id_key=id_key,
        licence="your own",
        tokens=dict(tokens or {}),
        tokenizer=tokenizer,
    )


def _kind(name: str) -> str:
    base = name.rpartition("/")[2]
    if base == "index.json" or ".mds" in base:
        return "mds"
    if base.endswith(".parquet"):
        return "parquet"
    return "jsonl" if base.endswith(tuple("." + suffix for suffix in SUFFIXES)) else ""


def _folder_patterns(folder: str, kind: str | None) -> tuple[str, ...]:
    if kind == "mds":
        return ("**/index.json",)
    if kind == "parquet":
        return ("**/*.parquet",)
    # A plain .json is as likely a table of statistics; its reader can name it.
    names = [f"*.{suffix}" for suffix in (*SUFFIXES, "parquet") if suffix != "json"]
    return ("**/{" + ",".join(["index.json", *names]) + "}",)
