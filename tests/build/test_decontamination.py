"""`decontaminate` in a build: what is dropped, masked or reported, its record, and that a full look finds none."""

import json
import re

import pytest
from contamination_kit import build, rng_of, sentence, written

from ettin_data.base import sealed_json
from ettin_data.base.errors import BuildError, EttinError, RecipeError, ShardError
from ettin_data.build.decontamination import made_ready, read_checked, remove_made
from ettin_data.inspect.decoding import words_of
from ettin_data.inspect.evaluation import documents_of, texts_of
from ettin_data.inspect.lookup import open_phases
from ettin_data.order.data import Data
from ettin_data.stages.contamination.options import DecontaminateChoice, Decontamination, chosen
from ettin_data.stages.contamination.search import search
from ettin_data.stages.contamination.step import Decontaminate
from ettin_data.stages.contamination.texts import TextsChoice, read_texts
from ettin_data.storage import records
from ettin_data.storage.keys import read_keys
from ettin_data.storage.phase import Phase
from ettin_data.verify.phase import VerifyOptions, verify_phase


@pytest.fixture
def made(tmp_path):
    """Texts with questions in them, each written differently, and the file of the questions."""
    rng = rng_of("decontaminate")
    questions = [sentence(rng, rng.choice([6, 12, 30])) for _ in range(12)]
    ways = ["as it is", "upper", "lines", "markdown", "lower", "quotes"]
    dirty = [f"{sentence(rng, 25)} {written(ways[n % 6], q, rng)} {sentence(rng, 25)}" for n, q in enumerate(questions)]
    clean = [sentence(rng, 60) for _ in range(30)]
    (tmp_path / "evals.jsonl").write_text("\n".join(json.dumps({"q": q}) for q in [*questions, "too short"]))
    texts = [text for n in range(30) for text in (clean[n : n + 1] + dirty[n : n + 1])]
    return questions, dirty, clean, texts, {"texts": [{"file": str(tmp_path / "evals.jsonl"), "question": "q"}]}


def looked(folder):
    return verify_phase(folder, VerifyOptions(full=True))


def plain(text):
    return " ".join(re.findall("[a-z]+", text.lower()))


def plain_documents(folder):
    """All decoded documents of train, as words between blanks, a document a line; no code of the search has a part."""
    (phase,) = open_phases(folder)
    tokenizer, data = words_of(phase.loader.vocabulary).needed(), Data(str(phase.place.train))
    documents = [d for split in phase.splits for d in documents_of(data, split, tokenizer.vocabulary)]
    return "\n".join(f" {plain(text)} " for text in texts_of(documents, tokenizer))


def evaluation(choice):
    """The texts of a recipe that are long enough to be looked for."""
    texts = read_texts([TextsChoice.model_validate(each) for each in choice["texts"]])
    return [text for text in texts if len(text.text.split()) >= 5]


def test_dropped_documents_are_written_down_and_none_is_found_after(made, tmp_path):
    questions, dirty, clean, texts, choice = made
    folder = build(tmp_path, texts, decontaminate=choice)
    run = records.read_run(Phase(folder, "pretrain"))
    assert run.sources["mine"].filtered == {"contaminated": len(dirty)} and run.sources["mine"].documents == len(clean)
    found = {f"evals.jsonl:{n} question": 1 for n in range(12)}
    assert run.sources["mine"].steps["decontaminate"] == {
        "dropped": 12, "hits": 12, "different_items": 12, "items": dict(sorted(found.items())),
    }  # fmt: skip
    lines = [json.loads(line) for line in next((folder / "rejects/mine").glob("*")).read_text().splitlines()]
    assert [line["hits"][0]["text"] for line in lines] == [f"evals.jsonl:{n} question" for n in range(12)]
    for line, text in zip(lines, dirty, strict=True):
        assert texts[line["position"]] == text and line["file"] == "a.jsonl" and line["filter"] == "decontaminate"
        assert line["value"] == 1.0 and line["threshold"] in (0.5, 1.0)
    report = looked(folder)
    assert report.sound and any("11 evaluation texts" in n or "12 evaluation texts" in n for n in report.notes)
    assert any("paraphrases are not found" in note for note in report.notes)
    digests = json.loads((folder / "digests.json").read_text())
    assert "decontamination.json" in digests["files"]
    card = (folder / "README.md").read_text()
    assert "the texts of evals.jsonl by their words, with rule `half`.\nThose with hits were dropped." in card
    assert "* mine: 12 hits in 12 documents\n\nHits by text:\n\n* evals.jsonl:0 question: 1\n" in card
    assert not any(f" {plain(text.text)} " in plain_documents(folder) for text in evaluation(choice))
    record = (folder / "decontamination.json").read_text()
    assert json.loads(record)["unsearchable"] == {"evals.jsonl:12 question": "has 2 words"}
    assert not any(word in record for word in questions[1].split() if len(word) > 6)
    (tmp_path / "evals.jsonl").write_text('{"q": "other"}')  # a run is checked without the texts
    assert looked(folder).sound


def test_what_is_masked_is_gone_and_the_rest_is_used(made, tmp_path):
    questions, dirty, _, texts, choice = made
    texts = [*texts, f"write to joe@x.org {texts[0]}"]
    folder = build(tmp_path, texts, decontaminate=choice | {"action": "mask"}, pii={"phone": None})
    card = (folder / "README.md").read_text()
    assert (
        "e-mail addresses replaced by markers, IP addresses replaced by markers, phone numbers not looked for" in card
    )
    assert "* mine: 1 e-mail addresses, 0 IP addresses, 0 phone numbers; 0 documents dropped\n" in card
    run = records.read_run(Phase(folder, "pretrain"))
    assert run.sources["mine"].documents == len(texts) and run.sources["mine"].noted == {"contaminated": len(dirty)}
    lines = [json.loads(line) for line in next((folder / "rejects/mine").glob("*")).read_text().splitlines()]
    assert all(line["used"] for line in lines)
    begin, end = lines[0]["hits"][0]["characters"]
    assert dirty[0][begin:end] == questions[0].rstrip(".?!")
    assert looked(folder).sound


