"""What is written for whoever finds the data: the hub's card, Croissant, the EU's summary, samples to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml

from ettin_data.base.units import count
from ettin_data.build.card import licence_lines, prose
from ettin_data.inspect.lookup import Phase
from ettin_data.publish.contents import Content, Hashes, of_bytes
from ettin_data.publish.croissant import croissant
from ettin_data.publish.samples import samples_parquet
from ettin_data.publish.summary import training_summary
from ettin_data.publish.target import HUB, Target
from ettin_data.sources import stated_licence
from ettin_data.storage.phase import CARD, TRAIN
from ettin_data.storage.records import RunRecord, read_run
from ettin_data.tokenizer.vocabulary import AnyTokens

CHECKSUMS, CROISSANT, SUMMARY, VIEWER = "checksums.sha256", "croissant.json", "training-content-summary.md", "viewer"

_ON_THE_HUB = {
    "odc-by": "odc-by", "cc-by-4.0": "cc-by-4.0", "cc-by-sa-4.0": "cc-by-sa-4.0", "cc-by-sa-3.0": "cc-by-sa-3.0",
    "cc0-1.0": "cc0-1.0", "apache-2.0": "apache-2.0", "mit": "mit", "cc-by-3.0": "cc-by-3.0",
    "cc-by-nc-4.0": "cc-by-nc-4.0",
}  # fmt: skip
_SIZES = (
    (10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"), (10**11, "10B<n<100B"), (10**12, "100B<n<1T"),
)  # fmt: skip


def pages_of(
    target: Target, phases: Sequence[Phase], decode: Callable[[Path], Callable[[AnyTokens], str]], samples: int
) -> list[Content]:
    """The pages of a publication, all of them from what `run.json` says; the card last."""
    runs = {phase.place.name: read_run(phase.place) for phase in phases}
    viewers = [
        of_bytes(f"{VIEWER}/{phase.place.name}.parquet", samples_parquet(phase, decode(phase.folder), samples))
        for phase in phases
    ]
    hashes = {content.path: Hashes.of(content.source) for content in viewers}
    return [
        *viewers,
        of_bytes(CROISSANT, croissant(target, runs, hashes, licences_of(runs)).encode()),
        of_bytes(SUMMARY, training_summary(target.name, runs).encode()),
        of_bytes(CARD, hub_card(target, runs, [content.path for content in viewers]).encode()),
    ]


def licences_of(runs: Mapping[str, RunRecord]) -> list[str]:
    """The licences of all sources, as they are stated, sorted."""
    return sorted({
        stated_licence(name, run.recipe["sources"].get(name) or {})[0] for run in runs.values() for name in run.sources
    })  # fmt: skip


def hub_card(target: Target, runs: Mapping[str, RunRecord], viewers: Sequence[str]) -> str:
    """The card of a publication in the hub's format: a head in YAML, then composition, licences and how to load it."""
    tokens = sum(run.totals.get("tokens", 0) for run in runs.values())
    lines = [
        "---",
        yaml.safe_dump(_head(target, runs, viewers), sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        "",
    ]
    lines += [
        f"# {target.name}",
        "",
        f"{count(tokens)} tokens of pre-training text in {len(runs)} phase{'s' * (len(runs) != 1)}, tokenized and "
        "packed, as MosaicML MDS shards with the order of the batches. Built by ettin-data; the viewer shows decoded "
        "samples.",
        "",
        "| phase | tokens | samples | length | steps | root |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for name, run in runs.items():
        lines.append(
            f"| [{prose(name)}]({name}/{CARD}) | {run.totals.get('tokens', 0):,} | {run.totals.get('samples', 0):,} "
            f"| {run.layout['length']:,} | {run.order.steps:,} | `{run.root[:16]}…` |"
        )
    lines += ["", "A build with the same root holds the same samples in the same order.", "", "## Composition", ""]
    lines += _composition(runs)
    lines += ["", "## Load it", "", *_how_to_load(target, next(iter(runs))), "", "## Licences", ""]
    lines += ["The licence of each source holds for what is made from it.", ""]
    lines += licence_lines(runs)
    return "\n".join(lines) + "\n"


def _head(target: Target, runs: Mapping[str, RunRecord], viewers: Sequence[str]) -> dict[str, object]:
    licences = sorted({_ON_THE_HUB.get(licence.strip().casefold(), "other") for licence in licences_of(runs)})
    samples = sum(run.totals.get("samples", 0) for run in runs.values())
    return {
        "pretty_name": target.name,
        "license": licences[0] if len(licences) == 1 else licences,
        "task_categories": ["text-generation", "fill-mask"],
        "size_categories": [next((name for most, name in _SIZES if samples < most), "n>1T")],
        "tags": ["pre-training", "mds", "ettin-data"],
        "configs": [
            {"config_name": Path(path).stem, "data_files": [{"split": TRAIN, "path": path}]} for path in viewers
        ],
    }


def _composition(runs: Mapping[str, RunRecord]) -> list[str]:
    names = {name: run.sources[name].category for run in runs.values() for name in sorted(run.sources)}
    head = "".join(f" {prose(phase)} |" for phase in runs)
    lines = [f"| category | source |{head}", "|---|---|" + "---:|" * len(runs)]
    for name, category in sorted(names.items(), key=lambda item: (item[1], item[0])):
        held = (run.sources[name].tokens if name in run.sources else 0 for run in runs.values())
        lines.append(f"| {prose(category)} | {prose(name)} | " + " | ".join(f"{n:,}" if n else "" for n in held) + " |")
    totals = " | ".join(f"{run.totals.get('tokens', 0):,}" for run in runs.values())
    return [
        *lines,
        f"| | **total** | {totals} |",
        "",
        "In tokens. What was not used, and why, is on the card of each phase.",
    ]


def _how_to_load(target: Target, phase: str) -> list[str]:
    if target.protocol == HUB:
        fetch = f"hf download {target.place} --repo-type dataset --local-dir {target.name}"
        viewer = f'datasets.load_dataset("{target.place}", "{phase}", split="{TRAIN}")'
    else:
        tool = "aws s3 sync" if target.protocol == "s3" else "gcloud storage rsync --recursive"
        fetch = f"{tool} {target} {target.name}"
        viewer = f'datasets.load_dataset("parquet", data_files="{target.name}/{VIEWER}/{phase}.parquet")'
    return [
        "```",
        fetch,
        f"(cd {target.name} && sha256sum --quiet --check {CHECKSUMS})",
        "```",
        "",
        "```python",
        "import datasets",
        "",
        "from ettin_data.storage.mds import MdsReader, import_streaming",
        "",
        f'samples = MdsReader("{target.name}/{phase}/{TRAIN}")  # samples[0] is {{"id": …, "input_ids": …}}',
        f'dataset = import_streaming().StreamingDataset(local="{target.name}/{phase}/{TRAIN}", batch_size=1)',
        f"decoded = {viewer}",
        "```",
    ]
