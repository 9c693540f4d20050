"""A small built run with something of all that people look at: rejects, filtered documents, copies, two phases."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

import ettin_data

WORDS = [f"{start}{end}" for start in ("mo", "da", "to", "sha") for end in ("del", "ta", "ken", "rd", "law")]
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<mask>"]
FILTERED, REJECTED, COPIES = 7, 3, 4
"""Documents of `notes` too short for the filter; lines of it that are no JSON; documents that stand in `papers` too."""


def write_sources(root: Path) -> Path:
    """`<root>/papers.jsonl`, `<root>/notes.jsonl`, a tokenizer, and `<root>/recipe.yaml`, which is returned."""
    rng = np.random.default_rng(5)

    def texts(count: int, least: int, most: int) -> list[str]:
        return [" ".join(rng.choice(WORDS, int(rng.integers(least, most)))) for _ in range(count)]

    papers = texts(120, 40, 300)
    notes = [*texts(150, 12, 60), *texts(FILTERED, 2, 9), *papers[:COPIES]]
    for name, found in (("papers", papers), ("notes", notes)):
        lines = [json.dumps({"id": f"{name}-{n}", "text": text}) for n, text in enumerate(found)]
        lines += ["{broken"] * REJECTED if name == "notes" else []
        (root / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    words = Tokenizer(models.WordLevel({name: n for n, name in enumerate([*SPECIAL, *WORDS])}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    words.save(str(root / "tokenizer.json"))
    digest = hashlib.sha256((root / "tokenizer.json").read_bytes()).hexdigest()
    frame = {"open": "<s>", "close": "</s>", "pad": "<pad>", "mask": "<mask>", "unknown": "<unk>"}
    recipe = {
        "phase": "first", "length": 128, "pack": {"min_length": 32, "always_skip": 8}, "order": {"batch": 8},
        "tokenizer": {"name": str(root / "tokenizer.json"), "sha256": digest, "frame": frame},
        "filters": [{"length": {"min_words": 10}}], "loader": {"rule": "as_stored"}, "dedup": {"exact": True},
        "bad_input": {"max_rejects": 0.2}, "shards": {"size_limit": 16384}, "validation": 0.02, "split_bytes": 1,
        "sources": {
            "papers": {"root": str(root / "papers.jsonl"), "tokens": 15000, "licence": "CC-BY-4.0"},
            "notes": {"root": str(root / "notes.jsonl"), "tokens": 7500},
        },
    }  # fmt: skip
    (root / "recipe.yaml").write_text(json.dumps(recipe))
    return root / "recipe.yaml"


def build(root: Path) -> Path:
    """Build the phases `first` and `second`; returns the run."""
    recipe = ettin_data.load_recipe(write_sources(root))
    for changed in (recipe, recipe.changed("phase=second", "sources.papers.tokens=3000", "order.seed=5")):
        ettin_data.build(changed, root / "run", workers=1)
    return root / "run"
