"""The summary of training content that Article 53(1)(d) of the EU's AI Act asks of providers of general-purpose models.

Its headings are those of the template of the AI Office of 24 July 2025. What a run knows is filled in; what only the
provider of a model can know is named as such, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ettin_data.base.units import count
from ettin_data.build.card import prose
from ettin_data.sources import REGISTRY, get, known, stated_licence
from ettin_data.stages.filters import pii
from ettin_data.storage.records import RunRecord

_PROVIDER = "*to be filled in by the provider of the model*"
_SIZES = ((10**9, "less than 1 billion tokens"), (10**13, "1 billion to 10 trillion tokens"))


def training_summary(name: str, runs: Mapping[str, RunRecord]) -> str:
    """The summary of everything that a model reads of these runs, as Markdown."""
    tokens = sum(run.totals.get("tokens", 0) for run in runs.values())
    public: list[str] = []
    own: list[str] = []
    for source, line in _sources(runs):
        (public if known(source) else own).append(line)
    kinds = sorted({prose(row.category) for run in runs.values() for row in run.sources.values()})
    lines = [
        f"# Summary of training content: {prose(name)}",
        "",
        "After the template of the European Commission for Article 53(1)(d) of Regulation (EU) 2024/1689, from what "
        "the builds of this data say of themselves. It covers this data set; a provider who trains on more adds that.",
        "",
        "## 1. General information",
        "",
        "### 1.1 Provider",
        "",
        f"* Name and contact: {_PROVIDER}",
        f"* Authorised representative: {_PROVIDER}",
        "",
        "### 1.2 Model",
        "",
        f"* Versioned model name, dependencies, date of placing on the Union market: {_PROVIDER}",
        "",
        "### 1.3 Modalities, overall size, characteristics",
        "",
        "* Modality: text. Other modalities: none.",
        f"* Size: {_size(tokens)} ({count(tokens)}, {tokens:,}, by the tokenizer of the run).",
        f"* Types of content: {', '.join(kinds)}.",
        f"* Latest date of acquisition: {_PROVIDER}; the upstream releases are fixed, see 2.1.",
        "* Languages: " + _languages(runs),
        "",
        "| phase | tokens | documents | root |",
        "|---|---:|---:|---|",
        *(
            f"| {prose(phase)} | {run.totals.get('tokens', 0):,} | {run.totals.get('documents', 0):,} | `{run.root}` |"
            for phase, run in runs.items()
        ),
        "",
        "## 2. List of data sources",
        "",
        "### 2.1 Publicly available datasets",
        "",
        *(public or ["None."]),
        "",
        "### 2.2 Private datasets obtained from third parties",
        "",
        f"Of the sources below, which are the builder's own, {_PROVIDER}:" if own else "None in this data.",
        *([""] if own else []),
        *own,
        "",
        "### 2.3 Data crawled and scraped from online sources",
        "",
        "The builds crawl nothing. Sources of 2.1 of the categories `crawl` and `news` were crawled by others.",
        "",
        "### 2.4 User data",
        "",
        "None by the builds; of the builder's own sources: " + _PROVIDER + "." if own else "None.",
        "",
        "### 2.5 Synthetic data",
        "",
        "None is made by the builds. Sources of 2.1 may hold some, as those who published them say.",
        "",
        "## 3. Data processing",
        "",
        "### 3.1 Respect of reservations of rights (text and data mining)",
        "",
        f"{_PROVIDER}; licences and terms of each source are in 2.1.",
        "",
        "### 3.2 Removal of illegal content",
        "",
        *_processing(runs),
        f"* Other measures: {_PROVIDER}",
        "",
        "### 3.3 Other information",
        "",
        "Every document that was read and not used is counted with its reason on the card of its phase. The digests of "
        "the run prove what was used.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _size(tokens: int) -> str:
    return next((said for most, said in _SIZES if tokens < most), "more than 10 trillion tokens")


def _sources(runs: Mapping[str, RunRecord]) -> Iterator[tuple[str, str]]:
    """(source, its line) of every source of all runs, by name."""
    names = sorted({name for run in runs.values() for name in run.sources})
    for name in names:
        held = sum(run.sources[name].tokens for run in runs.values() if name in run.sources)
        choice = next(run.recipe["sources"].get(name) or {} for run in runs.values() if name in run.sources)
        licence, terms = stated_licence(name, choice)
        said = [f"{held:,} tokens", f"licence: {prose(licence)}"]
        if terms:
            said.append(f"terms: {prose(terms)}")
        if known(name):
            source = get(name)
            said = [prose(source.title), f"`{prose(source.root)}`", *said]
        yield name, f"* **{prose(name)}**: {'; '.join(said)}"


def _languages(runs: Mapping[str, RunRecord]) -> str:
    members = sorted({name for run in runs.values() for name in run.sources if name not in REGISTRY and "." in name})
    if members:
        shown = ", ".join([*map(prose, members[:20]), *["…"] * (len(members) > 20)])
        return f"{len(members):,} sources of one language each ({shown})."
    return f"{_PROVIDER}; the sources say theirs."


def _processing(runs: Mapping[str, RunRecord]) -> list[str]:
    """What the recipes did to the text, as far as they did."""
    lines = []
    for phase, run in runs.items():
        recipe = run.recipe
        filters = [next(iter(each)) if isinstance(each, dict) else str(each) for each in recipe.get("filters") or []]
        dropped = sum(sum(row.filtered.values()) for row in run.sources.values())
        done = [f"filters {', '.join(map(prose, filters)) or 'none'} ({dropped:,} documents dropped)"]
        personal = recipe.get("pii")
        done.append(f"personal data: {'nothing replaced' if personal is None else pii.told(personal)}")
        done.append("copies removed" if recipe.get("dedup") else "copies not looked for")
        done.append("evaluation texts looked for" if recipe.get("decontaminate") else "evaluation texts not looked for")
        lines.append(f"* {prose(phase)}: {'; '.join(done)}")
    return lines
