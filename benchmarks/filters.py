"""What the filters cost, and datatrove's heuristics beside ours on the same text in the same run.

    python -m benchmarks.filters [--megabytes 6] [--rounds 2] [--filters NAME ...] [--json FILE]

Needs spaCy for datatrove's side: `pip install spacy==3.8.18`; without it only ours are measured.

Figures are CPU milliseconds for a MB of text. **First** is with an empty vocabulary, as in a worker's first minutes;
**again** is with one that has met all of the text, which a worker comes near to in time. The claim is of the first.
datatrove needs no warming: it forgets its words after each document. Every answer and every text left is compared, and
one difference fails the benchmark.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import pydoc_data.topics
import re
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from datatrove.data import Document

from benchmarks.measure import in_turn, ratio, report
from benchmarks.text import SPREAD, documents
from ettin_data.stages.filters.registry import ChosenFilter, choose_filters
from ettin_data.stages.text import sentences, splitter, word_split

STEPS = {
    "length": ["length"],
    "exact_duplicate": ["exact_duplicate"],
    "defaults of the recipes": ["length", "exact_duplicate"],
    "both Gopher filters": ["gopher_quality", "gopher_repetition"],
}
_RUN = re.compile(r"\S+(?: \S+)*")  # words between which nothing but one space stands
HEURISTIC = ("gopher_quality", "gopher_repetition", "c4", "fineweb")


def prose(megabytes: float) -> list[str]:
    """Documentation, package descriptions and licences of this Python, end to end, cut as `documents` are."""
    text, limit = "", int(megabytes * 1e6)
    for part in _prose():
        text += part.rstrip("\n") + "\n\n"
        if len(text) >= limit:
            break
    result: list[str] = []
    start = 0
    while start < min(len(text), limit):
        end = text.find("\n", start + SPREAD[len(result) % len(SPREAD)])
        end = len(text) if end < 0 else end + 1
        result.append(text[start:end])
        start = end
    return result


def _prose() -> Iterator[str]:
    yield from pydoc_data.topics.topics.values()
    for name in ("purelib", "stdlib"):
        for path in sorted(Path(sysconfig.get_path(name)).rglob("*")):
            named = path.name == "METADATA" or path.name.startswith(("LICENSE", "COPYING", "NOTICE"))
            if (named or path.suffix in (".md", ".rst")) and path.is_file():
                yield path.read_text(encoding="utf-8", errors="replace")


def theirs(name: str) -> Any:
    from datatrove.pipeline import filters

    return {
        "gopher_quality": filters.GopherQualityFilter,
        "gopher_repetition": filters.GopherRepetitionFilter,
        "c4": filters.C4QualityFilter,
        "fineweb": filters.FineWebQualityFilter,
    }[name]()


def build(name: str) -> Any:
    """Our filter of that name, with its defaults."""
    return choose_filters([name])[0].step()


@contextlib.contextmanager
def without_spacy() -> Iterator[None]:
    """datatrove's filters get their words and sentences from our plain splitter, which cuts as spaCy does."""
    from datatrove.pipeline.filters import (
        c4_filters,
        fineweb_quality_filter,
        gopher_quality_filter,
        gopher_repetition_filter,
    )

    def words(text: str, language: str) -> list[str]:
        return [word for run in _RUN.findall(text) for word in splitter.split(run)[0]]

    with contextlib.ExitStack() as stack:
        for module in (fineweb_quality_filter, gopher_quality_filter, gopher_repetition_filter):
            stack.enter_context(mock.patch.object(module, "split_into_words", words))
        split = mock.patch.object(c4_filters, "split_into_sentences", lambda text, language: sentences.sentences(text))
        stack.enter_context(split)
        yield


def answers(step: Any, texts: Sequence[str]) -> list[Any]:
    """Of every document the answer, and the text if it is kept."""
    found = []
    for text in texts:
        document = Document(text=text, id="")
        answer = step.filter(document)
        found.append((answer, document.text if answer is True else ""))
    return found


def through(filters: Sequence[ChosenFilter], texts: Sequence[str]) -> None:
    """The documents through a row of filters, as a build runs them."""
    stream: Any = (Document(text=text, id="") for text in texts)
    for chosen in filters:
        stream = chosen.step().run(stream)
    for _ in stream:
        pass


