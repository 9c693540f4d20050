"""The marker of a finished split, `split.json`: what it was made from, how, and the hash of everything it holds.

A split is built in a private folder and renamed into place; the marker is the last file written before that. A folder
without a marker, or with one that is damaged or has another fingerprint than the expected one, is not a finished split.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from ettin_data.errors import ShardError
from ettin_data.ledger import Ledger
from ettin_data.shards import ShardInfo

MARKER = "split.json"
VERSION = 1
NOT_FINISHED = "not a finished split: it has no marker"


@dataclass(frozen=True)
class Marker:
    """What a finished split says of itself.

    Attributes:
        name: the split's name, without the layout.
        source: key of the source.
        fingerprint: digest of everything that decides the content (`fingerprint`).
        made_from: that everything, readable: inputs, options, tokenizer, code version.
        inputs: the upstream files in the order of the ledger's `file` numbers.
        tally: counts (`stages.batches.Tally`).
        samples, tokens: of the shards; tokens with framing.
        root: digest of the decoded samples (`samples_root`).
        outputs: file name -> {"bytes", "xxh3_64"}, every file of the folder but the marker.
    """

    name: str
    source: str
    fingerprint: str
    made_from: Mapping[str, Any]
    inputs: list[dict[str, Any]]
    tally: Mapping[str, Any]
    samples: int
    tokens: int
    root: str
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def fingerprint(made_from: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of what decides a split's content."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True, default=str).encode()).hexdigest()


def samples_root(ledger: Ledger) -> str:
    """One digest of a split's decoded samples, in order: SHA-256 over (id key, token hash) of each sample.

    It depends on ids and token ids alone, so not on compression or shard size.
    """
    keys = ledger.documents["key"][ledger.samples["document"]] if len(ledger.samples["document"]) else []
    leaves = np.stack([np.asarray(keys, "<u8"), ledger.samples["content"].astype("<u8")], axis=1)
    return hashlib.sha256(b"ettin-split-1" + leaves.tobytes()).hexdigest()


def combine_roots(roots: Mapping[str, str]) -> str:
    """The digest of named digests, in the order of their names: how splits make a source, and sources a mix."""
    digest = hashlib.sha256(b"ettin-node-1")
    for name, root in sorted(roots.items()):
        digest.update(f"{name}\0{root}\n".encode())
    return digest.hexdigest()


def publish(temporary: Path, final: Path, marker: Marker, shards: list[ShardInfo]) -> Marker:
    """Hash what lies in a private folder, write its marker, and rename it into place.

    Shards were hashed when they were written; only the small files are read again. Everything is on disk (fsync) before
    the rename, so that a machine that dies afterwards leaves a whole split.
    """
    known = {}
    for shard in shards:
        stored = shard.zip_data or {"basename": shard.basename, "bytes": shard.bytes, "hashes": shard.hashes}
        known[stored["basename"]] = {"bytes": stored["bytes"], "xxh3_64": stored["hashes"]["xxh3_64"]}
    outputs = {}
    for path in sorted(temporary.iterdir()):
        outputs[path.name] = known.get(path.name) or file_digest(path)
        _sync(path)
    marker = Marker(**{**asdict(marker), "outputs": outputs})
    body = {"version": VERSION, **asdict(marker)}
    text = json.dumps({**body, "self": _self_digest(body)}, indent=1, sort_keys=True)
    (temporary / MARKER).write_text(text)
    _sync(temporary / MARKER)
    if final.exists():
        old = temporary.with_name(f"{temporary.name}.old")
        os.rename(final, old)
        os.rename(temporary, final)
        shutil.rmtree(old)
    else:
        os.rename(temporary, final)
    _sync(final.parent)
    return marker


def read(folder: Path) -> Marker:
    """The marker of a folder. Raises `ShardError` when it is missing, damaged or of another version."""
    path = Path(folder) / MARKER
    try:
        body = json.loads(path.read_bytes())
        claimed, version = body.pop("self"), body["version"]
        if version != VERSION or claimed != _self_digest(body):
            raise ShardError("the marker of the split is damaged", where=path, why="its digest does not fit")
        del body["version"]
        return Marker(**body)
    except FileNotFoundError:
        raise ShardError(NOT_FINISHED, where=folder) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShardError("the marker of the split is damaged", where=path, why=error) from error


def problem(folder: Path, expected: str) -> str | None:
    """Why a folder cannot be used as the finished split with this fingerprint, or None. Reads no data."""
    try:
        marker = read(folder)
    except ShardError as error:
        return error.what
    if marker.fingerprint != expected:
        return "made from other inputs or options"
    for name, output in marker.outputs.items():
        try:
            size = os.stat(Path(folder) / name).st_size
        except OSError:
            return f"{name} is missing"
        if size != output["bytes"]:
            return f"{name} has {size:,} bytes, not {output['bytes']:,}"
    return None


def file_digest(path: Path) -> dict[str, Any]:
    """Size and xxh3-64 of a file."""
    hashed = xxhash.xxh3_64()
    size = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            hashed.update(block)
            size += len(block)
    return {"bytes": size, "xxh3_64": hashed.hexdigest()}


def _self_digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
