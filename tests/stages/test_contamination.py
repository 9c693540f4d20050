"""Evaluation texts are found however they are written, and nothing else is."""

import gzip
import json
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from contamination_kit import CHANGED, SAME, rng_of, sentence, written
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.base.errors import RecipeError
from ettin_data.base.word_signs import word_signs
from ettin_data.base.words import word_hashes, word_places
from ettin_data.stages.contamination import search as of_search
from ettin_data.stages.contamination import windows
from ettin_data.stages.contamination.index import DIFFERENT, LEAST, MOST_PLACES, Index
from ettin_data.stages.contamination.rules import Rule, rule_of
from ettin_data.stages.contamination.search import exact, search, search_hashed
from ettin_data.stages.contamination.sieve import SignRow
from ettin_data.stages.contamination.texts import EvaluationText, TextsChoice, read_texts

pytestmark = pytest.mark.usefixtures("each_way")

HALF = Rule("half", 8)


def index_of(texts, rule=HALF):
    return Index.of([EvaluationText(f"q:{n}", text) for n, text in enumerate(texts)], rule)


@pytest.mark.parametrize("how", SAME + CHANGED)
def test_planted_texts_are_found_at_their_place(how):
    rng = rng_of("planted", how)
    questions = [sentence(rng, rng.choice([5, 6, 7, 8, 9, 12, 20, 40, 90])) for _ in range(400)]
    index = index_of(questions)
    some = [n for n, q in enumerate(questions) if f"q:{n}" not in index.unsearchable]
    some = [n for n in some if how in SAME or len(questions[n].split()) >= 20]
    before = [sentence(rng, 60) for _ in some]
    planted = [written(how, questions[n], rng) for n in some]
    documents = [f"{b}\n{p} {sentence(rng, 30)}" for b, p in zip(before, planted, strict=True)]
    hits = search(index, documents)
    found = {(hit.document, hit.name): hit for hit in hits}
    right = [found.get((k, f"q:{n}")) for k, n in enumerate(some)]
    assert sum(hit is not None for hit in right) >= (0.99 if how in SAME else 0.9) * len(some)
    assert len(hits) <= 1.01 * len(some)
    for k, hit in enumerate(right):
        if hit is not None and how in SAME:
            assert documents[k][hit.begin : hit.end].strip("“”‘’>*_.?! ") == planted[k].strip("“”‘’>*_.?! ")
            assert hit.whole and hit.score == 1


def test_clean_documents_have_no_hit():
    rng = rng_of("clean")
    index = index_of([sentence(rng, rng.choice([5, 7, 9, 15, 40])) for _ in range(3000)])
    assert search(index, [sentence(rng, 80) for _ in range(3000)]) == []


LETTERS = "aAß1é-_ 日本К\u00ad\u0301Ａ²\U0001f600\U00020000\ud800\0\x01\x7fÿ"


@given(st.lists(st.text() | st.text(st.sampled_from(LETTERS), max_size=30), max_size=8))
def test_equal_words_have_equal_signs(texts):
    words, bounds = word_hashes(texts)
    signs, ends = word_signs(texts)
    assert ends.tolist() == bounds.tolist()
    same = {}
    for word, sign in zip(words.tolist(), signs.tolist(), strict=True):
        assert same.setdefault(word, sign) == sign
    alone = [word_signs([text])[0].tolist() for text in texts]  # of ASCII alone they are made in another way
    assert [sign for each in alone for sign in each] == signs.tolist()


def test_signs_are_the_first_two_letters():
    signs, bounds = word_signs(["Éa 日", "e\u00adA 日", "x_y К", "", "\x80Ｅa-abcdefghij", "“q” r9—"])
    assert bounds.tolist() == [0, 2, 4, 7, 7, 9, 11]
    first, sun, again, too, *rest = (sign.to_bytes(2, "little").rstrip(b"\0") for sign in signs.tolist())
    assert first == again == b"ea" and sun == too and 224 <= sun[0] < 254 and len(sun) == 1
    assert rest[:2] == [b"x", b"y"] and 160 <= rest[2][0] < 224 and rest[3:] == [b"ea", b"ab", b"q", b"r9"]
    plain, ends = word_signs(["It's 7 P.M.", "", "\x10\x7f[B`a@"])
    assert ends.tolist() == [0, 5, 5, 7]
    assert [sign.to_bytes(2, "little").decode().rstrip("\0") for sign in plain.tolist()] == "it s 7 p m b a".split()


