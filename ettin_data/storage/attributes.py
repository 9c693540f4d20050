"""What a step that sees whole sources says of each document of a finished split (ARCHITECTURE 5.10).

An attribute lies beside the pools, `attributes/<name>/<source>/<split>.parquet`: one row for each row of the split's
`documents.parquet`. The column `reason` (uint8) is 0 where the document stays; another number is the place, from 1, of
the reason in the file's list. Further columns (scores, languages, a twin's place) are the step's own.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import bounded_json, bounded_parquet, files, sealed_json, shapes
from ettin_data.base.columns import to_arrow, to_numpy
from ettin_data.base.errors import BuildError, ShardError
from ettin_data.base.shapes import FileDigest, Number, Shape, Word
from ettin_data.storage.phase import ATTRIBUTE_RECORD

_REASONS = b"ettin_reasons"


@dataclass(frozen=True)
class Attribute:
    """What a step says of the documents of one split.

    Attributes:
        reasons: why a document may be left out, such as `twin`; at most 255.
        codes: shape (documents,), uint8: 0 stays, k is left out for `reasons[k - 1]`.
        columns: the step's own, each with one value a document.
    """

    reasons: tuple[str, ...]
    codes: NDArray[np.uint8]
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        worst = int(self.codes.max(initial=0))
        if self.codes.dtype != np.uint8 or worst > len(self.reasons):
            raise BuildError(
                f"an attribute's codes are {self.codes.dtype} up to {worst}, with {len(self.reasons)} reasons",
                remedy="a code is a uint8: 0, or the place of its reason from 1",
            )

    def to_bytes(self) -> bytes:
        """The parquet file; the same attribute gives the same bytes."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {"reason": self.codes, **self.columns}
        table = pa.table({name: to_arrow(values) for name, values in columns.items()})
        table = table.replace_schema_metadata({_REASONS: json.dumps(self.reasons)})
        file = io.BytesIO()
        pq.write_table(table, file, compression="ZSTD", write_statistics=False)
        return file.getvalue()


def read_attribute(path: Path) -> Attribute:
    """Raises `ShardError` when the file is missing, damaged or not an attribute."""
    import pyarrow as pa

    try:
        with bounded_parquet.opened(path, {"reason"}) as file:
            table = file.read(use_threads=False)
        reasons = tuple(map(str, bounded_json.parse(table.schema.metadata[_REASONS])))
        columns = {name: to_numpy(table[name]) for name in table.column_names}
        return Attribute(reasons, columns.pop("reason"), columns)
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException, BuildError) as error:
        raise ShardError("an attribute cannot be read", where=path, why=error) from error


class _Entry(FileDigest):
    left_out: Number


class _Attribute(Shape):
    fingerprint: Word
    files: dict[str, _Entry]


@dataclass(frozen=True)
class AttributeFile:
    """One attribute of one split: whose it is, where, and the digest that what is cut by it depends on."""

    name: str
    path: Path
    digest: str


def excluded_documents(left_out: tuple[AttributeFile, ...], documents: int) -> NDArray[np.bool_]:
    """Mask of the documents, shape (documents,), that any of the attributes leaves out.

    Raises:
        ShardError: a file is damaged, or is not the one that was decided by.
    """
    mask = np.zeros(documents, bool)
    for file in left_out:
        try:
            digest = files.digest(file.path)["xxh3_64"]
        except OSError as error:
            raise ShardError("an attribute cannot be read", where=file.path, why=error) from error
        if digest != file.digest:
            raise ShardError(
                f"the attribute {file.name} is not the one that the mix was decided by",
                where=file.path,
                remedy="`ettin-data build` with the same recipe makes it again",
            )
        codes = read_attribute(file.path).codes
        if len(codes) != documents:
            raise ShardError(
                f"the attribute {file.name} has {len(codes):,} rows for {documents:,} documents", where=file.path
            )
        mask |= codes > 0
    return mask


def samples_with(
    documents: NDArray[np.bool_], first: NDArray[np.int64], segments: Mapping[str, NDArray[np.int64]] | None
) -> NDArray[np.bool_]:
    """Mask of the samples that hold any of the marked documents.

    Args:
        documents: mask over the rows of `documents.parquet`.
        first: row of each sample's first document.
        segments: columns `sample` and `document` of the further ones, where samples hold several.
    """
    mask = documents[first]
    if segments is not None:
        mask[segments["sample"][documents[segments["document"]]]] = True
    return mask


def write_record(folder: Path, body: Mapping[str, Any]) -> None:
    """Write `attribute.json`, which makes the files beside it a finished attribute."""
    sealed_json.write(folder / ATTRIBUTE_RECORD, body)


def read_record(folder: Path) -> dict[str, Any] | None:
    """What `attribute.json` says, or None where the attribute is not finished or damaged."""
    try:
        record = sealed_json.read(folder / ATTRIBUTE_RECORD)
        shapes.require(_Attribute, record)
        return record
    except (OSError, ValueError, ShardError):
        return None
