"""What `order.json` says: the law of an index, its digests, and its files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any

from pydantic import Field

from ettin_data.base import shapes
from ettin_data.base.shapes import Number, Shape, Word
from ettin_data.order.appended import APPENDED, AppendedLaw, Earlier
from ettin_data.order.law import OrderLaw
from ettin_data.storage.records import EarlierOrder, OrderRecord

Step = Annotated[int, Field(ge=1, lt=1 << 31)]
"""The column of steps is int32."""


class _Interval(Shape):
    file: shapes.PlainName
    first_step: Step
    last_step: Step
    rows: Number
    bytes: Number
    sha256: Word


class _Earlier(Shape):
    samples: Annotated[int, Field(ge=1, le=1 << 48)]
    digest: Word
    data_digest: Word


class _EarlierFile(Shape):
    bytes: Number
    sha256: Word


class _Body(Shape):
    law: Word
    version: Number
    seed: Number
    epoch: Number
    samples: Annotated[int, Field(ge=1, le=1 << 48)]
    batch: Annotated[int, Field(ge=1, le=1 << 48)]
    phase: Word
    digest: Word
    data_digest: Word
    interval_steps: Number
    intervals: list[_Interval]
    earlier: list[_Earlier] = []
    earlier_file: _EarlierFile | None = None


@dataclass(frozen=True)
class Interval:
    """One parquet file: steps `first_step` to `last_step` (from 1, both included)."""

    file: str
    first_step: int
    last_step: int
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class EarlierFile:
    """The file that says where the samples of earlier orders are now."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class OrderInfo:
    """What `order.json` says.

    `digest` is the sha256 of the positions in whole steps, in reading order, little-endian in `dtype`: two laboratories
    that have the same order have the same digest, whatever the files look like. `data_digest` is the digest of the
    `train/index.json` that the positions point into.
    """

    phase: str
    law: OrderLaw
    digest: str
    data_digest: str
    interval_steps: int
    intervals: tuple[Interval, ...] = field(repr=False)
    earlier_file: EarlierFile | None = None

    @property
    def earlier(self) -> tuple[Earlier, ...]:
        """The orders that this one goes on from, the first one first."""
        return self.law.earlier if isinstance(self.law, AppendedLaw) else ()

    def shared_with(self, digest: str) -> int:
        """How many samples, from the first step on, are read as in the order of that digest; 0 for another order."""
        if digest == self.digest:
            return self.law.used
        each = next((each for each in self.earlier if each.digest == digest), None)
        return 0 if each is None else each.samples // self.law.batch * self.law.batch

    def record(self) -> OrderRecord:
        """What the record of a run says of it, from which a lost `order.json` can be made again."""
        law = self.law
        said = [EarlierOrder(samples=e.samples, digest=e.digest, data_digest=e.data_digest) for e in self.earlier]
        return OrderRecord(law=law.name, seed=law.seed, epoch=law.epoch, samples=law.samples, batch=law.batch,
                           steps=law.steps, digest=self.digest, interval_steps=self.interval_steps,
                           earlier=said)  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        law = {each.name: getattr(self.law, each.name) for each in fields(OrderLaw)}
        said = [{"samples": e.samples, "digest": e.digest, "data_digest": e.data_digest} for e in self.earlier]
        more = {"earlier": said, "earlier_file": asdict(self.earlier_file)} if self.earlier_file else {}
        return {
            "law": law.pop("name"),
            **law,
            "phase": self.phase,
            "steps": self.law.steps,
            "unused_samples": self.law.samples - self.law.used,
            "dtype": self.law.dtype.name,
            "digest": self.digest,
            "data_digest": self.data_digest,
            "interval_steps": self.interval_steps,
            "intervals": [asdict(i) for i in self.intervals],
            **more,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], earlier: Sequence[Earlier] = ()) -> OrderInfo:
        """What a file says, with the earlier orders that it names.

        Raises `ValueError` for what is no `order.json`, `OrderError` for a law that is not known.
        """
        shapes.require(_Body, data)
        for interval in data["intervals"]:
            _require_room(interval, data["batch"])
        law: OrderLaw
        given = {name: data[name] for name in ("seed", "epoch", "samples", "batch", "version")}
        if data["law"] == APPENDED:
            law = AppendedLaw(**given, earlier=tuple(earlier))
        else:
            law = OrderLaw(**given, name=data["law"])
        return cls(
            phase=data["phase"],
            law=law,
            digest=data["digest"],
            data_digest=data["data_digest"],
            interval_steps=data["interval_steps"],
            intervals=tuple(Interval(**i) for i in data["intervals"]),
            earlier_file=EarlierFile(**data["earlier_file"]) if law.name == APPENDED else None,
        )


def has_room(rows: int, size: int) -> bool:
    """Whether a file of `size` bytes can hold so many positions: different ones need log2(n!) bits at least.

    So nobody makes room in memory for an order that is only said to be there.
    """
    return rows * (math.log2(max(rows, 1)) - 1.5) <= 8 * size


def _require_room(interval: Mapping[str, Any], batch: int) -> None:
    rows, size = interval["rows"], interval["bytes"]
    steps = interval["last_step"] - interval["first_step"] + 1
    if steps < 1 or rows != steps * batch:
        raise ValueError(f"{interval['file']} has {rows:,} rows for {steps:,} steps of {batch:,}")
    if not has_room(rows, size):
        raise ValueError(f"{interval['file']} has {size:,} bytes, too few for {rows:,} positions")
