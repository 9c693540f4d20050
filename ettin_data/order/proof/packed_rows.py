"""Publications of a packed loader: rows that hold several samples each, against `modernbert-packed-v1`.

A law of packing says of every row which samples it holds, in which order. So a row is compared as a whole, masked or
not (`masking`), and an agreement proves the packing as well as the order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.errors import ExitStatus, OrderError
from ettin_data.base.progress import SILENT, Progress, stage
from ettin_data.order.data import Data, hash_rows
from ettin_data.order.laws import Packed, Rows, Samples, law_named
from ettin_data.order.loader_edits import Form, FormKind
from ettin_data.order.proof.catalog import Catalog, read_catalog
from ettin_data.order.proof.chance import LEVEL, Forms, chance_text, log_chance
from ettin_data.order.proof.compare import unmatched
from ettin_data.order.proof.look import look
from ettin_data.order.proof.masking import OTHER, UNLIKELY, Masking, Tokens, compare_pairs
from ettin_data.order.proof.outcome import Request
from ettin_data.order.proof.pairing import pair
from ettin_data.order.published import iter_rows, list_published
from ettin_data.tokenizer.vocabulary import AnyTokens, Vocabulary

SEEDS = (21, 12345, 9176, 17, 42)
"""Seeds that are tried: those of mmBERT's configurations, ModernBERT's default, and common ones."""
WORLDS = (8, 1, 2, 4, 16, 32, 64)
MICRO = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Micro batches that are tried where nobody says what a batch is."""
_BATCHES = (4608,)
_WORK = 2_000_000_000  # samples in all permutations together
_READ_ON = 200  # steps that are made before the first published one is reached, when laws are tried
_BELIEVED = 0.5  # share of the rows of one step


@dataclass(frozen=True)
class PackedStep:
    """A published step: its name, rows on both sides, how many of them are the same (`matched`), and how many further
    published ones cannot be read."""

    name: str
    published: int
    law: int
    matched: int
    broken: int = 0

    @property
    def agrees(self) -> bool:
        return self.published + self.broken == self.law and self.matched == self.published


