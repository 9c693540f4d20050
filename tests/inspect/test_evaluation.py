"""Evaluation texts in a finished phase: over the cuts between samples, in packed samples, with steps."""

from __future__ import annotations

import numpy as np
import pytest
from contamination_kit import build, rng_of, sentence

from ettin_data.executor import ExecutorOptions
from ettin_data.inspect.decoding import words_of
from ettin_data.inspect.evaluation import as_lines, documents_of, find_evaluation, texts_of
from ettin_data.inspect.lookup import open_phases
from ettin_data.order.data import Data
from ettin_data.stages.contamination.index import Index
from ettin_data.stages.contamination.rules import Rule
from ettin_data.stages.contamination.texts import EvaluationText


@pytest.mark.parametrize("pack", ["backfill", "best_fit", "concat"])
def test_texts_are_found_over_the_cuts_of_samples(tmp_path, pack: str) -> None:
    rng = rng_of("run", pack)
    questions = [sentence(rng, rng.choice([6, 9, 20, 40])) for _ in range(30)]
    planted = [f"{sentence(rng, rng.randrange(1, 60))} {q.upper()} {sentence(rng, 40)}" for q in questions[:20]]
    clean = [sentence(rng, 50) for _ in range(40)]
    packing = {} if pack == "backfill" else {"pack": pack}
    folder = build(tmp_path, [text for pair in zip(planted, clean, strict=False) for text in pair], **packing)
    (phase,) = open_phases(folder)
    index = Index.of([EvaluationText(f"q:{n}", q) for n, q in enumerate(questions)], Rule("half", 8))
    tokenizer = words_of(phase.loader.vocabulary).needed()
    found = find_evaluation(phase, index, tokenizer)
    assert [one.hit.name for one in found] == [f"q:{n}" for n in range(20)]
    assert any(len(one.samples) > 1 for one in found)
    for number, (one, line) in enumerate(zip(found, as_lines(phase, found), strict=True)):
        assert (one.source, one.file, one.record) == ("mine", "a.jsonl", 2 * number)
        begin, end = line["characters"]
        assert planted[number][begin:end] == questions[number].upper().rstrip(".?!")
        decoded = "".join(tokenizer.decode(phase.reader.tokens(p)) for p in one.samples)
        decoded = decoded.replace("[SEP]", "").replace("[CLS]", "")
        assert pack != "backfill" or questions[number].upper().rstrip(".?!") in decoded
        read = {step + 1 for step in phase.steps_of(np.array(one.samples))[0].tolist()}
        assert set(line["steps"]) == read - {0} and len(line["checkpoints"]) <= len(read)
    assert find_evaluation(phase, index, tokenizer, options=ExecutorOptions(workers=2)) == found
    data = Data(str(phase.place.train))
    every = [d for split in phase.splits for d in documents_of(data, split, tokenizer.vocabulary)]
    for text, whole in zip(sorted(texts_of(every, tokenizer)), sorted([*planted, *clean[:20]]), strict=True):
        assert whole.startswith(text)  # a short tail is skipped
