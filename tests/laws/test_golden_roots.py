"""Golden roots: what the code builds of a small corpus, as literals.

A digest that changes means that finished pools do not hold what a new build makes. Where that is meant, raise the
version that the test names, so that pools made before are built again, and in the same change paste the new literals.
Nobody changes the literals alone.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import golden
import pytest
from golden import Digests

from ettin_data.build import assemble, pool
from ettin_data.recipe import TokenDtype
from ettin_data.sources.formats import FORMATS
from ettin_data.stages.filters.registry import shipped
from ettin_data.stages.pack import strategies
from ettin_data.storage import split as markers
from ettin_data.storage.phase import splits_in


def versions() -> dict[str, int | str]:
    """Where each version is that is in the fingerprint of a split, and what it is now."""
    return {
        "FORMAT of build/pool.py": pool.FORMAT,
        "FORMAT of build/assemble.py": assemble.FORMAT,
        **{f"version of strategy {name}": strategy.version for name, strategy in strategies().items()},
        **{f"VERSION of filter {name}": kind.version for name, kind in shipped().items()},
        **{f"version of format {name}": form.version for name, form in FORMATS.items()},
    }


def source(folder: str, tokens: str, **choice: Any) -> dict[str, Any]:
    return {"root": f"CORPUS/{folder}", "tokens": tokens, **choice}


@dataclass(frozen=True)
class Case:
    """A recipe: what is taken from the corpus, and what differs from `BASE` in its sections.

    `CORPUS` in a value stands for the corpus' folder.
    """

    sources: dict[str, dict[str, Any]]
    changes: dict[str, Any] = field(default_factory=dict)

    def recipe(self, root: Path) -> str:
        """The recipe's YAML, over the corpus in this folder."""
        digest = hashlib.sha256((root / "tokenizer.json").read_bytes()).hexdigest()
        made = BASE | {"tokenizer": {"name": "CORPUS/tokenizer.json", "sha256": digest}, "sources": self.sources}
        for key, value in self.changes.items():
            made[key] = {**made.get(key, {}), **value} if isinstance(value, dict) else value
        return json.dumps(made).replace("CORPUS", str(root))


BASE: dict[str, Any] = {
    "phase": "pretrain", "length": 1024, "split_bytes": 1, "validation": 0.02,
    "bad_input": {"on_bad_file": "skip", "max_rejects": 0.9, "max_repaired": 0.9},
    "pack": {"min_length": 200, "always_skip": 24}, "order": {"batch": 8, "interval_steps": 3},
    "shards": {"size_limit": 40_000},
}  # fmt: skip


PROSE = {"prose": source("prose", "40k"), "few": source("few", "25k")}
LENGTHS, DTYPES = (1024, 8000), get_args(TokenDtype)
LONG = {"length": 8000, "pack": {"min_length": 600}}
ALONE = ("length", "exact_duplicate", "gopher_quality", "gopher_repetition", "c4", "fineweb")
IN_A_ROW = [
    {"length": {"min_words": 20, "max_chars": 5000}}, "exact_duplicate", "gopher_quality", "gopher_repetition",
    {"c4": {"filter_no_terminal_punct": False}}, "fineweb",
]  # fmt: skip
LATER = {
    "pii": {"phone": "replace", "drop_above": 0}, "pattern": {"expression": "(?i)r[aeo]", "most": 20},
    "sample": {"share": 0.5}, "listed": {"urls": ["https://example.org/0"], "keep": False},
}  # fmt: skip
MODELS = ("language", "fasttext_score")  # whose models are not of this package

