"""What a person looks at: the dataset card of a phase, `README.md` beside its shards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ettin_data.base.units import count
from ettin_data.sources import REGISTRY


def card(summary: Mapping[str, Any]) -> str:
    """The dataset card of a finished phase as Markdown, from what `run.json` says."""
    recipe, totals, order = summary["recipe"], summary["totals"], summary["order"]
    frame = summary["vocabulary"]["frame"]
    lines = [
        f"# {summary['phase']}: {count(totals['tokens'])} tokens in sequences of {recipe['length']:,}",
        "",
        f"Built by ettin-data {summary['versions']['ettin-data']}. Root digest `{summary['root']}`: another build with",
        "this digest holds the same samples in the same order.",
        "",
        "| category | source | target tokens | tokens | documents | samples | passes | held-out documents | licence |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for key, row in sorted(summary["sources"].items(), key=lambda item: -item[1]["tokens"]):
        licence = REGISTRY[key].licence if key in REGISTRY else "your own"
        lines.append(
            f"| {row['category']} | {key} | {row['target_tokens']:,} | {row['tokens']:,} | {row['documents']:,} "
            f"| {row['samples']:,} | {row['passes']:.2f} | {row['validation_documents']:,} | {licence} |"
        )
    lines += [
        f"| | **total** | {totals['target_tokens']:,} | {totals['tokens']:,} | {totals['documents']:,} "
        f"| {totals['samples']:,} | | | |",
        "",
        "## Samples",
        "",
        f"MDS columns `{summary['layout']['columns']}`; a sample is `{frame['open']} … {frame['close']}`, packed by "
        f"`{recipe['pack']['strategy']}`.",
        f"Tokenizer: {summary['tokenizer']['vocab_size']:,} entries, SHA-256 `{summary['tokenizer']['sha256']}`.",
        "",
        "```python",
        "from streaming import StreamingDataset",
        'dataset = StreamingDataset(local="train", shuffle=False, batch_size=1)',
        "```",
        "",
        "## Order",
        "",
        f"Law `{order['law']}`, seed {order['seed']}, epoch {order['epoch']}: {order['steps']:,} steps of "
        f"{order['batch']:,} samples, in `order/`.",
        "",
        "## What was not used",
        "",
        "| source | records read | rejected | filtered | text tokens in | skipped |",
        "|---|---:|---|---|---:|---|",
    ]
    for key, row in sorted(summary["sources"].items()):
        lines.append(
            f"| {key} | {row['records']:,} | {_reasons(row['rejected'])} | {_reasons(row['filtered'])} "
            f"| {row['tokens_in']:,} | {_reasons(row['skipped_tokens'])} |"
        )
    return "\n".join(lines) + "\n"


def _reasons(counter: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {number:,}" for reason, number in counter.items()) or "0"