@pytest.mark.parametrize("action", ["report", "mask", "drop"])
def test_words_that_are_hashed_once_give_the_same_keys_and_hits(made, tmp_path, action):
    *_, texts, choice = made
    texts = [*texts, f"{texts[1]} {texts[3]}", texts[2]]
    folders = {}
    for name, keys, look in (("both", True, True), ("keys", True, False), ("hits", False, True)):
        (tmp_path / name).mkdir()
        more = ({"dedup": {}} if keys else {}) | ({"decontaminate": choice | {"action": action}} if look else {})
        folders[name] = build(tmp_path / name, texts, **more)
    logs = {name: next((folders[name] / "rejects/mine").glob("*")).read_bytes() for name in ("both", "hits")}
    assert logs["both"] == logs["hits"]
    assert records.read_run(Phase(folders["both"], "pretrain")).sources["mine"].steps["decontaminate"]["hits"] == 14
    card = (folders["both"] / "README.md").read_text()
    assert "* mine: 14 hits in 13 documents" in card and "* evals.jsonl:1 question: 2\n* evals.jsonl:" in card
    both, keys = (read_keys(next(folders[name].glob("pools/mine/*/keys.parquet")), 112) for name in ("both", "keys"))
    dropped = {json.loads(line)["position"] for line in logs["hits"].splitlines()}
    kept = [row for row in range(len(texts)) if row not in dropped]
    assert (
        (both[kept] == keys[kept]).all()
        if action == "mask"
        else (both == (keys[kept] if action == "drop" else keys)).all()
    )
    assert action != "mask" or (both[sorted(dropped)] != keys[sorted(dropped)]).any(axis=1).all()


def test_a_report_changes_nothing(made, tmp_path):
    *_, texts, choice = made
    folder = build(tmp_path, texts, decontaminate=choice | {"action": "report"})
    root = records.read_run(Phase(folder, "pretrain")).root
    (tmp_path / "plain").mkdir()
    assert records.read_run(Phase(build(tmp_path / "plain", texts), "pretrain")).root == root
    assert looked(folder).sound


def test_other_texts_make_the_pool_anew_and_a_false_record_is_found(made, tmp_path):
    *_, texts, choice = made
    folder = build(tmp_path, texts, decontaminate=choice)
    record = Phase(folder, "pretrain").decontamination_json
    body = sealed_json.read(record)
    sealed_json.write(record, body | {"names": body["names"][1:], "words": body["words"][1:]})
    with pytest.raises(ShardError, match="damaged"):
        read_checked(Phase(folder, "pretrain"))
    assert not looked(folder).sound
    lines = (tmp_path / "evals.jsonl").read_text().splitlines()
    (tmp_path / "evals.jsonl").write_text("\n".join(lines[:6]))
    again = build(tmp_path, texts, decontaminate=choice)
    assert records.read_run(Phase(again, "pretrain")).sources["mine"].filtered == {"contaminated": 6}
    assert looked(again).sound


def test_samples_that_still_have_a_text_are_named(made, tmp_path, monkeypatch):
    *_, texts, choice = made
    monkeypatch.setattr(Decontaminate, "_judged", lambda self, batch: iter(batch))
    report = looked(build(tmp_path, texts, decontaminate=choice))
    assert not report.sound and {finding.reason for finding in report.findings} == {"contaminated"}
    assert "12 evaluation texts that were to be taken out: evals.jsonl:0 question" in report.findings[0].detail


def test_workers_read_the_index_that_the_build_has_made_and_no_other(made, tmp_path):
    *_, texts, choice = made
    plan = chosen(DecontaminateChoice.model_validate(choice))
    phase = Phase(tmp_path / "pretrain", "pretrain")
    phase.beat("").parent.mkdir(parents=True)
    ready = made_ready(phase, plan, False)
    assert ready.made_from() == plan.made_from() and made_ready(phase, None, True) is None
    (tmp_path / "evals.jsonl").unlink()  # nobody needs the texts any more
    index = ready.made.load()
    assert "sieve_of_hashes" not in vars(index) and "sieve_of_hashes" in vars(made_ready(phase, plan, True).made.load())
    assert index.digest == plan.digest and search(index, texts) == search(plan.index(), texts)
    ready.made.path.write_bytes(ready.made.path.read_bytes() + b"x")
    with pytest.raises(BuildError, match="index of the evaluation texts was changed"):
        ready.made.load()
    remove_made(phase)
    assert not any(phase.beat("").parent.iterdir())


def test_texts_that_change_between_plan_and_worker_stop_it(made, tmp_path):
    *_, choice = made
    plan = chosen(DecontaminateChoice.model_validate(choice))
    stale = Decontamination(plan.texts, plan.rule, plan.action, "0" * 32)
    with pytest.raises(BuildError, match="have changed since"):
        stale.index()
    with pytest.raises(RecipeError, match="cannot be read"):
        chosen(DecontaminateChoice.model_validate({"texts": [{"file": str(tmp_path / "none.csv")}]}))
    for wrong in ({"texts": []}, choice | {"action": "burn"}, choice | {"ngram": 1}, choice | {"unit": "tokens"}):
        with pytest.raises((EttinError, ValueError)):
            chosen(DecontaminateChoice.model_validate(wrong))
