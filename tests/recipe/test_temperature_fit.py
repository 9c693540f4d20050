"""Given counts, the law that they were made by: found again, with the caps and the exceptions by name."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ettin_data.base.errors import BuildError
from ettin_data.cli import main
from ettin_data.recipe.temperature import Allotment, Member, allot
from ettin_data.recipe.temperature_fit import fit, read_table
from ettin_data.sources.languages import published, sizes


def made(seed: int, tau: float, *, n: int = 200, capped: bool = True) -> tuple[dict[str, int], Allotment]:
    """Members of very different sizes, of which a quarter of all tokens is taken."""
    random = np.random.default_rng(seed)
    weights = {f"l{number:03}": int(weight) for number, weight in enumerate(np.exp(random.uniform(8, 22, n)))}
    members = [
        Member(name, weight, int(weight * random.uniform(0.8, 1.6)) if capped else 1 << 50)
        for name, weight in weights.items()
    ]
    total = sum(member.available for member in members) // 4 if capped else 10**12
    return weights, allot(members, total, tau)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(10, 90), st.booleans())
def test_a_law_is_found_again(seed: int, percent: int, capped: bool) -> None:
    weights, mix = made(seed, percent / 100, capped=capped)
    found = fit(weights, mix.targets)
    assert found.tau == pytest.approx(percent / 100, abs=0.005)
    assert found.scale == pytest.approx(mix.scale, rel=0.02)
    # Whoever gives clearly less than the law is named, as one of the small that are capped or as an exception.
    less = {share.name: share.target / share.uncapped for share in mix.shares if share.why}
    said = {point.name for point in found.with_verdict("capped", "less")}
    assert {name for name, part in less.items() if part < 0.92} <= said <= less.keys()
    assert not found.with_verdict("more")


@given(st.integers(0, 50), st.sets(st.integers(0, 199), max_size=50), st.sampled_from([0.3, 0.5, 0.7]))
@settings(max_examples=25)
def test_exceptions_are_named_and_move_nothing(seed: int, odd: set[int], tau: float) -> None:
    weights, mix = made(seed, tau, capped=False)
    names = sorted(weights)
    counts = {name: count * (5 if names.index(name) in odd else 1) for name, count in mix.targets.items()}
    found = fit(weights, counts)
    assert found.tau == tau and found.scale == pytest.approx(mix.scale, rel=1e-3)
    assert {point.name for point in found.with_verdict("more")} == {names[number] for number in odd}
    assert all(point.residual == pytest.approx(4, rel=0.01) for point in found.with_verdict("more"))


def test_noise_within_some_percent_changes_no_round_temperature() -> None:
    for tau in (0.3, 0.5, 0.7):
        weights, mix = made(5, tau, capped=False)
        random = np.random.default_rng(1)
        counts = {name: int(count * np.exp(random.normal(0, 0.03))) for name, count in mix.targets.items()}
        assert fit(weights, counts).tau == tau


@pytest.mark.parametrize(
    ("phase", "tau", "at_least"),
    [("pretrain", 0.7, 47), ("ext", 0.5, 72), ("decay-eng", 0.3, 58), ("decay-mid", 0.3, 48), ("decay-all", 0.3, 40)],
)
def test_the_published_mixes_are_explained(phase: str, tau: float, at_least: int) -> None:
    found = fit(sizes("words"), published()[phase])
    assert found.tau == tau and len(found.with_verdict("follows")) >= at_least
    exceptions = [point.name for point in found.with_verdict("more", "less")]
    if phase == "pretrain":
        assert {"jpn", "hrv", "cmn", "rus", "vie", "swe"} <= set(exceptions)
        assert [point.name for point in found.with_verdict("capped")] == ["xho"]
    if phase == "ext":
        assert exceptions[:5] == ["pcm", "rmy", "anp", "gsw", "nap"]
    if phase == "decay-all":
        assert len(found.with_verdict("capped")) > 1600
    assert "code" in found.unweighted and "eng" in found.unweighted


@pytest.mark.parametrize("counts", [{}, {"a": 1, "b": 2}, dict.fromkeys("abcdefghij", 7)])
def test_too_little_to_tell_is_said(counts: dict[str, int]) -> None:
    with pytest.raises(BuildError, match=r"no temperature can be told from \d+ members"):
        fit(dict.fromkeys(counts, 100), counts)


# The command


def run(*words: object) -> str:
    done = CliRunner().invoke(main.app, ["mix", "explain", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_the_command_explains_a_table_of_its_own(tmp_path: Path) -> None:
    weights, mix = made(3, 0.6)
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["note", "member", "size", "tokens"])
        writer.writerows(["x", name, weights[name], mix.targets[name]] for name in sorted(weights))
    said = run(tmp_path / "t.csv", "--by", "size")
    assert "weight ** 0.6 " in said and "capped" in said
    found = json.loads(run(tmp_path / "t.csv", "--by", "size", "--json"))["tokens"]
    assert found["tau"] == 0.6 and len(found["members"]) == 200
    with pytest.raises(BuildError, match=r"no column 'sizes'[\s\S]*size"):
        run(tmp_path / "t.csv", "--by", "sizes")


def test_the_command_explains_mmberts_table(tmp_path: Path, shared: Path) -> None:
    said = run(shared / "data" / "mmbert_language_counts.csv")
    for phase, tau in (("pretrain", 0.7), ("ext", 0.5), ("decay-eng", 0.3), ("decay-mid", 0.3), ("decay-all", 0.3)):
        assert any(line.startswith(f"{phase}: ") and f"weight ** {tau} " in line for line in said.splitlines())
    assert "    pcm: " in said and "without a weight: code, eng" in said


def test_two_letter_codes_and_subsets_are_languages(tmp_path: Path) -> None:
    names = {"zh": "cmn", "deu_Latn": "deu", "fr": "fra"}
    counts = published()["pretrain"]
    rows = {name: counts[code] for name, code in names.items()} | {
        code: count for code, count in counts.items() if code not in names.values()
    }
    (tmp_path / "t.csv").write_text("language,tokens\n" + "".join(f"{name},{n}\n" for name, n in rows.items()))
    found = json.loads(run(tmp_path / "t.csv", "--json"))["tokens"]
    assert found["tau"] == 0.7 and {"cmn", "deu", "fra"} <= set(found["members"])


@pytest.mark.parametrize("text", ["", "language,tokens\n", "language,tokens\ndeu,many\n"])
def test_a_file_without_numbers_is_no_table(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(BuildError, match="no numbers"):
        read_table(tmp_path / "t.csv")
