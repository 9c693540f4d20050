"""The demo mirror: all the upstreams in small, made from real text that every machine with Python has.

Folder names, file names, compressions and record schemas are the upstreams' own, so that the code which reads the real
thing reads this without knowing. The ProLong shards hold token ids of a small byte-level BPE tokenizer, trained on the
mirror's own text, which lies beside them: decoding them is the real thing too.

`write_mirror` gives the same bytes for the same installation, and does nothing when they are there already.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ettin_data.base import files
from ettin_data.base.errors import SourceError
from ettin_data.demo import text as demo_text
from ettin_data.demo.deal import Document, Shelf
from ettin_data.demo.holdings import HOLDINGS, PROLONG, TOKENIZER, TOP_FOLDERS, demo_scales
from ettin_data.demo.records import record
from ettin_data.storage.mds import OtherLayout, ShardWriter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "DEFAULT_MEGABYTES",
    "MirrorReport",
    "SourceReport",
    "demo_scales",
    "keep_mirror",
    "report_of",
    "write_mirror",
]

VERSION = 2  # of the mirror: raise it when the same installation would give other bytes
DEFAULT_MEGABYTES = 20.0  # what HOLDINGS comes to
MOST_MEGABYTES = 1000
MARKER = "mirror.json"

Encode = Callable[[str], "NDArray[np.int32]"]  # shape (n,)


@dataclass(frozen=True)
class SourceReport:
    """What was written of one source: files, documents, bytes of text, and estimated ModernBERT tokens."""

    files: int
    documents: int
    text_bytes: int
    tokens: int


@dataclass(frozen=True)
class MirrorReport:
    """What a mirror holds. `reused`: it was complete and up to date already, and nothing was written."""

    root: Path
    sources: Mapping[str, SourceReport]
    files: int
    bytes: int
    reused: bool


def write_mirror(root: Path, *, megabytes: float = DEFAULT_MEGABYTES) -> MirrorReport:
    """Write the demo mirror under `root`, unless it is there, complete, and from this installation.

    Args:
        root: a folder that does not exist, is empty, or holds an earlier demo mirror (which is replaced if it differs).
        megabytes: about how much text in all, shared out in fixed proportions; `demo_scales` fits the default.

    Raises `SourceError` if `root` holds anything else, or if so much different text is not installed.
    """
    if not 0 < megabytes <= MOST_MEGABYTES:
        remedy = f"give a size above 0 and up to {MOST_MEGABYTES:,}; no machine has more different text installed"
        raise SourceError(f"a mirror of {megabytes} MB cannot be made", remedy=remedy)
    inputs = {"version": VERSION, "megabytes": float(megabytes), **demo_text.installation()}

    def put(documents: Mapping[str, Sequence[Document]]) -> dict[str, SourceReport]:
        encode = _train_tokenizer(root, documents)
        sources = {}
        for source, held in documents.items():
            parts = [part for part in _share_out(held, HOLDINGS[source].files) if part[1]]
            for path, members in parts:
                _write_file(root, source, path, members, encode)
            sources[source] = report_of(held, len(parts))
        return sources

    what = "ettin-data demo mirror: real text from this Python installation in the layout of the upstreams"
    return keep_mirror(root, what, inputs, lambda: _deal(megabytes / DEFAULT_MEGABYTES), put)


def keep_mirror(
    root: Path,
    what: str,
    inputs: Mapping[str, Any],
    deal: Callable[[], Mapping[str, Sequence[Document]]],
    put: Callable[[Mapping[str, Sequence[Document]]], Mapping[str, SourceReport]],
) -> MirrorReport:
    """The mirror that is there, if it is complete and of the same inputs, or else a new one.

    Args:
        what: a sentence about it, for its marker.
        inputs: everything that its bytes depend on.
        deal: source -> its documents; may fail, before anything is removed.
        put: writes their files below `root`.
    """
    marker = _read_marker(root)
    if marker.get("complete") and marker.get("inputs") == inputs and _is_intact(root, marker["files"]):
        return _report(root, marker, reused=True)
    documents = deal()
    _write_marker(root, {"inputs": inputs, "complete": False})
    for folder in TOP_FOLDERS:
        if (root / folder).exists():
            shutil.rmtree(root / folder)
    sources = put(documents)
    marker = {
        "what": what,
        "inputs": inputs,
        "complete": True,
        "sources": {source: asdict(report) for source, report in sources.items()},
        "files": _list_files(root),
    }
    _write_marker(root, marker)
    return _report(root, marker, reused=False)


def report_of(documents: Sequence[Document], files: int) -> SourceReport:
    """What is said of a source that consists of these documents, in so many files."""
    size = sum(len(document.text.encode("utf-8")) for document in documents)
    return SourceReport(files, len(documents), size, sum(document.tokens for document in documents))


# ---- the marker: an incomplete or changed mirror is never taken for a good one


def _read_marker(root: Path) -> dict[str, Any]:
    """The marker, or {} where the folder is new. A folder with anything else in it is never written to."""
    try:
        marker = json.loads((root / MARKER).read_text(encoding="utf-8"))
        if not isinstance(marker, dict):
            raise ValueError(f"{type(marker).__name__} instead of an object")
    except FileNotFoundError:
        if root.exists() and any(not path.name.startswith(files.TEMPORARY) for path in root.iterdir()):
            raise SourceError(
                f"{str(root)!r} is not a demo mirror",
                where=root,
                why=f"it holds files, and no {MARKER}; they might be a real mirror",
                remedy="give an empty or a new folder",
            ) from None
        return {}
    except (OSError, ValueError) as error:
        raise SourceError(
            f"the demo mirror's {MARKER} cannot be read", where=root / MARKER, why=error, remedy="remove the folder"
        ) from error
    return marker


def _write_marker(root: Path, marker: Mapping[str, Any]) -> None:
    files.write(root / MARKER, json.dumps(marker, indent=1) + "\n")


def _is_intact(root: Path, files: Sequence[Mapping[str, Any]]) -> bool:
    try:
        return all((root / file["path"]).stat().st_size == file["bytes"] for file in files)
    except OSError:
        return False


def _list_files(root: Path) -> list[dict[str, Any]]:
    paths = sorted(path for folder in TOP_FOLDERS for path in (root / folder).rglob("*") if path.is_file())
    return [
        {
            "path": path.relative_to(root).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": files.sha256(path),
        }
        for path in paths
    ]


def _report(root: Path, marker: Mapping[str, Any], *, reused: bool) -> MirrorReport:
    sources = {source: SourceReport(**numbers) for source, numbers in marker["sources"].items()}
    return MirrorReport(root, sources, len(marker["files"]), sum(file["bytes"] for file in marker["files"]), reused)


# ---- the text


def _deal(scale: float) -> dict[str, list[Document]]:
    """The documents of every source, `scale` times HOLDINGS."""
    wanted = {}
    for kind in demo_text.KINDS:
        sizes = [holding.tokens * scale * 3.7 for holding in HOLDINGS.values() if holding.kind == kind]
        # Prose as much as the sources of pretrain take, and the others again: parsing docstrings is what takes time. Of
        # the other kinds there is some to spare, because a source leaves out passages that are too long for it.
        enough = sum(sizes) * (0.8 if kind == "prose" else 1.5)
        wanted[kind] = int(max(enough, 1.1 * max(sizes), 100_000))
    works = demo_text.gather(wanted)
    shelves = {kind: Shelf(kind, works[kind]) for kind in demo_text.KINDS}
    documents = {}
    for source, holding in HOLDINGS.items():
        tokens = int(holding.tokens * scale)
        documents[source] = shelves[holding.kind].deal(source, tokens, holding.shape)
        held = sum(document.tokens for document in documents[source])
        if held < 0.97 * tokens:
            raise SourceError(
                f"source {source!r} of the demo mirror needs {tokens:,} tokens, and there are {held:,}",
                where=f"text of kind {holding.kind!r}",
                why="the mirror is made of what is installed, and repeats nothing inside a source",
                remedy="give a smaller size, or install the project's dependencies",
            )
    return documents


def _share_out(documents: Sequence[Document], paths: Sequence[str]) -> list[tuple[str, list[Document]]]:
    """Each file's documents: runs of about equal text, in order."""
    parts: list[tuple[str, list[Document]]] = [(path, []) for path in paths]
    total = sum(len(document.text) for document in documents)
    before = 0
    for document in documents:
        middle = before + len(document.text) / 2
        parts[min(int(middle * len(paths) / total), len(paths) - 1)][1].append(document)
        before += len(document.text)
    return parts


