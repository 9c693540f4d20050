"""A mirror: any folder or fsspec URL that keeps the layout of the upstreams."""

from __future__ import annotations

import os
from dataclasses import replace

from ettin_data.sources.access.transport import ask, filesystem
from ettin_data.sources.base import Damaged, Source, TransportOptions, is_local, local_path, mirror_path
from ettin_data.sources.registry import REGISTRY


def with_root(source: Source, sources_root: str) -> Source:
    """The source read from a mirror: `<sources_root>/<host/path of its root>/`.

    A source that already is local stays where it is. A `tokenizer.json` beside the mirrored folder or above it (inside
    the sources root) takes the place of the default tokenizer, but never of one that a recipe names; on a remote mirror
    it is looked for over the network.
    """
    if is_local(source.root):
        return source
    base = os.path.abspath(os.path.expanduser(local_path(sources_root))) if is_local(sources_root) else sources_root
    base = base.rstrip("/") + "/"
    path = mirror_path(source.root)
    moved = replace(source, root=f"{base}{path}/", storage={}, gated=False)
    registered = REGISTRY.get(source.key)
    if source.tokenizer is None or registered is None or source.tokenizer != registered.tokenizer:
        return moved
    folders = path.split("/")
    for depth in range(len(folders), 0, -1):
        beside = base + "/".join(folders[:depth]) + "/tokenizer.json"
        if _exists(replace(moved, root=beside)):
            return replace(moved, tokenizer=beside)
    return moved


def _exists(file: Source) -> bool:
    """Whether a root, which is a file here, is there."""
    if is_local(file.root):
        return os.path.isfile(file.root)
    options = TransportOptions()
    fs, path = filesystem(file, options)
    try:
        return bool(ask(file, options, lambda: fs.info(path.rstrip("/"))))
    except Damaged:
        return False
