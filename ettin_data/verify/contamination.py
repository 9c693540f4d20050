"""A run that says that it dropped or masked evaluation texts is searched for them again, in its decoded samples.

The search goes another way than the build's: no sieve, and the text that the tokens give instead of what was read.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ettin_data.base.errors import EttinError, ShardError
from ettin_data.build.decontamination import read_checked
from ettin_data.inspect.decoding import Words, words_of
from ettin_data.inspect.evaluation import Document, documents_of, texts_of
from ettin_data.inspect.lookup import Split
from ettin_data.order.data import Data, run_of
from ettin_data.stages.contamination.index import Index
from ettin_data.stages.contamination.search import exact
from ettin_data.storage.phase import DECONTAMINATION, Phase
from ettin_data.storage.split import Marker
from ettin_data.tokenizer.encoder import Tokenizer
from ettin_data.tokenizer.vocabulary import Vocabulary
from ettin_data.verify.model import Finding, SplitCheck, SplitFacts

_AT_ONCE = 1 << 18  # tokens of documents that are searched together
_FEW = 5


def check_contamination(check: SplitCheck, marker: Marker, facts: SplitFacts) -> None:
    """Evaluation texts in a split of a pool that should be free of them; findings go to `facts`."""
    made_from = marker.made_from.get("decontaminate")
    if made_from is None:
        return
    try:
        checked = _checked(check.phase)
        if checked is None or checked.digest != made_from["index"]:
            detail = f"it was made free of other evaluation texts than {DECONTAMINATION} has"
            facts.findings.append(Finding(check.name, "foreign_texts", detail, check.name))
            return
        words = _words(check.phase)
        if words.tokenizer is None or made_from["action"] == "report":
            return  # `searched` says so
        data = Data(str(check.folder))
        batch: list[Document] = []
        hits: list[str] = []
        held = 0
        for document in documents_of(data, Split(check.folder, check.name, 0, len(data)), words.tokenizer.vocabulary):
            batch.append(document)
            held += sum(map(len, document.pieces))
            if held > _AT_ONCE:
                hits += _hits(checked, words.tokenizer, batch)
                batch, held = [], 0
        hits += _hits(checked, words.tokenizer, batch)
    except (ShardError, OSError):
        return  # found where the files are looked at
    if hits:
        detail = f"it has {len(hits):,} evaluation texts that were to be taken out: {'; '.join(hits[:_FEW])}"
        facts.findings.append(Finding(check.name, "contaminated", detail, check.name))


def searched(phase: Phase) -> str | None:
    """What a full look says of the search for evaluation texts, where the run was to be free of them."""
    try:
        found = read_checked(phase)
        if found is None or found[1] == "report":
            return None
        problem = _words(phase.folder).problem
    except (ShardError, OSError):
        return None
    if problem:
        return f"not searched for evaluation texts: {problem}"
    return f"searched for {len(found[0].names):,} evaluation texts by their words; paraphrases are not found"


def _hits(index: Index, tokenizer: Tokenizer, documents: list[Document]) -> list[str]:
    texts = texts_of(documents, tokenizer)
    found = exact(index, texts, range(len(texts)))
    return [f"{hit.name} in sample {documents[hit.document].samples[0]:,}" for hit in found]


def _checked(folder: Path) -> Index | None:
    """The index that a phase was checked against, read once for all its splits."""
    record = Phase(folder, folder.name).decontamination_json
    status = record.stat()
    return _index(folder, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)
def _index(folder: Path, *state: int) -> Index | None:
    found = read_checked(Phase(folder, folder.name))
    return found[0] if found else None


def _words(folder: Path) -> Words:
    """The tokenizer of a phase, or why there is none."""
    run = run_of(folder)
    try:
        return words_of(Vocabulary.from_json(run.vocabulary) if run is not None and run.vocabulary else None)
    except EttinError as error:
        return Words(None, error.what)
