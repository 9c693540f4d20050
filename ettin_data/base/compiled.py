"""Loops over bytes that numba compiles, where it is installed (the extra `numba`), and the texts that prove them.

Numpy's way says what is right; a loop is used in a process after it has given the same for `proof_texts`. Numba
compiles a loop once for each machine, in some seconds, and keeps the result in its cache; to start it takes a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ettin_data.base import words
from ettin_data.base.extras import need

Kernel = Callable[..., Any]


def compile_loops(*loops: Kernel, purpose: str) -> tuple[Kernel, ...]:
    """The loops, compiled when each is called first. Raises `MissingPackage` without numba."""
    numba = need("numba", purpose)
    try:
        return tuple(map(numba.njit(cache=True), loops))
    except RuntimeError:  # it finds no folder that it may write its cache to
        return tuple(map(numba.njit, loops))


def proof_texts() -> list[str]:
    """Texts of every character but the middle of plain rows of letters, alone and within words."""
    kinds = words.rules().kinds
    border = np.flatnonzero(np.diff(kinds.astype(np.int64), prepend=-1, append=-1))
    codes = np.unique(np.clip(np.concatenate([np.arange(0x500), border, border - 1]), 0, len(kinds) - 1))
    text = "".join(f"{sign}a{sign}{sign} " for sign in map(chr, codes.tolist()))
    return ["", "one", *(text[begin : begin + 5000] for begin in range(0, len(text), 5000))]
