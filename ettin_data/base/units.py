"""Counts and sizes as people write them: `837.2B` tokens, `5_000_000`, `64MiB`."""

from __future__ import annotations

import re
from decimal import Decimal

from ettin_data.base.errors import RecipeError

_COUNT = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}
_BYTES = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_DIGITS = 19  # of a number of 64 bits
_NUMBER = re.compile(r"\s*(\d[\d_,]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*")


def _parse(value: object, units: dict[str, int], example: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise RecipeError(f"{value!r} is not a count", remedy=f"write it as {example}")
    match = _NUMBER.fullmatch(str(value))
    if match is None or match[2].lower() not in units:
        raise RecipeError(f"{value!r} is not a count", remedy=f"write it as {example}")
    try:
        number = Decimal(match[1].replace("_", "").replace(",", "")) * units[match[2].lower()]
        if number.adjusted() < _DIGITS:  # before it is written out
            return int(number.to_integral_value())
    except ArithmeticError:  # an exponent that no Decimal has
        pass
    raise RecipeError(f"{value!r} is too large a number", remedy=f"write it as {example}")


def parse_count(value: object) -> int:
    """Read a token count: `1.7T`, `837.2B`, `5_000_000`, `3e6`. Raises `RecipeError` for anything else."""
    return _parse(value, _COUNT, "837.2B, 1.7T, 300M, 5k or 5_000_000")


def parse_bytes(value: object) -> int:
    """Read a size in bytes: `64MiB`, `1.5GB`, `1048576`. Raises `RecipeError` for anything else."""
    return _parse(value, _BYTES, "64MiB, 1.5GB or 1048576")


def _human(value: float, base: float, suffixes: tuple[str, ...]) -> str:
    for suffix in suffixes[:-1]:
        if abs(value) < base * 0.99995:
            return f"{value:.0f}{suffix}" if suffix == suffixes[0] else f"{value:.1f}{suffix}"
        value /= base
    return f"{value:.1f}{suffixes[-1]}"


def count(value: float) -> str:
    """Show a count in at most six characters: `837.2B`."""
    return _human(value, 1000.0, ("", "k", "M", "B", "T"))


def size(value: float) -> str:
    """Show a size in bytes: `64.0 MiB`."""
    return _human(value, 1024.0, (" B", " KiB", " MiB", " GiB", " TiB", " PiB"))


def duration(seconds: float) -> str:
    """Show a time: `45s`, `3m20s`, `2h05m`, `12d03h`."""
    s = round(seconds)
    if s < 60:
        return f"{s}s"
    if s < 3600:
        return f"{s // 60}m{s % 60:02d}s"
    if s < 86400:
        return f"{s // 3600}h{s % 3600 // 60:02d}m"
    return f"{s // 86400}d{s % 86400 // 3600:02d}h"
