"""Builders of small upstream files, in the exact form of each source."""

from __future__ import annotations

import gzip
import io
import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from ettin_data import sources
from ettin_data.sources import ReadOptions, Record, Reject, Source, SourceFile

BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"


def jsonl(rows: Iterable[Any]) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def compress(data: bytes, name: str) -> bytes:
    """`data` as a file of this name would hold it."""
    if name.endswith(".gz"):
        return gzip.compress(data, mtime=0)
    if name.endswith((".zst", ".zstd")):
        return zstandard.ZstdCompressor(level=3).compress(data)
    return data


def parquet(columns: dict[str, Any], schema: pa.Schema | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), buffer, **options)
    return buffer.getvalue()


def _encode(value: Any, encoding: str) -> bytes:
    if encoding == "str":
        return value.encode()
    if encoding in ("int", "uint64", "int32", "uint32"):
        return np.array(value, "int64" if encoding == "int" else encoding).tobytes()
    name, _, dtype = encoding.partition(":")
    assert name == "ndarray"
    array = np.asarray(value, dtype or None)
    head = b"" if dtype else bytes([array.dtype.itemsize * 8 + {"u": 0, "i": 1, "f": 2}[array.dtype.kind]])
    code = 0 if max(array.shape) < 1 << 8 else 1 if max(array.shape) < 1 << 16 else 2
    shape = np.array(array.shape, f"uint{8 << code}").tobytes()
    return head + bytes([array.ndim << 2 | code]) + shape + array.tobytes()


FIXED = {"int": 8, "uint64": 8, "int32": 4, "uint32": 4}


def mds_shard(columns: dict[str, str], samples: Sequence[dict[str, Any]]) -> bytes:
    """One MDS shard, written from the format's description (not by the library that the reader must not use)."""
    names = sorted(columns)
    encodings = [columns[name] for name in names]
    sizes = [FIXED.get(encoding) for encoding in encodings]
    bodies = []
    for sample in samples:
        parts = [_encode(sample[name], columns[name]) for name in names]
        head = b"".join(struct.pack("<I", len(p)) for p, size in zip(parts, sizes, strict=True) if size is None)
        bodies.append(head + b"".join(parts))
    config = json.dumps(
        {
            "column_encodings": encodings,
            "column_names": names,
            "column_sizes": sizes,
            "compression": None,
            "format": "mds",
            "hashes": [],
            "size_limit": 1 << 26,
            "version": 2,
        }
    ).encode()
    start = 4 + 4 * (len(samples) + 1) + len(config)
    offsets = np.concatenate([[0], np.cumsum([len(body) for body in bodies])]).astype(np.uint32) + np.uint32(start)
    return struct.pack("<I", len(samples)) + offsets.tobytes() + config + b"".join(bodies)


def mds_index(columns: dict[str, str], shards: dict[str, tuple[int, int]], *, claims_zstd: bool = False) -> bytes:
    """`index.json` for shards: basename -> (bytes, samples)."""
    names = sorted(columns)
    rows = []
    for basename, (size, samples) in shards.items():
        rows.append(
            {
                "column_encodings": [columns[name] for name in names],
                "column_names": names,
                "column_sizes": [FIXED.get(columns[name]) for name in names],
                "compression": "zstd" if claims_zstd else None,
                "format": "mds",
                "hashes": [],
                "raw_data": {"basename": basename, "bytes": size, "hashes": {}},
                "samples": samples,
                "size_limit": 1 << 26,
                "version": 2,
                "zip_data": {"basename": basename + ".zstd", "bytes": size // 2, "hashes": {}} if claims_zstd else None,
            }
        )
    return orjson.dumps({"shards": rows, "version": 2})


def train_llama_like(path: Path) -> None:
    """A small byte-level BPE with Llama 3's two framing tokens, saved at `path`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog " * 5], trainer)
    tokenizer.add_special_tokens([AddedToken(BOS, special=True), AddedToken(EOS, special=True)])
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def one_file(folder: Path, name: str, data: bytes, **changes: Any) -> tuple[Source, SourceFile]:
    """A user's source of one file with this content, and its listing."""
    source = sources.own_source("own", str(write(folder / name, data)))
    source = replace(source, **changes)
    return source, sources.list_files(source)[0]


def read(source: Source, file: SourceFile, **options: Any) -> tuple[list[Record], list[Reject]]:
    """All records and all rejects of a file."""
    items = list(sources.read_file(source, file, options=ReadOptions(**options)))
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Reject)]