def personal_data(texts: Sequence[str], rounds: int) -> tuple[dict[str, Any], float]:
    """A row of `pii` beside datatrove's formatter, both with Dolma's markers, and how many times as cheap it is."""
    from datatrove.pipeline.formatters import PIIFormatter

    from ettin_data.stages.filters.pii import MARKERS

    megabytes = sum(len(text.encode("utf-8", "replace")) for text in texts) / 1e6
    formatter = PIIFormatter(email_replacement=MARKERS["email"], ip_replacement=MARKERS["ip"])
    steps = {
        mode: choose_filters([{"pii": {"phone": phone, "mode": mode}}])[0].step()
        for mode, phone in (("datatrove", None), ("strict", "count"))
    }

    def ours(mode: str) -> list[str]:
        documents = [Document(text=text, id="") for text in texts]
        for document in documents:
            steps[mode].filter(document)
        return [document.text for document in documents]

    differing = sum(a != formatter.format(b) for a, b in zip(ours("datatrove"), texts, strict=True))
    if differing:
        raise SystemExit(f"pii: {differing} texts are not as datatrove's formatter leaves them")
    theirs = {"datatrove's formatter": lambda: [formatter.format(text) for text in texts]}
    timings = in_turn({**{mode: partial(ours, mode) for mode in steps}, **theirs}, rounds)
    cheap = ratio(timings["datatrove's formatter"], timings["datatrove"])
    return {
        "documents": len(texts), "MB": megabytes, "texts that differ": differing,
        **{f"{name} ms/MB": timing.cpu_s * 1000 / megabytes for name, timing in timings.items()},
        "part of theirs": 1 / cheap,
    }, cheap  # fmt: skip


def forget() -> None:
    """Begin with an empty vocabulary of words, as a new process does."""
    word_split._splitter = word_split._Splitter()


def anew(work: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> None:
        forget()
        work()

    return run


def compare(name: str, kind: str, texts: Sequence[str], rounds: int, with_theirs: bool) -> tuple[dict[str, Any], float]:
    """A row of the table, and how many times as cheap ours is the first time (0 without theirs)."""
    megabytes = sum(len(text.encode("utf-8", "replace")) for text in texts) / 1e6
    ours, reference = build(name), theirs(name) if with_theirs else None
    forget()
    found = answers(ours, texts)
    if reference is not None and found != answers(reference, texts):
        first = next(
            i for i, pair in enumerate(zip(found, answers(reference, texts), strict=True)) if pair[0] != pair[1]
        )
        raise SystemExit(f"{name}: another answer than datatrove's for this text:\n{texts[first]}")
    candidates = {"first": anew(lambda: answers(ours, texts)), "again": lambda: answers(ours, texts)}
    if reference is not None:
        candidates["datatrove"] = lambda: answers(reference, texts)
    timings = in_turn(candidates, rounds)
    milliseconds = {key: timing.cpu_s * 1000 / megabytes for key, timing in timings.items()}
    times = ratio(timings["datatrove"], timings["first"]) if reference is not None else 0.0
    return {
        "filter": name, "text": kind, "MB": megabytes, "documents": len(texts),
        "kept": sum(answer is True for answer, _ in found), "first ms/MB": milliseconds["first"],
        "again ms/MB": milliseconds["again"], "datatrove ms/MB": milliseconds.get("datatrove", float("nan")),
        "times as cheap": times, "answers that differ": 0 if with_theirs else "not compared",
    }, times  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=6, help="of prose, and as many of code")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--filters", nargs="*", default=[*HEURISTIC], choices=HEURISTIC, metavar="NAME")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    with_theirs = importlib.util.find_spec("spacy") is not None
    kinds = {"prose": prose(options.megabytes), "code": documents(options.megabytes)}
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for name in options.filters:
        for kind, texts in kinds.items():
            row, times = compare(name, kind, texts, options.rounds, with_theirs)
            rows.append(row)
            if with_theirs:
                ratios[f"{name}/{kind}"] = times
    rows.sort(key=lambda row: (row["text"], row["filter"]))
    report("Heuristic filters", rows, options.json, ratios)
    texts = kinds["prose"] + kinds["code"]
    row, times = personal_data(texts, options.rounds)
    beside = options.json and options.json.with_name(f"{options.json.stem}-pii.json")
    report("Personal data, on prose and code", [row], beside, {"pii": times})
    megabytes = sum(len(text.encode("utf-8", "replace")) for text in texts) / 1e6
    steps = {"no filter": [], **STEPS}
    timings = in_turn(
        {name: anew(partial(through, choose_filters(names), texts)) for name, names in steps.items()}, options.rounds
    )
    bare = timings["no filter"].cpu_s
    report(
        "Steps of a build, on prose and code",
        [{"filters": key, "ms/MB": (timings[key].cpu_s - bare) * 1000 / megabytes} for key in STEPS],
        options.json and options.json.with_name(f"{options.json.stem}-steps.json"),
    )


if __name__ == "__main__":
    main()
