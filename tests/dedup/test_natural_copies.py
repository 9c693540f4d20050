"""Copies among texts that people have written: what Debian and Python packages say of themselves and their licences."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np
import pytest
from key_kit import write_texts

from ettin_data.base.words import ngrams, word_hashes
from ettin_data.dedup.join import Join, find_copies
from ettin_data.dedup.options import DedupChoice
from ettin_data.storage.attributes import read_attribute

NAMES = ("copyright", "metadata", "license", "licence", "copying", "readme", "notice", "authors")


def natural() -> list[str]:
    texts = []
    for root in (sysconfig.get_paths()["purelib"], "/usr/share/doc", sysconfig.get_paths()["stdlib"]):
        for path in sorted(Path(root).rglob("*")):
            name = path.name.lower()
            named = name.startswith(NAMES) or name.endswith((".rst", ".md", ".txt"))
            if named and path.is_file() and 300 < path.stat().st_size < 200_000:
                texts.append(path.read_text(errors="replace"))
    return texts


def jaccard(one: str, other: str) -> float:
    grams, offsets = ngrams(*word_hashes([one, other]), 5)
    mine, theirs = set(grams[: offsets[1]].tolist()), set(grams[offsets[1] :].tolist())
    return len(mine & theirs) / max(len(mine | theirs), 1)


@pytest.mark.slow
def test_of_copies_that_verify_lets_pass_nearly_all_are_alike_to_their_twin(tmp_path: Path) -> None:
    texts, choice = natural(), DedupChoice.model_validate({"near": {"verify": 0.7}})
    half = len(texts) // 2
    splits = [write_texts(tmp_path / "a", "a", texts[:half], choice.keys)]
    splits.append(write_texts(tmp_path / "b", "b", texts[half:], choice.keys))
    tables = {split.name: tmp_path / f"{number}.parquet" for number, split in enumerate(splits)}
    find_copies(Join(splits, choice, 1, tmp_path / "join"), tables)
    found: dict[str, list[float]] = {"same_text": [], "near_copy": []}
    for number, split in enumerate(splits):
        table = read_attribute(tables[split.name])
        for row in np.flatnonzero(table.codes).tolist():
            twin = int(table.columns["twin_split"][row]) * half + int(table.columns["twin_row"][row])
            reason = table.reasons[table.codes[row] - 1]
            found[reason].append(jaccard(texts[number * half + row], texts[twin]))
    near = np.array(found["near_copy"])
    if len(near) < 150:
        pytest.skip(f"{len(near)} near copies among {len(texts):,} texts of this machine say too little")
    assert min(found["same_text"], default=1) == 1
    assert (near >= 0.5).mean() >= 0.98
