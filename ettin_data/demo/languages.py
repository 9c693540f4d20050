"""The demo in many languages: mmBERT's three phases in small, from the messages of installed programs.

The mirror has FineWeb2's layout and schema, a file a language, of languages from thousands of documents down to three.
The recipes extend mmBERT's, are written beside the run for people to look at and to change, and take of each language
what the temperature law gives of what the mirror holds.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from ettin_data import recipe
from ettin_data.base import files
from ettin_data.base.errors import SourceError
from ettin_data.demo import catalogues
from ettin_data.demo.deal import Document, Shape, Shelf
from ettin_data.demo.mirror import DEFAULT_MEGABYTES, MirrorReport, SourceReport, keep_mirror, report_of
from ettin_data.demo.records import record
from ettin_data.recipe import Recipe
from ettin_data.recipe.temperature import Member, allot

VERSION = 1  # of the mirror: raise it when the same installation would give other bytes
PHASES = (("pretrain", 0.7, 60, 0.5, 2), ("extension", 0.5, 110, 0.25, 1), ("decay-all", 0.3, 2000, 0.125, 1))
"""Of each phase: temperature and number of languages, as in mmBERT, the share of their text that it takes, and how many
sequences long a packed row is: steps of 8 rows, 16,384 and 65,536 tokens, that a processor can train on."""

FEWEST = 3  # documents of a language: one for validation, and something to choose from
_BUFFER = 256  # samples that a rank holds: these are short, and a row has room for fifty
_FEWEST_STEPS = 8  # in packed rows; a machine of few languages has the steps of the order index
_FOLDER = "datasets/HuggingFaceFW/fineweb-2/data"
_SHAPE = Shape(median=160, spread=0.9, longest=4_000)
_LANGUAGES_OF_MEGABYTES = 50  # languages that share the wanted text; the smaller ones have less and come on top
_TABLE = "languages.csv"
_RECIPE = """\
# {phase} of mmBERT in small: {languages} languages at temperature {temperature:g}, in ModernBERT's tokens. The table
# has the tokens that the mirror probably holds of each language, and those that each phase takes.
extends: mmbert/{phase}
tokenizer: {{name: null, sha256: null, frame: null}}
shards: {{token_dtype: null}}
languages: {{members: "fineweb2[{{{members}}}]", without: [], targets: "{table}:{phase}"}}
groups: null
sources: {{{without}}}
order: {{batch: {batch}, interval_tokens: 250k, law: {law}}}
max_epochs: 4
"""


def write_mirror(root: Path, *, megabytes: float = DEFAULT_MEGABYTES) -> MirrorReport:
    """Write the mirror under `root`, unless it is there, complete, and from this installation.

    Raises `SourceError` if `root` holds anything else, or if there are catalogues of fewer than two languages.
    """
    found = catalogues.installed()
    listing = "\n".join(f"{each.name}\t{each.size}" for each in found)
    inputs = {"version": VERSION, "megabytes": float(megabytes), "catalogues": files.digest_of(listing)["xxh3_64"]}

    def deal() -> dict[str, list[Document]]:
        most = int(megabytes * 1e6 / _LANGUAGES_OF_MEGABYTES)
        dealt = {}
        for subset, works in catalogues.gather(found, most).items():
            text = sum(len(passage.encode()) for work in works for passage in work.passages)
            if len(documents := Shelf(subset, works).deal(subset, text, _SHAPE)) >= FEWEST:
                dealt[subset] = documents
        if len(dealt) < 2:
            raise SourceError(
                f"messages in {len(dealt)} languages are installed, too few for a mirror",
                where=", ".join(catalogues.FOLDERS),
                why="they are the catalogues (*/LC_MESSAGES/*.mo) of programs, which slim images leave out",
                remedy="install a program or a package with some, such as `pip install django`",
            )
        return dealt

    def put(dealt: Mapping[str, Sequence[Document]]) -> dict[str, SourceReport]:
        return {f"fineweb2.{subset}": _write(root, subset, documents) for subset, documents in dealt.items()}

    what = "ettin-data demo mirror: messages of installed programs in the layout of FineWeb2"
    return keep_mirror(root, what, inputs, deal, put)


def _write(root: Path, subset: str, documents: Sequence[Document]) -> SourceReport:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = f"{_FOLDER}/{subset}/train/000_00000.parquet"
    (root / path).parent.mkdir(parents=True)
    rows = [record("fineweb2", path, ordinal, document) for ordinal, document in enumerate(documents)]
    pq.write_table(pa.Table.from_pylist(rows), root / path, compression="zstd", write_statistics=False)
    return report_of(documents, 1)


def recipes(folder: Path, mirror: MirrorReport) -> list[Recipe]:
    """The recipes of the three phases, written into a folder with the table of their languages."""
    held = {key.partition(".")[2]: source.tokens for key, source in mirror.sources.items()}
    largest = sorted(held, key=lambda name: (-held[name], name))
    taken = {}
    for phase, temperature, most, share, micro in PHASES:
        members = [Member(name, held[name], held[name]) for name in sorted(largest[:most])]
        law = allot(members, int(share * sum(member.available for member in members)), temperature)
        taken[phase] = {name: tokens for name, tokens in law.targets.items() if tokens}
        whole = recipe.load_recipe(f"mmbert/{phase}")
        others = [key for key in whole.sources if not key.startswith("fineweb2")]
        packed = sum(taken[phase].values()) > _FEWEST_STEPS * 8 * micro * whole.length
        text = _RECIPE.format(
            phase=phase,
            languages=len(taken[phase]),
            temperature=temperature,
            members=",".join(taken[phase]),
            table=_TABLE,
            batch=8 * micro,
            law=f'"modernbert-packed-v1:world=2,micro={micro},buffer={_BUFFER}"' if packed else "null",
            without=", ".join(f"{key}: null" for key in others),
        )
        files.write(folder / f"{phase}.yaml", text)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["language", "held", *taken])
    writer.writerows([name, held[name], *(targets.get(name, 0) for targets in taken.values())] for name in largest)
    files.write(folder / _TABLE, table.getvalue())
    return [recipe.load_recipe(str(folder / f"{phase}.yaml")) for phase in taken]