CASES = {
    # Strategies, lengths, dtypes, compression. A part of "prose" is taken; "few" has a document of 20,000 words.
    "backfill": Case(PROSE),
    "backfill_8000": Case(PROSE, LONG | {"shards": {"token_dtype": "uint32", "compression": "zstd"}}),
    "best_fit": Case(PROSE, {"pack": {"strategy": "best_fit"}, "shards": {"compression": "zstd:1"}}),
    "best_fit_8000": Case(PROSE, {"length": 8000, "pack": {"strategy": "best_fit"}}),
    "concat": Case(PROSE, {"pack": {"strategy": "concat"}, "shards": {"token_dtype": "uint32"}}),
    "concat_8000": Case(PROSE, {"length": 8000, "pack": {"strategy": "concat"}, "shards": {"compression": "zstd"}}),
    "small_window": Case(PROSE, {"pack": {"strategy": "best_fit", "window": 4000}, "seed": 7}),
    # About one and a half passes; more of concat, where many samples hold a piece of the document that is held out.
    "repeated": Case({"few": source("few", "75k")}),
    "repeated_concat": Case({"few": source("few", "60k")}, {"pack": {"strategy": "concat"}}),
    # Filters: each alone with its defaults, and all in a row.
    "filters": Case(
        {name: source("prose/part-{0..1}.jsonl", "5k", filters=[name]) for name in ALONE}, {"split_bytes": "1MB"}
    ),
    "filters_in_a_row": Case({"prose": source("prose", "10k")}, {"filters": IN_A_ROW}),
    "later_filters": Case(
        {name: source("prose/part-{0..1}.jsonl", "3k", filters=[{name: options}]) for name, options in LATER.items()},
        {"split_bytes": "1MB"},
    ),
    # Formats, several files in one split.
    "lines": Case({"packed": source("packed/*.*", "40k", strip_markers=True)}, {"split_bytes": "1MB"}),
    "columns": Case({"columns": source("columns", "20k"), "texts": source("texts", "10k")}, {"split_bytes": "1MB"}),
    "tables": Case({name: source(f"tables/{name}", "5k") for name in ("csv", "arrow", "txt")}, {"split_bytes": "1MB"}),
    "token_ids": Case(
        {"own": source("own", "8k"), "foreign": source("foreign", "8k", tokenizer="CORPUS/tokenizer.json")}
    ),
    "rows": Case({"rows": {"root": "datasets://CORPUS/rows", "tokens": "8k"}}),
    # Files in parts, of which all have to be taken: how many are enough would depend on the size of a parquet file.
    "parts": Case({"big": source("big", "60k")}, {"part_bytes": 60_000}),
}

CORPUS = "afad86d7a26c827cf88d1ed1c7699d61fdfae7f30bd769f2ef0b73340b93196d"

GOLDEN_VERSIONS = {
    "FORMAT of build/pool.py": 2, "FORMAT of build/assemble.py": 2,
    "version of strategy backfill": 1, "version of strategy best_fit": 1, "version of strategy concat": 1,
    "VERSION of filter c4": 1, "VERSION of filter exact_duplicate": 1, "VERSION of filter fineweb": 1,
    "VERSION of filter gopher_quality": 1, "VERSION of filter gopher_repetition": 1, "VERSION of filter length": 1,
    "VERSION of filter fasttext_score": 1, "VERSION of filter language": 1, "VERSION of filter listed": 1,
    "VERSION of filter pattern": 1, "VERSION of filter pii": 1, "VERSION of filter sample": 1,
    "version of format rows": 1, "version of format jsonl": 2, "version of format mds": 1,
    "version of format parquet": 1, "version of format arrow": 1, "version of format csv": 2,
    "version of format txt": 2,
}  # fmt: skip
"""What `versions` were when these were made."""

