"""Evaluation texts of natural and of made-up words, planted in natural documents in every way: how many are found."""

import random
import re
import sysconfig
from pathlib import Path

import pytest
from contamination_kit import CHANGED, SAME, rng_of, sentence, written

from ettin_data.stages.contamination.index import Index
from ettin_data.stages.contamination.rules import Rule
from ettin_data.stages.contamination.search import search
from ettin_data.stages.contamination.texts import EvaluationText

_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")


def natural(suffixes=(".md", ".rst", ".txt"), names=("METADATA",)):
    """Texts of the installed packages' documentation, by name; one of each first line, as licences are in many."""
    found = {}
    for path in sorted(Path(sysconfig.get_path("purelib")).rglob("*")):
        if (path.suffix in suffixes or path.name in names) and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            found.setdefault(text[:200], text)
    return list(found.values())


def sentences(texts, rng):
    """Different sentences of 5 to 60 words, in an order that is drawn."""
    found = [" ".join(one.split()) for text in texts for one in _END.split(text)]
    found = [one for one in dict.fromkeys(found) if 5 <= len(one.split()) <= 60]
    rng.shuffle(found)
    return found


@pytest.mark.slow
def test_natural_texts_are_found_in_natural_documents(capsys):
    """Half of the texts are sentences of documentation, half are made up; the documents are other sentences of it."""
    rng = random.Random(17)
    said = sentences(natural(), rng)
    asked, around = said[:2000], said[2000:]
    questions = asked + [sentence(rng, rng.choice([5, 7, 9, 14, 25, 50])) for _ in range(2000)]
    index = Index.of([EvaluationText(f"q:{n}", text) for n, text in enumerate(questions)], Rule("half", 8))
    measured = {}
    for how in SAME + CHANGED:
        some = [n for n in range(len(questions)) if f"q:{n}" not in index.unsearchable]
        some = [n for n in some if how in SAME or len(questions[n].split()) >= 20]
        planted = [written(how, questions[n], rng_of(how, n)) for n in some]
        documents = [f"{rng.choice(around)}\n{text} {rng.choice(around)}" for text in planted]
        found = {(hit.document, hit.name) for hit in search(index, documents)}
        measured[how] = sum((k, f"q:{n}") in found for k, n in enumerate(some)) / len(some)
    with capsys.disabled():
        print(f"\n{len(index.names):,} of {len(questions):,} texts can be looked for; found:", measured)
    assert all(measured[how] >= 0.99 for how in SAME) and all(measured[how] >= 0.9 for how in CHANGED)


@pytest.mark.slow
def test_ten_thousand_clean_documents_have_no_hit():
    """Made-up questions, and questions of drawn natural words, in documentation. An address would be many words."""
    rng = random.Random(18)
    said = sentences(natural(), rng)
    words = [word for word in " ".join(said[:3000]).split() if word.isalpha()]
    questions = [sentence(rng, rng.choice([5, 7, 9, 14, 25, 50])) for _ in range(7500)]
    questions += [" ".join(rng.sample(words, rng.choice([6, 9, 14, 25, 50]))) for _ in range(7500)]
    index = Index.of([EvaluationText(f"q:{n}", text) for n, text in enumerate(questions)], Rule("half", 8))
    documents = [" ".join(rng.sample(said, 8)) for _ in range(10_000)]
    assert search(index, documents) == []
