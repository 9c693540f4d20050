"""Personal data: what datatrove's formatter finds, and no versions in `strict`."""

import re

import pytest
from datatrove.pipeline.formatters.pii import PIIFormatter
from filter_kit import build_filters, document, real_text
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.base.errors import RecipeError
from ettin_data.stages.filters.pii import MARKERS

PIECES = [
    *"@ . .. - + _ a b.c x1 é 中 [ ] : [1.2.3.4] [1.2.3.x-y:] com org a@b.co a.b+c@d-e.org %@ |@| '@x.y".split(),
    *"8.8.8.8 1.2.3.4 127.0.0.1 10.0.0.1 01.2.3.4 256.1.1.1 2.13.90.0 1.2.3 4 .5 99 93.184.216.34".split(),
    "+1 (415) 555-2671", " 415-555-2671", "4155552671", " ", "\n", "\u2028", "，",
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.text("ab.@-[]:1258 é", max_size=40)


def ours(text, **options):
    (step,) = build_filters([{"pii": options}])
    made = document(text)
    answer = step.filter(made)
    return made.text if answer is True else answer


@given(texts, st.sampled_from([("replace", "replace"), ("replace", None), (None, "replace")]))
@settings(max_examples=400, deadline=None)
def test_what_datatrove_replaces_is_replaced(text, kinds):
    email, ip = kinds
    theirs = PIIFormatter(email is not None, ip is not None, True, MARKERS["email"], MARKERS["ip"])
    assert ours(text, email=email, ip=ip, phone=None, mode="datatrove") == theirs.format(text)


def test_real_text_is_as_datatrove_leaves_it():
    theirs = PIIFormatter(email_replacement=MARKERS["email"], ip_replacement=MARKERS["ip"])
    for text in real_text(400_000):
        assert ours(text, phone=None, mode="datatrove") == theirs.format(text)


@given(texts)
@settings(max_examples=200, deadline=None)
def test_what_is_not_replaced_stays_as_it_is(text):
    kept = re.escape(ours(text, phone="replace"))
    for marker in MARKERS.values():
        kept = kept.replace(re.escape(marker), ".+?")
    assert re.fullmatch(kept, text, re.DOTALL)


@pytest.mark.parametrize(
    "text",
    [
        "version 2.13.90.0", "Version: 10.0.19041.1", "v8.1.2.3", "v 8.1.2.3", "lilypond-2.12.90.1.tar.gz",
        "1.2.3.4.5", "11.22.33.44.55.66", "libfoo 1.2.3.4-2ubuntu1", "foo==1.2.3.4",
        "releases 8.1.2.3, 8.1.2.4 and 8.1.2.5", "upgrade from 8.1.2.3 to 8.1.2.4", "updated to 9.8.7.6",
        "foo/8.1.2.3/bar", "since 4.3.2.1", "driver (23.20.16.49)", "see section 11.4.2.1", "left-pad@1.3.0",
        "logo@2x.png", "Chrome/91.0.44.114", "1.2.3.4a", "a1.2.3.4", "8.8.8.0", "build 3.14.15.92", "OID 2.5.4.3",
        "12345678901234", "1.800-555", "2001-555-123-4567",
    ],
)  # fmt: skip
def test_versions_are_left_alone_in_strict(text):
    for around in ("{}", "It is {}.", "({})", "\n{}\n", "a, {}, b"):
        assert ours(around.format(text), phone="replace") == around.format(text)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("write to a.b+c@mail.example.org.", "write to |||EMAIL_ADDRESS|||."),
        ("<jo@x.de>; MAILTO:Jo@X.DE", "<|||EMAIL_ADDRESS|||>; MAILTO:|||EMAIL_ADDRESS|||"),
        ("from 8.8.8.8 and http://93.184.216.34/x:80", "from |||IP_ADDRESS||| and http://|||IP_ADDRESS|||/x:80"),
        ("host 93.184.216.34:8080, 10.0.0.1", "host |||IP_ADDRESS|||:8080, 10.0.0.1"),
        ("call (415) 555-2671 or +49 30 1234 5678.", "call |||PHONE_NUMBER||| or |||PHONE_NUMBER|||."),
        ("call 415-555-2671, +1 415.555.2671", "call |||PHONE_NUMBER|||, |||PHONE_NUMBER|||"),
    ],
)
def test_what_is_personal_is_replaced_in_strict(text, left):
    assert ours(text, phone="replace") == left
    assert ours(text, email="count", ip="count", phone="count") == text


def test_documents_with_too_many_are_dropped():
    rejected = []
    (step,) = build_filters([{"pii": {"drop_above": 5}}], lambda _, reason: rejected.append(reason))
    kept = list(step.run([document("a@b.co " * n) for n in (0, 5, 6)]))
    assert [one.text.count("EMAIL") for one in kept] == [0, 5]
    assert rejected == ["personal_data"] and (rejected[0].value, rejected[0].threshold) == (6, 5)
    assert step.stats.stats["email"].total == 5
    with pytest.raises(RecipeError, match="email"):
        build_filters([{"pii": {"email": "burn"}}])
    with pytest.raises(RecipeError, match="no personal data to look for"):
        build_filters([{"pii": {"email": None, "ip": None, "phone": None}}])


def test_a_long_run_of_text_takes_no_time():
    for text in ("a" * 200_000 + "@", "@" * 100_000, "a.@" * 50_000, "1.2.3." * 50_000):
        assert ours(text) == text


def test_a_recipe_puts_it_behind_the_filters_of_every_source(tmp_path):
    from filter_kit import corpus_recipe

    from ettin_data.build.prepare import BuildOptions, resolve
    from ettin_data.recipe import load_recipe

    sources = {"a": {}, "b": {"filters": ["c4"], "filters+": ["length"]}}
    text = corpus_recipe(tmp_path, sources, filters=["exact_duplicate"], pii={"drop_above": 5})
    (tmp_path / "recipe.yaml").write_text(text)
    resolved = resolve(load_recipe(tmp_path / "recipe.yaml"), BuildOptions(tmp_path))
    names = {key: [chosen.name for chosen in filters] for key, filters in resolved.filters.items()}
    assert names == {"a": ["exact_duplicate", "pii"], "b": ["c4", "length", "pii"]}
    assert resolved.filters["a"][-1].options.typed["drop_above"] == 5
    (tmp_path / "recipe.yaml").write_text(text.replace("drop_above", "drop_over"))
    with pytest.raises(RecipeError, match=r"unknown key 'pii\.drop_over'"):
        resolve(load_recipe(tmp_path / "recipe.yaml"), BuildOptions(tmp_path))
