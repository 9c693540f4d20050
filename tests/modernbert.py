"""ModernBERT's tokens and Ettin's loader, as tests write them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ettin_data.order.loader_edits import UNCUT, Form, Loader
from ettin_data.tokenizer.vocabulary import MODERNBERT

CLS, SEP, PAD, MASK = 50281, 50282, 50283, 50284


def loader(max_seq_len: int = UNCUT, rule: str = "ettin") -> Loader:
    return Loader(MODERNBERT, rule, max_seq_len)


def form(kind: Any = "stored", max_seq_len: int = UNCUT) -> Form:
    return Form(kind, loader(max_seq_len))


def as_seen(tokens: np.ndarray, kind: Any, max_seq_len: int) -> np.ndarray:
    return loader(max_seq_len).seen(tokens, kind)
