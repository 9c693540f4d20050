"""Shapes: what a JSON file of a run has to look like, so that whoever reads it gets values that can be trusted.

A shape is a pydantic model that only looks: `require` raises where a value is missing, of another type or out of range,
and nothing is converted, because the digest of a file is that of its own values.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

MOST = 1 << 62
"""What a count may be: sums of some of them still fit 64 bits."""

_PART_BYTES, _PATH_BYTES = 255, 4000  # what file systems take

Number = Annotated[int, Field(ge=0, le=MOST)]
Word = Annotated[str, Field(max_length=1024)]
Counter = dict[str, Number]


class Shape(BaseModel):
    """A shape whose members are all there; others may be beside them, as of a newer version."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")


def require(shape: type[BaseModel], value: object) -> None:
    """Raise `ValueError`, a sentence about the first thing that is wrong, if a value has not this shape."""
    try:
        shape.model_validate(value)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong, as `<place>: <what>`; the value itself may be as long as it likes."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part)[:80] for part in first["loc"])
    more = f" (and {error.error_count() - 1:,} more)" if error.error_count() > 1 else ""
    return f"{place}: {first['msg'][:300]}{more}"


def is_relative_path(name: object) -> bool:
    """Whether a name that others wrote leads to a file below a folder, as far as names go, and is one that can be."""
    if not isinstance(name, str) or "\\" in name or "\0" in name:
        return False
    path = PurePosixPath(name)
    try:
        sizes = [len(part.encode()) for part in path.parts]
    except UnicodeEncodeError:
        return False
    inside = bool(sizes) and not path.is_absolute() and ".." not in path.parts
    return inside and max(sizes) <= _PART_BYTES and sum(sizes) + len(sizes) <= _PATH_BYTES


def is_plain_name(name: object) -> bool:
    """Whether a name is that of a file or folder in a folder: one part of a path."""
    return is_relative_path(name) and PurePosixPath(str(name)).name == name


def _plain(name: str) -> str:
    if not is_plain_name(name):
        raise ValueError(f"{name[:80]!r} is not a plain name")
    return name


PlainName = Annotated[str, AfterValidator(_plain)]


class FileDigest(Shape):
    """As `files.digest` gives it."""

    bytes: Number
    xxh3_64: Word
