"""What `order.json` says: the law of an index, its digests, and its files."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from ettin_data.order.law import OrderLaw


@dataclass(frozen=True)
class Interval:
    """One parquet file: steps `first_step` to `last_step` (from 1, both included)."""

    file: str
    first_step: int
    last_step: int
    rows: int
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if PurePosixPath(self.file).name != self.file:
            raise ValueError(f"{self.file!r} is not the name of a file in the folder of the index")


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

    def to_json(self) -> dict[str, Any]:
        law = asdict(self.law)
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
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> OrderInfo:
        law = OrderLaw(
            seed=data["seed"],
            epoch=data["epoch"],
            samples=data["samples"],
            batch=data["batch"],
            name=data["law"],
            version=data["version"],
        )
        return cls(
            phase=data["phase"],
            law=law,
            digest=data["digest"],
            data_digest=data["data_digest"],
            interval_steps=data["interval_steps"],
            intervals=tuple(Interval(**i) for i in data["intervals"]),
        )