def read_bytes(folder: Path, name: str, data: bytes, **options: Any) -> tuple[list[Record], list[Reject]]:
    """Write a file and read it."""
    return read(*one_file(folder, name, data), **options)


def reasons(rejects: Iterable[Reject]) -> list[str]:
    return [reject.reason for reject in rejects]


# --- the 18 sources --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expected:
    """What a source of the small mirror must read to: path -> [(text, upstream id or None)]."""

    files: dict[str, list[tuple[str, str | None]]]

    @property
    def texts(self) -> list[str]:
        return [text for path in sorted(self.files) for text, _ in self.files[path]]


def _dolma_row(source: str, number: int, text: str, **more: Any) -> dict[str, Any]:
    return {
        "added": "2023-04-07T15:24:38.743534+00:00",
        "created": "2020-03-29T09:04:10Z",
        "id": f"{source}-{number}",
        "metadata": {},
        "source": source,
        "text": text,
        "version": "v0",
    } | more


def _nulls(number: int) -> dict[str, Any]:
    """`attributes` and `doc` change their type from record to record, as they do upstream."""
    choices: list[dict[str, Any]] = [
        {"attributes": None, "doc": None},
        {"attributes": {"paloma_paragraphs": []}, "doc": {"timestamp": 1680000000, "url": "https://doc.example/"}},
        {"attributes": "none", "doc": {"timestamp": "2023-04-07"}},
        {},
    ]
    return choices[number % len(choices)]


def _dolma_rows(key: str, path: str, texts: list[str]) -> list[dict[str, Any]]:
    rows = []
    for n, text in enumerate(texts):
        row = _dolma_row(key, n, text)
        if key == "cc_head":
            url = f"http://example.com/{path}/{n}"
            metadata = {"bucket": "head", "line_ids": [1, 2], "language_score": 0.95, "nlines": 5, "url": url}
            row |= {"id": url, "metadata": metadata, "source": "common-crawl"}
            del row["version"]
        elif key == "starcoder":
            metadata = {"extension": "py", "max_stars_count": "12", "max_stars_repo_name": "a/b", "provenance": "x:1"}
            row |= {"id": str(n), "metadata": metadata} | _nulls(n)
        elif key in ("algebraic_stack", "open_web_math", "pes2o"):
            row |= {"metadata": {"provenance": f"001.jsonl.gz:{n}", "year": 2011}} | _nulls(n)
        elif key == "wikipedia":
            row |= {"metadata": {"length": len(text), "revid": "7", "url": f"https://en.wikipedia.org/wiki?curid={n}"}}
        elif key == "reddit":
            row |= {"id": f"{n:032x}", "subreddit": "askscience"}
        rows.append(row)
    return rows


def _texts(key: str, path: str, count: int = 3) -> list[str]:
    texts = [
        f"{key} {path} document {n}: naïve “text” \U0001f600 with\nlines\r\nand\u2028separators." for n in range(count)
    ]
    if key == "starcoder":
        texts[0] = "<reponame>a/b<filename>c.py<gh_stars>1-10\nimport os\n"
        texts[1] = "print('<|endoftext|> [CLS] [MASK]')\n"
    return texts


DOLMA_FILES = {
    "arxiv": ["redpajama-arxiv/arxiv-0000.json.gz", "redpajama-arxiv/arxiv-0099.json.gz"],
    "books": ["books/books-0000.json.gz", "books/books-0002.json.gz"],
    "cc_head": ["cc_en_head/cc_en_head-0000.json.gz", "cc_en_head/cc_en_head-0274.json.gz"],
    "cc_news": [
        "cc_news_head/cc_news-0000.json.gz",
        "cc_news_middle/cc_news-0000.json.gz",
        "cc_news_tail/cc_news-0000.json.gz",
    ],
    "open_web_math": ["proof_pile_2-open_web_math/open-web-math-train-0012.json.gz"],
    "algebraic_stack": ["proof_pile_2-algebraic_stack/algebraic-stack-train-0015.json.gz"],
    "pes2o": ["pes2o/pes2o-0025.json.gz"],
    "reddit": ["reddit/reddit-0077.json.gz"],
    "stackexchange": ["redpajama-stackexchange/stackexchange-0025.json.gz"],
    "starcoder": ["starcoder/starcoder-0048.json.gz"],
    "tulu_flan": ["tulu_flan/tulu_flan-0065.json.gz"],
    "wikipedia": ["wiki/wiki-0000.json.gz", "wiki/wiki-0001.json.gz"],
}
DOLMINO_FILES = {
    "dclm_dolmino": ["data/dclm/0000/dclm-0000.json.zst", "data/dclm/0246/dclm-0001.json.zst"],
    "math_dolmino": [
        "data/math/codesearchnet-owmfilter/python/train.jsonl.gz",
        "data/math/dolmino_math_synth/gsm8k-synth/resample_v1_6x/a.jsonl",
        "data/math/gsm8k/v0/train-0000.jsonl.zst",
        "data/math/tinyGSM-MIND/2students/part.00001.jsonl.gz",
        "data/math/other/x.json.gz",
        "data/math/other/y.json.zst",
    ],
    "stackexchange_dolmino": ["data/stackexchange/stackexchange-0000.json.gz"],
}
_DCLM = ("OH_eli5_vs_rw_v2_bigram_200k_train", "fasttext_openhermes_reddit_eli5_vs_rw_v2_bigram_200k_train")
DCLM_FOLDER = f"filtered/{_DCLM[0]}/{_DCLM[1]}/processed_data/"