@dataclass(frozen=True)
class PackedVerification:
    """What a comparison with a law of packing found.

    Attributes:
        law: that was compared with. inferred: whether it was found rather than named; tried: how many were.
        steps: those that were published. beyond: whether the law has steps that were not.
        form, masking: how rows were made of samples. log_chance: of an agreement by chance, natural logarithm.
    """

    catalog: Catalog
    data: Data
    law: Packed
    inferred: bool
    tried: int
    steps: tuple[PackedStep, ...]
    beyond: bool
    form: Form
    masking: Masking | None
    log_chance: float

    @property
    def verdict(self) -> str:
        if not all(step.agrees for step in self.steps):
            return "differs"
        if self.log_chance > math.log(LEVEL):
            return "cannot tell"
        return "explained" if self.inferred else "agrees"

    @property
    def exit_status(self) -> ExitStatus:
        if self.verdict == "cannot tell":
            return ExitStatus.NOT_COMPARED
        if self.verdict != "agrees":
            return ExitStatus.WRONG
        unread = self.beyond or self.catalog.bad or any(step.broken for step in self.steps)
        return ExitStatus.INCOMPLETE if unread else ExitStatus.OK

    def to_json(self) -> dict[str, Any]:
        wrong = [step for step in self.steps if not step.agrees]
        return {
            "verdict": self.verdict,
            "law": {"name": self.law.name, **vars(self.law)},
            "inferred": self.inferred,
            "laws_tried": self.tried,
            "steps": len(self.steps),
            "steps_agree": len(self.steps) - len(wrong),
            "rows": sum(step.published for step in self.steps),
            "rows_matched": sum(step.matched for step in self.steps),
            "form": self.form.kind,
            "masked": self.masking.share if self.masking else 0.0,
            "complete": not self.beyond,
            "log10_chance": round(self.log_chance / math.log(10), 2),
            "rows_unreadable": sum(step.broken for step in self.steps),
            "differences": [vars(step) for step in wrong[:100]],
        }

    def to_lines(self) -> list[str]:
        wrong = [step for step in self.steps if not step.agrees]
        said = {
            "agrees": "AGREES: every published step is packed as the law says",
            "explained": "FOLLOWS ANOTHER LAW: rows are packed",
            "differs": "DIFFERS from the law of packing",
            "cannot tell": "CANNOT TELL: chance would agree as well",
        }[self.verdict]
        given = ", ".join(f"{name} {value}" for name, value in vars(self.law).items() if value is not None)
        lines = [said, "", f"  data       {self.data.root}  ({len(self.data):,} samples)"]
        rows = sum(step.published for step in self.steps)
        lines += [f"  published  {self.catalog.root}  ({len(self.steps):,} steps, {rows:,} rows)"]
        lines += [f"  law        {self.law.name}: {given}", f"  rows       {self.form}"]
        if self.masking:
            lines += [f"  masked     {self.masking.share:.1%} of the tokens were drawn"]
        if self.inferred:
            lines += [f"  found      after {self.tried:,} laws of packing were tried"]
        lines += ["", f"  {len(self.steps) - len(wrong):,} of {len(self.steps):,} steps agree"]
        lines += [
            f"  {step.name}: {step.matched:,} of {step.published:,} rows, the law has {step.law:,}"
            for step in wrong[:20]
        ]
        lines += [
            f"  not checked: {step.broken:,} rows of {step.name}, which cannot be read"
            for step in self.steps
            if step.broken
        ][:20]
        if self.verdict in ("agrees", "explained"):
            lines += [f"  chance would agree as well with a probability of {chance_text(self.log_chance)}"]
        return lines + (["  the law has further steps, which are not published here"] if self.beyond else [])


