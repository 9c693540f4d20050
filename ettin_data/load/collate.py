"""Samples of an `OrderedDataset` to a batch. Both can be pickled, and keep the order of the samples.

* `Padded`: a rectangle, every sample as long as the longest, and a mask.
* `Packed`: all samples end to end, and where each document begins, as the variable-length kernels of attention want it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ettin_data.load.dataset import Item


@dataclass(frozen=True)
class Padded:
    """`input_ids` and `attention_mask`, int64 (samples, width); `sample`, int64 (samples,).

    Attributes:
        pad: the id that fills.
        multiple: the width is a multiple of it.
    """

    pad: int
    multiple: int = 1

    def __call__(self, items: list[Item]) -> dict[str, Any]:
        longest = max(len(item["input_ids"]) for item in items)
        width = -(-longest // self.multiple) * self.multiple
        ids = torch.full((len(items), width), self.pad, dtype=torch.int64)
        mask = torch.zeros((len(items), width), dtype=torch.int64)
        for row, item in enumerate(items):
            ids[row, : len(item["input_ids"])] = item["input_ids"]
            mask[row, : len(item["input_ids"])] = 1
        return {"input_ids": ids, "attention_mask": mask, "sample": _samples(items)}


@dataclass(frozen=True)
class Packed:
    """All samples end to end, without padding; a document in a sample of several counts by itself.

    `input_ids`, `position_ids` int64 (tokens,), the latter from 0 in each document; `cu_seqlens` int32
    (documents + 1,), where each begins, from 0 to tokens; `max_seqlen`, tokens of the longest; `sample` int64.
    """

    def __call__(self, items: list[Item]) -> dict[str, Any]:
        ids = torch.cat([item["input_ids"] for item in items])
        lengths = torch.cat([_lengths(item) for item in items])
        ends = torch.cumsum(lengths, 0)
        begins = torch.repeat_interleave(ends - lengths, lengths)
        return {
            "input_ids": ids,
            "position_ids": torch.arange(len(ids)) - begins,
            "cu_seqlens": torch.cat([torch.zeros(1, dtype=torch.int64), ends]).to(torch.int32),
            "max_seqlen": int(lengths.max()),
            "sample": _samples(items),
        }


def _lengths(item: Item) -> torch.Tensor:
    """Tokens of each document of a sample, int64."""
    if "cu_seqlens" in item:
        return torch.diff(item["cu_seqlens"].to(torch.int64))
    return torch.tensor([len(item["input_ids"])])


def _samples(items: list[Item]) -> torch.Tensor:
    return torch.tensor([item["sample"] for item in items], dtype=torch.int64)
