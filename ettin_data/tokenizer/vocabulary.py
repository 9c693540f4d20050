"""What a tokenizer is to everything behind it: which ids frame, pad and mask, which are text, and how large they get.

A `Vocabulary` is made once, from the tokenizer file that a build uses, and written into `run.json`. Whatever reads a
run takes it from there, so that no other module knows an id, and looking into a run needs no tokenizer file.

A file does not say which of its tokens frames a sample. ModernBERT's is known by its digest; for any other file the
recipe names the tokens by their text, as `tokenizer.frame: {open: "<bos>", close: "<eos>", pad: "<pad>"}`.

Nor does a file say which of its added tokens are text. Those marked as special are not, and no text becomes them. Of
the others, runs of spaces or newlines, `<h1>` and `|||EMAIL_ADDRESS|||` are what stands in documents; `<mask>`,
`<2mass>`, `[@BOS@]` and `<unused7>` (all of Gemma 2, none of them special) are signs for a model, which a document that
merely talks about them must not give. `marks` is the rule by default; `plain` of a frame names the tokens in its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ettin_data.base import shapes
from ettin_data.base.errors import TokenizerError, near
from ettin_data.tokenizer.files import HUB_ID, MODERNBERT_SHA256

FRAMING = ("open", "close", "pad")
"""The roles that every run needs."""
ROLES = (*FRAMING, "mask", "unknown")

Tokens = NDArray[np.uint16 | np.uint32]
"""Ids as this package stores them, of `Vocabulary.dtype`."""
AnyTokens = NDArray[np.integer[Any]]
"""Ids of any integer type, as shards and orders of others may have them."""


@dataclass(frozen=True)
class Frame:
    """The tokens that have a role, by their text.

    Attributes:
        open, close: first and last token of a sample.
        pad: fills the rows of a batch; no sample contains it.
        mask: stands for a token that an encoder has to guess; None where no encoder will be trained.
        unknown: for what the vocabulary cannot express; None where it can express everything.
        plain: added tokens without a role that text never becomes; None takes `marks`. A vocabulary has them in
            `reserved`, and this no more.
    """

    open: str
    close: str
    pad: str
    mask: str | None = None
    unknown: str | None = None
    plain: tuple[str, ...] | None = None

    def roles(self) -> dict[str, str]:
        """Role -> text, of those that are there."""
        return {name: getattr(self, name) for name in ROLES if getattr(self, name) is not None}


BERT = Frame("[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]")
"""The names of BERT's family: ModernBERT's, and what is looked for in a file of which nothing else is said."""

UNFRAMED = Frame("", "", "")
"""This very value stands for no frame at all: of a tokenizer that only encodes, no token but the unknown has a role."""


_Id = Annotated[int, Field(ge=0, lt=1 << 24)]


class _Frame(shapes.Shape):
    open: str
    close: str
    pad: str
    mask: str | None = None
    unknown: str | None = None


class _Vocabulary(shapes.Shape):
    name: shapes.Word
    digest: shapes.Word
    size: Annotated[int, Field(ge=1, le=1 << 24)]
    open: _Id
    close: _Id
    pad: _Id
    mask: _Id | None
    unknown: _Id | None
    reserved: list[_Id]
    frame: _Frame


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer's ids by role.

    Attributes:
        name: where the tokenizer can be had: a hub id, or the path of its file.
        digest: SHA-256 of the `tokenizer.json`; the identity of the tokenizer, whatever its name.
        size: one more than the largest id, added tokens included.
        open, close, pad, mask, unknown: ids of the tokens of `frame`; None where that has none.
        reserved: ids that text must not become, rising: the special tokens, all that have a role, and those that are
            plain text (`marks`). The other added tokens (runs of spaces; ModernBERT's `[unused0]`) are vocabulary.
        frame: the tokens with a role by their text, for people.
    """

    name: str
    digest: str
    size: int
    open: int
    close: int
    pad: int
    mask: int | None
    unknown: int | None
    reserved: tuple[int, ...]
    frame: Frame

    @property
    def dtype(self) -> str:
        """The smallest type of an id in a shard: "uint16", or "uint32" above 65,536 entries."""
        return "uint16" if self.size <= 1 << 16 else "uint32"

    @property
    def ordinary(self) -> tuple[int, int]:
        """The longest range [first, end) of ids without a reserved one: what a random token is drawn from."""
        borders = [-1, *self.reserved, self.size]
        first, end = max(((a + 1, b) for a, b in pairwise(borders)), key=lambda span: (span[1] - span[0], -span[0]))
        return first, end

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they stand in `run.json`; `dtype` is there for readers that are not this package."""
        frame = {name: getattr(self.frame, name) for name in ROLES}
        return {**asdict(self), "reserved": list(self.reserved), "frame": frame, "dtype": self.dtype}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Vocabulary:
        """The inverse of `to_json`. Raises `TokenizerError` for what is no vocabulary."""
        try:
            shapes.require(_Vocabulary, values)
            known = {field.name: values[field.name] for field in fields(cls)}
            found = cls(**known | {"reserved": tuple(known["reserved"]), "frame": Frame(**known["frame"])})
            roles = [id_ for id_ in (found.open, found.close, found.pad, found.mask, found.unknown) if id_ is not None]
            if max(*roles, *found.reserved) >= found.size or list(found.reserved) != sorted(found.reserved):
                raise ValueError(f"ids {roles}, reserved {found.reserved[:12]} of a vocabulary of {found.size:,}")
            return found
        except (KeyError, TypeError, ValueError) as error:
            raise TokenizerError("this describes no vocabulary", where="run.json: vocabulary", why=error) from None


MODERNBERT = Vocabulary(
    name=HUB_ID,
    digest=MODERNBERT_SHA256,
    size=50368,
    open=50281,
    close=50282,
    pad=50283,
    mask=50284,
    unknown=50280,
    reserved=(1, 50279, 50280, 50281, 50282, 50283, 50284),
    frame=BERT,
)
"""ModernBERT's, of which Ettin's published data are (ARCHITECTURE 5.1)."""

# Names of elements that documents on the web and in Markdown have: a tokenizer that adds them means the text.
_HTML = frozenset(
    "a abbr b big blockquote body br caption cite code col colgroup dd del details div dl dt em footer h1 h2 h3 h4"
    " h5 h6 head header hr html i img ins kbd li link main mark math meta nav ol option p pre q s samp script"
    " section select small span strike strong style sub summary sup svg table tbody td tfoot th thead title tr tt u"
    " ul var".split()
)
_MARK = re.compile(r"<(?P<element>[^\s<>]+)>|\[[^\s\[\]]+\]")


def marks(added: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The added tokens of a file that are neither special nor text, by default.

    They are those that are one word in angle or square brackets and no element of HTML: `<mask>`, `<|extra_id_0|>`,
    `[@BOS@]`; not `<h1>`, `</td>`, `|||IP_ADDRESS|||`, runs of white space, or words.
    """
    found = ((str(token["content"]), _MARK.fullmatch(str(token["content"]))) for token in added)
    return tuple(text for text, mark in found if mark and (mark["element"] or "").strip("/").lower() not in _HTML)