@given(st.text())
def test_words_are_where_they_are_said_to_be(text):
    begins, ends = word_places(text)
    apart = [text[b:e] for b, e in zip(begins.tolist(), ends.tolist(), strict=True)]
    assert [word_hashes([piece])[0].tolist() for piece in apart] == [[word] for word in word_hashes([text])[0].tolist()]
    assert (begins[1:] >= ends[:-1]).all()


@given(st.integers(0, 2**32), st.integers(4, 12))
@settings(max_examples=30, deadline=None)
def test_the_sieve_misses_nothing(seed, n):
    rng = rng_of(seed)
    few = ["a", "b", "the", "river", "r", "rivers7", "Élan", "中", "12"]
    questions = [" ".join(rng.choices(few, k=rng.randint(3, 20))) for _ in range(12)]
    documents = [rng.choice([" ", "-", "\n"]).join(rng.choices(few, k=rng.randint(0, 60))) for _ in range(12)]
    documents += [f"x {rng.choice(documents)} {rng.choice(questions)} {rng.choice(documents)}" for _ in range(6)]
    index = index_of(questions, Rule("half", n))
    assert search(index, documents) == list(exact(index, documents, range(len(documents))))
    assert search(index, documents) == search_hashed(index, documents, *word_hashes(documents))
    text = [" ".join(map(str, index.words_of(number).tolist())) for number in range(len(index.names))]
    for number, document in enumerate(documents):  # a plain search for whole texts
        spaced = f" {' '.join(str(word) for word in word_hashes([document])[0].tolist())} "
        whole = {t for t, one in enumerate(text) if f" {one} " in spaced}
        assert whole <= {hit.text for hit in search(index, documents) if hit.document == number}


@pytest.mark.parametrize("rule", [HALF, Rule("half", 4), rule_of("decon")])
def test_of_a_long_document_only_parts_are_looked_at_and_nothing_is_missed(monkeypatch, rule):
    monkeypatch.setattr(windows, "PIECE", 200)
    hashed = []

    def count(texts):
        hashed.extend(texts)
        return word_hashes(texts)

    monkeypatch.setattr(of_search, "word_hashes", count)
    rng = rng_of("long", rule.name, rule.ngram)
    questions = [sentence(rng, rng.choice([5, 6, 9, 21, 30, 60])) for _ in range(40)]
    index = index_of(questions, rule)
    documents = []
    for _ in range(30):  # pieces of texts, some near each other and some far, with words put in between
        parts = [sentence(rng, rng.choice([1, 3, 40, 2000]))]
        for _ in range(rng.randint(0, 8)):
            words = rng.choice(questions).split()
            begin = rng.randrange(len(words))
            part = [w for word in words[begin:] for w in (word, "so")[: rng.choices([1, 2], [9, 1])[0]]]
            parts += [" ".join(part), sentence(rng, rng.choice([1, 2, 3, 20, 2000]))]
        documents.append(rng.choice([" ", "\n"]).join(parts))
    found = search(index, documents)
    looked_at = sum(map(len, hashed))
    assert found == list(exact(index, documents, range(len(documents)))) and found
    assert looked_at < 0.85 * sum(map(len, documents))
    assert search_hashed(index, documents, *word_hashes(documents)) == found


@given(st.lists(st.text(st.sampled_from("ab \n中é")), max_size=5), st.integers(1, 9))
def test_pieces_are_the_texts_and_no_word_is_cut(texts, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "PIECE", size)
        pieces, first = windows.in_pieces(texts)
    apart = [pieces[a:b] for a, b in pairwise(first.tolist())]
    assert ["".join(some) for some in apart] == texts
    assert word_hashes(pieces)[0].tolist() == word_hashes(texts)[0].tolist()


