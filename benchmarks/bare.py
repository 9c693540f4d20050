"""The bare loop: from files to MDS shards by the shortest way that these libraries allow.

It is the limit that the pipeline is measured against, so it is made as fast as we could: isal, zstandard or pyarrow,
orjson, one call of fastokens for half a million characters, slices of its flat output, one join for a whole shard,
xxh3, write. It keeps no ledger and no marker, checks nothing, counts nothing, and survives nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import orjson
import xxhash

from ettin_data.tokenizer.encoder import TokenizerFile
from ettin_data.tokenizer.vocabulary import MODERNBERT

Batches = Iterator[tuple[list[str], list[str]]]
"""Ids and texts of some documents."""
Encode = Callable[[list[str]], tuple[np.ndarray, np.ndarray]]

CHARACTERS = 500_000  # in one call of the tokenizer: more is not faster
SHARD_BYTES = 1 << 26


def fast_encoder(file: TokenizerFile) -> Encode:
    """fastokens on its own: flat uint16 ids and their limits."""
    import fastokens

    engine = fastokens.Tokenizer.from_file(str(file.path))

    def encode(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, offsets = engine.encode_batch_flat(texts, split_special_tokens=True)
        return np.frombuffer(ids, "<u4").astype(np.uint16), np.frombuffer(offsets, "<i8")

    return encode


# ---------------------------------------------------------------------------------------------------------------------
# reading


def read_gzip(path: Path) -> Batches:
    from isal import isal_zlib

    decoder = isal_zlib.decompressobj(wbits=31)
    with open(path, "rb", buffering=0) as file:
        yield from _lines(decoder.decompress(chunk) for chunk in iter(lambda: file.read(1 << 18), b""))


def read_zstd(path: Path) -> Batches:
    import zstandard

    decoder = zstandard.ZstdDecompressor().decompressobj()
    with open(path, "rb", buffering=0) as file:
        yield from _lines(decoder.decompress(chunk) for chunk in iter(lambda: file.read(1 << 18), b""))


def _lines(blocks: Iterable[bytes]) -> Batches:
    loads = orjson.loads
    ids: list[str] = []
    texts: list[str] = []
    characters, rest = 0, b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        for record in map(loads, lines):
            text = record["text"]
            ids.append(record["id"])
            texts.append(text)
            characters += len(text)
        if characters > CHARACTERS:
            yield ids, texts
            ids, texts, characters = [], [], 0
    if ids:
        yield ids, texts


def read_parquet(path: Path) -> Batches:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(256, columns=["id", "text"], use_threads=False):
        ids, texts = (column.to_numpy(zero_copy_only=False).tolist() for column in batch.columns)
        yield ids, texts


def mds_reader(tokenizer_json: Path) -> Callable[[Path], Batches]:
    """Reads ProLong's shards; gathering the bytes of each token is six times as fast as `tokenizers` decodes."""
    data_of, starts, sizes = _token_bytes(tokenizer_json)

    def read(folder: Path) -> Batches:
        number = 0
        for path in sorted(folder.glob("*.mds")):
            data = path.read_bytes()
            (count,) = struct.unpack_from("<I", data)
            offsets = np.frombuffer(data, np.uint32, count + 1, 4).tolist()
            ids: list[str] = []
            texts: list[str] = []
            characters = 0
            for begin in offsets[:-1]:
                domain, array = struct.unpack_from("<II", data, begin)  # the fixed-size column has no size
                at = begin + 8 + domain
                head = 1 + (1 << (data[at] & 3))
                tokens = np.frombuffer(data, "<i4", (array - head) // 4, at + head)
                size = sizes.take(tokens)
                ends = np.cumsum(size, dtype=np.int32)
                places = np.repeat(starts.take(tokens) - (ends - size), size)
                places += np.arange(len(places), dtype=np.int32)
                texts.append(data_of.take(places).tobytes().decode("utf-8", "replace"))
                ids.append(f"bench#{number}")
                number += 1
                characters += len(texts[-1])
                if characters > CHARACTERS:
                    yield ids, texts
                    ids, texts, characters = [], [], 0
            yield ids, texts

    return read


def _token_bytes(tokenizer_json: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The bytes of all tokens end to end, and where those of each start and how many there are."""
    from tokenizers import Tokenizer

    # GPT-2's bytes as characters: the printable ones stand for themselves, the others for U+0100 and on.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
    vocabulary = Tokenizer.from_file(str(tokenizer_json)).get_vocab()
    table = [b""] * (max(vocabulary.values()) + 1)
    for token, number in vocabulary.items():
        known = all(character in byte_of for character in token)
        table[number] = bytes(map(byte_of.__getitem__, token)) if known else token.encode()
    sizes = np.array([len(token) for token in table], np.int32)
    return np.frombuffer(b"".join(table), np.uint8), np.cumsum(sizes, dtype=np.int32) - sizes, sizes


# ---------------------------------------------------------------------------------------------------------------------
# cutting and writing


def bare_loop(batches: Batches, encode: Encode, folder: Path, length: int) -> int:
    """Cut every document into framed pieces of `length`, write them as MDS; returns the number of text tokens."""
    body = length - 2
    cls, sep = np.uint16(MODERNBERT.open).tobytes(), np.uint16(MODERNBERT.close).tobytes()
    sizes = struct.Struct("<II").pack
    heads = [struct.pack("<BB", 4, n) if n < 256 else struct.pack("<BH", 5, n) for n in range(length + 1)]
    array_bytes = [len(head) + 2 * n for n, head in enumerate(heads)]
    heads = [head + cls for head in heads]
    total, shard, held = 0, 0, 0
    parts: list[bytes | memoryview] = []
    lengths: list[int] = []

    def flush() -> None:
        nonlocal shard, held, parts, lengths
        offsets = np.cumsum([4 + 4 * (len(lengths) + 1), *lengths]).astype(np.uint32)
        data = b"".join((struct.pack("<I", len(lengths)), offsets.tobytes(), *parts))
        xxhash.xxh3_64_hexdigest(data)
        with open(folder / f"shard.{shard:05}.mds", "wb", buffering=0) as file:
            file.write(data)
        shard, held, parts, lengths = shard + 1, 0, [], []

    for ids, texts in batches:
        flat, limits = encode(texts)
        total += len(flat)
        data = memoryview(flat).cast("B")
        start, *ends = limits.tolist()
        for name, end in zip(map(str.encode, ids), ends, strict=True):
            size = len(name)
            while start < end:
                stop = start + body if start + body < end else end
                count = stop - start + 2
                array = array_bytes[count]
                parts += (sizes(size, array), name, heads[count], data[2 * start : 2 * stop], sep)
                lengths.append(8 + size + array)
                held += 12 + size + array
                start = stop
                if held >= SHARD_BYTES:
                    flush()
    if parts:
        flush()
    return total
