"""The recipes of mmBERT: the published tokens of every language; in English and code, those of the cards."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
from typer.testing import CliRunner

from ettin_data.base.errors import RecipeError
from ettin_data.cli import main
from ettin_data.recipe import Recipe, load_recipe
from ettin_data.sources import registry
from ettin_data.sources.languages import code_of, published, subsets
from ettin_data.tokenizer.vocabulary import Vocabulary

COLUMNS = {
    "pretrain": "pretrain", "extension": "ext",
    "decay-eng": "decay-eng", "decay-mid": "decay-mid", "decay-all": "decay-all",
}  # fmt: skip
HQ = {subset.code for subset in subsets() if subset.hq}
CODE = {"code_repos", "starcoder", "stackexchange_dolmino"}
CARDS = {
    "pretrain": {
        "arxiv": 27.8, "books": 4.3, "dclm": 600.0, "math_dolmino": 11.2, "pes2o": 8.4, "stackexchange": 18.6,
        "stackexchange_dolmino": 1.4, "starcoder": 100.6, "tulu_flan": 15.3,
    },
    "extension": {
        "arxiv": 5.4, "books": 3.9, "dclm_dolmino": 50.0, "math_dolmino": 4.3, "pes2o": 3.2, "stackexchange": 3.0,
        "stackexchange_dolmino": 2.8, "starcoder": 17.2, "tulu_flan": 3.1,
    },
    "decay-mid": {
        "arxiv": 3.3, "books": 2.2, "dclm_dolmino": 2.0, "math_dolmino": 0.5, "textbooks": 3.1, "tulu_flan": 1.0,
        "code_repos": 2.8, "starcoder": 0.5,
    },
}  # fmt: skip
"""Billions, of the cards; those of extension with the ten that its rows lack."""
PARTS = set().union(*CARDS.values()) | {"megawika2.en"}


@cache
def recipe(phase: str) -> Recipe:
    return load_recipe(f"mmbert/{phase}")


def by_code(phase: str) -> Counter[str]:
    """Planned tokens as the published table counts them."""
    found: Counter[str] = Counter()
    for name, source in recipe(phase).sources.items():
        member = name.partition(".")[2]
        found["code" if name in CODE else code_of(member) if member else "eng"] += source.tokens
    return found


@pytest.mark.parametrize("phase", COLUMNS)
def test_every_language_has_its_published_tokens(phase: str) -> None:
    planned, true = by_code(phase), published()[COLUMNS[phase]]
    in_fineweb2 = {subset.code for subset in subsets() if subset.name} | {"eng", "code"}
    assert all(abs(planned[code] - true[code]) <= 0.001 * true[code] for code in true.keys() & in_fineweb2)
    lost = true.keys() - in_fineweb2
    assert planned.keys() == true.keys() - lost and len(lost) == (32 if phase == "decay-all" else 0)
    assert sum(planned.values()) == sum(true.values()) - sum(true[code] for code in lost)
    assert sum(true[code] for code in lost) < 1_300_000


@pytest.mark.parametrize("phase", CARDS)
def test_sources_beside_the_languages_are_those_of_the_cards(phase: str) -> None:
    sources = recipe(phase).sources
    parts = {name: source.tokens / 1e9 for name, source in sources.items() if name in PARTS - {"megawika2.en"}}
    assert parts.keys() == CARDS[phase].keys()
    assert all(abs(tokens - CARDS[phase][name]) < 0.06 for name, tokens in parts.items())


@pytest.mark.parametrize("phase", COLUMNS)
def test_sources_are_known_and_no_language_is_taken_twice(phase: str) -> None:
    sources = recipe(phase).sources
    assert all(registry.known(name) for name in sources)
    assert {name for name in sources if not name.startswith("fineweb2")} <= PARTS
    members = Counter(name.partition(".")[2] for name in sources if name.startswith("fineweb2"))
    assert max(members.values()) == 1
    hq = {code_of(name.partition(".")[2]) for name in sources if name.startswith("fineweb2_hq.")}
    assert hq == (set() if phase == "pretrain" else HQ)


@pytest.mark.parametrize("phase", COLUMNS)
def test_packing_framing_and_order(phase: str) -> None:
    made = recipe(phase)
    assert made.phase == phase and made.length == (1024 if phase == "pretrain" else 8192)
    assert made.pack.strategy.name == "backfill"
    assert made.pack.strategy.layout_name(made.length, made.pack.options).endswith(
        f"{made.length}-512-32-backfill-nodups"
    )
    assert (made.order.seed, made.order.batch, made.loader.max_seq_len) == (21, 4608, None)
    frame = made.tokenizer.frame
    assert frame is not None
    assert (frame.open, frame.close, frame.pad, frame.mask) == ("<bos>", "<eos>", "<pad>", "<mask>")
    gemma = Vocabulary("gemma", str(made.tokenizer.sha256), 256_000, 2, 1, 0, 4, 3, (0, 1, 2, 3, 4), frame)
    assert made.shards.token_dtype == gemma.dtype == "uint32"


def test_without_takes_members_out_and_must_name_some() -> None:
    fewer = load_recipe("mmbert/decay-mid", overrides=["languages.without=fineweb2[*_Cyrl]"])
    assert "fineweb2.rus_Cyrl" not in fewer.sources and "fineweb2.deu_Latn" in fewer.sources
    with pytest.raises(RecipeError, match=r"deu_Latin[\s\S]*deu_Latn"):
        load_recipe("mmbert/decay-mid", overrides=["languages.without=fineweb2[deu_Latin]"])


def test_show_and_a_name_that_is_no_recipe() -> None:
    shown = CliRunner().invoke(main.app, ["recipe", "show", "mmbert/decay-all"])
    assert shown.exit_code == 0 and "fineweb2_hq.deu_Latn" in shown.stdout
    with pytest.raises(RecipeError, match=r"did you mean mmbert/decay-"):
        load_recipe("mmbert/decay")
