"""A finished phase as a data set of Hugging Face's `datasets`: one row a sample, read from the shards where they lie.

`datasets.load_dataset` knows no MDS; of a folder that `ettin-data export --to parquet` has written it reads the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from ettin_data.base.errors import OrderError
from ettin_data.base.extras import need
from ettin_data.order.index import OrderIndex, index_digest
from ettin_data.storage.mds import MdsReader
from ettin_data.storage.phase import TRAIN, open_phase

_PIECES = 64  # of a lazy data set, at most: what workers and ranks can share out


def to_datasets(path: str | Path, *, part: str = TRAIN, in_order: bool = False, streaming: bool = False) -> Any:
    """The samples of a part of a finished phase as rows: `id`, and `input_ids` as stored.

    Args:
        path: folder of the phase.
        part: "train" or "validation".
        in_order: rows as the order reads them, instead of as they lie in the shards.
        streaming: a `datasets.IterableDataset`, which copies nothing and can be shared among workers; else a
            `datasets.Dataset`, for which `datasets` keeps a copy of all rows in its cache.

    Raises:
        MissingPackage: `datasets` is not installed.
        OrderError: validation has no order.
    """
    datasets = need("datasets", "to_datasets")
    place = open_phase(Path(path))
    folder, order = place.folder / part, None
    if in_order and part != TRAIN:
        raise OrderError(f"{part} has no order", where=folder, remedy="leave out in_order")
    reader = MdsReader(folder)
    rows = len(reader)
    if in_order:
        index = OrderIndex.open(place.order)
        index.check_samples(rows)
        index.check_data(folder)
        order, rows = str(place.order), index.law.used
    size = max(-(-rows // _PIECES), 1)
    pieces = [(begin, min(begin + size, rows)) for begin in range(0, rows, size)]
    # The digest is part of what names the copy in the cache, so that a phase that was built again is read again.
    given = {"folder": str(folder), "order": order, "digest": index_digest(folder), "pieces": pieces}
    dtype = reader.shard(0).dtype.name
    features = datasets.Features(
        {"id": datasets.Value("string"), "input_ids": datasets.Sequence(datasets.Value(dtype))}
    )
    if streaming:
        return datasets.IterableDataset.from_generator(_rows, features=features, gen_kwargs=given)
    return datasets.Dataset.from_generator(_rows, features=features, gen_kwargs=given, split=part)


@lru_cache(maxsize=8)
def _reader(folder: str, digest: str) -> MdsReader:
    """Opened once in a process: `datasets` begins anew with every piece."""
    return MdsReader(folder)


def _rows(folder: str, order: str | None, digest: str, pieces: list[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    reader = _reader(folder, digest)
    index = None if order is None else OrderIndex.open(order)
    for begin, end in pieces:
        for place in range(begin, end):
            position = place if index is None else int(index.step(place // index.batch)[place % index.batch])
            name, tokens = reader.sample(position)
            yield {"id": name, "input_ids": tokens}