def test_spans_that_overlap_are_one():
    none = np.zeros(0, np.int64)
    assert [each.tolist() for each in windows.merged(none, none)] == [[], []]
    begins, ends = windows.around(np.array([0, 4, 9, 10, 30]), np.array([0, 10, 10, 40]), 3)
    assert begins.tolist() == [0, 1, 6, 10, 27] and ends.tolist() == [3, 7, 10, 13, 33]
    assert [each.tolist() for each in windows.merged(begins, ends)] == [[0, 10, 27], [10, 13, 33]]


@given(st.lists(st.integers(0, 5), min_size=1), st.integers(0, 99))
def test_a_search_in_parts_is_the_search(cuts, seed):
    rng = rng_of(seed)
    questions = [sentence(rng, rng.choice([6, 10, 30])) for _ in range(8)]
    documents = [f"{sentence(rng, 9)} {rng.choice(questions)} {sentence(rng, 9)}" for _ in range(6)]
    index = index_of(questions)
    parts = [0, *sorted(cuts), len(documents)]
    apart = [
        (hit.text, a + hit.document, hit.begin, hit.end)
        for a, b in pairwise(parts)
        for hit in search(index, documents[a:b])
    ]
    assert apart == [(hit.text, hit.document, hit.begin, hit.end) for hit in search(index, documents)]


def test_half_of_a_text_counts_and_less_does_not():
    rng = rng_of("half")
    words = sentence(rng, 60).split()
    index = index_of([" ".join(words)])
    (hit,) = search(index, ["so " + " ".join(words[:40]) + " no"])
    assert hit.score == pytest.approx(33 / 53, abs=1e-3) and not hit.whole
    assert search(index, ["so " + " ".join(words[:30]) + " no"]) == []
    twice = search(index, ["\n\n".join([" ".join(words), sentence(rng, 90), " ".join(words).upper()])])
    assert len(twice) == 2


def test_rare_words_weigh_more():
    rng = rng_of("rare")
    template = sentence(rng, 30)
    questions = [f"{template} {sentence(rng, 25)}" for _ in range(200)]
    assert search(index_of(questions), [template]) == []
    own = questions[7].removeprefix(template)
    assert [hit.text for hit in search(index_of(questions), [own])] == [7]


def test_decon_wants_nearly_all_and_the_answer():
    rng = rng_of("decon")
    question, answer = sentence(rng, 60), sentence(rng, 4)
    index = Index.of(
        [EvaluationText("q", question, answer), EvaluationText("short", sentence(rng, 19))], rule_of("decon")
    )
    assert index.n == 5 and "short" in index.unsearchable
    assert search(index, [f"{question} {answer}"]) and search(index, [f"{question} The answer: {answer}"])
    assert not search(index, [question]) and not search(index, [f"{question} {sentence(rng, 80)} {answer}"])
    cut = " ".join(question.split()[:45])
    assert not search(index, [f"{cut} {answer}"])


def test_what_cannot_be_looked_for_is_named():
    texts = [
        "one two three four",
        "a a a a a a",
        "is this true or not",
        "Is this true, or not?",
        "ok so far so good now",
    ]
    index = index_of(texts)
    assert list(index.names) == ["q:4"]
    assert index.unsearchable["q:0"] == "has 4 words" and "1 different" in index.unsearchable["q:1"]
    assert index.unsearchable["q:2"] == index.unsearchable["q:3"] == "has 5 words, which 2 texts have"
    assert LEAST == 5 and DIFFERENT == 4
    assert search(index_of([]), ["anything at all"]) == []
    for rule, ngram in (("all", 8), ("half", 0), ("half", 10**6)):
        with pytest.raises(RecipeError):
            rule_of(rule, ngram)


def test_the_digest_is_of_all_that_decides():
    texts = ["one two three four five six seven eight nine", "ten eleven twelve thirteen fourteen"]
    digests = {index_of(texts).digest, index_of(texts[:1]).digest, index_of(texts[::-1]).digest}
    digests |= {index_of(texts, Rule("half", 7)).digest, index_of([texts[0] + " x", texts[1]]).digest}
    assert len(digests) == 5
    assert index_of([texts[0].upper(), texts[1]]).digest == index_of(texts).digest


