"""What a person looks at: the dataset card of a phase, `README.md` beside its shards."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from ettin_data import sources
from ettin_data.base import files
from ettin_data.base.shapes import FileDigest
from ettin_data.base.units import count
from ettin_data.base.visible import visible
from ettin_data.stages.counts import ITEMS, most_found
from ettin_data.stages.filters import pii
from ettin_data.storage.mds import bytes_digest
from ettin_data.storage.phase import DECONTAMINATION, ORDER, REJECTS, TRAIN
from ettin_data.storage.records import RunRecord
from ettin_data.tokenizer.vocabulary import MODERNBERT

_HEAD = """\
---
configs:  # `datasets` reads no MDS shards, and would take the JSON files beside them for samples
- config_name: default
  data_files:
  - split: train
    path: "no table but MDS shards, which ettin_data.to_datasets(folder) reads"
---

"""
_MOST_ITEMS = 20  # evaluation texts that a card names
_TRIES = 100  # titles in a card that are looked at


def write_card(path: Path, run: RunRecord) -> FileDigest:
    """Write the card, below a head for `datasets.load_dataset`, which then says how the folder is read.

    Returns: of the card itself, which has to stand in the file (`standing_in`).
    """
    text = card(run)
    files.write(path, _HEAD + text)
    return FileDigest(**files.digest_of(text))


def card(run: RunRecord) -> str:
    """The dataset card of a finished phase as Markdown, from what `run.json` says."""
    recipe, totals, order = run.recipe, run.totals, run.order
    frame = {role: _code(token) for role, token in (run.vocabulary or MODERNBERT.to_json())["frame"].items()}
    lines = [
        f"# {run.phase}: {count(totals['tokens'])} tokens in sequences of {recipe['length']:,}",
        "",
        f"Built by ettin-data {run.versions['ettin-data']}. Root digest `{run.root}`: another build with",
        "this digest holds the same samples in the same order.",
        "",
        "| category | source | target tokens | tokens | documents | samples | passes | held-out documents | licence |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for key, row in sorted(run.sources.items(), key=lambda item: -item[1].tokens):
        licence, _ = _licence(key, recipe["sources"][key])
        lines.append(
            f"| {row.category} | {prose(key)} | {row.target_tokens:,} | {row.tokens:,} | {row.documents:,} "
            f"| {row.samples:,} | {row.passes:.2f} | {row.validation_documents:,} | {licence} |"
        )
    lines += [
        f"| | **total** | {totals['target_tokens']:,} | {totals['tokens']:,} | {totals['documents']:,} "
        f"| {totals['samples']:,} | | | |",
        "",
        "## Samples",
        "",
        f"MDS columns `{run.layout['columns']}`; a sample is `{frame['open']} … {frame['close']}`, packed by "
        f"`{recipe['pack']['strategy']}`.",
        f"Tokenizer: {run.tokenizer['vocab_size']:,} entries, SHA-256 `{run.tokenizer['sha256']}`.",
        "",
        "```python",
        "import ettin_data",
        "",
        'loader = ettin_data.torch_loader(".", 8)  # batches of the training order; state_dict() resumes at a sample',
        'rows = ettin_data.to_datasets(".", streaming=True)  # the same samples for Hugging Face\'s datasets',
        "",
        "from ettin_data.storage.mds import MdsReader, import_streaming",
        "",
        f'samples = MdsReader("{TRAIN}")  # samples[0] is {{"id": …, "input_ids": …}}',
        "# or MosaicML's reader, also where torchvision does not fit torch and `import streaming` fails:",
        f'dataset = import_streaming().StreamingDataset(local="{TRAIN}", shuffle=False, batch_size=1)',
        "```",
        "",
        "## Order",
        "",
        f"Law `{order.law}`, seed {order.seed}, epoch {order.epoch}: {order.steps:,} steps of "
        f"{order.batch:,} samples, in `{ORDER}/`.",
        "",
        "## Validation",
        "",
        _twins(run),
        "",
        *_evaluation(run),
        *_personal(run),
        "## What was not used",
        "",
        "| source | records read | rejected | filtered | text tokens in | skipped |",
        "|---|---:|---|---|---:|---|",
    ]
    for key, row in sorted(run.sources.items()):
        lines.append(
            f"| {prose(key)} | {row.records:,} | {_reasons(row.rejected)} | {_reasons(row.filtered)} "
            f"| {row.tokens_in:,} | {_reasons(row.skipped_tokens)} |"
        )
    lines += ["", "## Licences", "", *licence_lines({run.phase: run})]
    lost = {key: row for key, row in sorted(run.sources.items()) if row.damaged_files}
    if lost:
        lines += ["", "## Damaged files", "", "The build went on without them (`bad_input.on_bad_file: skip`)."]
    for key, row in lost.items():
        lines += ["", f"{prose(key)}: {_reasons(row.damaged_files)}, with about {row.lost_records:,} records:", ""]
        lines += [f"* {prose(file)}" for file in row.lost_files]
    for key, row in sorted(run.sources.items()):
        if number := row.repaired:
            lines += ["", f"Of {prose(key)}, {number:,} documents had characters replaced that are not UTF-8."]
    return "\n".join(lines) + "\n"


def _twins(run: RunRecord) -> str:
    """A sentence about copies of held-out documents in train."""
    looked_for = run.recipe.get("validation_twins")
    if looked_for is None:
        return "Nobody looked whether copies of held-out documents are in train (`validation_twins` in a recipe)."
    number = sum(row.left_out.get("twin_of_validation", 0) for row in run.sources.values())
    alike = "the words of" if looked_for == "exact" else "the words, or most of them, of"
    return f"No document in train has {alike} one that is held out: {number:,} were left out for that."


def _evaluation(run: RunRecord) -> list[str]:
    """What was looked for of evaluation texts, and what became of the documents that have some."""
    choice = run.recipe.get("decontaminate")
    if choice is None:
        return []
    named = [each.get("benchmark") or each["file"] for each in choice["texts"]]
    places = ", ".join(prose(name if "://" in name else PurePath(name).name) for name in named)
    done = {"drop": "dropped", "mask": "relieved of them", "report": "written down and used"}[choice["action"]]
    lines = [
        "## Evaluation texts",
        "",
        f"Every document was searched for the texts of {places} by their words, with rule `{choice['rule']}`.",
        f"Those with hits were {done}. `{DECONTAMINATION}` says what was looked for and what could not be, and",
        f"`{REJECTS}/` names text, file, record, characters and score of each hit. `ettin-data exposure --texts` finds",
        "samples and steps of what is there still. Paraphrases and translations are not found.",
        "",
    ]
    for key, row in sorted(run.sources.items()):
        steps = row.steps.get("decontaminate", {})
        number = sum(steps.get(what, 0) for what in ("dropped", "masked", "reported"))
        lines.append(f"* {prose(key)}: {steps.get('hits', 0):,} hits in {number:,} documents")
    items = sum((Counter(row.steps.get("decontaminate", {}).get(ITEMS, {})) for row in run.sources.values()), Counter())
    if items:
        shown = most_found(items, _MOST_ITEMS)
        lines += ["", f"Hits by text{f', the {_MOST_ITEMS} with most' if len(items) > _MOST_ITEMS else ''}:", ""]
        lines += [f"* {prose(name)}: {number:,}" for name, number in shown.items()]
    return [*lines, ""]


def _personal(run: RunRecord) -> list[str]:
    """What was looked for of personal data, and how much was found."""
    options = run.recipe.get("pii")
    if options is None:
        return []
    lines = ["## Personal data", "", f"In what the filters keep: {pii.told(options)}. Names are not looked for.", ""]
    for key, row in sorted(run.sources.items()):
        found = pii.found_in(row.steps)
        lines.append(
            f"* {prose(key)}: {found['email']:,} e-mail addresses, {found['ip']:,} IP addresses, "
            f"{found['phone']:,} phone numbers; {found['dropped']:,} documents dropped"
        )
    return [*lines, ""]


def licence_lines(runs: Mapping[str, RunRecord]) -> list[str]:
    """The licence and terms of each source of some phases, by what their recipes allow; once where these say the same.

    Args: runs: phase -> what its `run.json` says.
    """
    alike: dict[tuple[str, ...] | None, dict[str, RunRecord]] = {}
    for phase, run in runs.items():
        allow = run.recipe.get("allow")
        alike.setdefault(None if allow is None else tuple(map(str, allow)), {})[phase] = run
    lines: list[str] = []
    for allow, held in alike.items():
        choices = {key: run.recipe["sources"].get(key) or {} for run in held.values() for key in run.sources}
        said = (
            f"The recipe allowed these only: {', '.join(map(prose, allow))}."
            if allow is not None
            else "The recipe allowed every licence (`allow` was not set)."
        )
        lines += [""] if lines else []
        lines.append(f"{', '.join(map(prose, held))}: {said}" if len(alike) > 1 else said)
        found = sources.by_standing(choices, allow)
        for title, stated in zip(("Allowed", "Refused", "Not known"), found.values(), strict=True):
            lines += ["", f"{title}:{'' if stated else ' none.'}"]
            lines += [""] if stated else []
            for each in stated:
                terms = f", {prose(each.terms)}" if each.terms else ""
                lines.append(f"* {prose(each.name)}: {prose(each.licence)}{terms}")
    return lines


def _licence(key: str, choice: Mapping[str, Any]) -> tuple[str, str]:
    licence, terms = sources.stated_licence(key, choice)
    return prose(licence), prose(terms)


def prose(text: str) -> str:
    """Foreign text in Markdown: neither its marks nor HTML nor a new line."""
    return re.sub(r"[\\`*\[\]<>|]", r"\\\g<0>", visible(text, lines=False))


def _code(text: object) -> str:
    """Foreign text between backticks, which nothing but another backtick ends."""
    return visible(text, lines=False).replace("`", "'")


def standing_in(text: bytes, phase: str, written: FileDigest) -> bool:
    """Whether a card still holds, in one piece, what the build wrote; people add to it, before and after that."""
    title, begin = f"# {phase}: ".encode(), -1
    for _ in range(_TRIES):
        if (begin := text.find(title, begin + 1)) < 0:
            return False
        piece = text[begin : begin + written.bytes]
        if len(piece) == written.bytes and bytes_digest(piece) == written.xxh3_64:
            return True
    return False


def _reasons(counter: Mapping[str, int]) -> str:
    return ", ".join(f"{prose(reason)} {number:,}" for reason, number in counter.items()) or "0"
