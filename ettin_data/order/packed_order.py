"""The order of a phase as a loader packs it: for whatever asks what was in a step, in the place of the order index.

It is made of the lengths of the samples, which stand in the shards; no token is read. The steps are made from the
first one on: to go forward costs each of them once, to go back begins again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.errors import ExitStatus, OrderError
from ettin_data.order.data import Data
from ettin_data.order.index import OrderIndex
from ettin_data.order.law import LAW
from ettin_data.order.laws import Packed, Rows, Samples, law_named
from ettin_data.order.loader_edits import UNCUT, Form, Kind, Loader
from ettin_data.storage.records import RunRecord


def law_of(named: str | None, run: RunRecord | None) -> str | None:
    """The law of packing by which a phase is read, as `PackedOrder.of` takes it; None for that of the order index.

    Args:
        named: by a user, who may name the index's own, `ettin-v1`; None takes what the recipe of the run says.
    """
    if named is not None:
        return None if named == LAW else named
    if run is None or (said := run.recipe["order"].get("law")) is None:
        return None
    name, _, rest = str(said).partition(":")
    given = dict(pair.partition("=")[::2] for pair in rest.split(",") if pair)
    order, loader = run.recipe["order"], run.recipe.get("loader") or {}
    length = loader.get("max_seq_len") or run.recipe["length"]
    usual = {"length": length, **{key: order[key] for key in ("batch", "seed", "epoch") if key in order}}
    return f"{name}:{','.join(f'{key}={value}' for key, value in (usual | given).items())}"


def require_packed(text: str, batch: int, length: int) -> None:
    """Raise `OrderError` unless a recipe's law is one of packing, with parameters that such a loader takes."""
    law = law_named(text, batch, length=length)
    if not isinstance(law, Packed):
        raise OrderError(f"{law.name} packs no rows", where="order.law", remedy=f"name {Packed.name}, or leave it out")


class Places(NamedTuple):
    """Where each sample is read: its step (from 0; -1 where none reads it), its row there and its place among all
    samples of the step; int32, shape (samples,)."""

    step: NDArray[np.int32]
    row: NDArray[np.int32]
    place: NDArray[np.int32]


@dataclass
class PackedOrder:
    """The steps of a phase under a law of packing.

    Attributes:
        law: the loader's parameters.
        sizes: samples of each shard of the phase, shape (shards,), int64.
        lengths: tokens of each sample as the loader passes it on, so at most `law.length`; shape (samples,), int64.
    """

    law: Packed
    sizes: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def __post_init__(self) -> None:
        self._next, self._made = 0, self.law.steps(self.samples)

    @classmethod
    def of(cls, text: str, index: OrderIndex, data: Path, loader: Loader, kind: Kind = "encoder") -> PackedOrder:
        """The order that a law's name and parameters say, as `modernbert-packed-v1:world=8,micro=6`.

        What it does not say of batch, seed and epoch is as in the order index, and the length is the loader's.

        Args: data: folder of the `index.json` of the samples. kind: of model; decides how samples are edited.
        Raises `OrderError` for another law, and for parameters that no loader takes.
        """
        usual = {"seed": index.law.seed, "epoch": index.law.epoch}
        if loader.max_seq_len < UNCUT:
            usual["length"] = loader.max_seq_len
        law = law_named(text, index.batch, **usual)
        if not isinstance(law, Packed):
            raise OrderError(f"{law.name} packs no rows", where="--law", remedy=f"name {Packed.name}, or leave it out")
        form = Form(kind, replace(loader, max_seq_len=law.length))
        samples = Data(str(data), loader=form.loader)
        return cls(law, np.diff(samples.reader.starts), samples.lengths(form))

    @property
    def samples(self) -> Samples:
        return Samples(self.sizes, self.lengths)

    def __iter__(self) -> Iterator[Rows]:
        return self.law.steps(self.samples)

    def step(self, number: int) -> Rows:
        """The rows of a step, from 0. Raises `OrderError` beyond the last one."""
        if number < self._next:
            self.__post_init__()
        for rows in self._made if number >= 0 else ():
            self._next += 1
            if self._next > number:
                return rows
        there = f"it has steps 1 to {self._next:,}" if number >= 0 else "steps are counted from 1"
        raise OrderError(
            f"step {number + 1} is not in the order", why=f"{there} under {self.law.name}", status=ExitStatus.NOT_FOUND
        )

    @cached_property
    def steps(self) -> int:
        """How many there are, for which all are made."""
        return int(self.places.step.max(initial=-1)) + 1

    @cached_property
    def places(self) -> Places:
        """Where every sample is; for this all steps are made."""
        places = Places(*np.full((3, self.samples.number), -1, np.int32))
        for number, rows in enumerate(self):
            places.step[rows.positions] = number
            places.row[rows.positions] = np.repeat(np.arange(len(rows)), np.diff(rows.bounds))
            places.place[rows.positions] = np.arange(len(rows.positions))
        return places