def test_files_of_texts(tmp_path):
    texts = ["one text", "another\u2028text with a line separator"]
    rows = [{"q": text, "a": ["x", "y"], "p": None} for text in texts]
    (tmp_path / "a.txt").write_text("\n\n".join(texts))
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress((tmp_path / "b.jsonl").read_bytes()))
    pq.write_table(pa.table({"q": texts, "a": ["x\ny"] * 2}), tmp_path / "d.parquet")
    (tmp_path / "e.csv").write_text('a,q\n"x\ny",one text\n"x\ny",another\u2028text with a line separator\n')
    (tmp_path / "f.json").write_text(json.dumps(rows))
    for name in ("b.jsonl", "c.jsonl.gz", "d.parquet", "e.csv", "f.json"):
        found = read_texts([TextsChoice(file=str(tmp_path / name), question="q", answer="a")])
        assert [(text.text, text.answer) for text in found] == [(texts[0], "x\ny"), ("x\ny", ""), (texts[1], "x\ny")]
        assert [text.name for text in found] == [f"{name}:0 question", f"{name}:0 answer", f"{name}:1 question"]
    assert [text.text for text in read_texts([TextsChoice(file=str(tmp_path / "a.txt"))])] == texts


def test_hashes_that_agree_by_chance_are_no_hit(monkeypatch):
    from ettin_data.stages.contamination import index as of_index

    def nothing_but_collisions(words, bounds, n):
        lengths = np.maximum(np.diff(bounds) - n + 1, 0)
        return np.zeros(int(lengths.sum()), np.uint64), np.cumsum([0, *lengths])

    rng = rng_of("collisions")
    questions, clean = [sentence(rng, 12) for _ in range(3)], [sentence(rng, 30) for _ in range(5)]
    monkeypatch.setattr(of_index, "ngrams", nothing_but_collisions)
    monkeypatch.setattr(of_search, "ngrams", nothing_but_collisions)
    assert [hit.text for hit in exact(index_of(questions), [*clean, questions[1]], range(6))] == [1]


@given(st.integers(0, 2**32), st.sampled_from([1, 2, 8, 30]), st.sampled_from([0, 3, 40]))
@settings(max_examples=25, deadline=None)
def test_what_repeats_itself_is_walked_over_a_few_times_only(seed, period, changes):
    rng = rng_of(seed)
    passage = sentence(rng, period).split()
    text = [*sentence(rng, 9).split(), *(passage * (1500 // period))]
    document = [*(passage * (4000 // period)), *text, *(passage * 9)]
    for words in (text, document):
        for _ in range(changes):
            words[rng.randrange(len(words))] = "other"
    index = index_of([" ".join(text), sentence(rng, 30)])
    walked = []

    def counted(step, size):
        return lambda *arguments: walked.append(size(found := step(*arguments))) or found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_search, "_grown", counted(of_search._grown, lambda stretch: stretch.end - stretch.begin))
        patch.setattr(of_search, "_open", counted(of_search._open, lambda sides: len(sides[0])))
        hits = search(index, [" ".join(document)])
    assert [hit.text for hit in hits] == [0] and sum(walked) <= 2 * MOST_PLACES * (len(document) + len(text))
    if not changes:
        assert hits[0].score == 1 and (hits[0].begin, hits[0].end) == (0, len(" ".join(document).rstrip(".?!")))


def test_eight_words_over_and_over_beside_a_text_of_the_same():
    passage = "the same eight words stand here once more "
    index = index_of([sentence(rng_of("eight"), 20), passage * 6_000])
    (hit,) = search(index, [passage * 6_000])
    assert (hit.name, hit.begin, hit.end, hit.whole) == ("q:1", 0, 6_000 * len(passage) - 1, True)
    assert [hit.name for hit in search(index, [passage * 14_000])] == ["q:1"]


@given(st.lists(st.integers(0, 65535), max_size=40), st.integers(1, 20), st.integers(1, 5))
def test_words_in_a_row_have_the_hashes_of_words_one_by_one(signs, n, step):
    row = SignRow(np.array(signs, np.uint16))
    starts = np.arange(0, len(signs) - n + 1, step)
    hashes = row.every(n, step).tolist()
    assert hashes == row.at(starts, n).tolist()
    if hashes:  # the last of the n words counts too
        other = SignRow(np.array([*signs[: n - 1], signs[n - 1] ^ 1], np.uint16))
        assert other.every(n, step).tolist() != hashes[:1]
