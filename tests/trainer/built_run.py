"""A small built phase, made with the package's own writers: two sources, ledgers, order index, run.json."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import record_kit
import xxhash
from modernbert import CLS, SEP

from ettin_data.order.index import index_digest, write_order
from ettin_data.order.law import OrderLaw
from ettin_data.storage.ledger import Ledger
from ettin_data.storage.mds import Layout, ShardInfo, ShardWriter, write_index

BATCH = 4


def sentences(random: np.random.Generator, n: int, longest: int) -> list[np.ndarray]:
    """Samples `[CLS] … [SEP]` whose tokens follow one another by a fixed rule, so that a model can learn something."""
    follow = np.random.default_rng(5).integers(300, 700, 400)
    samples = []
    for _ in range(n):
        length = int(random.integers(8, longest - 1))
        tokens = [int(random.integers(300, 700))]
        for _ in range(length - 1):
            tokens.append(int(follow[tokens[-1] - 300]) if random.random() < 0.9 else int(random.integers(300, 700)))
        samples.append(np.array([CLS, *tokens, SEP], np.uint16))
    return samples


def write_split(
    folder: Path, samples: list[np.ndarray], *, ledger: bool = True, size_limit: int = 6000
) -> list[ShardInfo]:
    """One split with its ledger, in shards of `size_limit` bytes."""
    folder.mkdir(parents=True)
    writer = ShardWriter(folder, Layout(samples[0].dtype.name, size_limit=size_limit))
    offsets = np.cumsum([0, *map(len, samples)])
    writer.write([f"{folder.name}-{i}" for i in range(len(samples))], np.concatenate(samples), offsets)
    shards = writer.finish()
    n = len(samples)
    tokens = np.array([len(s) for s in samples])
    if ledger:
        Ledger(
            {
                "key": np.arange(n),
                "file": np.zeros(n),
                "position": np.arange(n),
                "tokens": tokens - 2,
                "url_key": np.zeros(n),
            },
            {
                "document": np.arange(n),
                "start": np.zeros(n),
                "length": tokens - 2,
                "tokens": tokens,
                "content": np.array([xxhash.xxh3_64_intdigest(s.data) for s in samples], np.uint64),
            },
        ).write(folder)
    return shards


def write_phase(
    folder: Path, *, samples: int = 42, longest: int = 60, batch: int = BATCH, seed: int = 0, ledger: bool = True
) -> Path:
    """A built phase at `folder`: `train/`, `order/`, `run.json`."""
    random = np.random.default_rng(seed)
    train, infos, tokens = folder / "train", [], {}
    for source in ("code_repos", "wikipedia"):
        tokens[source] = 0
        for split in ("a_0000", "b_0001"):
            made = sentences(random, samples // 4, longest)
            name = f"{source}/{split}-tokenized-chunked-1024-512-128-backfill-nodups"
            infos += [info.moved(name) for info in write_split(train / name, made, ledger=ledger)]
            tokens[source] += sum(map(len, made))
    write_index(train, infos)
    record_kit.write_run(folder, tokens)
    write_order(
        folder / "order",
        OrderLaw(seed=21, epoch=0, samples=sum(i.samples for i in infos), batch=batch),
        interval_steps=3,
        phase=folder.name,
        data_digest=index_digest(train),
    )
    return folder
