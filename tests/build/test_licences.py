"""Licences as a gate, and on the card."""

import json

import pytest
from contamination_kit import build, rng_of, sentence

from ettin_data.base.errors import RecipeError
from ettin_data.build.licences import as_stated, check_licences
from ettin_data.recipe import load_recipe
from ettin_data.sources import REGISTRY, standing
from ettin_data.sources.base import Source

DECAY = {key: REGISTRY[key] for key in load_recipe("decay").sources}


def test_every_source_of_the_registry_has_licence_and_terms():
    for source in REGISTRY.values():
        assert source.licence and source.terms.startswith("https://")


def test_without_a_list_all_are_allowed_and_with_one_only_those_on_it():
    check_licences(DECAY, None)
    assert [standing(said, ["cc0-1.0 "]) for said in ("CC0-1.0", "ODC-BY", "not stated (x)", "")] == [
        "allowed", "refused", "unknown", "unknown",
    ]  # fmt: skip
    assert standing("ODC-BY", None) == "allowed" and standing("unknown", None) == "unknown"
    stated = {key: s for key, s in DECAY.items() if not s.licence.startswith("not stated")}
    check_licences(stated, [source.licence.lower() for source in stated.values()])
    with pytest.raises(RecipeError, match=r"licence of math_dolmino, stackexchange_dolmino is not allowed") as caught:
        check_licences(stated, ["ODC-BY", "ODC-BY (part CC-BY-4.0)"])
    said = str(caught.value)
    assert "math_dolmino: ODC-BY (mixed parts); terms: https://" in said and "--drop-source math_dolmino" in said


def test_a_licence_that_is_not_known_is_refused_until_somebody_states_it():
    unknown = {"code_repos": DECAY["code_repos"], "mine": Source("mine", "own", "", "/x/", (), "jsonl")}
    with pytest.raises(RecipeError, match=r"code_repos, mine.*not allowed") as caught:
        check_licences(unknown, ["not stated", "not stated (The Stack v1 terms)", ""])
    assert "mine: its licence is not known (nothing is said); terms: none" in str(caught.value)
    choice = load_recipe("decay").sources["code_repos"].model_copy(update={"licence": "CC0-1.0", "terms": "me"})
    check_licences({key: as_stated(source, choice) for key, source in unknown.items()}, ["CC0-1.0"])


def test_the_plan_is_stopped_and_the_card_lists_them(tmp_path):
    rng = rng_of("licences")
    texts = [sentence(rng, 40) for _ in range(20)]
    with pytest.raises(RecipeError, match="licence of mine is not allowed"):
        build(tmp_path, texts, allow=["CC0-1.0"])
    stated = ["sources.mine.licence=CC0-1.0", "sources.mine.terms=https://x.example/t"]
    folder = build(tmp_path, texts, *stated, allow=["CC0-1.0"])
    card = (folder / "README.md").read_text()
    assert "The recipe allowed these only: CC0-1.0." in card
    assert (
        "Allowed:\n\n* mine: CC0-1.0, https://x.example/t\n\nRefused: none.\n\nNot known: none.\n" in card
        and "| CC0-1.0 |" in card
    )
    assert json.loads((folder / "run.json").read_text())["recipe"]["sources"]["mine"]["licence"] == "CC0-1.0"
    plain = (build(tmp_path, texts) / "README.md").read_text()
    assert (
        "every licence (`allow` was not set).\n\nAllowed: none.\n\nRefused: none.\n\nNot known:\n\n* mine: your own"
        in plain
    )
