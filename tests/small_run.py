"""A run of two small phases whose every document is known: split folders with ledgers, an index, an order."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import record_kit
import xxhash

from ettin_data.base.draws import document_keys
from ettin_data.base.files import private_folder
from ettin_data.order.index import OrderLaw, index_digest, write_order
from ettin_data.storage import split as marker
from ettin_data.storage.ledger import Ledger
from ettin_data.storage.mds import Layout, ShardInfo, ShardWriter, write_index
from ettin_data.storage.split import Marker

CLS, SEP = 50281, 50282


@dataclass
class Document:
    """A document as it stands upstream, and what it became: (split, row in it, start, length) of each piece."""

    id: str
    tokens: np.ndarray
    file: str
    record: int
    url: str = ""
    pieces: list[tuple[str, int, int, int]] = field(default_factory=list)


def documents(source: str, count: int, seed: int, longest: int = 150) -> list[Document]:
    rng = np.random.default_rng(seed)
    return [
        Document(
            f"{source}-{i}",
            rng.integers(0, 50_000, int(rng.integers(10, longest))).astype(np.uint16),
            f"{source}/{source}-{i % 2:04d}.json.gz",
            i // 2,
            f"https://example.org/{source}/{i}",
        )
        for i in range(count)
    ]


def write_split(
    train: Path, name: str, docs: list[Document], length: int, packed: bool = False, shard_bytes: int = 20_000
) -> list[ShardInfo]:
    """A finished split: documents in pieces of `length` - 2, or (packed) two documents to a sample."""
    temporary = private_folder(train, "split")
    files = sorted({doc.file for doc in docs})
    parts: list[list[tuple[int, int, int]]] = []  # of each sample: document, start, length
    if packed:
        for i in range(0, len(docs), 2):
            both = [(n, 0, min(len(docs[n].tokens), length // 2 - 2)) for n in range(i, min(i + 2, len(docs)))]
            parts.append(both)
    else:
        step = length - 2
        for n, doc in enumerate(docs):
            size = len(doc.tokens)
            parts += [[(n, start, min(step, size - start))] for start in range(0, size, step)]
    rows, bounds = [], []
    for sample, pieces in enumerate(parts):
        framed = []
        for n, start, size in pieces:
            docs[n].pieces.append((name, sample, start, size))
            framed.append(np.concatenate([[CLS], docs[n].tokens[start : start + size], [SEP]]).astype(np.uint16))
        rows.append(np.concatenate(framed))
        bounds.append(np.cumsum([0, *map(len, framed)]).astype(np.int32))
    writer = ShardWriter(temporary, Layout(cu_seqlens=packed, size_limit=shard_bytes))
    offsets = np.cumsum([0, *map(len, rows)])
    ids = [docs[pieces[0][0]].id for pieces in parts]
    writer.write(ids, np.concatenate(rows), offsets, bounds if packed else None)
    shards = writer.finish()
    first = [pieces[0] for pieces in parts]
    more = [(sample, *piece) for sample, pieces in enumerate(parts) for piece in pieces[1:]]
    ledger = Ledger(
        documents={
            "key": document_keys([doc.id for doc in docs]),
            "file": np.array([files.index(doc.file) for doc in docs]),
            "position": np.array([doc.record for doc in docs]),
            "tokens": np.array([len(doc.tokens) for doc in docs]),
            "url_key": document_keys([doc.url for doc in docs]),
        },
        samples={
            "document": np.array([n for n, _, _ in first]),
            "start": np.array([start for _, start, _ in first]),
            "length": np.array([size for _, _, size in first]),
            "tokens": np.array([len(row) for row in rows]),
            "content": np.array([xxhash.xxh3_64_intdigest(row.data) for row in rows], np.uint64),
        },
        segments={
            name: np.array([row[i] for row in more], np.int64)
            for i, name in enumerate(("sample", "document", "start", "length"))
        }
        if packed
        else None,
    )
    written = ledger.write(temporary)
    source = name.partition("/")[0]
    made = Marker(
        Path(name).name,
        source,
        "f",
        {},
        [{"path": f, "size": 1, "etag": None} for f in files],
        record_kit.pool_tally(len(rows)),
        len(rows),
        0,
        "r",
        "c",
    )
    (train / source).mkdir(exist_ok=True)
    marker.publish(temporary, train / name, made, shards, written)
    return [info.moved(name) for info in shards]


def write_phase(
    folder: Path,
    splits: dict[str, list[Document]],
    length: int,
    batch: int,
    packed: str = "",
    shard_bytes: int = 20_000,
    interval_steps: int = 5,
) -> None:
    """A phase of these splits; the one named `packed` holds two documents to a sample."""
    train = folder / "train"
    shards = [
        info
        for name in sorted(splits)
        for info in write_split(train, name, splits[name], length, name == packed, shard_bytes)
    ]
    write_index(train, shards)
    law = OrderLaw(21, 0, sum(info.samples for info in shards), batch)
    write_order(
        folder / "order", law, interval_steps=interval_steps, phase=folder.name, data_digest=index_digest(train)
    )
    record_kit.write_run(folder, {}, length=length)


@dataclass
class SmallRun:
    """`documents` by phase: phase -> split -> documents with their pieces."""

    folder: Path
    documents: dict[str, dict[str, list[Document]]]


def write_run(folder: Path) -> SmallRun:
    """Pre-training in pieces of 64, decay in pieces of 128; half of the decay documents are pre-training's again."""

    def again(docs: list[Document]) -> list[Document]:
        return [Document(d.id, d.tokens, d.file, d.record, d.url) for d in docs]

    web, books, code = documents("web", 60, 1), documents("books", 40, 2), documents("code", 30, 3)
    for doc in code:  # ids that are not unique, as StarCoder's
        doc.id = str(int(doc.id.partition("-")[2]) % 10)
    pretrain = {
        "books-dup/books_0000-x": again(books[:10]),
        "books/books_0000-x": books[:20],
        "books/books_0001-x": books[20:],
        "code/code_0000-x": code,
        "web/web_0000-x": web,
    }
    decay = {"books/books_0000-x": again(books[5:15]), "web/web_0000-x": documents("new", 40, 4)}
    write_phase(folder / "pretrain", pretrain, 64, 16, packed="web/web_0000-x")
    write_phase(folder / "decay", decay, 128, 8)
    os.makedirs(folder / "sources", exist_ok=True)
    return SmallRun(folder, {"pretrain": pretrain, "decay": decay})