def verify_packed(request: Request, progress: Progress = SILENT) -> PackedVerification | None:
    """Verify a publication under the packed law that the request names; without one, under the first that fits.

    Returns:
        None where no law is named and none fits.

    Raises:
        OrderError: the law or the publication cannot be used.
    """
    data = Data(request.data, request.cache, request.loader, request.shards)
    catalog = read_catalog(request.published, list_published(request.published, request.phase))
    words = data.loader.vocabulary
    masking = Masking.of(look(catalog, words).masked, words.mask)
    if not data.here.all():
        raise OrderError(
            "the packed law needs the lengths of all samples, and some shards are not here",
            where=request.data,
            remedy="download all, without --shards; how many tokens each sample has decides who is packed where",
        )
    judge = _Judge(catalog, data, masking, request.form)
    if request.law is not None:
        law = law_named(request.law, request.batch or _BATCHES[0])
        assert isinstance(law, Packed)
        return judge.verify(law, judge.best_form(law)[0], progress)
    candidates = list(plausible_packed(catalog, data, request))[: max(1, _WORK // max(len(data), 1))]
    best: tuple[float, Packed, Form] | None = None
    tried = 0
    with stage(progress, "trying laws of packing", len(candidates), len(candidates)):
        for law in candidates:
            tried += 1
            progress.advance(1)
            form, share = judge.best_form(law)
            if share >= _BELIEVED and (best is None or share > best[0]):
                best = share, law, form
            if share == 1.0:
                break
    if best is None:
        return None
    found = judge.verify(*best[1:], progress)
    return replace(found, inferred=True, tried=tried, log_chance=min(0.0, found.log_chance + math.log(tried)))


def plausible_packed(catalog: Catalog, data: Data, request: Request) -> Iterator[Packed]:
    """Packed laws whose steps have as many rows as most published ones, and rows that are wide enough."""
    rows, width = catalog.common_rows(), 0
    file = catalog.files[int(catalog.runs[0, 0])]
    for batch in iter_rows(catalog.root, file.path, np.dtype(np.int64), -1, 0, 300):  # with their padding
        width = max(width, int((batch.ends - batch.starts).max(initial=0)))
    limits = [request.max_seq_len, data.loader.max_seq_len, int(data.lengths(Form("stored", data.loader)).max())]
    batches = [request.batch] if request.batch else [*_BATCHES, *(rows * micro for micro in MICRO)]
    for batch_size in dict.fromkeys(batches):
        micro, rest = divmod(batch_size, rows)
        if rest or not micro:
            continue
        lengths = {width // micro} if width % micro == 0 else set[int]()
        lengths |= {limit for limit in limits if limit and width <= micro * limit and limit <= 1 << 20}
        for length in sorted(lengths):
            for world in (w for w in WORLDS if rows % w == 0):
                for seed in dict.fromkeys((request.seed, *SEEDS)):
                    yield Packed(length, batch_size, world, micro, seed, request.epoch)


@dataclass
class _Judge:
    """Both sides of a comparison."""

    catalog: Catalog
    data: Data
    masking: Masking | None
    kind: FormKind | None
    lengths: dict[Form, NDArray[np.int64]] = field(default_factory=dict)

    def best_form(self, law: Packed) -> tuple[Form, float]:
        """The form in which most rows of the first published step are the law's, and their share."""
        first = self._numbers()[0]
        best: tuple[float, Form] | None = None
        kinds: tuple[FormKind, ...] = (self.kind,) if self.kind else ("decoder", "encoder")
        for kind in kinds:
            form = Form(kind, replace(self.data.loader, max_seq_len=law.length))
            made = next(islice(self._steps(law, form), first, None), None) if first < _READ_ON else None
            step = self._compare(0, made, form, law.width)
            share = step.matched / max(step.published, step.law)
            if best is None or share > best[0]:
                best = share, form
        assert best is not None
        return best[1], best[0]

    def verify(self, law: Packed, form: Form, progress: Progress) -> PackedVerification:
        numbers = self._numbers()
        steps, compared, arrangements, forms = list[PackedStep](), 0, 0.0, list[Forms]()
        made = enumerate(self._steps(law, form))
        at, current, ended = -1, None, False
        with stage(progress, "comparing packed rows", len(numbers), self.catalog.total_rows):
            for entry in np.argsort(numbers, kind="stable").tolist():
                while at < numbers[entry] and not ended:
                    at, current = next(made, (numbers[entry], None))
                    ended = current is None
                here = current if at == numbers[entry] else None
                steps.append(self._compare(entry, here, form, law.width))
                progress.advance(int(self.catalog.rows[entry]))
                if here is not None and steps[-1].agrees:
                    compared += len(here.positions)
                    arrangements += math.lgamma(len(here.positions) + 1)
                    forms.append(Forms.of(self.data.hashes(here.positions, form)))
        absent = len(set(numbers)) < max(numbers) + 1
        chance = log_chance(len(self.data), compared, arrangements, Forms.together(forms), 1)
        beyond = absent or next(made, None) is not None
        return PackedVerification(
            self.catalog, self.data, law, False, 1, tuple(steps), beyond, form, self.masking, chance
        )

    def _numbers(self) -> list[int]:
        """The law's step, from 0, of each entry; numbers that begin again in each folder count on."""
        steps: list[int] = self.catalog.step.tolist()
        if len(set(steps)) < len(steps):
            return list(range(len(steps)))
        return [step - min(*steps, 1) for step in steps]

    def _steps(self, law: Packed, form: Form) -> Iterator[Rows]:
        if form not in self.lengths:
            self.lengths = {form: self.data.lengths(form)}  # the last one's: at full size they take 20 GB
        return law.steps(Samples(np.diff(self.data.reader.starts), self.lengths[form]))

    def _compare(self, entry: int, made: Rows | None, form: Form, width: int) -> PackedStep:
        name, published = self.catalog.name(entry), self._published(entry)
        broken = int(self.catalog.rows[entry]) - len(published.starts)
        if made is None:
            return PackedStep(name, len(published.starts), 0, 0, broken)
        law = self._packed(made, form)
        if self.masking is not None:
            words = self.data.loader.vocabulary
            published, wide = (_filled(side, width, words.pad) for side in (published, law))
            matched = _paired(published, wide, law, self.masking, words)
        else:
            alone, _ = unmatched(*(hash_rows(side.values, side.starts, side.ends) for side in (published, law)))
            matched = int((~alone & (published.lengths > 0)).sum())
        return PackedStep(name, len(published.starts), len(made), matched, broken)

    def _published(self, entry: int) -> Tokens:
        values, lengths = [np.zeros(0, self.data.dtype)], [np.zeros(0, np.int64)]
        for file, first, count in self.catalog.pieces(entry).tolist():
            path, pad = self.catalog.files[file].path, self.data.loader.vocabulary.pad
            for rows in iter_rows(self.catalog.root, path, self.data.dtype, pad, first, first + count):
                values += [rows.row(i) for i in range(len(rows))]
                lengths.append(rows.ends - rows.starts)
        return _in_a_row(np.concatenate(values), np.concatenate(lengths))

    def _packed(self, made: Rows, form: Form) -> Tokens:
        """The law's rows: the samples of each, one after the other."""
        parts = [np.zeros(0, self.data.dtype)] * len(made.positions)
        for i, tokens in self.data.tokens(made.positions):
            parts[i] = form.apply(tokens)
        ends = np.cumsum([0, *map(len, parts)])
        return _in_a_row(np.concatenate(parts), np.diff(ends[made.bounds]))


def _in_a_row(values: NDArray[Any], lengths: NDArray[np.int64]) -> Tokens:
    ends = np.cumsum(lengths)
    return Tokens(values, ends - lengths, ends)


def _filled(rows: Tokens, width: int, pad: int) -> Tokens:
    """Rows as wide as the packer gives them; those of nothing, or of more, as they are."""
    lengths = np.where(rows.lengths > 0, np.maximum(rows.lengths, width), 0)
    filled = _in_a_row(np.full(lengths.sum(), pad, rows.values.dtype), lengths)
    at = np.repeat(filled.starts - rows.starts, rows.lengths) + np.arange(rows.lengths.sum())
    filled.values[at] = rows.flat()
    return filled


def _paired(rows: Tokens, wide: Tokens, law: Tokens, masking: Masking, words: Vocabulary) -> int:
    """How many rows are the law's but for masking.

    The packer draws tokens of the padding as well. So rows are found with it; but it is no evidence, since all rows
    end in it, and of each pair the text is looked at once more, and then where it ends.
    """
    found = pair(rows, wide, masking)
    ends = rows.starts.copy()
    ends[found.rows] += law.lengths[found.samples]
    text = Tokens(rows.values, rows.starts, ends)
    good = compare_pairs(text, law, (found.rows, found.samples), masking).rows
    return sum(
        _ends_there(rows.values[rows.starts[i] : rows.ends[i]], int(text.lengths[i]), masking, words)
        for i in good.tolist()
    )


def _ends_there(row: AnyTokens, length: int, masking: Masking, words: Vocabulary) -> bool:
    """Whether the text of a masked row may be so long: no padding in it, and behind it no further sample.

    A draw makes a token some other one now and then, and hardly ever the padding or an opening token.
    """
    behind = row[length:]
    kept = np.flatnonzero(behind == words.pad)
    begin = behind[: kept[0]] if len(kept) else behind  # of another sample, if there is one
    other = math.log(masking.share * OTHER)
    drawn = int((begin != masking.token).sum()) + (pads := int((row[:length] == words.pad).sum()))
    named = pads + (len(begin) > 0 and int(begin[0]) == words.open)
    return drawn * other - named * math.log(words.size) > math.log(UNLIKELY)
