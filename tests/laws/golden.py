"""A small corpus for recipes of every kind, and the digests of what they build of it.

The corpus is a function of this module alone: its draws are hashes, its tokenizer a literal, its characters old enough
to mean the same to every Python. Sizes of files that a library writes (gzip, zstd, parquet) decide nothing: such files
are taken whole, or are cut where a few bytes more or less make no difference.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from ettin_data import recipe
from ettin_data.build import build as run
from ettin_data.build import pool, prepare
from ettin_data.build.prepare import BuildOptions
from ettin_data.executor import ExecutorOptions
from ettin_data.storage import ledger
from ettin_data.storage.phase import DIGESTS, splits_in

ENGLISH = (
    "the be to of and that have with in it was for on as at by from this river stone letter garden evening bridge "
    "winter market captain paper window history number village teacher music forest engine silver question"
).split()
SCRIPTS = (
    ENGLISH,
    "και το να είναι νερό πέτρα γράμμα κήπος γέφυρα χειμώνας αγορά".split(),
    "и в не на река камень письмо сад вечер мост зима рынок бумага".split(),
    "的 是 河 石头 信 花园 晚上 桥 冬天 市场 纸 窗户".split(),
    "في من على نهر حجر رسالة حديقة مساء جسر شتاء".split(),
    "और के नदी पत्थर पत्र बगीचा शाम पुल".split(),
)
CLS, SEP = 50281, 50282


def draws(key: str, count: int, below: int) -> list[int]:
    """`count` numbers in [0, below), a function of the key."""
    return (np.frombuffer(hashlib.shake_128(key.encode()).digest(4 * count), "<u4") % below).tolist()


def prose(key: str, count: int, words: Sequence[str] = ENGLISH) -> str:
    """A text of `count` words in sentences and lines."""
    chosen = [words[i] for i in draws(key, count, len(words))]
    ends = draws(f"{key} ends", count, 60)
    for i, end in enumerate(ends):
        chosen[i] += ".\n" if end == 0 else ".\n\n" if end == 1 else ". " if end < 6 else ", " if end < 10 else " "
    return "".join(chosen).strip() + "."


def text(key: str, number: int) -> str:
    """One of the kinds of documents in turn: some for each filter to drop, and more to keep."""
    size = draws(f"{key} size", 1, 1000)[0]
    some = [prose(f"{key} {i}", 3) for i in range(60)]
    special = "[CLS] [SEP] <|x|> [MASK]\t \u2028 é e\u0301 \U0001f600"
    kinds = [
        prose(key, 5 + size % 20),
        prose(key, 100 + size, SCRIPTS[number // 20 % len(SCRIPTS)]),
        (prose(key, 12) + "\n") * (4 + size % 9),
        " # ".join(some),
        "- " + "\n- ".join(some),
        "\n".join(line[:-1] for line in some),
        prose(key, 160) + ("\nlorem ipsum" if size % 2 else "\nx = { y }"),
        prose(key, 150) + "\nPlease use JavaScript.\nSee the privacy policy.[12] " + prose(key, 90),
        f"{prose(key, 90)} {special} {prose(key, 90)}",
        "The evening bridge. " * 3 if size % 2 else prose("again", 200),
        prose(key, 1200 + 3 * size),
    ]
    return kinds[number % 20] if number % 20 < len(kinds) else prose(key, 60 + size)


def rows(key: str, count: int) -> list[dict[str, Any]]:
    """`count` records with ids that repeat, are missing or are no strings, URLs, and texts that are none."""
    made: list[dict[str, Any]] = []
    for number in range(count):
        row: dict[str, Any] = {"id": f"{key}-{number % 50}", "text": text(f"{key} {number}", number)}
        if number % 3 == 0:
            row["url"] = f"https://example.org/{key}/{number}"
        if number % 17 == 5:
            row["id"] = number if number % 2 else None
        if number % 13 == 7:
            row["text"] = (None, "", " \n ", 7)[number // 13 % 4]
        made.append(row)
    return made


def lines(found: Iterable[dict[str, Any]]) -> bytes:
    """Records as JSON Lines, with some lines that are no JSON, no UTF-8, or half a character."""
    out = [json.dumps(row, ensure_ascii=number % 2 == 0).encode() for number, row in enumerate(found)]
    bad = [
        b'{"id": "broken", "text": ',
        b'{"text": "caf\xe9 ' + b"x y " * 40 + b'"}',
        b'{"text": "a \\ud800 b"}',
        b"[1]",
    ]
    for number, line in enumerate(bad):
        out.insert(9 * (number + 1), line)
    return b"\n".join(out) + b"\n"


def parquet(path: Path, found: list[dict[str, Any]], groups: Sequence[int]) -> None:
    """Records as columns, in row groups of these sizes; the texts that are no strings are null."""
    names = ("id", "text", "url")
    table = pa.table({n: [v if isinstance(v := row.get(n), str) else None for row in found] for n in names})
    with pq.ParquetWriter(path, table.schema, compression="none", use_dictionary=False) as writer:
        for start, size in zip((0, *np.cumsum(groups).tolist()), groups, strict=False):
            writer.write_table(table.slice(start, size))


def tables(folder: Path, found: list[dict[str, Any]]) -> None:
    """The records with a text as CSV and as Arrow, and some of the texts as a file each."""
    for name in ("csv", "arrow", "txt"):
        (folder / name).mkdir(parents=True)
    texts = [row for row in found if isinstance(row["text"], str)]
    with open(folder / "csv/i.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ("id", "text", "url"))
        writer.writeheader()
        writer.writerows(texts)
    columns = {name: [None if row.get(name) is None else str(row[name]) for row in texts] for name in texts[0]}
    table = pa.table(columns)
    with pa.ipc.new_file(folder / "arrow/j.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=20)
    for number, row in enumerate(texts[:20]):
        (folder / f"txt/k{number:02}.{'md' if number % 3 else 'txt'}").write_text(row["text"], encoding="utf-8")


def mds(folder: Path, columns: dict[str, str], samples: Sequence[Sequence[bytes]]) -> None:
    """One shard of columns of variable size, already encoded, and its index."""
    fields: dict[str, Any] = {"column_names": list(columns), "column_encodings": list(columns.values())}
    fields |= {"column_sizes": [None] * len(columns), "compression": None, "format": "mds", "hashes": []}
    fields |= {"size_limit": 1 << 26, "version": 2}
    config = json.dumps(fields, sort_keys=True).encode()
    bodies = [b"".join(struct.pack("<I", len(c)) for c in sample) + b"".join(sample) for sample in samples]
    ends = np.cumsum([4 + 4 * (len(bodies) + 1) + len(config), *map(len, bodies)]).astype("<u4")
    data = struct.pack("<I", len(bodies)) + ends.tobytes() + config + b"".join(bodies)
    folder.mkdir(parents=True)
    (folder / "shard.00000.mds").write_bytes(data)
    raw = {"basename": "shard.00000.mds", "bytes": len(data), "hashes": {}}
    shard = fields | {"raw_data": raw, "samples": len(bodies), "zip_data": None}
    (folder / "index.json").write_text(json.dumps({"shards": [shard], "version": 2}, sort_keys=True))


def array(values: Sequence[int] | np.ndarray, dtype: str) -> bytes:
    """An array as a column `ndarray:<dtype>` holds it."""
    held = np.asarray(values, np.dtype(dtype).newbyteorder("<"))
    return bytes([held.ndim << 2 | 2]) + np.asarray(held.shape, "<u4").tobytes() + held.tobytes()


def tokenizer() -> dict[str, Any]:
    """A byte-level BPE in which most English words are one token; its special tokens have ModernBERT's ids."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = [*map(chr, printable), *(chr(0x100 + i) for i in range(256 - len(printable)))]
    merges = dict.fromkeys((f"Ġ{w}"[:i], f"Ġ{w}"[i]) for w in ENGLISH for i in range(1, len(w) + 1))
    vocabulary = dict.fromkeys([*alphabet, *("".join(pair) for pair in merges)])
    added = [
        dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        | {"id": 50280 + i, "content": f"[{name}]", "special": True}
        for i, name in enumerate(("UNK", "CLS", "SEP", "PAD", "MASK"))
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    ids = {token: i for i, token in enumerate(vocabulary)} | {token["content"]: token["id"] for token in added}
    model = {"type": "BPE", "vocab": ids, "merges": [" ".join(pair) for pair in merges]}
    nothing = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor"))
    return nothing | {"version": "1.0", "added_tokens": added, "pre_tokenizer": level, "decoder": level, "model": model}


def write_corpus(root: Path) -> None:
    """Everything that the cases read, a few hundred records, and `tokenizer.json`."""
    root.mkdir(parents=True)
    (root / "tokenizer.json").write_text(json.dumps(tokenizer(), sort_keys=True))
    for folder in ("prose", "few", "packed", "columns", "big", "rows"):
        (root / folder).mkdir()
    for part in range(4):
        (root / f"prose/part-{part}.jsonl").write_bytes(lines(rows(f"prose{part}", 60)))
    long = {"id": "long", "text": prose("long", 20_000)}
    (root / "few/a.jsonl").write_bytes(lines([*rows("few", 30), long]))
    marked = [row | {"text": f"<reponame>a/b<filename>c.py\n{row['text']}"} for row in rows("marked", 45)]
    (root / "packed/b.jsonl.gz").write_bytes(gzip.compress(lines(marked), mtime=0))
    (root / "packed/c.json.zst").write_bytes(zstandard.compress(lines(rows("zst", 45))))
    (root / "packed/d.jsonl").write_bytes(lines(rows("plain", 45)))
    for name in ("e", "f"):
        parquet(root / f"columns/{name}.parquet", rows(name, 40), (25, 15))
    (root / "big/g.jsonl").write_bytes(lines(rows("g", 60)))
    unique = [{"id": f"h{n}", "text": prose(f"h{n}", 300)} for n in range(50)]
    parquet(root / "big/h.parquet", unique, (40, 10))  # behind its middle begins the second group and nothing else
    (root / "rows/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in unique))
    tables(root / "tables", rows("tables", 60))
    texts = [(f"m{n % 25}".encode(), text(f"mds {n}", n).encode()) for n in range(40)]
    mds(root / "texts", {"id": "str", "text": "str"}, texts)
    # Rows of the published form: [CLS] ids [SEP], and every third document in two rows of one id.
    own = [
        (b"own%d" % n, array([CLS, *draws(f"own {n} {part}", 30 + 9 * n, 300), SEP], "uint16"))
        for n in range(40)
        for part in range(1 + (n % 3 == 0))
    ]
    mds(root / "own", {"id": "str", "input_ids": "ndarray:uint16"}, own)
    # Packs of 700 ids of the tokenizer above, each document between [CLS] and [SEP], cut where a pack ends.
    stream = [[CLS, *draws(f"pack {n}", 20 + 13 * n, 300), SEP] for n in range(45)]
    flat = np.concatenate(stream)
    bounds = np.union1d(np.cumsum([0, *map(len, stream)]), range(0, len(flat), 700))
    packs = []
    for start in range(0, len(flat), 700):
        inside = bounds[(bounds >= start) & (bounds <= start + 700)] - start
        spans = np.stack([inside[:-1], inside[1:]], axis=1)
        packs.append((array(spans, "uint32"), array(flat[start : start + 700], "uint32")))
    mds(root / "foreign", {"indices": "ndarray:uint32", "input_ids": "ndarray:uint32"}, packs)


def corpus_digest(root: Path) -> str:
    """The digest of the files that this module writes without the help of a library."""
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.suffix in (".json", ".jsonl", ".mds")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Digests:
    """What a case was built to.

    Attributes:
        root: of the phase, from the samples up.
        shards: over the bytes of the pools' shards, decompressed: what zstd makes of them depends on its version.
        ledgers: over the values in the pools' ledgers: how parquet stores them depends on pyarrow's version.
    """

    root: str
    shards: str
    ledgers: str


def build(text: str, out: Path) -> Path:
    """Build the recipe of this text in a folder; returns the phase's folder."""
    (out / "recipe.yaml").write_text(text)
    options = BuildOptions(out, None, ExecutorOptions(workers=1))
    return out / run.build_phase(recipe.load_recipe(out / "recipe.yaml"), options).phase


def digests(phase: Path) -> Digests:
    """The digests of the finished phase in this folder."""
    folders = [phase / "pools" / name for name in splits_in(phase / "pools")]
    root = json.loads((phase / DIGESTS).read_text())["root"]
    return Digests(root, *_contents(phase / "pools", folders))


def pack(text: str, out: Path) -> str:
    """One digest of what the first split of each source of this recipe becomes: samples, shards and ledgers."""
    (out / "recipe.yaml").write_text(text)
    resolved = prepare.resolve(recipe.load_recipe(out / "recipe.yaml"), BuildOptions(out, None, None))
    jobs = [resolved.job(plan, plan.splits[0]) for plan in resolved.plan.sources.values()]
    roots = [pool.build_split(job).root for job in jobs]
    contents = _contents(jobs[0].folder.parents[1], [job.folder for job in jobs])
    return hashlib.sha256(" ".join([*roots, *contents]).encode()).hexdigest()


def _contents(pools: Path, folders: Sequence[Path]) -> tuple[str, str]:
    """`Digests.shards` and `Digests.ledgers` of some finished splits."""
    shards, ledgers = hashlib.sha256(), hashlib.sha256()
    for folder in folders:
        name = folder.relative_to(pools).as_posix()
        for path in sorted(folder.glob("*.mds*")):
            data = path.read_bytes()
            if path.suffix == ".zstd":
                data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
            shards.update(f"{name}/{path.name} {len(data)}\0".encode() + data)
        held = ledger.read_ledger(folder)
        for table in (held.documents, held.samples, held.segments or {}):
            for column, values in sorted(table.items()):
                ledgers.update(f"{name}/{column} {values.dtype.str} {len(values)}\0".encode() + values.tobytes())
    return shards.hexdigest(), ledgers.hexdigest()
