"""Carrying out a mix: `train/` and `validation/` from the pools, by links where a split is taken whole.

What is taken is decided by `build.mix`; here is how it gets on disk. A cut split is written from the encoded samples
of the pool, which are copied as bytes and never decoded.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import disk_errors, files
from ettin_data.base.errors import ShardError
from ettin_data.base.modules import code_digest
from ettin_data.build.mix import Cut, SampleTable, held_out
from ettin_data.stages.write import write_statistics
from ettin_data.storage import ledger as ledgers
from ettin_data.storage import split as markers
from ettin_data.storage.attributes import AttributeFile, excluded_documents, samples_with
from ettin_data.storage.ledger import Ledger
from ettin_data.storage.mds import Layout, MdsReader, ShardWriter
from ettin_data.storage.phase import MARKER
from ettin_data.storage.split import Marker

FORMAT = 2
"""Raised when a change of the code changes which samples of a split a mix takes: cut splits are then made again."""

_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS})
"""Another file system, one without hard links, or one that has no more of them for a file: then a split is copied."""


@dataclass(frozen=True)
class MixJob:
    """One folder of `train/` or `validation/`.

    Attributes:
        pool: folder of the finished split.
        number: of the split in its source, as in `Cut`.
        folder: where it goes.
        cut: which samples; None for all.
        held_out: the cut whose documents are validation's, and must not be in it; None where this split has none.
        layout: of the shards, where they are written again.
        left_out: the attributes that leave documents of this split out.
        own_code: what other code than this has cut does not count as there.
    """

    pool: Path
    number: int
    folder: Path
    cut: Cut | None
    held_out: Cut | None
    layout: Layout
    left_out: tuple[AttributeFile, ...] = ()
    own_code: bool = False

    @property
    def whole(self) -> bool:
        return self.cut is None and self.held_out is None and not self.left_out

    def made_from(self, pool: Marker) -> dict[str, Any]:
        """What decides the content: the pool's split and the choice."""
        made: dict[str, Any] = {"format": FORMAT, "pool": pool.fingerprint, "pool_root": pool.root}
        for name, cut in (("cut", self.cut), ("held_out", self.held_out)):
            made[name] = None if cut is None else self._stated(cut)
        if self.cut is not None and self.cut.also:
            made["also"] = [self._stated(cut) for cut in self.cut.also]
        if self.left_out:
            made["left_out"] = {file.name: file.digest for file in self.left_out}
        return made

    def _stated(self, cut: Cut) -> list[Any]:
        return [list(cut.purpose), cut.limit, list(cut.before), self.number]

    def problem(self, pool: Marker) -> str | None:
        """Why the folder has to be made, or None if it is there."""
        if not self.whole:
            problem = markers.problem(self.folder, markers.fingerprint(self.made_from(pool)))
            if problem is None and self.own_code and markers.read_marker(self.folder).code != code_digest(__name__):
                return "made by other code"
            return problem
        problem = markers.problem(self.folder, pool.fingerprint)
        if problem is None and markers.read_marker(self.folder).digest != pool.digest:
            return "the split of the pool was built again"
        return problem


Part = dict[str, Marker]
"""A finished `train/` or `validation/`: `<source>/<split folder>` -> marker, in the order of the index."""


def sample_table(
    folder: Path, inputs: Sequence[Mapping[str, Any]], left_out: tuple[AttributeFile, ...] = ()
) -> SampleTable:
    """What the mix needs to know of a split's samples, from its ledger and the `inputs` of its marker.

    Those that are left out have no tokens.
    """
    keys = markers.document_places(inputs, ledgers.read_table(folder, ledgers.DOCUMENTS, ["file", "position"]))
    samples = ledgers.read_table(folder, ledgers.SAMPLES, ["document", "tokens"])
    first, tokens = samples["document"], samples["tokens"].astype(np.int64)
    several = (folder / ledgers.SEGMENTS).exists()
    segments = ledgers.read_table(folder, ledgers.SEGMENTS, ["sample", "document"]) if several else None
    if left_out:
        tokens[samples_with(excluded_documents(left_out, len(keys)), first, segments)] = 0
    return SampleTable(keys, first, tokens, segments)


def make(job: MixJob) -> Marker:
    """Make the folder, by links if the split is taken whole; returns its marker, also when it was there already."""
    with disk_errors.explained(job.folder):
        return _make(job)


def _make(job: MixJob) -> Marker:
    pool = markers.read_marker(job.pool)
    if job.problem(pool) is None:
        return markers.read_marker(job.folder)
    temporary = files.private_folder(job.folder.parent, pool.name)
    try:
        if job.whole:
            link(job.pool, temporary, [*pool.outputs, MARKER])
            markers.put_in_place(temporary, job.folder, pool)
            return pool
        return _rewrite(job, pool, temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def link(source: Path, folder: Path, names: Sequence[str]) -> None:
    """Files of a split under a second name, or copies. The marker is last, as wherever a split is made."""
    for name in names:
        try:
            os.link(source / name, folder / name)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copyfile(source / name, folder / name)
            files.sync(folder / name)
    files.sync(folder)


def _rewrite(job: MixJob, pool: Marker, folder: Path) -> Marker:
    _check_hashes(job.pool, pool)
    rows = _taken(job, pool)
    reader = MdsReader(job.pool)
    writer = ShardWriter(folder, job.layout)
    for number, first in enumerate(reader.starts[:-1].tolist()):
        shard = reader.shard(number)
        end = first + len(shard)
        inside = rows[np.searchsorted(rows, first) : np.searchsorted(rows, end)] - first
        writer.write_rows(*shard.rows(inside))
    shards = writer.finish()
    ledger = ledgers.read_ledger(job.pool).select(rows)
    written = ledger.write(folder)
    tokens = int(ledger.samples["tokens"].sum())
    written |= write_statistics(folder, 0)
    made_from = job.made_from(pool)
    marker = Marker(
        name=pool.name,
        source=pool.source,
        fingerprint=markers.fingerprint(made_from),
        made_from=made_from,
        inputs=pool.inputs,
        tally=_tally(ledger),
        samples=len(rows),
        tokens=tokens,
        root=markers.samples_root(ledger),
        code=code_digest(__name__),
    )
    return markers.publish(folder, job.folder, marker, shards, written)


def _taken(job: MixJob, pool: Marker) -> NDArray[np.int64]:
    """Rows of the pool's samples that are taken, rising."""
    table = sample_table(job.pool, pool.inputs, job.left_out)
    taken = table.tokens > 0
    if job.cut is not None:
        taken &= job.cut.rows(table, job.number)
    if job.held_out is not None:
        taken &= ~table.beside(held_out(table, job.held_out, job.number))
    return np.flatnonzero(taken)


def _check_hashes(folder: Path, pool: Marker) -> None:
    """What a disk has spoilt must not get new, right hashes in `train/`."""
    for name, output in pool.outputs.items():
        if files.digest(folder / name) != output:
            raise ShardError(
                f"{name} is damaged: it does not have the hash of its marker",
                where=folder / name,
                remedy="`ettin-data repair` rebuilds the split",
            )


def _tally(ledger: Ledger) -> dict[str, int]:
    return {"documents": len(ledger.documents["key"]), "samples": len(ledger.samples["tokens"])}
