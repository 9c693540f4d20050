"""Errors that tell a user what, where, why and what to do.

Every error raised on purpose by this package is an `EttinError`: the command line prints it without a traceback.
Programming errors stay ordinary Python exceptions.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ettin_data.base.redact import redact


class EttinError(Exception):
    """An error with a place, a reason and a remedy. Its text has no secrets, whatever is put into it.

    Args:
        what: one sentence, with the offending value in it.
        where: file, key path, split, shard or record concerned.
        why: the rule that was broken, or the underlying error.
        remedy: what the user can do about it.
    """

    def __init__(self, what: str, *, where: object = None, why: object = None, remedy: str | None = None) -> None:
        self.what, self.where, self.why, self.remedy = what, where, why, remedy
        lines = [what]
        for label, value in (("where", where), ("why", why), ("do", remedy)):
            if value is not None:
                lines.append(f"  {label}: {value}")
        super().__init__(redact("\n".join(lines)))

    def __reduce__(self):  # keyword arguments survive pickling between processes
        return (_rebuild, (type(self), self.what, self.where, self.why, self.remedy))


def _rebuild(cls: type[EttinError], what: str, where: object, why: object, remedy: str | None) -> EttinError:
    return cls(what, where=where, why=why, remedy=remedy)


class RecipeError(EttinError):
    """A recipe, an override or a command line value is not valid."""


class SourceError(EttinError):
    """An upstream file is missing, changed, unreadable or not what its source says it is."""


class TokenizerError(EttinError):
    """The tokenizer cannot be found or is not the one that the recipe asks for."""


class ShardError(EttinError):
    """An MDS shard or index is damaged or not of the expected form."""


class BuildError(EttinError):
    """A build cannot start, continue or meet its targets."""


class OrderError(EttinError):
    """A batch-order index is missing, damaged or does not fit the data."""


def near(name: str, known: Iterable[str]) -> str:
    """What somebody who wrote `name` may have meant, as a remedy: up to three near names, or else all of them."""
    names = list(known)
    close = difflib.get_close_matches(name, names, 3, 0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(sorted(names))}"
