"""What a verification found, as text for people and as JSON for programs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ettin_data.base.units import duration
from ettin_data.order.law import LAW
from ettin_data.order.proof.chance import LEVEL, Forms, chance_text
from ettin_data.order.proof.classify import ClassifiedRow
from ettin_data.order.proof.explanation import Deviation
from ettin_data.order.proof.infer import SECONDS_A_SAMPLE, Inference
from ettin_data.order.proof.look import describe, suggest
from ettin_data.order.proof.masking import HIDDEN
from ettin_data.order.proof.outcome import Verification, undetected
from ettin_data.tokenizer.vocabulary import AnyTokens

Decode = Callable[[AnyTokens], str]

KINDS = {
    "other_step": "known samples that the law has in another step",
    "repeated": "known samples that are there more often than the law has them",
    "truncated": "known samples, cut",
    "masked": "known samples with tokens masked",
    "changed_tokens": "known samples with tokens changed",
    "chunk_borders": "known samples cut at other borders",
    "special_tokens": "known samples with other special tokens",
    "other_form": "known samples in another form than the rest",
    "unread": "rows that may be samples which the local data lacks",
    "unknown": "rows that nothing in the searched data resembles",
    "missing": "samples of the law that no row is",
}
_EXAMPLES = 3
_BAD_FILES = 20
_SHOWN = 48  # tokens of each side of the first difference


def to_json(found: Verification, decode: Decode | None = None) -> dict[str, Any]:
    """Everything that the report says, as plain values."""
    totals = _totals(found)
    return {
        "verdict": found.verdict,
        "complete": found.complete,
        "exit_status": found.exit_status,
        "data": found.data.root,
        "published": found.catalog.root,
        "law": {
            "asked": _law(found.asked),
            "found": _law(found.explanation.law) if found.fits else None,
        },
        "deviations": [{"name": deviation.name, "text": deviation.text} for deviation in found.deviations],
        "notes": [{"name": note.name, "text": note.text} for note in notes(found)],
        "inference": _inference(found.inference),
        "look": asdict(found.look) if found.look else None,
        "form": {"kind": found.form.kind, "cut_at": found.max_length},
        "masking": _masking(found),
        "row_order": row_order(found),
        "units": {"all": found.units, "checked": len(found.checked), "agree": sum(r.agrees for r in found.checked)},
        "rows": totals,
        "forms": {name: {"different": f.different, "rows": f.rows} for name, f in _forms(found)},
        "log10_chance": round(found.log_chance / math.log(10), 2),
        "confidence": _confidence(found),
        "looked_up": _looked_up(found),
        "bad_files": [{"path": path, "why": why} for path, why in _bad_files(found)],
        "not_checked": not_checked(found),
        "not_tried": not_tried(found),
        "differences": [
            {"kind": kind, "meaning": KINDS[kind], "rows": len(rows), "where": where(found, rows)}
            for kind, rows in _by_kind(found).items()
        ],
        "rows_classified": len(found.classification.rows),
        "data_searched": round(found.classification.searched, 6),
        "first_difference": _first(found, decode),
        "seconds": round(found.seconds, 3),
    }


def to_lines(found: Verification, decode: Decode | None = None) -> list[str]:
    """The report for a person, line by line."""
    totals = _totals(found)
    lines = [f"{headline(found)}", ""]
    lines += [f"  data       {found.data.root}  ({len(found.data):,} samples)"]
    lines += [f"  published  {found.catalog.root}  ({len(found.catalog):,} steps, {found.catalog.total_rows:,} rows)"]
    rule = "" if found.asked.name == LAW else f"{found.asked.rule}, "
    lines += [f"  law        {rule}seed {found.asked.seed}, epoch {found.asked.epoch}, batch {found.asked.batch:,}"]
    lines += [f"  found      {deviation}" for deviation in found.deviations]
    if found.fits:
        lines += [f"  rows       {_form(found)}"]
        lines += [f"  in a step  {order}" for order in [row_order(found)] if order]
        lines += [f"  note       {note}" for note in notes(found)]
    if found.inference is not None:
        lines += [f"  evidence   {text}" for text in _evidence(found.inference)]
        lines += [f"  not tried  {text}" for text in not_tried(found)]
    if found.look is not None and not found.fits:
        lines += [f"  rows       {text}" for text in describe(found.look, found.data.loader.vocabulary)]
    if found.checked:
        agree = sum(r.agrees for r in found.checked)
        lines += [
            "",
            f"  {agree:,} of {len(found.checked):,} checked units agree ({found.units:,} published)",
            f"  {totals['equal']:,} rows equal token for token, {totals['edited']:,} equal after the loader's edits",
            *[f"  {text}" for text in _masking(found)],
            f"  {totals['surplus']:,} rows without a sample, {totals['missing']:,} samples without a row",
            "  different " + ", ".join(f"{forms} {name}" for name, forms in _forms(found)),
        ]
        if found.verdict not in ("differs", "unchecked"):
            lines += [f"  chance would agree as well with a probability of {chance_text(found.log_chance)}"]
    if confidence := _confidence(found):
        lines += [f"  {confidence['text']}"]
    if looked_up := _looked_up(found):
        lines += [f"  {text}" for text in looked_up["texts"]]
    for text in not_checked(found):
        lines += [f"  not checked: {text}"]
    for kind, rows in _by_kind(found).items():
        lines += ["", f"  {KINDS[kind]}: {len(rows):,}"]
        lines += [f"    {text}" for text in where(found, rows)]
    named = sum(row.kind != "missing" for row in found.classification.rows)
    if totals["surplus"] > named:
        lines += ["", f"  {named:,} of the {totals['surplus']:,} rows without a sample were looked at one by one"]
    if found.classification.searched < 1 and found.classification.rows:
        lines += [f"  (looked for in {found.classification.searched:.1%} of the data)"]
    if first := _first(found, decode):
        lines += ["", f"  first difference: {first['where']}: {first['text']}"]
        for side in ("published", "data"):
            if first.get(side):
                lines += [f"    {side:9}  {first[side]['tokens']}"]
                lines += [f"    {'':9}  {first[side]['text']!r}"] if "text" in first[side] else []
    rate = sum(r.published for r in found.checked) / max(found.seconds, 1e-9)
    return [*lines, "", f"  {duration(found.seconds)}, {rate:,.0f} rows/s"]


def headline(found: Verification) -> str:
    """The verdict and the reason, in a sentence."""
    if found.verdict == "agrees":
        what = "every step" if len(found.checked) == found.units else "every checked step"
        return f"AGREES: {what} holds the samples that the law puts there, {_form(found)}."
    if found.verdict == "explained":
        return "AGREES WITH ANOTHER LAW: " + "; ".join(map(str, found.deviations)) + "."
    if found.verdict == "unchecked":
        return "NOT CHECKED: none of the samples concerned are in the local data."
    words = found.data.loader.vocabulary
    if found.strangers and found.inference and found.look:
        evidence = found.inference.evidence
        share = evidence.searched
        likely = f" (of their rows some {evidence.looked_for * share:,.0f} should be)"
        where = "the data" if share == 1 else f"the {share:.1%} of the data that were searched{likely}"
        some = f"only {evidence.found:,} of {evidence.looked_for:,} rows are" if evidence.found else ""
        some = some or f"none of {evidence.looked_for:,} rows is"
        return f"CANNOT TELL: {some} in {where}; {suggest(found.look, words)}."
    if found.verdict == "cannot tell":
        why = f"cut at {found.max_length} tokens, samples are no longer different"
        if found.told_apart:
            why = f"chance would agree as well with a probability of {chance_text(found.log_chance)}"
        return f"CANNOT TELL: {why}; an agreement is stated from {chance_text(math.log(LEVEL))} on."
    if not found.fits and found.inference and found.inference.evidence.complete:
        return (
            "DIFFERS: all rows are in the data, but no law was found that explains their order: the trainer had "
            f"another number of samples than {found.asked.samples:,} (--samples), a seed that was not tried (--seeds), "
            "or another loader."
        )
    if not found.fits:
        return "DIFFERS: no law was found that explains these rows."
    return (
        "DIFFERS: "
        + ("; ".join(map(str, found.deviations)) + "; and " if found.deviations else "")
        + "not every step agrees."
    )


def _form(found: Verification) -> str:
    cut = f", cut at {found.max_length:,} tokens" if found.max_length and found.form.kind == "stored" else ""
    return f"{found.form}{cut}"


def notes(found: Verification) -> list[Deviation]:
    """What is worth knowing of a publication and is no difference from the law."""
    lines = []
    if found.fits and found.max_length is not None:
        lines.append(Deviation("truncated", f"rows are cut at {found.max_length:,} tokens"))
    if found.ranks is not None:
        lines.append(Deviation("world_size", f"rows of a step stand as {found.ranks} ranks read them"))
    law = found.explanation.law
    later = [result.unit.first for result in found.checked if result.unit.epoch > law.epoch]
    if later:
        text = f"the samples were read more than once: epoch {law.epoch + 1} begins at {found.catalog.name(later[0])}"
        lines.append(Deviation("several_epochs", text))
    return lines


def _masking(found: Verification) -> list[str]:
    """How many rows were masked, and how."""
    rows, totals = sum(r.masked for r in found.checked), np.sum([r.changes for r in found.checked], axis=0)
    if not rows:
        return []
    tokens, masks, others, weak = totals.tolist()
    return [
        f"{rows:,} equal but for masking: {masks / tokens:.1%} of the tokens are masks, {others / tokens:.2%} others, "
        f"as at a share of {masks / HIDDEN / tokens:.1%}; a single changed token cannot be told from that, "
        f"and {weak:,} rows, short and much hidden, not from others of their length"
    ]


def _forms(found: Verification) -> tuple[tuple[str, Forms], ...]:
    """What was counted, by its name."""
    return ("samples", found.forms[0]), ("rows", found.forms[1])


def _totals(found: Verification) -> dict[str, int]:
    names = ("published", "law", "equal", "edited", "masked", "unread", "broken", "missing", "surplus")
    return {name: sum(getattr(result, name) for result in found.checked) for name in names}


def _law(law: Any) -> dict[str, Any]:
    return {
        "name": law.name,
        "rule": law.rule,
        "seed": law.seed,
        "epoch": law.epoch,
        "batch": law.batch,
        "samples": law.samples,
    }


def row_order(found: Verification) -> str:
    """How rows stand inside a step, "" when not known."""
    orders = {result.row_order for result in found.checked if result.row_order}
    if len(orders) != 1:
        return "several orders" if orders else ""
    (order,) = orders
    names = {"law": "the law's order", "sorted": "the order of the data", "other": "an order that was not recognised"}
    return names.get(order, order)


def _evidence(inference: Inference) -> list[str]:
    evidence, best = inference.evidence, inference.best
    lines = [f"{evidence.found:,} of {evidence.looked_for:,} rows found in {evidence.shards_read:,} shards"]
    if best is not None:
        word = "explains" if best.believed else "explains no more than"
        lines += [
            f"it {word} {best.explained:,} of {best.rows:,} rows ({best.share:.1%}); chance: {best.chance:.1f} rows"
        ]
    others = f", {inference.refuted:,} more are none in this shard order, by the end of theirs" * (
        inference.refuted > 0
    )
    others += f", {inference.numbers:,} other numbers of samples" if inference.numbers else ""
    others += f", {inference.loaders:,} laws of other loaders" if inference.loaders else ""
    return [*lines, f"{len(inference.seeds):,} seeds tried{others}"]


def not_tried(found: Verification) -> list[str]:
    """Candidates that the search left out, and what each costs."""
    inference, samples = found.inference, found.asked.samples
    if inference is None or inference.believed:
        return []
    lines = []
    if inference.seeds_left:
        memory = samples * found.asked.dtype.itemsize
        cost = f"{duration(samples * SECONDS_A_SAMPLE)} of one core and {memory / 1e9:.1f} GB"
        lines.append(f"{inference.seeds_left:,} more seeds, each about {cost} (--seeds and --epochs name some)")
    if inference.refuted:
        lines.append(f"{inference.refuted:,} seeds in another shard order (--seed names one)")
    if inference.loaders_left:
        lines.append(f"{inference.loaders_left:,} more laws of other loaders (--law names one)")
    return lines


def _inference(inference: Inference | None) -> dict[str, Any] | None:
    if inference is None:
        return None
    best = inference.best
    return {
        "believed": inference.believed,
        "rows_found": inference.evidence.found,
        "rows_looked_for": inference.evidence.looked_for,
        "shards_read": inference.evidence.shards_read,
        "seeds_tried": len(inference.seeds),
        "seeds_refuted": inference.refuted,
        "seeds_left": inference.seeds_left,
        "loaders_tried": inference.loaders,
        "loaders_left": inference.loaders_left,
        "explained": best.explained if best else 0,
        "of": best.rows if best else 0,
        "by_chance": round(best.chance, 2) if best else 0.0,
    }


def _confidence(found: Verification) -> dict[str, Any] | None:
    checked = len(found.checked)
    if checked == 0 or checked >= found.units or any(not r.agrees for r in found.checked):
        return None
    bad = undetected(found.units, checked)
    text = f"{checked:,} of {found.units:,} units checked: with 95% confidence at most {bad:,} others do not agree"
    return {"level": 0.95, "at_most_bad_units": bad, "text": f"{text} ({bad / found.units:.2%})"}


def _looked_up(found: Verification) -> dict[str, Any] | None:
    """What the shards that are here can tell, where some are not: of how many rows, and with which confidence."""
    samples, judged, agree = found.looked_up
    here, shards = int(found.data.here.sum()), len(found.data.here)
    if here == shards or judged == 0:
        return None
    texts = [
        f"{here:,} of {shards:,} shards were read: {judged:,} of {samples:,} samples of the checked units "
        f"({judged / samples:.2%}) could be looked up, {agree:,} of these are where the law has them"
    ]
    told: dict[str, Any] = {"shards": here, "of": shards, "samples": judged, "of_samples": samples, "agree": agree}
    if agree == judged:
        told["at_most_bad_samples"], told["at_most_bad_shards"] = undetected(samples, judged), undetected(shards, here)
        texts.append(
            f"with 95% confidence at most {told['at_most_bad_samples']:,} of the others "
            f"({told['at_most_bad_samples'] / samples:.2%}) are not, if these keep to no shard, and at most "
            f"{told['at_most_bad_shards']:,} shards have any such sample, if they do"
        )
    return {**told, "texts": texts}


def not_checked(found: Verification) -> list[str]:
    """What could not be checked, in words."""
    bad = _bad_files(found)
    lines = [f"{path}: {why}" for path, why in bad[:_BAD_FILES]]
    if len(bad) > _BAD_FILES:
        lines.append(f"{len(bad) - _BAD_FILES:,} more files that cannot be read (--json lists them all)")
    if unread := sum(result.unread for result in found.checked):
        lacking, shards = int((~found.data.here).sum()), f"of {len(found.data.here):,} shards"
        chosen = " or not among those of --shards" if found.data.shards is not None else ""
        why = [f"{lacking:,} {shards} are not here{chosen}"] if lacking else []
        why += [f"{len(found.broken):,} {shards} cannot be read"] if found.broken else []
        unknown = "where their shards stood in the order could not be found out"
        lines.append(f"{unread:,} samples, because {' and '.join(why) or unknown}")
    ranges = found.absent_steps
    if ranges:
        shown = ", ".join(f"{a:,}" if a == b else f"{a:,}-{b:,}" for a, b in ranges[:5])
        more = f" and {len(ranges) - 5} more ranges" if len(ranges) > 5 else ""
        count = sum(b - a + 1 for a, b in ranges)
        lines.append(f"{count:,} steps of the law that were not published: {shown}{more}")
    return lines


def _bad_files(found: Verification) -> list[tuple[str, str]]:
    """Published files, and shards of the data, that cannot be read as a whole or in part: path and why."""
    bad = [(each.path, each.why) for each in found.catalog.bad]
    bad += [(each.path, f"rows {each.first + 1:,} to {each.end:,}: {each.why}") for each in found.damage]
    return bad + [(found.data.reader.infos[number].basename, why) for number, (_, why) in sorted(found.broken.items())]


def _by_kind(found: Verification) -> dict[str, list[ClassifiedRow]]:
    kinds: dict[str, list[ClassifiedRow]] = defaultdict(list)
    for row in (*found.classification.rows, *found.classification.edited):
        kinds[row.kind].append(row)
    return {kind: kinds[kind] for kind in KINDS if kind in kinds}


def where(found: Verification, rows: Sequence[ClassifiedRow]) -> list[str]:
    """Where rows of one kind are, by examples; rows of steps that moved as a whole are told by `segments`."""
    moved = {entry for segment in found.segments if segment.moved for entry in range(segment.first, segment.last + 1)}
    rest = [row for row in rows if row.kind != "other_step" or row.unit.first not in moved]
    lines = [f"{found.catalog.name(row.unit.first)}: {row.text}" for row in rest[:_EXAMPLES]]
    if len(rest) > _EXAMPLES:
        entries = list(dict.fromkeys(row.unit.first for row in rest))
        steps = ", ".join(found.catalog.name(entry) for entry in entries[:_EXAMPLES])
        more = ", …" if len(entries) > _EXAMPLES else ""
        lines.append(f"… {len(rest):,} in {len(entries):,} steps ({steps}{more})")
    if len(rest) < len(rows):
        lines.append(f"{len(rows) - len(rest):,} rows in steps that moved as a whole")
    return lines


def _first(found: Verification, decode: Decode | None) -> dict[str, Any] | None:
    """The first difference in the order of the steps: the row, and the sample that it should be."""
    rows = found.classification.rows or found.classification.edited
    if not rows:
        return None
    row = rows[0]
    out: dict[str, Any] = {"where": found.catalog.name(row.unit.first), "kind": row.kind, "text": row.text}
    position = row.position
    if row.kind in ("other_step", "repeated", "unknown"):  # what the law has in its place
        position = next((p for r in found.checked if r.unit == row.unit for p in r.positions), None)
    sample = None if position is None else found.data.reader[position]
    stored, at = None if sample is None else sample["input_ids"], 0
    if stored is not None and len(row.tokens):
        common = min(len(stored), len(row.tokens))
        differ = np.flatnonzero(stored[:common] != row.tokens[:common])
        at = max(0, int(differ[0]) - _SHOWN // 4) if len(differ) else max(0, common - _SHOWN // 2)
    if len(row.tokens):
        out["published"] = _side(row.tokens, at, decode)
    if sample is not None and stored is not None:
        out["data"] = {"position": position, "id": sample["id"], **_side(stored, at, decode)}
    return out


def _side(tokens: AnyTokens, at: int, decode: Decode | None) -> dict[str, Any]:
    shown = tokens[at : at + _SHOWN]
    side: dict[str, Any] = {"from_token": at, "tokens": shown.tolist(), "length": len(tokens)}
    return {**side, "text": decode(shown)} if decode is not None else side