# ---- the files


def _write_file(root: Path, source: str, path: str, documents: Sequence[Document], encode: Encode) -> None:
    target = root / path
    if path.startswith(PROLONG):
        _write_mds(target, source, documents, encode)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    records = [record(source, path, ordinal, document) for ordinal, document in enumerate(documents)]
    if path.endswith(".parquet"):
        _write_parquet(target, records)
    else:
        # One record with a final newline each; characters outside ASCII as they are, as the Dolma toolkit writes them.
        lines = (json.dumps(r, ensure_ascii=False, separators=(",", ":")) + "\n" for r in records)
        target.write_bytes(_compress("".join(lines).encode("utf-8"), target.suffix))


def _compress(data: bytes, suffix: str) -> bytes:
    if suffix == ".gz":
        buffer = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=6, mtime=0) as stream:
            stream.write(data)
        return buffer.getvalue()
    if suffix == ".zst":
        import zstandard

        return zstandard.ZstdCompressor(level=3, write_checksum=False).compress(data)  # upstream has no checksum either
    return data


def _write_parquet(target: Path, records: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    strings, scores = ("text", "url", "id", "language"), ("language_score", "fasttext_score")
    schema = pa.schema([(name, pa.string()) for name in strings] + [(name, pa.float32()) for name in scores])
    table = pa.Table.from_pylist(list(records), schema=schema)
    pq.write_table(table, target, compression="zstd", row_group_size=200, write_statistics=False)


def _write_mds(target: Path, source: str, documents: Sequence[Document], encode: Encode) -> None:
    # A small limit, so that a sub-folder has more than one shard, as the real ones have thousands.
    layout = OtherLayout({"domain": "str", "input_ids": "ndarray:int32", "length": "int"}, size_limit=1 << 17)
    target.mkdir(parents=True, exist_ok=True)
    writer = ShardWriter(target, layout)
    texts = map(encode, (document.text for document in documents))
    writer.write_raw(layout.encode({"domain": source, "input_ids": ids, "length": len(ids)}) for ids in texts)
    writer.finish()


def _train_tokenizer(root: Path, documents: Mapping[str, Sequence[Document]]) -> Encode:
    """Train and save the ProLong part's tokenizer.

    Byte-level with the whole byte alphabet, no normaliser and no special tokens: decoding gives back every text.
    """
    import numpy as np
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())
    )
    corpus = [d.text for source in ("code_repos", "textbooks", "wikipedia") for d in documents[source]]
    tokenizer.train_from_iterator(corpus, trainer)
    target = root / TOKENIZER
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(tokenizer.to_str(pretty=False), encoding="utf-8")
    return lambda text: np.array(tokenizer.encode(text).ids, dtype=np.int32)
