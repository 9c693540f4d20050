"""Attention over a packed stream of documents: rotary positions, sliding window, no leak across document borders.

A batch is one flat stream of T tokens and the borders of its documents, `cu_seqlens = [0, end of the first, ..., T]`.
A padded batch is the same stream: each run of padding is one more document, which nobody is asked about. So there is
one layout to get right, and attention never crosses a border of it.

Two ways through torch's own kernels, with equal results:

* **varlen** (CUDA, bf16 or fp16, a torch that has it): `torch.nn.attention.varlen.varlen_attn`, flash attention with
  borders and a window.
* **blocks** (any device, dtype and torch): global layers call `scaled_dot_product_attention` once for each document;
  local layers cut the stream in blocks as wide as the window's half and let each block of queries see its neighbour
  blocks, so that a layer costs O(T * window), not O(T * length): 192 keys a query instead of 8,000 in phases 2 and 3.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def varlen_of_torch() -> Callable[..., Any] | None:
    """The kernel for packed documents; None from a torch that has none, or one that knows no window."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if "window_size" in inspect.signature(varlen_attn).parameters else None


VARLEN = varlen_of_torch()


@dataclass(frozen=True)
class Borders:
    """Where the documents of a packed stream begin and end.

    Attributes:
        ends: `cu_seqlens` as Python integers, ascending, from 0 to T.
        longest: at least the length of the longest document; a power of two, so that compiled code sees few values.
        cu_seqlens: the same, int32, shape (documents + 1,), on the device of the stream.
        positions: position of each token in its document, float32, shape (T,).
        document: number of the document of each token, int32, shape (T,).
    """

    ends: tuple[int, ...]
    longest: int
    cu_seqlens: Tensor
    positions: Tensor
    document: Tensor

    @classmethod
    def of(cls, cu_seqlens: Tensor, device: torch.device) -> Borders:
        """From an int32 CPU tensor of shape (documents + 1,): one transfer to the device, no synchronisation."""
        lengths = cu_seqlens.diff().to(torch.int64)
        document = torch.repeat_interleave(torch.arange(len(lengths), dtype=torch.int32), lengths)
        positions = torch.arange(int(cu_seqlens[-1])) - cu_seqlens[:-1].to(torch.int64)[document]
        ends = tuple(int(end) for end in cu_seqlens)
        return cls(
            ends,
            1 << (int(lengths.max()) - 1).bit_length(),
            cu_seqlens.to(device, non_blocking=True),
            positions.float().to(device, non_blocking=True),
            document.to(device, non_blocking=True),
        )


def rotary_table(positions: Tensor, head_dim: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each position's angles, float32, shape (T, 1, head_dim): RoFormer, half-split layout."""
    frequencies = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim)
    angles = positions[:, None, None] * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Turn queries or keys, shape (T, heads, head_dim), by the angles of their positions; computed in float32."""
    cosine, sine = table
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (x.float() * cosine + turned * sine).to(x.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor, borders: Borders, window: tuple[int, int] | None, causal: bool) -> Tensor:
    """Attention inside each document. q, k, v and the result: shape (T, heads, head_dim).

    `window` = (keys seen to the left, keys seen to the right), the query's own not counted; None: the whole document.
    """
    if VARLEN and q.is_cuda and q.dtype in (torch.bfloat16, torch.float16):
        span = window if window is not None else (-1, 0) if causal else (-1, -1)
        cu, longest = borders.cu_seqlens, borders.longest
        seen: Tensor = VARLEN(q, k, v, cu, cu, longest, longest, window_size=span)
        return seen
    if window is None:
        return _whole_documents(q, k, v, borders, causal)
    return _banded(q, k, v, borders, window)


def _whole_documents(q: Tensor, k: Tensor, v: Tensor, borders: Borders, causal: bool) -> Tensor:
    """One call a document: no mask in memory, and torch's flash kernel applies on CPU as well."""
    parts = []
    for start, end in zip(borders.ends, borders.ends[1:], strict=False):
        query, key, value = (x[start:end].transpose(0, 1)[None] for x in (q, k, v))  # (1, heads, length, head_dim)
        parts.append(F.scaled_dot_product_attention(query, key, value, is_causal=causal)[0].transpose(0, 1))
    return torch.cat(parts)


def _banded(q: Tensor, k: Tensor, v: Tensor, borders: Borders, window: tuple[int, int]) -> Tensor:
    """Each block of queries against the blocks that its window can touch; documents and distance in the mask.

    With blocks of `width` = max(left, right) tokens a query reaches at most into the blocks beside its own. The filling
    behind the last token is a document of its own (-1), so every query has a key (itself) and no softmax is empty.
    """
    left, right = window
    width = max(left, right, 1)
    tokens, heads, head_dim = q.shape
    blocks = -(-tokens // width)
    before, after = int(left > 0), int(right > 0)
    fill = blocks * width - tokens

    def neighbours(x: Tensor) -> Tensor:  # (blocks, (before + 1 + after) * width, ...)
        cut = x.unflatten(0, (blocks + before + after, width))
        return torch.cat([cut[i : i + blocks] for i in range(before + 1 + after)], dim=1)

    edges = (0, 0, 0, 0, before * width, fill + after * width)
    query = F.pad(q, (0, 0, 0, 0, 0, fill)).unflatten(0, (blocks, width)).transpose(1, 2)
    key, value = (neighbours(F.pad(x, edges)).transpose(1, 2) for x in (k, v))

    owner = F.pad(borders.document, (before * width, fill + after * width), value=-1)
    query_owner = owner[before * width :][: blocks * width].view(blocks, width, 1)
    place = torch.arange(width, device=q.device)[:, None]
    key_place = torch.arange(-before * width, (1 + after) * width, device=q.device)[None]
    band = (key_place >= place - left) & (key_place <= place + right)
    mask = band & (query_owner == neighbours(owner)[:, None])
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None])
    return out.transpose(1, 2).reshape(blocks * width, heads, head_dim)[:tokens]
