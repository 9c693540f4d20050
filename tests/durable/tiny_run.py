"""A run small enough to be built, killed and damaged hundreds of times: two sources of one's own, in seconds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from ettin_data import recipe
from ettin_data.build import build as run
from ettin_data.build.prepare import BuildOptions
from ettin_data.executor import ExecutorOptions
from ettin_data.recipe import Recipe

WORDS = [f"{start}{end}" for start in ("mo", "da", "to", "sha") for end in ("del", "ta", "ken", "rd", "law")]


def write_sources(root: Path, splits: int = 4, documents: int = 60) -> None:
    """`<root>/{alpha,beta}/part-0000.jsonl`, …: documents of 3 to 400 words, and in beta some lines that are broken."""
    rng = np.random.default_rng(7)
    for source in ("alpha", "beta"):
        (root / source).mkdir(parents=True, exist_ok=True)
        for part in range(splits if source == "alpha" else 2):
            lines = []
            for number in range(documents):
                words = " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), int(rng.integers(3, 400))))
                lines.append(json.dumps({"id": f"{source}-{part}-{number}", "text": words}))
                if source == "beta" and number % 25 == 3:
                    lines.append('{"id": "broken", "text": ')
            (root / source / f"part-{part:04d}.jsonl").write_text("\n".join(lines) + "\n")


def tiny_recipe(root: Path, splits: int = 4, **changes: object) -> Recipe:
    """Alpha is taken in part, beta once and a half; shards are small, so that a split has several."""
    tokenizer = root / "tokenizer.json"
    overrides = {
        "tokenizer.name": tokenizer,
        "tokenizer.sha256": hashlib.sha256(tokenizer.read_bytes()).hexdigest(),
        "length": 128,
        "split_bytes": 1,
        "pack.min_length": 48,
        "pack.always_skip": 8,
        "shards.size_limit": 16384,
        "order.batch": 8,
        "order.interval_steps": 20,
        "validation": 0.02,
        "bad_input.max_rejects": 0.2,
        **changes,
    }
    return recipe.load_recipe(
        "pretrain",
        overrides=[f"{key}={value}" for key, value in overrides.items()],
        add_sources=[f"alpha={root}/alpha:{splits * 12}k", f"beta={root}/beta:40k"],
        drop_sources=list(recipe.load_recipe("pretrain").sources),
    )


def build(loaded: Recipe, out: Path, **executor: object) -> Path:
    """Build it, in this process unless workers are asked for; returns the phase's folder."""
    workers = ExecutorOptions(**{"retry_delay_s": 0.1, **executor}) if executor else None
    run.build_phase(loaded, BuildOptions(out, None, workers))
    return out / loaded.phase


def stages_of(recipe, out: Path) -> list[tuple[str, int]]:
    """What a build finds to do."""
    from progress_log import ProgressLog  # not for scripts in this folder, which do not see it

    progress = ProgressLog()
    run.build_phase(recipe, BuildOptions(out, None, None, progress=progress))
    return progress.jobs()


def write_tokenizer(path: Path) -> None:
    """A tokenizer of the words above, which loads in a millisecond."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    specials = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    words = Tokenizer(models.WordLevel({name: i for i, name in enumerate([*specials, *WORDS])}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens([AddedToken(name, special=True) for name in specials])
    words.save(str(path))