def parsed_file(text: str, name: str) -> dict[str, Any]:
    """A `tokenizer.json` as a value. Raises `TokenizerError` for what is none; `name` is where it lies."""
    try:
        file = json.loads(text)
        if not isinstance(file["model"]["vocab"], dict | list):
            raise TypeError("a vocabulary that is no mapping")
        return dict(file)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise _no_tokenizer(name, repr(error)) from error


def read_vocabulary(text: str, name: str, digest: str, frame: Frame | None = None) -> Vocabulary:
    """`vocabulary_of` the content of a `tokenizer.json`."""
    if digest == MODERNBERT.digest and frame is None:
        return replace(MODERNBERT, name=name)  # known without parsing 2 MB
    return vocabulary_of(parsed_file(text, name), name, digest, frame)


def vocabulary_of(file: Mapping[str, Any], name: str, digest: str, frame: Frame | None = None) -> Vocabulary:
    """The vocabulary of a tokenizer file.

    Args:
        file: the parsed `tokenizer.json`.
        name, digest: where it can be had, and its SHA-256.
        frame: None takes the tokens named as in `BERT`, of which mask and unknown may be missing.

    Raises:
        TokenizerError: the file is no tokenizer, it lacks a token of the frame, or the frame cannot be one.
    """
    entries, added, special = _tokens(file, name)
    chosen = frame or BERT
    if frame is UNFRAMED:
        chosen = replace(UNFRAMED, unknown=_unknown(file))
    wanted = chosen.roles() if frame is not UNFRAMED else {"unknown": chosen.unknown} if chosen.unknown else {}
    ids = {role: entries.get(token) for role, token in wanted.items()}
    missing = [role for role, id_ in ids.items() if id_ is None and (frame is not None or role in FRAMING)]
    if missing:
        raise TokenizerError(
            f"the tokenizer has no {', '.join(chosen.roles()[role] for role in missing)}",
            where=name,
            why="a sample begins with the opening and ends with the closing token, and trainers pad",
            remedy=_remedy(chosen.roles()[missing[0]], frame, added),
        )
    found = {role: id_ for role, id_ in ids.items() if id_ is not None}
    for role, other in ((a, b) for a in found for b in found if a < b and found[a] == found[b]):
        raise TokenizerError(
            f"{chosen.roles()[role]!r} stands for both {role!r} and {other!r}",
            where=name,
            why="samples are told from padding, and documents from each other, by these tokens",
            remedy="name a token of its own for each role in tokenizer.frame",
        )
    if unknown := [token for token in chosen.plain or () if token not in added]:
        raise TokenizerError(
            f"the tokenizer has no added token {unknown[0]!r}",
            where=name,
            why="tokenizer.frame.plain names added tokens whose text stays text",
            remedy=f"correct tokenizer.frame.plain: {near(unknown[0], added)}",
        )
    if chosen.plain is not None:
        plain: Iterable[str] = chosen.plain
    else:  # of ModernBERT's, the ids of published data say what is text
        plain = () if digest == MODERNBERT.digest else marks(file.get("added_tokens") or ())
    roles = {role: found.get(role) for role in ROLES}
    named = {role: text for role, text in chosen.roles().items() if role in found}
    return Vocabulary(
        name=name,
        digest=digest,
        size=max(entries.values()) + 1,
        reserved=tuple(sorted({entries[token] for token in (*special, *plain)} | set(found.values()))),
        frame=replace(chosen, mask=named.get("mask"), unknown=named.get("unknown"), plain=None),
        **roles,  # type: ignore[arg-type]  # open, close and pad were found
    )


