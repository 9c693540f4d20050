"""Evaluation texts and documents that have them, each written in a way of its own; and a phase made of them."""

import hashlib
import json
import random

from laws import golden

from ettin_data.build import prepare
from ettin_data.build.build import build_phase
from ettin_data.recipe import load_recipe

SYLLABLES = ["ba", "ke", "li", "mo", "nu", "ra", "se", "ti", "vo", "xa", "dre", "pla", "stu", "kri", "fon"]


def words(rng, n):
    """Words that nobody else has, with some that many have."""
    common = ["the", "of", "and", "is", "a", "in", "to", "that", "how", "many"]
    made = ["".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) for _ in range(n)]
    return [rng.choice(common) if rng.random() < 0.3 else word for word in made]


def sentence(rng, n):
    text = " ".join(words(rng, n))
    return f"{text[0].upper()}{text[1:]}{rng.choice('.?!')}"


def written(how, text, rng):
    """A text as somebody may have copied it."""
    pieces = text.split()
    at = rng.randrange(len(pieces))
    ways = {
        "as it is": lambda: text,
        "upper": text.upper,
        "lower": text.lower,
        "quotes": lambda: "“" + " ".join([*pieces[:at], f"‘{pieces[at]}’", *pieces[at + 1 :]]) + "”",
        "markdown": lambda: "> **" + " ".join([*pieces[:at], f"_{pieces[at]}_", *pieces[at + 1 :]]) + "**",
        "lines": lambda: "\r\n".join(pieces),
        "full width": lambda: "".join(chr(ord(c) + 0xFEE0) if "a" <= c <= "z" else c for c in text),
        "accents": lambda: text.replace("e", "é").replace("o", "ô"),
        "one word": lambda: " ".join([*pieces[:at], "other", *pieces[at + 1 :]]),
        "one more": lambda: " ".join([*pieces[:at], "other", *pieces[at:]]),
        "one less": lambda: " ".join([*pieces[:at], *pieces[at + 1 :]]),
    }
    return ways[how]()


SAME = ("as it is", "upper", "lower", "quotes", "markdown", "lines", "full width", "accents")
CHANGED = ("one word", "one more", "one less")


def build(folder, texts, *overrides, length=64, **changes):
    """Build a phase of documents with these texts, one source with one file; returns its folder."""
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(json.dumps(golden.tokenizer(), sort_keys=True))
    (folder / "mine").mkdir(exist_ok=True)
    rows = [{"id": str(n), "text": text} for n, text in enumerate(texts)]
    (folder / "mine/a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = {
        "phase": "pretrain", "length": length, "pack": {"min_length": 16, "always_skip": 4}, "order": {"batch": 4},
        "validation": 0, "filters": [],
        "tokenizer": {"name": str(tokenizer), "sha256": hashlib.sha256(tokenizer.read_bytes()).hexdigest()},
        "sources": {"mine": {"root": str(folder / "mine"), "tokens": "1M"}},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(recipe | changes))
    for target in ("1k", None):  # then just all that there is
        target = target or json.loads((folder / "pretrain/run.json").read_text())["sources"]["mine"]["pool_tokens"]
        loaded = load_recipe(folder / "recipe.yaml", overrides=[f"sources.mine.tokens={target}", *overrides])
        build_phase(loaded, prepare.BuildOptions(folder, executor=None))
    return folder / "pretrain"


def rng_of(*parts):
    return random.Random(repr(parts))