GOLDEN: dict[str, Digests] = {
    "backfill": Digests(
        root="bcb52d433d2569cb621332333bdc0e1dc11a9d6c1266bcb455ac875455fe3074",
        shards="9216b7860694abe0ab8d0222b6b3f1191db5ad8449d1e92234e96740666b7608",
        ledgers="878319568268933305d17a6cc2a9997ecbc71e14d6bec86ab591cb7572901e9d",
    ),
    "backfill_8000": Digests(
        root="3d73b6e97f490cad4a53a37a1aba71dfe48e374d9ef397fb7a5d8127fdc0056c",
        shards="1a3977afc4eb84e11b0c56c503e10e58134ba836588965f69eb2795cd0982207",
        ledgers="e38054aca21741e63c7ef1794adf8a4c026084f62458f3c92124139f6949ee15",
    ),
    "best_fit": Digests(
        root="c4e3f025a3df662eadbf421390bdf00563ab9f71ab6b7b7758f43ae29ad05ce1",
        shards="22f379a004578d4fa44a9efa61e5aae163c9ddf0a884bdd9e6fb7a6bb5cc15e6",
        ledgers="54be5a4f97235d5310ed3fc23dcb2b37a667116efe1dcfe92918a39f4b05224e",
    ),
    "best_fit_8000": Digests(
        root="3293513e106e01fd563d6473903f7b29c0d25480ca5da0fdc88b31a341eb716e",
        shards="a0277243d5f81d75c6436fb3bfb6739f22d330295af31e641f6371c2024f3f45",
        ledgers="a312ef50200b1346c10b96c1826643a98ca57e7326a4f779d1f1fb25ddeb42a9",
    ),
    "concat": Digests(
        root="60a2e37f310941f09b9c657372ca8e66681831ab67d33686e5556543e9eba610",
        shards="65bba9561ef59bd2a4ca3000397b7f31833a44a13606ec343ab94ea303262163",
        ledgers="2a49ec8c4fbc23fe2eeb032a51f3adbbdc751c1755dd104608723244dd84cdc8",
    ),
    "concat_8000": Digests(
        root="7515a278b981c1d74680e0aa294d08fd64c4c2bc3e1f612c7292d4104a3f2ac6",
        shards="0a90c2b785436014b15cd655e41ca8e4bfb09e8307f55c96aecf347cddb71888",
        ledgers="4009de77a90cd52438e9cd961d81cdfe8e543381507f29589ec5face903743c1",
    ),
    "small_window": Digests(
        root="8d17245af4d3bd4ff482d3d026077e3b3cefe41065eab9b6e58200f733d86382",
        shards="bc46995548febc1fd45d11f78d74644dc59bcb1f329eb1f781dfa18299490af5",
        ledgers="df109dd66f6d7f73ece3e536550784b8d92cc5b8af2d437c50cd9a1c48e589d5",
    ),
    "repeated": Digests(
        root="fcc651390bb46bd449fc49c344680095b1e80f0166f797d9f95bc5badc3a3b61",
        shards="fb2244417fb122b9a689ed8b54afb725763c88ea98d64b9371007c8773048e87",
        ledgers="b6a3ac0e454899acf8e5f98e103da0e89871788554fecf0389b90b53d54c59d5",
    ),
    "repeated_concat": Digests(
        root="deccba2967123de63340f8c2b77131a42a083ef471e85f8f635548d1173b74a4",
        shards="9da818977b763b03f2e7d56aaee4c316f83e8a83b8597bc36657abc71cbd097f",
        ledgers="f3c720802b9fea4c09b0614d00cf52fe025d67f9387561375effb500945a928d",
    ),
    "filters": Digests(
        root="25c468f07235cfc94268c532a26ae1b150ad2df58d16e9b036d3e048c920a9ac",
        shards="1fa984e95654b4c5d42b4d2ca26f8ced03a528868d488d2ec7b66d8bd266df5e",
        ledgers="9874b0676d26731b1c8d4010c4ee48f451937e855593b4ce02c2f878894a91a5",
    ),
    "later_filters": Digests(
        root="64e37ed8d1f1fccb029715ff515b22979c9f412b2dae422ea7d2b4f3f080430b",
        shards="ddbbb400c0242955d112660ef7a8b902a882ebcbad631fcc6dfdd0ca9d35188f",
        ledgers="640446217d1c8cc5b05966a217999dcfc3c7e3982c0744bb3159e9cfc84e2878",
    ),
    "filters_in_a_row": Digests(
        root="97d57aa862ac67e2b087555e97717178fd528a14ef9e4cd1189e3dde36e5577a",
        shards="654484ed425d0b803c8e20397e164efc15f50b0330b40b11ea3108fadf8b93a4",
        ledgers="f225bdb9b265a2f3de2fcd0ac8932eb2017c1e730e720cbf46cf982ec0ef3edd",
    ),
    "lines": Digests(
        root="5521bf87243508c95a8a2d0f2771f15363178b38e2f9cff4348de8ace781f813",
        shards="f9185c3c5942f54f8f85e123fa1bbb001f69643cea9f8af713dd98f340fe56dd",
        ledgers="cdd26cce8fd3ec934b9327b3469622ecb3f22e0dbd75c4ba1aa153f4c625d4f0",
    ),
    "columns": Digests(
        root="acdea39445029d9e597c4f304038e049b08b216dcf4e3f85d9905037aa371560",
        shards="834081e4a7a71799e5313080ae16ff7f6102148e52958a1be67cacf11eedcda8",
        ledgers="5ef0b9981b4d221b4d65de2cce1ac9090cba962e5d2851a985982d32f50531cb",
    ),
    "tables": Digests(
        root="05500c346de0ec777f863cabbdecdf5efe6858300ba1ccec56fe676a15211031",
        shards="f8ee0c92fe4b7290dbbc40c94d6f0851ea298df4fc42c9ab6413855d6c1725c7",
        ledgers="39571b96070f4e09161c62e6810cbb0776ae9ccaa24d19574fa823bd92176b8a",
    ),
    "token_ids": Digests(
        root="efa03713099543f8da722214a48c94db99fa49a22605d682b699bdf80f40738a",
        shards="6cd48896000965ad527f003cdf24007e7c3bddaf3d333ec485f7002e8a0a2dde",
        ledgers="d7b34387c9fe00ec1f6f3fef109a5f9aedf7747deb840fbbe80c116f880e3816",
    ),
    "rows": Digests(
        root="b41856b316012f1594851460436fe66fec2043ecd2ad176f7a1528d89e4ad7c2",
        shards="c3f16a9ae775c03eb7dc4bdcfdcfd5799ebc5668cc669144e0d6ddd70cbe8021",
        ledgers="c0f4c84eedc7525da9d872252cef0c8b82c58aca868ed16c928de1c02c9a482a",
    ),
    "parts": Digests(
        root="75f94538eb73477120446dc96ad67b86a5e3e178bf37171a12faf69928ce3c96",
        shards="ab586c16b02c239b6c5c4805fe59fe83c50e67970468e6b0ad00ba51e2cd749f",
        ledgers="7a82fde49d182a120097d09fcf4290932354556a6a44170c16f077e4d528a9a2",
    ),
}


