"""`decontamination.json`: against which evaluation texts a run was checked, enough to check it again without them.

It holds their words as hashes, not the texts: a data set that carried its evaluation along would spread what it is to
be free of.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ettin_data.base import sealed_json, shapes
from ettin_data.base import words as of_words
from ettin_data.base.errors import ShardError
from ettin_data.base.shapes import Number, Shape, Word
from ettin_data.stages.contamination.index import Index
from ettin_data.stages.contamination.options import Decontamination, MadeIndex
from ettin_data.stages.contamination.rules import rule_of
from ettin_data.stages.contamination.search import VERSION
from ettin_data.storage.phase import Phase

_SAYS = "texts are found by their words, however they are written; paraphrases and translations are not found"


class _Record(Shape):
    rule: Word
    ngram: Number
    index: Word
    action: Word
    search: Number
    normaliser: Number
    names: list[str]
    words: list[Number]
    hashes: str
    answers: list[list[Number]]
    unsearchable: dict[str, str]


def made_ready(phase: Phase, chosen: Decontamination | None, hashed: bool) -> Decontamination | None:
    """The same with the index in a file, which workers read instead of the texts.

    Args:
        hashed: words are hashed for the keys of copies too.
    """
    if chosen is None:
        return None
    return replace(chosen, made=MadeIndex.write(chosen.index().ready(hashed), phase.made_index))


def remove_made(phase: Phase) -> None:
    """Remove what `made_ready` has written, of this and of stopped builds."""
    for path in phase.made_indexes():
        path.unlink(missing_ok=True)


def write_checked(phase: Phase, chosen: Decontamination | None) -> list[str]:
    """Write the record of a build that decontaminates; returns its name, relative to the phase, if there is one."""
    record = phase.decontamination_json
    if chosen is None:
        record.unlink(missing_ok=True)
        return []
    index = chosen.index()
    said: dict[str, Any] = {
        "says": _SAYS,
        "action": chosen.action,
        "rule": index.rule.name,
        "ngram": index.rule.ngram,
        "index": index.digest,
        "search": VERSION,
        "normaliser": of_words.VERSION,
        "files": [dict(one) for one in chosen.read],
        "unsearchable": index.unsearchable,
        "names": list(index.names),
        "words": np.diff(index.bounds).tolist(),
        "hashes": base64.b64encode(index.words.astype("<u8").tobytes()).decode(),
        "answers": [list(answer) for answer in index.answers],
    }
    sealed_json.write(record, said)
    return [record.name]


def read_checked(phase: Phase) -> tuple[Index, str] | None:
    """The index that a run was checked against, and the action; None if it was not.

    Raises:
        ShardError: the record is damaged, or its index is not the one whose digest it states.
    """
    path = phase.decontamination_json
    if not path.exists():
        return None
    body = sealed_json.read(path)
    try:
        shapes.require(_Record, body)
        index = _index(body)
    except (ValueError, KeyError) as error:
        raise ShardError(f"{path.name} is damaged", where=path, why=error) from error
    if (body["search"], body["normaliser"]) == (VERSION, of_words.VERSION) and index.digest != body["index"]:
        raise ShardError(f"{path.name} states another index than it holds", where=path, why=f"it is {index.digest}")
    return index, body["action"]


def _index(body: Mapping[str, Any]) -> Index:
    hashes = np.frombuffer(base64.b64decode(body["hashes"], validate=True), "<u8").astype(np.uint64)
    bounds = np.cumsum([0, *body["words"]])
    if len(hashes) != bounds[-1] or len(body["names"]) != len(body["words"]):
        raise ValueError("names, numbers of words and words do not fit each other")
    answers = tuple(tuple(answer) for answer in body["answers"])
    return Index(
        tuple(body["names"]), rule_of(body["rule"], body["ngram"]), hashes, bounds, answers, body["unsearchable"]
    )
