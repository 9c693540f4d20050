"""When a document has an evaluation text: a rule looks at the share of its n-grams that stand there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np

from ettin_data.base.errors import RecipeError, near

Name = Literal["half", "decon"]


@dataclass(frozen=True)
class Rule:
    """A rule and its n-grams.

    Attributes:
        name: `half` asks for half of what the n-grams of a text weigh. `decon` is that of allenai's decon: 0.8 of it
            for texts of 50 words and more, all of it for 20, and in between on a line; the answer, if there is one,
            within `ANSWER_WINDOW` words behind the question; texts of fewer than 20 words are not looked for.
        ngram: words of an n-gram.
    """

    name: Name
    ngram: int

    @property
    def least_words(self) -> int:
        """Texts of fewer are not looked for."""
        return 20 if self.name == "decon" else 0

    @property
    def wants_answer(self) -> bool:
        return self.name == "decon"

    def least(self, words: int) -> float:
        """The least score of a text of so many words that counts."""
        if words < self.ngram:
            return 1.0
        if self.name == "half":
            return 0.5
        return float(np.interp(words, [20, 50], [1.0, 0.8]))


ANSWER_WINDOW = 50
DEFAULT_NGRAM = {"half": 8, "decon": 5}
LEAST_NGRAM, LARGEST_NGRAM = 4, 50


def rule_of(name: str, ngram: int | None = None) -> Rule:
    """The rule of this name; without `ngram` with its own n-grams.

    Raises:
        RecipeError: there is no such rule, or no such n-gram.
    """
    if name not in get_args(Name):
        raise RecipeError(f"there is no rule {name!r}", where="rule", remedy=near(name, get_args(Name)))
    if ngram is not None and not LEAST_NGRAM <= ngram <= LARGEST_NGRAM:
        raise RecipeError(
            f"an n-gram of {ngram} words cannot be looked for",
            where="ngram",
            remedy=f"give {LEAST_NGRAM} to {LARGEST_NGRAM}",
        )
    return Rule(cast("Name", name), ngram or DEFAULT_NGRAM[name])
