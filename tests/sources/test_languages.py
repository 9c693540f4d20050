"""The table of languages: what joins codes, scripts and sizes, compared with the files that it was made from."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ettin_data.base.errors import SourceError
from ettin_data.sources import languages

ROOT = Path(__file__).parents[2]


def test_the_table_is_whole() -> None:
    rows = languages.subsets()
    named = [row for row in rows if row.name]
    assert len(named) == 1913 == len({row.name for row in named}) and len({row.code for row in named}) == 1814
    assert [(row.code, row.name) for row in rows] == sorted((row.code, row.name) for row in rows)
    assert all(row.name == f"{row.code}_{row.script}" for row in named)
    assert sum(row.hq for row in rows) == 20 and not any(row.hq for row in rows if not row.name)
    assert sum(row.words for row in rows) == pytest.approx(3.34e12, rel=0.01)
    assert languages.table_digest("mmbert") == languages.MMBERT_SHA256
    published = languages.published()
    assert set().union(*published.values()) - {"code"} <= {row.code for row in rows}
    assert [len(published[phase]) for phase in ("pretrain", "ext", "decay-all")] == [61, 110, 1834]
    assert round(sum(published["pretrain"].values()) / 1e9, 2) == 1989.02


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("zh", "cmn"), ("fa", "fas"), ("lv", "lvs"), ("et", "ekk"), ("ar", "arb"), ("az", "azj"), ("mn", "khk"),
        ("ne", "npi"), ("ps", "pbt"), ("sw", "swh"), ("ms", "zsm"), ("no", "nob"), ("nb", "nob"), ("nn", "nno"),
        ("sq", "als"), ("en", "eng"), ("de", "deu"), ("xho", "xho"), ("srp_Cyrl", "srp"), ("srp_Latn", "srp"),
    ],
)  # fmt: skip
def test_codes_join(name: str, code: str) -> None:
    assert languages.code_of(name) == code


def test_two_letters_mean_one_language() -> None:
    means = {(two, row.code) for row in languages.subsets() for two in row.two}
    assert len({two for two, _ in means}) == len(means) > 170


def test_an_unknown_code_is_named() -> None:
    with pytest.raises(SourceError, match=r"'deu_Latin'[\s\S]*deu_Latn"):
        languages.code_of("deu_Latin")


def test_it_is_what_the_published_files_say(shared: Path) -> None:
    there = shared / "data" / "fineweb2_language_distribution.csv"
    assert hashlib.sha256(there.read_bytes()).hexdigest() == languages.FINEWEB2_SHA256
    rows = {row.name: row for row in languages.subsets() if row.name}
    with there.open(encoding="utf-8", newline="") as file:
        theirs = [row for row in csv.DictReader(file) if row["split"] == "train"]
    kept = [row for row in theirs if not row["subset"].endswith("_removed")]
    assert {row["subset"] for row in kept} == set(rows)
    for row in kept:
        ours = rows[row["subset"]]
        assert (ours.code, ours.script, ours.language) == (row["code"], row["script"], row["name"])
        assert str(ours.words or "-") == row["words"] and ours.documents == int(row["documents"])
        assert ours.bytes == int(row["utf8_bytes"])
    counts = (shared / "data" / "mmbert_language_counts.csv").read_bytes()
    assert hashlib.sha256(counts).hexdigest() == languages.MMBERT_SHA256


@pytest.mark.slow
def test_a_wheel_has_the_tables(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path, ROOT]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no wheel can be built here: {done.stderr.strip()[-200:]}")
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"ettin_data/sources/tables/languages.csv.gz", "ettin_data/sources/tables/mmbert.csv.gz"} <= set(names)


def test_package_data_names_the_tables() -> None:
    import tomllib

    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["ettin_data"]
    package = ROOT / "ettin_data"
    covered = {path for pattern in patterns for path in package.glob(pattern)}
    assert set((package / "sources" / "tables").iterdir()) <= covered
