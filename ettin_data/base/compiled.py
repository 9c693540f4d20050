"""Whether loops in C (`loops.c` here and in other folders) are used, and the texts that prove them.

Whoever installs this package compiles them, where there is a C compiler. Numpy's way says what is right: a loop is used
in a process after it has given the same for `proof_texts`, and wherever there is none, or it does not, numpy does the
work, with the same results for a multiple of the time.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
from numpy.typing import NDArray

SWITCH = "ETTIN_DATA_COMPILED"
"""The environment variable that leaves all to numpy if it is 0."""

_on = os.environ.get(SWITCH) != "0"


@cache
def there() -> bool:
    """Whether the loops were compiled for this Python."""
    try:
        from ettin_data.base import loops  # noqa: F401
    except ImportError:
        return False
    return True


def used(same: Callable[[], bool], makes: str) -> bool:
    """Whether a loop is used, which it is only if it gives the `same` as numpy; of what it `makes` a warning tells."""
    return _on and there() and _proven(same, makes)


@cache
def _proven(same: Callable[[], bool], makes: str) -> bool:
    try:
        if same():
            return True
        wrong = f"compiled code makes other {makes} than numpy here, so numpy makes them: report it"
    except ImportError:  # this one was not compiled
        return False
    except (AttributeError, TypeError, ValueError):  # as where sources are newer than what was compiled of them
        wrong = f"compiled code for {makes} is of another version, so numpy makes them: install this package once more"
    warnings.warn(wrong, stacklevel=4)
    return False


@contextmanager
def numpy_alone() -> Iterator[None]:
    """Meanwhile no loop is used, for who compares the two ways."""
    global _on
    before, _on = _on, False
    try:
        yield
    finally:
        _on = before


def proof_texts(kinds: NDArray[np.uint8]) -> list[str]:
    """Texts of every character but the middle of rows of one kind, alone and within words; `kinds` by code point."""
    border = np.flatnonzero(kinds[1:] != kinds[:-1])
    codes = np.unique(np.concatenate([np.arange(0x500), border, border + 1, [len(kinds) - 1]]))
    text = "".join(f"{sign}a{sign}{sign} " for sign in map(chr, codes.tolist()))
    return ["", "one", *(text[begin : begin + 5000] for begin in range(0, len(text), 5000))]
