"""The demo in many languages: catalogues of messages, the mirror, and mmBERT's phases in small."""

from __future__ import annotations

import gettext
import struct
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import ettin_data
from ettin_data.base.errors import SourceError
from ettin_data.demo import catalogues, languages
from ettin_data.recipe.temperature import Member, allot

SENTENCES = {
    "de": "Die Datei {} wurde nicht gefunden.",
    "el": "Το αρχείο {} δεν βρέθηκε.",
    "ja": "ファイル {} が見つかりませんでした。",
    "sr": "Датотека {} није пронађена.",
    "sr@latin": "Datoteka {} nije pronađena.",
    "pt_BR": "O arquivo {} não foi encontrado.",
}


def catalogue(pairs: dict[str, str], charset: str = "UTF-8", order: str = "<") -> bytes:
    """A `.mo` file as `msgfmt` writes it."""
    pairs = {"": f"Content-Type: text/plain; charset={charset}\n", **pairs}
    rows = [(here.encode(charset), there.encode(charset)) for here, there in sorted(pairs.items())]
    start, tables, body = 28 + 16 * len(rows), [[], []], b""
    for column in (0, 1):
        for row in rows:
            tables[column] += [len(row[column]), start + len(body)]
            body += row[column] + b"\0"
    head = struct.pack(f"{order}7I", 0x950412DE, 0, len(rows), 28, 28 + 8 * len(rows), 0, 28 + 16 * len(rows))
    return head + struct.pack(f"{order}{4 * len(rows)}I", *tables[0], *tables[1]) + body


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with catalogues of six locales, from four hundred messages down to a few."""
    folder = tmp_path / "locale"
    for number, (locale, sentence) in enumerate(SENTENCES.items()):
        for domain in ("tar", "sed"):
            path = folder / locale / "LC_MESSAGES" / f"{domain}.mo"
            path.parent.mkdir(parents=True, exist_ok=True)
            texts = [sentence.format(f"{domain}-{n}") for n in range(200 >> number)]
            path.write_bytes(catalogue({f"The file {domain}-{n} was not found": text for n, text in enumerate(texts)}))
    (folder / "en_GB" / "LC_MESSAGES").mkdir(parents=True)
    (folder / "en_GB" / "LC_MESSAGES" / "tar.mo").write_bytes(catalogue({"color of the file": "colour of the file"}))
    monkeypatch.setattr(catalogues, "FOLDERS", (str(folder),))
    monkeypatch.setattr(catalogues, "distributions", dict)
    return folder


@pytest.mark.parametrize(
    ("locale", "subset"),
    [("de", "deu_Latn"), ("pt_BR", "por_Latn"), ("sr", "srp_Cyrl"), ("sr@latin", "srp_Latn"), ("zh_TW", "cmn_Hani"),
     ("ast", "ast_Latn"), ("nb", "nob_Latn"), ("en_GB", None), ("en@shaw", None), ("ca@valencia", None), ("xx", None)],
)  # fmt: skip
def test_a_locale_is_a_subset_of_fineweb2(locale: str, subset: str | None) -> None:
    assert catalogues.subset_of(locale) == subset


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("charset", ["UTF-8", "ISO-8859-2"])
def test_messages_are_those_that_gettext_finds(tmp_path: Path, order: str, charset: str) -> None:
    pairs = {"open": "otevřít", "menu\x04close": "zavřít", "one\0many": "jeden\0mnoho", "same": "same", "none": ""}
    data = catalogue(pairs, charset, order)
    (tmp_path / "x.mo").write_bytes(data)
    with open(tmp_path / "x.mo", "rb") as file:
        true = gettext.GNUTranslations(file)
    assert sorted(catalogues.messages(data)) == sorted(
        [true.gettext("open"), true.pgettext("menu", "close"), true.ngettext("one", "many", 1)]
    )
    for end in (3, 10, 30, 60):
        assert catalogues.messages(data[:end]) == []
    assert catalogues.messages(data.replace(charset.encode(), b"x" * len(charset))) == []


def test_the_mirror_has_every_language_and_nothing_twice(machine: Path, tmp_path: Path) -> None:
    mirror = languages.write_mirror(tmp_path / "mirror")
    assert sorted(mirror.sources) == [
        f"fineweb2.{name}" for name in ("deu_Latn", "ell_Grek", "jpn_Jpan", "por_Latn", "srp_Cyrl", "srp_Latn")
    ]
    counts = [source.documents for source in mirror.sources.values()]
    assert max(counts) > 50 and min(counts) >= languages.FEWEST
    lines = []
    for path in sorted((tmp_path / "mirror").rglob("*.parquet")):
        table = pq.read_table(path).to_pylist()
        assert {"text", "id", "url", "language", "language_script", "minhash_cluster_size"} <= table[0].keys()
        assert f"{table[0]['language']}_{table[0]['language_script']}" == path.parts[-3]
        lines += [line for row in table for line in row["text"].splitlines()]
    assert len(lines) == len(set(lines)) and "Die Datei sed-7 wurde nicht gefunden." in lines
    assert languages.write_mirror(tmp_path / "mirror").reused
    (machine / "de" / "LC_MESSAGES" / "more.mo").write_bytes(catalogue({"a": "Noch eine Meldung aus einem Programm."}))
    assert not languages.write_mirror(tmp_path / "mirror").reused


def test_a_machine_without_catalogues_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogues, "FOLDERS", (str(tmp_path / "none"),))
    monkeypatch.setattr(catalogues, "distributions", dict)
    with pytest.raises(SourceError, match=r"0 languages[\s\S]*pip install"):
        languages.write_mirror(tmp_path / "mirror")
    assert not (tmp_path / "mirror").exists()


def test_a_phase_takes_what_the_law_gives(machine: Path, tmp_path: Path) -> None:
    mirror = languages.write_mirror(tmp_path / "sources")
    made = {recipe.phase: recipe for recipe in languages.recipes(tmp_path / "recipes", mirror)}
    assert list(made) == ["pretrain", "extension", "decay-all"]
    assert [recipe.length for recipe in made.values()] == [1024, 8192, 8192]
    members = [Member(key, source.tokens, source.tokens) for key, source in mirror.sources.items()]
    held = sum(member.available for member in members)
    assert {key: source.tokens for key, source in made["pretrain"].sources.items()} == allot(
        members, held // 2, 0.7
    ).targets
    decay = {key: source.tokens for key, source in made["decay-all"].sources.items()}
    assert decay == {key: n for key, n in allot(members, held // 8, 0.3).targets.items() if n}
    run = ettin_data.build(made["decay-all"], tmp_path / "run", sources_root=str(tmp_path / "sources"))
    longest = 8192
    assert run.sources.keys() == decay.keys()
    assert all(abs(built.tokens - decay[key]) <= longest for key, built in run.sources.items())
    (report,) = ettin_data.verify(tmp_path / "run")
    assert report.sound, report.findings


def test_phases_that_fill_some_steps_of_packed_rows_have_their_law(machine: Path, tmp_path: Path) -> None:
    mirror = languages.write_mirror(tmp_path / "sources")
    assert [each.order.law for each in languages.recipes(tmp_path / "few", mirror)] == [None] * 3
    mirror = replace(mirror, sources={k: replace(s, tokens=1_000 * s.tokens) for k, s in mirror.sources.items()})
    said = [(each.order.batch, each.order.law) for each in languages.recipes(tmp_path / "many", mirror)]
    assert said == [
        (16, "modernbert-packed-v1:world=2,micro=2,buffer=256"),
        *[(8, "modernbert-packed-v1:world=2,micro=1,buffer=256")] * 2,
    ]
