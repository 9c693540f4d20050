"""Damage of every kind, done to a run in place and undone afterwards; and an adversary who puts the hashes right."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ettin_data.base import files as disk
from ettin_data.base import sealed_json
from ettin_data.storage import digests
from ettin_data.storage import ledger as ledgers
from ettin_data.storage import split as markers
from ettin_data.storage.mds import HASH, MdsReader, bytes_digest, index_text, merged_index, read_index
from ettin_data.storage.phase import DIGESTS, INDEX, LOGS, MARKER, PARTS, WORK, Phase

UNHASHED = {".lock", "README.md"}
MOMENT = {WORK, LOGS}
"""Files and folders of a phase that are for people, or for the moment."""


def files(phase: Path) -> list[Path]:
    found = (path for path in sorted(phase.rglob("*")) if path.is_file() and path.name not in UNHASHED)
    return [path for path in found if path.relative_to(phase).parts[0] not in MOMENT]


def content(phase: Path) -> dict[str, bytes]:
    """Every byte that two builds of the same must share: all but what says when and how a build ran."""
    return {str(path.relative_to(phase)): path.read_bytes() for path in files(phase) if path.parent != phase}


@contextmanager
def restored(phase: Path) -> Iterator[None]:
    """Whatever is changed inside is put back: bytes, times, and the same inodes, so that links stay links."""
    before = {path: (path.read_bytes(), path.stat()) for path in files(phase)}
    try:
        yield
    finally:
        for path, (data, status) in before.items():
            if not path.exists() or path.read_bytes() != data or path.stat().st_mtime_ns != status.st_mtime_ns:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flip(path: Path, rng: np.random.Generator) -> str:
    """Change one byte to another value; says which."""
    data = bytearray(path.read_bytes())
    at, by = int(rng.integers(len(data))), int(rng.integers(1, 256))
    data[at] ^= by
    path.write_bytes(data)
    return f"byte {at} of {path.name} ^ {by:#x}"


# ---------------------------------------------------------------------------------------------------------------------
# rows


def pick(phase: Path, rng: np.random.Generator) -> str:
    """A split with some samples, of any part: `<part>/<source>/<folder>`."""
    names = sorted(str(path.parent.relative_to(phase)) for path in phase.glob("*/*/*/split.json"))
    while True:
        name = names[int(rng.integers(len(names)))]
        if len(MdsReader(phase / name)) >= 4:
            return name


def read_rows(folder: Path) -> list[list[bytes]]:
    """The encoded samples of each shard of a split."""
    reader, shards = MdsReader(folder), []
    for number, info in enumerate(reader.infos):
        data, begin, end = reader.shard(number).rows(np.arange(info.samples))
        shards.append([bytes(data[first:last]) for first, last in zip(begin.tolist(), end.tolist(), strict=True)])
    return shards


def write_rows(folder: Path, shards: list[list[bytes]]) -> None:
    """Write shards with these samples in the place of those that are there. No hash is changed."""
    for info, rows in zip(read_index(folder), shards, strict=True):
        path = folder / info.basename
        data = path.read_bytes()
        count = int.from_bytes(data[:4], "little")
        config = data[4 + 4 * (count + 1) : int.from_bytes(data[4:8], "little")]
        start = 4 + 4 * (len(rows) + 1) + len(config)
        ends = np.cumsum([start, *map(len, rows)]).astype(np.uint32)
        path.write_bytes(np.uint32(len(rows)).tobytes() + ends.tobytes() + config + b"".join(rows))


def replace_text(path: Path, data: bytes | str) -> None:
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def forge(phase: Path, name: str, ledger: ledgers.Ledger | None = None) -> None:
    """Make every hash, count and digest right again for the split `<part>/<source>/<folder>` as it stands now.

    With `ledger`, the ledger and the root are replaced as well: then the run agrees with itself, and only what follows
    from laws is left to find it by.
    """
    folder = phase / name
    infos = []
    for info in read_index(folder):
        data = (folder / info.basename).read_bytes()
        changed = {**info.to_json(), "samples": int.from_bytes(data[:4], "little")}
        changed["raw_data"] = {"basename": info.basename, "bytes": len(data), "hashes": {HASH: bytes_digest(data)}}
        infos.append(type(info).from_json(changed, folder))
    replace_text(folder / INDEX, index_text(infos))
    body = sealed_json.read(folder / MARKER)
    if ledger is not None:
        ledger.write(folder)
        body["root"] = markers.samples_root(ledger)
    reader = MdsReader(folder)
    body["outputs"] = {file: disk.digest(folder / file) for file in body["outputs"]}
    counts = {"samples": len(reader), "tokens": sum(len(reader.tokens(i)) for i in range(len(reader)))}
    body |= counts
    body["tally"] |= {what: count for what, count in counts.items() if what in body["tally"]}
    replace_text(folder / MARKER, sealed_json.seal(body))
    forge_phase(phase)


def forge_phase(phase: Path) -> None:
    """Put indexes, digests.json and run.json right for the splits as they stand."""
    tree = digests.read_digests(phase / DIGESTS)
    parts = {
        part: {
            f"{source}/{folder}": markers.read_marker(phase / part / source / folder)
            for source, splits in tree.parts[part].items()
            for folder in splits
        }
        for part in PARTS
    }
    for part in ("train", "validation"):
        text = index_text(merged_index([(split, phase / part / split) for split in parts[part]]))
        replace_text(phase / part / INDEX, text)
    order = json.loads((phase / "order/order.json").read_text())
    order["data_digest"] = str(disk.digest(phase / "train" / INDEX)["xxh3_64"])
    replace_text(phase / "order/order.json", json.dumps(order, indent=1) + "\n")
    beside = [*digests.FILES, *(n for n in tree.files if n.startswith("manifests/"))]
    attributes = [name for name in tree.files if name not in beside]
    forged = digests.describe(Phase(phase, tree.phase), parts, tree.order, attributes)
    carried = sealed_json.seal(forged.to_json())
    replace_text(phase / DIGESTS, carried)
    summary = sealed_json.read(phase / "run.json")
    summary |= {"root": forged.root, "roots": forged.roots(), "digests": sealed_json.digest(carried)}
    replace_text(phase / "run.json", sealed_json.seal(summary))
