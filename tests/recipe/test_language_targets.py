"""`languages` of a recipe: whole tokens of each member, by temperature or as a table gives them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ettin_data.base.errors import RecipeError
from ettin_data.recipe.load import Changes, load_changed
from ettin_data.recipe.temperature import Member, allot
from ettin_data.sources.languages import published, subsets

HEAD = "phase: pretrain\nlength: 64\npack: {strategy: backfill, min_length: 16, always_skip: 4}\nfilters: []\n"


def loaded(folder: Path, text: str, *overrides: str):
    (folder / "r.yaml").write_text(HEAD + text)
    return load_changed(folder / "r.yaml", Changes(overrides))


def tokens(folder: Path, text: str, *overrides: str) -> dict[str, int]:
    return {name: source.tokens for name, source in loaded(folder, text, *overrides).recipe.sources.items()}


BY_WORDS = 'languages: {members: "fineweb2[{deu,fra,swh,fao}_Latn]", temperature: 0.5, total: 100B}\n'


def test_tokens_are_those_of_the_temperature_law(tmp_path: Path) -> None:
    rows = {row.name: row for row in subsets()}
    names = ["deu_Latn", "fao_Latn", "fra_Latn", "swh_Latn"]
    law = allot([Member(f"fineweb2.{n}", rows[n].words, rows[n].bytes // 4) for n in names], 10**11, 0.5)
    assert tokens(tmp_path, BY_WORDS) == law.targets
    flat = tokens(tmp_path, BY_WORDS, "languages.temperature=0", "languages.total=1B")
    assert sum(flat.values()) == 10**9 and flat["fineweb2.deu_Latn"] == flat["fineweb2.fra_Latn"]
    by_bytes = tokens(tmp_path, BY_WORDS, "languages.weights=bytes")
    assert sum(by_bytes.values()) == 10**11 and by_bytes != law.targets


def test_what_was_capped_is_said(tmp_path: Path) -> None:
    done = loaded(tmp_path, BY_WORDS)
    assert done.said["sources.fineweb2.fao_Latn.tokens"].endswith("tokens are taken, r.yaml")
    assert "weight 262,271,052,199 at temperature 0.5" in done.said["sources.fineweb2.deu_Latn.tokens"]
    with pytest.raises(RecipeError, match=r"languages[\s\S]*raise max_passes"):
        loaded(tmp_path, BY_WORDS, "languages.total=100T")


def test_targets_are_exact(tmp_path: Path) -> None:
    true = published()["ext"]
    got = tokens(tmp_path, 'languages: {members: ["fineweb2[*]"], targets: "mmbert:ext"}\n')
    by_code: dict[str, int] = {}
    for name, number in got.items():
        code = name.partition(".")[2].partition("_")[0]
        by_code[code] = by_code.get(code, 0) + number
    assert by_code == {code: number for code, number in true.items() if code in by_code}
    assert set(true) - set(by_code) == {"eng", "code"}
    assert got["fineweb2.srp_Cyrl"] > got["fineweb2.srp_Latn"] > 0


def test_a_table_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("language,tokens,weight\ndeu_Latn,1000,3\nfra,500,1\nspa,7,9\n")
    text = 'languages: {members: ["fineweb2[{deu,fra}_Latn]"], targets: "t.csv:tokens"}\n'
    assert tokens(tmp_path, text) == {"fineweb2.deu_Latn": 1000, "fineweb2.fra_Latn": 500}
    text = 'languages: {members: "fineweb2[{deu,fra}_Latn]", weights: "t.csv:weight", temperature: 1, total: 4000}\n'
    assert tokens(tmp_path, text) == {"fineweb2.deu_Latn": 3000, "fineweb2.fra_Latn": 1000}


def test_members_stand_beside_other_sources(tmp_path: Path) -> None:
    text = BY_WORDS + "total: 150B\nsources:\n  dclm: {ratio: 1}\n  fineweb2.swh_Latn: {tokens: 1M}\n"
    got = tokens(tmp_path, text)
    assert got["fineweb2.swh_Latn"] == 10**6 and got["dclm"] == 50 * 10**9 - 10**6
    assert sum(got.values()) == 150 * 10**9


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("languages: {members: 'fineweb2[deu_Latin]', temperature: 0.7, total: 1B}", r"deu_Latin[\s\S]*deu_Latn"),
        ("languages: {members: 'fineweb3[deu_Latn]', temperature: 0.7, total: 1B}", r"fineweb3[\s\S]*fineweb2\["),
        ("languages: {members: 'fineweb2[deu_Latn]', temperature: 0.7}", "temperature and total"),
        ("languages: {members: 'fineweb2[deu_Latn]', temperatur: 0.7}", "temperature"),
        ("languages: {members: 'fineweb2[deu_Latn]', targets: 'none.csv'}", "no table"),
        ("languages: {members: 'fineweb2[deu_Latn]', targets: 'mmbert:exta'}", "no table"),
        ("languages: {temperature: 0.7, total: 1B}", "members"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said) as raised:
        loaded(tmp_path, text + "\n")
    assert "languages" in str(raised.value)


def test_every_language_is_planned_in_a_moment(tmp_path: Path) -> None:
    text = 'languages: {members: ["fineweb2[*]"], temperature: 0.3, total: 90B, max_passes: 2}\n'
    got = tokens(tmp_path, text)
    assert len(got) > 1800 and sum(got.values()) == 90 * 10**9
