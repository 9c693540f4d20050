"""Text for the tests of filters: made up so that every rule finds something, and real."""

import hashlib
import importlib.util
import json
import pydoc_data.topics
import random
import re
import string
import sysconfig
from pathlib import Path

import pytest
from datatrove.data import Document
from hypothesis import strategies as st
from laws import golden

from ettin_data.stages.filters.registry import choose_filters
from ettin_data.stages.text import splitter

needs_spacy = pytest.mark.skipif(importlib.util.find_spec("spacy") is None, reason="needs spaCy")

PIECES = [
    *"the be to of and that have with foo bar Alpha x ab c a bc".split(),
    *"# - • { } ! ? . , \" ' ( ) : ;".split(),
    "JavaScript", "lorem ipsum", "Terms of Use", "privacy policy", "use cook[3]ies", "[edit]", "[12]",
    "[citation needed]", "...", "…", "##", "[]", "Mr.", "U.S.", "end.", "stop!", "why?", "Sentence.", "word.)",
    'word."', "e.g.", "3.5", "5km", ":)", "):", "f(x:)", "don't", "cannot", "x-a.", "。", "؟", "é", "中文", "\u0301",
    "long" * 260,
]  # fmt: skip
GAPS = [" "] * 12 + ["\n"] * 4 + ["\n\n", "\n\n\n", "  ", "\t", " \n ", "\x85", "\u2028", ""]


@st.composite
def texts(draw):
    """Text in which every rule of every filter finds something, passages that repeat themselves included."""
    pieces = draw(st.lists(st.sampled_from(PIECES), min_size=1, max_size=12))
    seed = draw(st.integers(0, 2**32))
    n = draw(st.sampled_from([0, 1, 4, 12, 60, 200]))
    rng = random.Random(seed)
    out = []
    for _ in range(n):
        out += [rng.choice(pieces), rng.choice(GAPS)]
        if rng.random() < 0.05:
            out += out[-rng.randint(1, 30) :]
    return "".join(out)


_CODE_WORDS = "a B abc Foo Mr Prof space cannot xDD mbar 5 km US o D".split()
CODE = st.lists(st.sampled_from([*string.punctuation, *_CODE_WORDS]), max_size=8).map("".join)


def build_filters(specs, rejects=None, where="filters"):
    """The steps of a recipe's list of filters."""
    return [chosen.step(rejects) for chosen in choose_filters(specs, where)]


def document(text):
    return Document(text=text, id="")


def runs(text):
    """The words of a text with no cache between, and rule 4 of the splitter where it may apply."""
    return [word for run in re.findall(r"\S+(?: \S+)*", text) for word in splitter.split(run)[0]]


def real_text(limit):
    """Documentation, source code and package descriptions that every Python has, as documents of many lengths."""
    library = Path(sysconfig.get_path("stdlib"))
    contents = [*pydoc_data.topics.topics.values()][:25]
    contents += [(library / name).read_text("utf-8") for name in ("argparse.py", "textwrap.py", "typing.py")]
    contents += [
        p.read_text("utf-8", "replace") for p in sorted(Path(sysconfig.get_path("purelib")).glob("*/METADATA"))
    ]
    sizes = (300, 1_500, 4_000, 12_000)
    for number, content in enumerate(contents):
        size = sizes[number % len(sizes)]
        if limit <= 0:
            return
        yield content[:size]
        limit -= min(size, len(content))


def corpus_recipe(folder, sources, **changes):
    """The text of a recipe whose sources read two small files, which are written here with a tokenizer.

    Args:
        sources: name -> what the recipe says of it besides its place and target.
        changes: of the recipe.
    """
    (folder / "corpus").mkdir()
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(json.dumps(golden.tokenizer(), sort_keys=True))
    for part in ("a", "b"):
        (folder / f"corpus/{part}.jsonl").write_bytes(golden.lines(golden.rows(part, 40)))
    place = {"root": str(folder / "corpus"), "tokens": "20k"}
    made = {
        "phase": "pretrain", "length": 512, "split_bytes": 1, "pack": {"min_length": 64, "always_skip": 16},
        "order": {"batch": 4}, "validation": 0.02,
        "bad_input": {"max_rejects": 0.9, "max_repaired": 0.9, "on_bad_file": "skip"},
        "tokenizer": {"name": str(tokenizer), "sha256": hashlib.sha256(tokenizer.read_bytes()).hexdigest()},
        "sources": {name: place | choice for name, choice in sources.items()},
    }  # fmt: skip
    return json.dumps(made | changes)