PACKED = {
    "backfill 1024 uint16": "d1dcbcabf2fad7a966728362395dac4d59ab721b58d2fe33c38d8356ee002deb",
    "backfill 1024 uint32": "61c69cdd14d894e185c40076f75e693a53c2f38443955de6cbf8bc097edc95ee",
    "backfill 8000 uint16": "c6916574a43e42274c5336ddff4c58b9b96cc95190a04fb28b3cadd4af70fef5",
    "backfill 8000 uint32": "d3a022e775769eb209fb8655684b7cbcc3a93859dd1272e9377f5288ff100670",
    "best_fit 1024 uint16": "f4dd7474177bef5887b9f44eae85060872739362b81b7ab52571daa4d7665862",
    "best_fit 1024 uint32": "ab3049c08db3998e1c2d9f2211d4b78bfc6605839c1fb922b67426ffb59c02b0",
    "best_fit 8000 uint16": "e383cb0a7e21b9ba884d25149f16ee03c5e155245e4d06cd73f511f3b9517a8d",
    "best_fit 8000 uint32": "34086ba1651e12f1a9c1c95d472eae2d372dd55180ef32906c7ac538b928e8b6",
    "concat 1024 uint16": "935ab0151def8befef19a6500aeb0dc3a1671a7c03d4e0e0ed7fb032d7a24ce3",
    "concat 1024 uint32": "5624e577b177edfa9601cda127502d8bc50c11b59a2fc425dba7ba67b86ce8c6",
    "concat 8000 uint16": "ce138b96b608c494453ca8eaaf48049bdfc74efc702e5914ff3b546430a46f2f",
    "concat 8000 uint32": "c6a14d2be3e31530fc1c8aae25509a4f2c76e45b36afdf069776904ffdc69b8e",
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("golden") / "corpus"
    golden.write_corpus(root)
    return root


def test_the_corpus_is_the_one_that_the_roots_are_of(corpus: Path):
    found = golden.corpus_digest(corpus)
    assert found == CORPUS, "the generator of the corpus changed: all golden digests follow, whatever the code does"


def test_the_roots_are_those_of_these_versions():
    raised = [f"{name} is {now}" for name, now in versions().items() if GOLDEN_VERSIONS.get(name) != now]
    assert not raised and len(versions()) == len(GOLDEN_VERSIONS), (
        f"{'; '.join(raised) or 'one is gone'}: paste the digests that changed, and the new GOLDEN_VERSIONS"
    )


def concerned(phase: Path) -> list[str]:
    """What has a version of its own in the fingerprints of the pools, and that version."""
    found = set()
    for split in splits_in(phase / "pools"):
        made = markers.read_marker(phase / "pools" / split).made_from
        found |= {f"filter {chosen['name']} (it is {chosen['version']})" for chosen in made["filters"]}
        found |= {f"format {name} (it is {version})" for name, version in made["formats"].items()}
        found.add(f"strategy {made['pack']['strategy']} (it is {made['pack']['version']})")
    return sorted(found)


def changed(name: str, parts: str, phase: Path, literal: str) -> None:
    """Fail with what to do."""
    pytest.fail(
        f"{name}: {parts} changed, so finished pools are not what a new build makes.\n"
        "If that is not meant, the change is wrong. If it is, raise the version of what decides differently: "
        f"{', '.join(concerned(phase))}; of anything else FORMAT of build/pool.py (it is {pool.FORMAT}) or, if it is "
        f"what a mix takes, of build/assemble.py (it is {assemble.FORMAT}). Follow with GOLDEN_VERSIONS, and paste:\n"
        f"    {literal}",
        pytrace=False,
    )


@pytest.mark.parametrize("name", CASES)
def test_what_is_built_is_golden(name: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if name == "rows":
        pytest.importorskip("datasets")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    phase = golden.build(CASES[name].recipe(corpus), tmp_path)
    built = golden.digests(phase)
    if built != (was := GOLDEN.get(name)):
        values = asdict(built)
        parts = [part for part, value in values.items() if value != getattr(was, part, None)]
        literal = "".join(f'\n        {part}="{value}",' for part, value in values.items())
        changed(name, " and ".join(parts), phase, f'"{name}": Digests({literal}\n    ),')
    if name.startswith("filters"):
        for split in splits_in(phase / "pools"):
            tally = markers.read_marker(phase / "pools" / split).tally
            drops = tally["filtered"] or split.startswith("length/")  # whose default drops what no reader lets pass
            assert drops and tally["documents"], f"{split}: {tally}"


@pytest.mark.parametrize("name", [f"{s} {n} {t}" for s in strategies() for n in LENGTHS for t in DTYPES])
def test_what_is_packed_is_golden(name: str, corpus: Path, tmp_path: Path):
    """Each strategy at each length, in each dtype, compressed."""
    strategy, length, dtype = name.split()
    changes = {
        "length": int(length),
        "pack": {"strategy": strategy},
        "shards": {"token_dtype": dtype, "compression": "zstd:1"},
    }
    packed = golden.pack(Case({"few": source("few", "25k")}, changes).recipe(corpus), tmp_path)
    if packed != PACKED.get(name):
        changed(name, "the first split", tmp_path / "pretrain", f'"{name}": "{packed}",')


def test_every_choice_has_a_case():
    """A strategy, dtype or filter that comes gets a case of its own, which leaves those that are here as they are."""
    packs = [case.changes.get("pack", {}).get("strategy", "backfill") for case in CASES.values()]
    assert set(packs) == set(strategies())
    dtypes = [case.changes.get("shards", {}).get("token_dtype", "uint16") for case in CASES.values()]
    assert set(dtypes) == set(DTYPES)
    assert {*ALONE, *LATER, *MODELS} == set(shipped())