def _tokens(file: Mapping[str, Any], name: str) -> tuple[dict[str, int], list[str], list[str]]:
    """Text -> id of every token; the added ones, and those of them that are special."""
    try:
        vocab = file["model"]["vocab"]
        listed = vocab.items() if isinstance(vocab, dict) else ((entry[0], id_) for id_, entry in enumerate(vocab))
        added = {str(token["content"]): int(token["id"]) for token in file.get("added_tokens") or ()}
        entries = {str(token): int(id_) for token, id_ in listed} | added
        special = [str(token["content"]) for token in file.get("added_tokens") or () if token.get("special")]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _no_tokenizer(name, repr(error)) from error
    if not entries:
        raise _no_tokenizer(name, "it has no tokens")
    return entries, list(added), special


def _unknown(file: Mapping[str, Any]) -> str | None:
    """The token that a model has for what it cannot express."""
    model = file["model"]
    if isinstance(place := model.get("unk_id"), int) and 0 <= place < len(model["vocab"]):
        return str(model["vocab"][place][0])
    unknown = model.get("unk_token")
    return unknown if isinstance(unknown, str) else None


def _no_tokenizer(name: str, why: str) -> TokenizerError:
    return TokenizerError(
        "this file is no tokenizer", where=name, why=why, remedy="name a tokenizer.json of `tokenizers`"
    )


def _remedy(token: str, frame: Frame | None, added: list[str]) -> str:
    shown = ", ".join(added[:12]) or "none: add them to the tokenizer as special tokens"
    how = "correct tokenizer.frame" if frame else 'name them: tokenizer.frame: {open: "<bos>", close: "<eos>", …}'
    return f"{how} ({near(token, added)}); the added tokens are {shown}"
