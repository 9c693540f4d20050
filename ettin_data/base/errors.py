"""Errors that tell a user what, where, why and what to do.

Every error raised on purpose by this package is an `EttinError`: the command line prints it without a traceback.
Programming errors stay ordinary Python exceptions.
"""

from __future__ import annotations

import difflib
import enum
import pickle
import re
from collections.abc import Iterable
from typing import Any

from ettin_data.base.redact import redact
from ettin_data.base.visible import visible


class ExitStatus(enum.IntEnum):
    """What the command line ends with."""

    OK = 0
    WRONG = 1
    """What was to be checked is not as it should be, something is damaged; or an error that is none of the others."""
    USAGE = 2
    """What was asked for is wrong: a command, an option, a value, a recipe; asking again changes nothing."""
    NOT_COMPARED = 2
    """There is nothing to judge."""
    INCOMPLETE = 3
    """What is there is right, and it is not all: a build that stopped, a check of a part."""
    NOT_FOUND = 4
    """What was named is not there: a run, a recipe, a source's files, a step."""
    INTERRUPTED = 130
    TERMINATED = 143


_MOST_CHARACTERS, _LAST_CHARACTERS = 1 << 16, 1 << 12  # of a line of a message, and of them from its end


class EttinError(Exception):
    """An error with a place, a reason and a remedy.

    Its text has no secrets and no character that steers a terminal, whatever is put into it; what follows a line end in
    a value stands further in, so that it cannot pass for a line of ours.

    It passes from one process to another as it is: type, fields (those of subclasses too) and notes. Where it passes,
    context is added as a note (`add_note`), never by another error in its place.

    Args:
        what: one sentence, with the offending value in it.
        where: file, key path, split, shard or record concerned.
        why: the rule that was broken, or the underlying error.
        remedy: what the user can do about it; without one, what helps against the error of a disk that is the `why`.
        status: exit status of a command that ends with it; None for that of its class.

    Attributes:
        exit_status: of a command that it ends.
    """

    exit_status: ExitStatus = ExitStatus.WRONG
    remedy: str | None

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        why: object = None,
        remedy: str | None = None,
        status: ExitStatus | None = None,
    ) -> None:
        if status is not None:
            self.exit_status = status
        if remedy is None and isinstance(why, OSError):
            from ettin_data.base.disk_errors import said  # whose own errors are of this module

            remedy = found.remedy if (found := said(why, where)) else None
        self.what, self.where, self.why, self.remedy = what, where, why, remedy
        lines = [what]
        for label, value in (("where", where), ("why", why), ("do", remedy)):
            if value is not None:
                lines.append(f"  {label}: {value}")
        super().__init__("\n".join(map(_told, lines)))

    def full_text(self) -> str:
        """The message with its notes, as free of secrets as itself."""
        return "\n".join([str(self), *(f"  {_told(note)}" for note in getattr(self, "__notes__", ()))])

    def __reduce__(self) -> tuple[Any, ...]:  # by its fields: a subclass may take what arguments it likes
        return (_rebuild, (type(self), self.args, {name: _portable(value) for name, value in vars(self).items()}))


def _told(text: str) -> str:
    text = redact(text)  # first: a cut could part a secret from the sign that shows it
    if len(text) > _MOST_CHARACTERS:  # of a foreign file: a name in it may be a megabyte long
        left_out = len(text) - _MOST_CHARACTERS
        text = f"{text[: -left_out - _LAST_CHARACTERS]} [{left_out:,} characters more] {text[-_LAST_CHARACTERS:]}"
    return re.sub(r"\n(?! {4})", "\n    ", visible(text))


def _rebuild(cls: type[EttinError], args: tuple[Any, ...], fields: dict[str, Any]) -> EttinError:
    error = cls.__new__(cls)
    error.args = args
    vars(error).update(fields)
    return error


def _portable(value: Any) -> Any:
    """The value, or its text where pickling would lose it, as it does errors of several libraries."""
    try:
        pickle.loads(pickle.dumps(value))
    except Exception:
        return redact(value)
    return value


class RecipeError(EttinError):
    """A recipe, an override or a command line value is not valid."""

    exit_status = ExitStatus.USAGE


class SourceError(EttinError):
    """An upstream file is missing, changed, unreadable or not what its source says it is."""


class TokenizerError(EttinError):
    """The tokenizer cannot be found or is not the one that the recipe asks for."""


class ShardError(EttinError):
    """An MDS shard or index is damaged or not of the expected form."""


class FormatError(EttinError):
    """A file of a run is of a newer format than this version of the package knows."""


class BuildError(EttinError):
    """A build cannot start, continue or meet its targets."""


class OrderError(EttinError):
    """A batch-order index is missing, damaged or does not fit the data."""


def near(name: str, known: Iterable[str]) -> str:
    """What somebody who wrote `name` may have meant, as a remedy: up to three near names, or else all of them."""
    names = list(known)
    close = difflib.get_close_matches(name, names, 3, 0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known are {', '.join(sorted(names))}" if names else "there are none"
