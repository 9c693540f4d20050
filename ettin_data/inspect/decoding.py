"""How the ids of some data are shown: as text with the tokenizer that made them, or as ids, and then it is said why.

Never with another tokenizer: what is found is taken only with the digest that the run states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ettin_data.base.errors import TokenizerError
from ettin_data.tokenizer.encoder import Backend, Tokenizer, TokenizerFile, resolve
from ettin_data.tokenizer.files import SAME_FILE, found
from ettin_data.tokenizer.vocabulary import MODERNBERT, AnyTokens, Frame, Vocabulary

REMEDY = "name its tokenizer with --tokenizer"


@dataclass(frozen=True)
class Words:
    """The tokenizer of some data, or why there is none.

    Attributes:
        tokenizer: None where it cannot be found.
        problem: why, in a sentence; None where it was found.
    """

    tokenizer: Tokenizer | None
    problem: str | None = None

    def decode(self, ids: AnyTokens | Sequence[int]) -> str:
        """The text of ids; without a tokenizer the ids as numbers, parted by spaces."""
        if self.tokenizer is None:
            return " ".join(map(str, np.asarray(ids).tolist()))
        return self.tokenizer.decode(ids)

    def needed(self) -> Tokenizer:
        """The tokenizer, to encode with. Raises `TokenizerError` where there is none."""
        if self.tokenizer is None:
            raise TokenizerError("a text cannot be looked for", why=self.problem, remedy=REMEDY)
        return self.tokenizer


def words_of(
    stated: Vocabulary | None, name: str | None = None, frame: Frame | None = None, backend: Backend = "tokenizers"
) -> Words:
    """The tokenizer of a run, or of data that no run describes.

    Args:
        stated: what the run says; None for shards of others.
        name: a file, folder or hub id that a user names. For a run it has to be that of the build.
        frame: its tokens by role, where neither its digest nor the run says them.
        backend: "tokenizers" loads at once; "auto" encodes faster and takes half a second longer to load.

    Raises:
        TokenizerError: what was named cannot be had, or is not the run's tokenizer.
    """
    if name is not None:
        file = found(name)
        if stated is not None and file.sha256 != stated.digest:
            raise TokenizerError(
                "this is not the tokenizer of the run",
                where=name,
                why=f"its sha256 is {file.sha256}, the run was built with {stated.digest} ({stated.name})",
                remedy="name the tokenizer that it was built with, or none to see ids",
            )
        return Words(_opened(file, frame or (stated.frame if stated else None), backend))
    if stated is None:
        return Words(None, f"no run.json says with which tokenizer these samples were made; {REMEDY}")
    try:
        return Words(_opened(_file_of(stated), stated.frame, backend))
    except TokenizerError as error:
        why = f"{error.what}{f': {error.why}' if error.why else ''}"
        return Words(None, f"the tokenizer {stated.name} ({stated.digest[:12]}…) cannot be found: {why}; {REMEDY}")


def _file_of(stated: Vocabulary) -> TokenizerFile:
    if stated.digest == MODERNBERT.digest and stated.name not in SAME_FILE:
        try:
            return resolve(stated.name, asked_for=False)
        except TokenizerError:  # the run came from another machine, where it lay elsewhere
            return resolve()
    return resolve(stated.name, sha256=stated.digest, asked_for=False)


def _opened(file: TokenizerFile, frame: Frame | None, backend: Backend) -> Tokenizer:
    tokenizer = Tokenizer(file, backend, frame=None if file.sha256 == MODERNBERT.digest else frame)
    _ = tokenizer.vocabulary  # loaded here, so that what is wrong with it is said here
    return tokenizer
