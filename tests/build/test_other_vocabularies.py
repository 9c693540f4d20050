"""Tokenizers of other families through everything: what is built, verified, shown and trained has their ids."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers, trainers
from typer.testing import CliRunner

from ettin_data import recipe as recipes
from ettin_data.base.errors import EttinError, TokenizerError
from ettin_data.build.build import build_phase
from ettin_data.build.prepare import BuildOptions
from ettin_data.cli.main import app
from ettin_data.executor import ExecutorOptions
from ettin_data.order.data import run_of
from ettin_data.order.loader_edits import Loader
from ettin_data.storage.mds import MdsReader

TOY = ("[CLS]", "[SEP]", "[PAD]")
BOS = ("<pad>", "<eos>", "<bos>", "<mask>")
FRAME = {"open": "<bos>", "close": "<eos>", "pad": "<pad>", "mask": "<mask>"}
WORDS = "the quick brown fox jumps over lazy dog while seven wizards [SEP] <eos> brew <mask> potions".split()


def write_tokenizer(path: Path, special: tuple[str, ...], more: int = 0) -> str:
    """A byte-level BPE of 300 entries, and `more` that no text needs; returns its digest."""
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    library.train_from_iterator(["the quick brown fox jumps over the lazy dog. " * 50], trainer)
    library.add_tokens([f"|{i}|" for i in range(more)])
    library.save(str(path))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def texts(seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, int(random.integers(20, 120)))) for _ in range(60)]


@dataclass
class Built:
    """A run of one phase with another tokenizer."""

    folder: Path
    tokenizer: Path
    recipe: recipes.Recipe

    @property
    def phase(self) -> Path:
        return self.folder / "decay"

    @property
    def loader(self) -> Loader:
        return Loader.of_run(run_of(self.phase))


def make(root: Path, special: tuple[str, ...], frame: dict[str, str] | None, more: int = 0, **changes: Any) -> Built:
    tokenizer = root / "other.json"
    digest = write_tokenizer(tokenizer, special, more)
    for name in ("one", "two"):
        (root / name).mkdir()
        for part in range(2):
            rows = [{"id": f"{name}-{part}-{i}", "text": text} for i, text in enumerate(texts(part + len(name)))]
            (root / name / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    described: dict[str, Any] = {
        "phase": "decay", "length": 128, "tokenizer": {"name": str(tokenizer), "sha256": digest, "frame": frame},
        "pack": {"min_length": 32, "always_skip": 8}, "order": {"batch": 4}, "validation": 0.05, "split_bytes": 1000,
        "sources": {name: {"root": str(root / name), "tokens": 12_000} for name in ("one", "two")},
    }  # fmt: skip
    (root / "recipe.yaml").write_text(json.dumps(described | changes))
    made = Built(root / "run", tokenizer, recipes.load_recipe(root / "recipe.yaml"))
    build_phase(made.recipe, options(made))
    return made


def options(made: Built) -> BuildOptions:
    return BuildOptions(made.folder, None, ExecutorOptions(workers=1))


@pytest.fixture(scope="module", params=["toy", "bos"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    root = tmp_path_factory.mktemp(request.param)
    return make(root, TOY, None) if request.param == "toy" else make(root, BOS, FRAME)


def run(*words: object, status: int = 0) -> str:
    """What a command prints."""
    found = CliRunner().invoke(app, [str(word) for word in words])
    assert found.exit_code == status, found.output + repr(found.exception)
    return found.output


def test_the_shards_and_the_run_have_its_ids(built: Built) -> None:
    words, reader = built.loader.vocabulary, MdsReader(built.phase / "train")
    frame, added = words.frame, json.loads(built.tokenizer.read_text())["added_tokens"]
    ids = {token["content"]: token["id"] for token in added}
    assert (words.open, words.close, words.pad) == (ids[frame.open], ids[frame.close], ids[frame.pad])
    assert reader.shard(0).dtype == np.uint16 and len(reader) > 20
    for position in range(len(reader)):
        tokens = reader.tokens(position)
        assert tokens[0] == words.open and tokens[-1] == words.close
        assert not np.isin(tokens[1:-1], words.reserved).any()  # although the text names them


def test_verified_repaired_and_built_again(built: Built) -> None:
    assert json.loads(run("verify", built.phase, "--full", "--json", "--workers", 1))[0]["sound"]
    root = run_of(built.phase).root
    shard = next((built.phase / "pools" / "one").rglob("shard.*.mds"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    run("verify", built.phase, "--workers", 1, status=1)
    run("repair", built.phase, "--workers", 1)
    assert run_of(built.phase).root == root == build_phase(built.recipe, options(built)).root


@pytest.mark.parametrize("kind", ["stored", "encoder", "decoder"])
def test_exported_and_verified(built: Built, kind: str, tmp_path: Path) -> None:
    run("order", "export", built.phase, "--out", tmp_path, "--as", kind, "--max-seq-len", 60, "--workers", 1)
    words = built.loader.vocabulary
    rows = [row for path in tmp_path.rglob("*.parquet") for row in pq.read_table(path)["input_ids"].to_pylist()]
    assert {row[0] for row in rows} == {words.open} and max(map(max, rows)) < words.size
    assert ({row[-1] for row in rows} == {words.close}) == (kind != "decoder")
    seen = ["--as", kind, *(["--max-seq-len", 60] if kind != "stored" else [])]
    run("order", "verify", "--data", built.phase / "train", "--published", tmp_path, *seen, "--workers", 1)


def test_shown(built: Built, tmp_path: Path) -> None:
    words, first = built.loader.vocabulary, texts(3)[0]
    assert f"{words.frame.open}" in run("inspect", built.phase / "train", "--number", 3)
    assert words.frame.open in run("trace", built.phase, "--step", 1, "--rows", 2)
    assert "-0-0: 0.jsonl record 0" in run("trace", built.phase, "--text", first)
    run("view", built.phase, "--step", 1, "--out", tmp_path / "step.html")
    assert f"{words.frame.open}".replace("<", "&lt;").replace(">", "&gt;") in (tmp_path / "step.html").read_text()
    assert "documents read" in run("exposure", built.phase)
    (tmp_path / "texts.txt").write_text(first + "\n")
    texts_option = ["--texts", tmp_path / "texts.txt", "--workers", 1]
    assert "1 of 1 texts stand in the data" in run("exposure", built.phase, *texts_option)
    assert "1 of 1 texts share" in run("exposure", built.phase, *texts_option, "--unit", "tokens")


def test_trained(built: Built, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    words = ["train", built.folder, "--steps", 2, "--out", tmp_path]
    run(*words, "--objective", "decoder")
    if built.loader.vocabulary.mask is not None:
        run(*words, "--objective", "encoder")
    else:
        refused = CliRunner().invoke(app, [str(word) for word in [*words, "--objective", "encoder"]])
        assert isinstance(refused.exception, EttinError) and "no mask" in str(refused.exception)


def test_without_its_tokenizer_ids_are_shown(built: Built, tmp_path: Path) -> None:
    """Gone, or another one in its place: never text of another tokenizer."""
    held, stored = built.tokenizer.read_bytes(), MdsReader(built.phase / "train").tokens(0).tolist()
    try:
        built.tokenizer.unlink()
        for change in (None, write_tokenizer):
            if change:
                change(built.tokenizer, ("[PAD]", *TOY[:2], *BOS), 7)
            shown = run("inspect", built.phase / "train", "--number", 1, "--characters", 0)
            assert " ".join(map(str, stored)) in shown and "decoded to ids" in shown
            assert "decoded to ids" in run("trace", built.phase, "--step", 1, "--rows", 1)
            assert json.loads(run("verify", built.phase, "--full", "--json", "--workers", 1))[0]["sound"]
            with pytest.raises(TokenizerError):
                build_phase(built.recipe, options(built))
        (tmp_path / "elsewhere.json").write_bytes(held)
        named = run("inspect", built.phase / "train", "--number", 1, "--tokenizer", tmp_path / "elsewhere.json")
        assert built.loader.vocabulary.frame.open in named and "decoded to ids" not in named
        wrong = CliRunner().invoke(app, ["inspect", str(built.phase / "train"), "--tokenizer", str(built.tokenizer)])
        assert isinstance(wrong.exception, TokenizerError) and "not the tokenizer of the run" in str(wrong.exception)
    finally:
        built.tokenizer.write_bytes(held)


def test_a_large_vocabulary_takes_uint32(tmp_path: Path) -> None:
    made = make(tmp_path, BOS, FRAME, more=66_000)
    assert MdsReader(made.phase / "train").shard(0).dtype == np.uint32
    assert run_of(made.phase).recipe["shards"]["token_dtype"] == "uint32"
    assert json.loads(run("verify", made.phase, "--full", "--json", "--workers", 1))[0]["sound"]


@pytest.mark.parametrize(
    ("special", "frame", "changes", "message"),
    [
        (("[CLS]", "[PAD]"), None, {}, r"no \[SEP\]"),
        (BOS, FRAME | {"open": "<s>"}, {}, "no <s>"),
        (BOS, FRAME | {"pad": "<eos>"}, {}, "stands for both"),
        (BOS, FRAME | {"open": "the"}, {}, "the text 'the' becomes"),
        (TOY, None, {"loader": {"rule": "none"}}, "no loader's rule"),
    ],
)
def test_what_is_refused_leaves_nothing(
    tmp_path: Path, special: tuple[str, ...], frame: dict[str, str] | None, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(EttinError, match=message):
        make(tmp_path, special, frame, **changes)
    assert not (tmp_path / "run").exists()


def test_a_type_that_is_too_narrow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EttinError, match="does not fit uint16"):
        make(tmp_path, BOS, FRAME, more=66_000, shards={"token_dtype": "uint16"})
    assert not (tmp_path / "run").exists()
