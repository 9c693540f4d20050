"""Filters that are not ours: any of datatrove's by the name of its class, and a user's own, `package.module:name`.

A user's own filter is a class (datatrove's `BaseFilter`, or our `Filter`) or a function. A function is called with each
document, or with its text if its first parameter is annotated `str` or is called `text`; it answers `True` to keep it,
`False` or `(False, "reason")` to drop it. Its other parameters are its options.

Such a filter remembers what it likes within a split. What it remembers from one split to the next makes the result
depend on who built what, which no check of ours finds.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast, get_type_hints

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from ettin_data.base.errors import BuildError, EttinError, RecipeError
from ettin_data.base.modules import named, version_of
from ettin_data.stages.filters.base import UNNAMED, Answer, Filter, Kind, Rejects
from ettin_data.stages.filters.measured import Reason


def datatroves() -> dict[str, Kind]:
    """datatrove's filters by the names of their classes. Imports all of them, and what they need."""
    from datatrove.pipeline import filters

    version = importlib.metadata.version("datatrove")
    return {
        name: Kind(name, version, cls, partial(_theirs, name, cls))
        for name, cls in vars(filters).items()
        if isinstance(cls, type) and issubclass(cls, PipelineStep)
    }


def own(name: str, place: str) -> Kind:
    """The filter `package.module:name`, with the version that `base.modules.version_of` finds.

    Raises:
        RecipeError: there is no such module or name, or it is no filter; `place` is its key path in the recipe.
    """
    target = named(name, where=place)
    if isinstance(target, type) and issubclass(target, PipelineStep):
        ours = issubclass(target, Filter)
        if ours or issubclass(target, _datatroves_base()):
            return Kind(name, _version(target, name, place), target, target if ours else partial(_theirs, name, target))
    elif callable(target) and not isinstance(target, type):
        return Kind(name, _version(target, name, place), target, partial(_own_function, name, target))
    raise RecipeError(
        f"{name!r} is no filter",
        where=place,
        why=f"it is {target!r}",
        remedy="name a function, or a class that derives from datatrove's BaseFilter",
    )


def _datatroves_base() -> type[PipelineStep]:
    from datatrove.pipeline.filters.base_filter import BaseFilter

    return cast("type[PipelineStep]", BaseFilter)


def _version(target: Any, name: str, place: str) -> str:
    if str(target.__module__).partition(".")[0] == "datatrove":
        return importlib.metadata.version("datatrove")
    try:
        return version_of(target)
    except (OSError, TypeError):
        raise RecipeError(
            f"filter {name!r} has no version",
            where=place,
            why="its module has no source to take a digest of",
            remedy="give its module a VERSION, and raise it when the filter decides differently",
        ) from None


class OwnFunction(Filter):
    """A user's function as a step."""

    def __init__(self, name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        self.name = name
        super().__init__()
        self._function, self._options = function, options
        first = next(iter(inspect.signature(function).parameters))
        try:
            hint = get_type_hints(function).get(first)
        except (NameError, TypeError):
            hint = None
        self._takes_text = hint is str or (hint is None and first == "text")

    def filter(self, document: Document) -> Answer:
        try:
            answer = self._function(document.text if self._takes_text else document, **self._options)
        except Exception as error:
            raise _failed(self.name, document, error) from error
        keep, reason = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, UNNAMED)
        if not isinstance(keep, bool | np.bool_):
            raise BuildError(
                f"filter {self.name!r} answered {answer!r}",
                where=f"document {document.id!r}",
                remedy="return True to keep a document, and False or (False, 'reason') to drop it",
            )
        return True if keep else (False, reason if isinstance(reason, Reason) else str(reason))


def _own_function(name: str, function: Callable[..., Any], /, **options: Any) -> PipelineStep:
    return OwnFunction(name, function, options)


def _theirs(name: str, cls: Callable[..., Any], /, **options: Any) -> PipelineStep:
    """A step of datatrove's, whose errors say which filter it was."""
    step = cls(**options)
    step.filter_batch = partial(_guarded, name, step.filter_batch)
    return step


def _guarded(name: str, judge: Callable[[list[Document]], Any], batch: list[Document]) -> Any:
    try:
        return judge(batch)
    except Exception as error:
        raise _failed(name, batch[0], error) from error


def try_out(name: str, step: Any, place: str) -> None:
    """Let datatrove's filters, which load what they need with the first document, say what is not installed.

    Raises:
        RecipeError: a package is missing.
    """
    if isinstance(step, Filter):
        return
    try:
        step.filter(Document("A text.", "none", metadata={"url": "https://example.org/"}))
    except ImportError as error:
        raise RecipeError(f"filter {name!r} needs what is not installed", where=place, why=error) from error
    except Exception:
        pass


def _failed(name: str, document: Document, error: Exception) -> EttinError:
    if isinstance(error, EttinError):
        return error
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"document {document.id!r}; {frame.filename}, line {frame.lineno}"
    return BuildError(f"filter {name!r} failed", where=where, why=_told(error))


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


class HandOver:
    """Stands where datatrove's filters have a writer of dropped documents, and hands them to `rejects`."""

    def __init__(self, rejects: Rejects) -> None:
        self.rejects = rejects

    def __enter__(self) -> HandOver:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, document: Document, rank: int) -> None:
        self.rejects(document, str(document.metadata.pop("filter_reason", UNNAMED)))
