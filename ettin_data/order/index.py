"""The order index: writes the batch-order index of a phase, and reads steps of it (law: `ettin_data/order/law.py`).

`order.json` holds the law, the digests and the list of intervals; `interval_000001.parquet`, ... hold one checkpoint
interval each, columns `step` (int32, from 1) and `sample` (uint32, or uint64 above 2**32 samples: a position in
`train/index.json`). The `sample` column is plain and uncompressed with one page for each row group (a random
permutation does not compress), so a step is a slice of the memory-mapped file: reading it costs its own few KB and the
file's footer.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import bounded_json, bounded_parquet, files
from ettin_data.base.columns import to_arrow
from ettin_data.base.errors import ExitStatus, OrderError
from ettin_data.base.parquet_footer import Group, footer
from ettin_data.order.appended import AppendedLaw, positions_digest, read_earlier, write_runs
from ettin_data.order.info import EarlierFile, Interval, OrderInfo, has_room
from ettin_data.order.law import LAW, LAW_VERSION, OrderLaw, Positions, interval_steps, permutation, position_dtype
from ettin_data.storage.phase import EARLIER, INDEX, ORDER_FILE, interval_name, is_order_file

__all__ = [
    "LAW",
    "LAW_VERSION",
    "Interval",
    "OrderIndex",
    "OrderInfo",
    "OrderLaw",
    "index_digest",
    "interval_steps",
    "permutation",
    "position_dtype",
    "write_order",
]

_MAKE_AGAIN = "write the index again with `ettin-data order make`"
_FEW = 16  # positions up to which comparing each with every element is faster than a table of all
_ROW_GROUP_ROWS = 1 << 20  # rounded down to whole steps: 4 MiB of positions and some 300 bytes of footer for each group


def index_digest(data: Path) -> str:
    """The `data_digest` of a data folder: xxh3-64 of its `index.json`, which fixes what each position means."""
    return str(files.digest(Path(data) / INDEX)["xxh3_64"])


def write_order(
    folder: Path, law: OrderLaw, *, interval_steps: int, phase: str = "", data_digest: str = ""
) -> OrderInfo:
    """Write the index of `law` into `folder`, replacing an index that is there.

    The files are made in a private folder, which is put in place when `order.json` is in it, so a folder with an
    `order.json` is always whole. The bytes depend on the arguments only (and on the pyarrow version, which signs
    parquet files).

    Args:
        interval_steps: steps for each file; `interval_steps()` gives it from tokens.
        data_digest: `index_digest` of the data that positions refer to; compared when the index is used with data.

    Raises:
        OrderError: the interval is not positive.
        BuildError: there is something in the folder that is not of an index.
    """
    if interval_steps < 1:
        raise OrderError(f"an interval of {interval_steps} steps cannot be written", remedy="give at least 1 step")
    folder = Path(folder)
    files.require_only(folder, is_order_file)
    partial = files.private_folder(folder.parent, folder.name)

    try:
        info = _written(partial, law, interval_steps, phase, data_digest)
        files.replace_folder(partial, folder, ORDER_FILE, is_order_file)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return info


def _written(folder: Path, law: OrderLaw, interval_steps: int, phase: str, data_digest: str) -> OrderInfo:
    positions = law.permutation()[: law.used]
    intervals = []
    for number, first in enumerate(range(0, law.steps, interval_steps), start=1):
        last = min(first + interval_steps, law.steps)
        name, rows = interval_name(number), positions[first * law.batch : last * law.batch]
        with files.HashedFile(folder / name, hashlib.sha256()) as file:
            _write_interval(file, rows, first, law.batch)
        intervals.append(Interval(name, first + 1, last, len(rows), file.bytes, file.hashed.hexdigest()))
    beside = None
    if isinstance(law, AppendedLaw):
        with files.HashedFile(folder / EARLIER, hashlib.sha256()) as file:
            write_runs(file, law.earlier)
        beside = EarlierFile(file.bytes, file.hashed.hexdigest())
    info = OrderInfo(phase, law, positions_digest([positions]), data_digest, interval_steps, tuple(intervals), beside)
    (folder / ORDER_FILE).write_text(json.dumps(info.to_json(), indent=1) + "\n", encoding="utf-8")
    return info


def _write_interval(file: files.HashedFile, positions: Positions, first_step: int, batch: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            pa.field("step", pa.int32(), nullable=False),
            pa.field("sample", pa.from_numpy_dtype(positions.dtype), nullable=False),
        ]
    )
    group = max(1, _ROW_GROUP_ROWS // batch) * batch
    with pq.ParquetWriter(
        file,
        schema,
        compression={"step": "zstd", "sample": "none"},
        use_dictionary=["step"],
        write_statistics=["step"],
        data_page_size=(group + 1) * positions.dtype.itemsize,
        store_schema=False,
        **_rows_per_page(group),
    ) as writer:
        for start in range(0, len(positions), group):
            rows = positions[start : start + group]
            steps = np.arange(start, start + len(rows), dtype=np.int64) // batch + (first_step + 1)
            arrays = [to_arrow(steps.astype(np.int32)), to_arrow(rows)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=group)


def _rows_per_page(rows: int) -> dict[str, int]:
    """Newer pyarrow also ends a page after 20,000 rows unless told otherwise; older has no such setting."""
    import pyarrow.parquet as pq

    settings = inspect.signature(pq.ParquetWriter.__init__).parameters
    return {"max_rows_per_page": rows} if "max_rows_per_page" in settings else {}


class OrderIndex:
    """A finished index, open for reading. Nothing is loaded: each read is a slice of a memory-mapped file.

    Steps are counted from 0 here, as in the law; the files and everything that a person reads count from 1.
    """

    def __init__(self, folder: Path, info: OrderInfo) -> None:
        self.folder, self.info = Path(folder), info
        self._maps: dict[int, list[Positions]] = {}

    @classmethod
    def open(cls, folder: Path | str) -> OrderIndex:
        """Raises `OrderError` when there is no finished index in `folder` or it is of another version."""
        path = Path(folder) / ORDER_FILE
        try:
            said = bounded_json.parse(files.read(path))
            earlier = read_earlier(path.parent / EARLIER, said["earlier"]) if "earlier" in said else ()
            return cls(Path(folder), OrderInfo.from_json(said, earlier))
        except FileNotFoundError:
            raise OrderError("there is no finished order index", where=path, remedy="`ettin-data order make`") from None
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise OrderError(f"{ORDER_FILE} cannot be read", where=path, why=error) from error

    def __reduce__(self) -> tuple[Any, ...]:  # workers map the files themselves
        return (OrderIndex, (self.folder, self.info))

    @property
    def law(self) -> OrderLaw:
        return self.info.law

    @property
    def steps(self) -> int:
        return self.law.steps

    @property
    def batch(self) -> int:
        return self.law.batch

    @cached_property
    def _first_steps(self) -> NDArray[np.int64]:
        return np.array([i.first_step - 1 for i in self.info.intervals], dtype=np.int64)

    def step(self, k: int) -> Positions:
        """Positions of the samples of step k (from 0): shape (batch,), read-only view of the file."""
        if not 0 <= k < self.steps:
            raise OrderError(
                f"step {k + 1} is not in the order",
                where=self.folder,
                why=f"it has steps 1 to {self.steps}",
                remedy="name one of them",
                status=ExitStatus.NOT_FOUND,
            )
        number = int(np.searchsorted(self._first_steps, k, side="right")) - 1
        if number < 0 or not 0 <= k - self._first_steps[number] < self.info.intervals[number].rows // self.batch:
            raise OrderError(f"no file of the order has step {k + 1}", where=self.folder, remedy=_MAKE_AGAIN)
        groups = self._maps.get(number) or self._map(number)
        row = (k - int(self._first_steps[number])) * self.batch
        group, offset = divmod(row, len(groups[0]))
        return self._checked(groups[group][offset : offset + self.batch], number)

    def rank(self, k: int, rank: int, world: int) -> Positions:
        """What rank `rank` of `world` reads in step k: rows rank::world of the step when world divides the batch.

        When it does not, rank r still reads `perm[r::world]` in order, and its part of step k is what lies in the step.
        """
        if not 0 <= rank < world:
            raise OrderError(f"rank {rank} of {world} does not exist", why=f"ranks are 0 to {world - 1}")
        if k >= self.law.steps_for(world) and k < self.steps:
            raise OrderError(
                f"step {k + 1} is not whole for {world} ranks",
                where=self.folder,
                why=f"the sampler drops the {self.law.samples % world} samples that do not divide by {world}",
            )
        return self.step(k)[(rank - k * self.batch) % world :: world]

    def chunks(self) -> Iterator[Positions]:
        """All positions in reading order, a row group at a time."""
        for number in range(len(self.info.intervals)):
            yield from (self._checked(group, number) for group in self._map(number))

    def _checked(self, positions: Positions, number: int) -> Positions:
        """The positions, which are used to index with. Raises `OrderError` for one that is none of the order."""
        if len(positions) and int(positions.max()) >= self.law.samples:
            raise OrderError(
                f"{self.info.intervals[number].file} names sample {int(positions.max()):,} of {self.law.samples:,}",
                where=self.folder,
                remedy=_MAKE_AGAIN,
            )
        return positions

    def indices_of(self, positions: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Where each position stands in the reading order: int64, shape of `positions`; -1 in the unused tail.

        Reads the index once from end to end: well under a second for ten million samples.
        """
        wanted, inverse = np.unique(positions.astype(self.law.dtype), return_inverse=True)
        found, begin = np.full(len(wanted), -1, np.int64), 0
        few = len(wanted) <= _FEW
        mask = np.zeros(0 if few else self.law.samples, bool)
        if not few:
            mask[wanted] = True
        for chunk in self.chunks():
            if few:
                for i, position in enumerate(wanted):
                    found[i] = max(found[i], *(np.flatnonzero(chunk == position)[:1] + begin), -1)
            else:
                hits = np.flatnonzero(mask[chunk])
                found[np.searchsorted(wanted, chunk[hits])] = hits + begin
            begin += len(chunk)
        return found[inverse]

    def interval_of(self, k: int) -> int:
        """The checkpoint interval (from 1) that holds step k (from 0)."""
        return int(np.searchsorted(self._first_steps, k, side="right"))

    def check_samples(self, samples: int) -> None:
        """Raises `OrderError` unless the data has as many samples as the order was made for."""
        if self.law.samples != samples:
            raise OrderError(
                f"the order is of {self.law.samples:,} samples, the data has {samples:,}",
                where=self.folder,
                remedy="name the train folder that the order was made for, or make the order again",
            )

    def check_data(self, data: Path) -> None:
        """Raises `OrderError` unless `data` holds the `index.json` that the order was made for."""
        wanted = self.info.data_digest
        if wanted and (found := index_digest(data)) != wanted:
            raise OrderError(
                "the order is of other data",
                where=self.folder,
                why=f"the xxh3-64 of {data / INDEX} is {found}, not {wanted}: positions would mean other samples",
                remedy="make the order of this data again, or restore the index.json that it was made for",
            )

    def check(self) -> None:
        """Read everything: each file against its hash, all positions against the digest. Raises `OrderError`."""
        self.check_earlier()
        for interval in self.info.intervals:
            found = files.sha256(self._path(interval))
            if found != interval.sha256:
                raise OrderError(
                    f"{interval.file} is damaged", where=self.folder, why=f"sha256 {found}, not {interval.sha256}"
                )
        found = positions_digest(self.chunks())
        if found != self.info.digest:
            raise OrderError(
                "the positions do not have the order's digest",
                where=self.folder,
                why=f"{found}, not {self.info.digest}",
            )

    def check_earlier(self) -> None:
        """The file of earlier orders against its hash, if there is one. Raises `OrderError`."""
        if self.info.earlier_file and (found := files.sha256(self.folder / EARLIER)) != self.info.earlier_file.sha256:
            wanted = self.info.earlier_file.sha256
            raise OrderError(f"{EARLIER} is damaged", where=self.folder, why=f"sha256 {found}, not {wanted}")

    def _path(self, interval: Interval) -> Path:
        path = self.folder / interval.file
        try:
            size = files.require_ordinary(path)
        except FileNotFoundError:
            raise OrderError(f"{interval.file} of the order index is missing", where=self.folder) from None
        except OSError as error:
            raise OrderError(f"{interval.file} of the order index cannot be read", where=path, why=error) from error
        if not has_room(interval.rows, size):
            raise OrderError(
                f"{interval.file} of the order index has {size:,} bytes, too few for {interval.rows:,} positions",
                where=self.folder,
                remedy=_MAKE_AGAIN,
            )
        return path

    def _map(self, number: int) -> list[Positions]:
        """The `sample` column of one file as one array for each row group, without reading it.

        A file that another program wrote again is read, as one array: it is as good, if it holds the same rows.
        """
        import pyarrow as pa

        interval = self.info.intervals[number]
        path = self._path(interval)
        try:
            with files.open_ordinary(path) as stored:
                held = footer(stored)
            data = files.mapped(path)
            columns = [_plain_column(data, group, self.law.dtype) for group in held]
            groups = [column for column in columns if column is not None]
            sizes = {len(column) for column in groups[:-1]}
            regular = not sizes or (
                len(sizes) == 1 and len(groups[0]) >= len(groups[-1]) and min(sizes) % self.batch == 0
            )
            if len(groups) < len(columns) or not regular:
                with bounded_parquet.opened(path, {"sample"}, interval.rows) as file:
                    groups = [bounded_parquet.integers(file.read(["sample"])["sample"], self.law.dtype)]
            if sum(map(len, groups)) != interval.rows:
                raise ValueError(f"it has {sum(map(len, groups)):,} rows, {ORDER_FILE} says {interval.rows:,}")
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise OrderError(
                "a file of the order index cannot be read", where=path, why=error, remedy=_MAKE_AGAIN
            ) from error
        self._maps[number] = groups
        return groups


def _plain_column(data: memoryview, group: Group, dtype: np.dtype[np.uint32 | np.uint64]) -> Positions | None:
    """The positions of a row group of a mapped file; None if they are not stored as the raw values at a page's end.

    They are where the column is required, plain, uncompressed and one page.
    """
    column = group.columns.get("sample")
    header = column.stored - group.rows * dtype.itemsize if column is not None else 0
    if column is None or column.codec != 0 or not 0 < header < 40:
        return None
    return np.frombuffer(data, dtype, group.rows, column.page + header)
