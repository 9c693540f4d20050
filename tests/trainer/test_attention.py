"""Attention over packed documents against the plain formula with a mask over everything."""

from __future__ import annotations

import sys
import types

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.trainer import attention
from ettin_data.trainer.attention import Borders, attend, rotary_table, rotate

CPU = torch.device("cpu")


def borders_of(lengths: list[int]) -> Borders:
    return Borders.of(torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32), CPU)


def dense(q, k, v, borders, window, causal):
    """Every pair of tokens, then a mask: the definition."""
    place = torch.arange(len(q))
    distance = place[None] - place[:, None]  # key - query
    mask = borders.document[:, None] == borders.document[None]
    if window is not None:
        mask &= (distance >= -window[0]) & (distance <= window[1])
    if causal:
        mask &= distance <= 0
    scores = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~mask, float("-inf")).softmax(-1), v)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=6),
    window=st.sampled_from([None, (4, 4), (3, 0), (16, 16), (64, 64), (63, 0)]),
    heads=st.sampled_from([1, 3]),
    seed=st.integers(0, 1000),
)
def test_equals_the_plain_formula_with_its_gradients(lengths, window, heads, seed):
    causal = window is not None and window[1] == 0
    borders = borders_of(lengths)
    torch.manual_seed(seed)
    q, k, v, weight = (torch.randn(sum(lengths), heads, 8, dtype=torch.float64) for _ in range(4))
    results = []
    for function in (attend, dense):
        inputs = [x.clone().requires_grad_() for x in (q, k, v)]
        out = function(*inputs, borders, window, causal)
        results.append([out, *torch.autograd.grad((out * weight).sum(), inputs)])
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain)


def test_global_causal_equals_the_plain_formula():
    borders = borders_of([5, 1, 30])
    q, k, v = (torch.randn(36, 2, 8) for _ in range(3))
    torch.testing.assert_close(attend(q, k, v, borders, None, True), dense(q, k, v, borders, None, True))


@pytest.mark.parametrize("window", [None, (8, 8), (7, 0)])
def test_nothing_leaks_across_a_border(window):
    """Other neighbours in the pack change no bit of a document's result."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(60, 2, 8) for _ in range(3))
    borders = borders_of([20, 25, 15])
    before = attend(q, k, v, borders, window, False)
    for x in (q, k, v):
        x[20:45] = torch.randn(25, 2, 8) * 100
    after = attend(q, k, v, borders, window, False)
    assert torch.equal(before[:20], after[:20]) and torch.equal(before[45:], after[45:])
    assert not torch.equal(before[20:45], after[20:45])


def test_borders():
    borders = borders_of([3, 1, 4])
    assert borders.ends == (0, 3, 4, 8) and borders.longest == 4
    assert borders.positions.tolist() == [0, 1, 2, 0, 0, 1, 2, 3]
    assert borders.document.tolist() == [0, 0, 0, 1, 2, 2, 2, 2]


def test_rotation_depends_on_distance_only():
    q, k = torch.randn(1, 1, 16, dtype=torch.float64), torch.randn(1, 1, 16, dtype=torch.float64)

    def score(a: int, b: int) -> float:
        at, bt = (rotary_table(torch.tensor([float(p)]), 16, 10_000.0) for p in (a, b))
        return float((rotate(q, at).double() * rotate(k, bt).double()).sum())

    assert score(5, 2) == pytest.approx(score(105, 102), abs=1e-4)
    assert score(5, 2) != pytest.approx(score(5, 3), abs=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("window", [None, (64, 64), (63, 0)])
def test_varlen_kernel_equals_blocks(window):  # pragma: no cover
    causal = window == (63, 0)
    device = torch.device("cuda")
    borders = Borders.of(torch.tensor([0, 300, 301, 900], dtype=torch.int32), device)
    q, k, v = (torch.randn(900, 4, 64, device=device) for _ in range(3))
    exact = attend(q, k, v, borders, window, causal)
    fast = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), borders, window, causal)
    assert F.mse_loss(fast.float(), exact).sqrt() < 0.02 * exact.std()


class OnCuda(torch.Tensor):
    """A CPU tensor that says it is on CUDA: what decides the way, not what the kernel does."""

    is_cuda = property(lambda self: True)  # type: ignore[assignment]


def test_a_torch_without_the_kernel_takes_the_blocks(monkeypatch):
    def without_window(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False): ...

    name = "torch.nn.attention.varlen"
    monkeypatch.setitem(sys.modules, name, None)  # as of torch 2.5: importing it fails
    assert attention.varlen_of_torch() is None
    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(varlen_attn=without_window))  # as of torch 2.10
    assert attention.varlen_of_torch() is None

    borders = borders_of([20, 25, 15])
    plain = [torch.randn(60, 2, 8, dtype=torch.bfloat16) for _ in range(3)]
    q, k, v = (x.as_subclass(OnCuda) for x in plain)
    monkeypatch.setattr(attention, "VARLEN", None)
    for window, causal in ((None, False), (None, True), ((8, 8), False), ((7, 0), True)):
        assert torch.equal(attend(q, k, v, borders, window, causal), attend(*plain, borders, window, causal))


def test_a_torch_with_the_kernel_takes_it_where_it_can(monkeypatch):
    asked = []
    monkeypatch.setattr(attention, "VARLEN", lambda *given, window_size: asked.append(window_size) or given[0])
    borders = borders_of([3, 4])
    plain = torch.randn(7, 2, 8, dtype=torch.bfloat16)
    q = plain.as_subclass(OnCuda)
    for window, causal in ((None, False), (None, True), ((7, 0), True)):
        assert attend(q, q, q, borders, window, causal) is q
    assert asked == [(-1, -1), (-1, 0), (7, 0)]
    attend(plain, plain, plain, borders, None, False)  # not on CUDA
    attend(q.float(), q.float(), q.float(), borders, None, False)  # of a type that the kernel has not
    assert len(asked) == 3
