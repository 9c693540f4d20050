"""What the filters of a recipe would do, on a sample of each source: nothing is built, nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datatrove.data import Document

from ettin_data.build.forecast.sampling import sample
from ettin_data.build.plan import SourcePlan
from ettin_data.build.prepare import Resolved
from ettin_data.stages.filters.base import UNNAMED, Filter
from ettin_data.stages.filters.registry import ChosenFilter, numbered

AROUND = (0.01, 0.05, 0.5)
"""Parts of the documents that lie between a threshold and the values that are shown, on either side."""


@dataclass
class FilterPreview:
    """What one filter does to a sample.

    Attributes:
        name: as the recipe has it, numbered if it is there twice.
        seen, in_order: documents that reach it behind those before it; of them dropped, by reason.
        alone: document -> reason, of all that it drops by itself.
        values: rule -> value of each document that the rule has looked at, by itself.
        thresholds: rule -> its threshold.
    """

    name: str
    seen: int = 0
    in_order: Counter[str] = field(default_factory=Counter)
    alone: dict[int, str] = field(default_factory=dict)
    values: dict[str, dict[int, float]] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SourcePreview:
    """The sample of a source and what its filters do to it; `only` has what each drops and no other one does."""

    source: str
    texts: Sequence[str]
    filters: Sequence[FilterPreview]

    def only(self, number: int) -> int:
        """How many documents only this filter drops."""
        others = {one for n, f in enumerate(self.filters) if n != number for one in f.alone}
        return len(self.filters[number].alone.keys() - others)


def preview(resolved: Resolved, share: float) -> Iterator[SourcePreview]:
    """The filters of each source on a keyed sample of it: about this share of its documents."""
    for key, source in resolved.plan.sources.items():
        texts = _sampled(resolved, source, share)
        chosen = resolved.filters[key]
        names = numbered([one.name for one in chosen])
        previews = [_alone(name, one, texts) for name, one in zip(names, chosen, strict=True)]
        _in_order(previews, chosen, texts)
        yield SourcePreview(key, [document.text for document in texts], previews)


def _sampled(resolved: Resolved, source: SourcePlan, share: float) -> list[Document]:
    decode = resolved.tokenizer.decode
    return [
        Document(
            text=record.text if record.tokens is None else decode(record.tokens),
            id=record.id,
            metadata=dict(record.metadata),
        )
        for _, record in sample(resolved, source, share).documents
    ]


def _copy(document: Document) -> Document:
    return Document(text=document.text, id=document.id, metadata=dict(document.metadata))


def _alone(name: str, chosen: ChosenFilter, texts: Sequence[Document]) -> FilterPreview:
    made = FilterPreview(name)
    step = chosen.step()
    if not isinstance(step, Filter):  # one of datatrove's: it may want them in batches
        for number, reason in _run(chosen, texts)[1].items():
            made.alone[number] = reason
        return made
    step.start()
    for number, document in enumerate(texts):
        before = {rule: len(one.recent) for rule, one in step.measured.items()}
        answer = step.filter(_copy(document))
        if answer is not True:
            made.alone[number] = str(answer[1]) if isinstance(answer, tuple) else UNNAMED
        for rule, one in step.measured.items():
            if len(one.recent) > before.get(rule, 0):
                made.values.setdefault(rule, {})[number] = one.recent[-1]
                made.thresholds[rule] = one.threshold
    return made


def _run(chosen: ChosenFilter, texts: Sequence[Document]) -> tuple[list[Document], dict[int, str]]:
    """What a filter passes on, and what it drops: place in `texts` -> reason."""
    copies = [_copy(document) for document in texts]
    numbers = {id(document): number for number, document in enumerate(copies)}
    dropped: dict[int, str] = {}

    def reject(document: Document, reason: str) -> None:
        dropped[numbers[id(document)]] = str(reason)

    return list(chosen.step(reject)(copies, 0, 1)), dropped


def _in_order(previews: Sequence[FilterPreview], chosen: Sequence[ChosenFilter], texts: Sequence[Document]) -> None:
    left = list(texts)
    for made, one in zip(previews, chosen, strict=True):
        made.seen = len(left)
        left, dropped = _run(one, left)
        made.in_order.update(dropped.values())


def around(values: Mapping[int, float], threshold: float, dropped: Mapping[int, str]) -> list[tuple[str, float]]:
    """The values that have 1, 5 and 50% of the documents between them and the threshold, on either side of it."""
    gone = sorted((abs(v - threshold), v) for number, v in values.items() if number in dropped)
    kept = sorted((abs(v - threshold), v) for number, v in values.items() if number not in dropped)
    shown = []
    for side, near in (("dropped", gone), ("kept", kept)):
        for part in AROUND if near else ():
            place = min(int(part * len(near)), len(near) - 1)
            shown.append((f"{side} {part:.0%}", near[place][1]))
    return shown


def nearest(one: FilterPreview, rule: str, texts: Sequence[str], most: int) -> dict[str, list[tuple[float, str]]]:
    """The texts whose values are next to the threshold of a rule: "dropped" and "kept" -> (value, text)."""
    threshold, values = one.thresholds[rule], one.values[rule]
    order = sorted(values, key=lambda number: (abs(values[number] - threshold), number))
    broke = {number for number in order if one.alone.get(number) == rule}
    return {
        "dropped": [(values[number], texts[number]) for number in order if number in broke][:most],
        "kept": [(values[number], texts[number]) for number in order if number not in one.alone][:most],
    }


def to_plain(found: SourcePreview, most: int) -> dict[str, Any]:
    """A preview as plain values, with at most so many texts on either side of a threshold."""
    filters = []
    for number, one in enumerate(found.filters):
        by_rule = Counter(one.alone.values())
        broke = {rule: {n: r for n, r in one.alone.items() if r == rule} for rule in one.values}
        filters.append(
            {
                "filter": one.name,
                "seen": one.seen,
                "dropped_in_order": dict(sorted(one.in_order.items())),
                "dropped_alone": dict(sorted(by_rule.items())),
                "dropped_only_by_it": found.only(number),
                "rules": {
                    rule: {
                        "threshold": one.thresholds[rule],
                        "around": dict(around(values, one.thresholds[rule], broke[rule])),
                        "texts": nearest(one, rule, found.texts, most),
                    }
                    for rule, values in sorted(one.values.items())
                },
            }
        )
    return {"source": found.source, "documents": len(found.texts), "filters": filters}