def build_mirror(root: Path) -> dict[str, Expected]:
    """Write all 18 sources in miniature below a sources root; returns what each must read to."""
    from tokenizers import Tokenizer

    expected: dict[str, Expected] = {}
    for key, paths in DOLMA_FILES.items():
        files: dict[str, list[tuple[str, str | None]]] = {}
        for path in paths:
            rows = _dolma_rows(key, path, _texts(key, path))
            write(root / "olmo-data.org/dolma-v1_7" / path, compress(jsonl(rows), path))
            files[path] = [(row["text"], row["id"]) for row in rows]
        expected[key] = Expected(files)
    for key, paths in DOLMINO_FILES.items():
        files = {}
        for path in paths:
            texts = _texts(key, path)
            rows = [_dolma_row(key, n, text, **_nulls(n)) for n, text in enumerate(texts)]
            if key == "math_dolmino":  # some ids are missing or null there
                rows[1]["id"] = None
                del rows[2]["id"]
            write(root / "datasets/allenai/dolmino-mix-1124" / path, compress(jsonl(rows), path))
            files[path] = [(row["text"], row.get("id")) for row in rows]
        expected[key] = Expected(files)
    files = {}
    for number, score in ((1, pa.float32()), (10, pa.float64())):
        path = f"{DCLM_FOLDER}global-shard_{number:02d}_of_10/local-shard_0_of_10/shard_{number:08d}_processed.parquet"
        texts = _texts("dclm", path)
        ids = [f"<urn:uuid:00000000-0000-0000-0000-{number:04d}{n:08d}>" for n in range(len(texts))]
        columns = {
            "text": texts,
            "url": [f"https://example.org/{n}" for n in range(len(texts))],
            "id": ids,
            "language": ["en"] * len(texts),
            "language_score": pa.array([0.9] * len(texts), score),
            "fasttext_score": pa.array([0.1] * len(texts), score),
        }
        write(root / "datasets/mlfoundations/dclm-baseline-1.0-parquet" / path, parquet(columns, compression="zstd"))
        files[path] = list(zip(texts, ids, strict=True))
    expected["dclm"] = Expected(files)
    train_llama_like(root / "princeton-prolong/tokenizer.json")
    tokenizer = Tokenizer.from_file(str(root / "princeton-prolong/tokenizer.json"))
    columns_of = {"domain": "str", "input_ids": "ndarray:int32", "length": "int32"}
    for key in ("code_repos", "textbooks"):
        files = {}
        folder = root / "princeton-prolong/data_before_packing" / key
        for sub in (f"{key}-A-B-0", f"{key}-A-B-1"):
            shards = {}
            for number in (0, 1):
                name = f"shard.{number:06d}.mds"
                texts = _texts(key, f"{sub}/{name}", 2)
                encoded = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
                samples = [{"domain": key, "input_ids": ids, "length": len(ids)} for ids in encoded]
                data = mds_shard(columns_of, samples)
                write(folder / sub / name, data)
                shards[name] = (len(data), len(samples))
                files[f"{sub}/{name}"] = [(text, None) for text in texts]
            write(folder / sub / "index.json", mds_index(columns_of, shards))
        expected[key] = Expected(files)
    return expected


def read_source(source: Source, **options: Any) -> tuple[list[tuple[str, Record]], list[Reject]]:
    """Every record of a source with its file's path, and every reject."""
    records, rejects = [], []
    for file in sources.list_files(source):
        good, bad = read(source, file, **options)
        records += [(file.path, record) for record in good]
        rejects += bad
    return records, rejects
