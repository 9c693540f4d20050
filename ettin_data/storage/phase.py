"""Where everything of a phase lies (ARCHITECTURE 5.5): the only module that knows the name of a file in a run folder.

    <run>/<phase>/
        plan.json  run.json  digests.json     the contract; what ran; what it consists of
        manifests/<source>.json               the listing that a source had
        pools/<source>/<split>-<layout>/      index.json shard.00000.mds … split.json *.parquet stats.json …
        attributes/<step>/<source>/<split>.parquet   what a step over whole sources says of each document
        keys/<source>/<split>-<layout>/       of packed phases: ledger and keys of all documents, copies as well
        paragraphs/<source>/<split>-<layout>/ where repeated ones go: a row and a key for each
        dedup.json  join/                     how copies were found; what a search that was stopped goes on from
        decontamination.json                  the evaluation texts that were looked for, as hashes of words
        rejects/<source>/<split>.jsonl        what could not be used; what had an evaluation text
        train/<source>/<split>-<layout>/      and validation/: links or cuts; train/<source>-dup/ is a second pass
        order/                                order.json interval_000001.parquet …; earlier.parquet of one that goes on
        README.md  .lock                      the card of the data set; who builds here
        logs/<source>/<split>.log             what became of each attempt at a split; of no digest
        .work/                                who builds here, and how far each is; of no digest

A phase is finished when `run.json` is there: a build removes it first and writes it last. Shards of elsewhere with an
order that was made for them, which no build has planned, are as finished as they will be.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ettin_data.base.errors import BuildError, ExitStatus
from ettin_data.base.files import TEMPORARY, is_temporary

RUN, PLAN, DIGESTS, CARD, LOCK = "run.json", "plan.json", "digests.json", "README.md", ".lock"
POOLS, TRAIN, VALIDATION = PARTS = ("pools", "train", "validation")
REJECTS, LISTINGS, ORDER, ASIDE = "rejects", "manifests", "order", "damaged"
ORDER_FILE, EARLIER = "order.json", "earlier.parquet"
INDEX = "index.json"
MARKER = "split.json"
DOCUMENTS, SAMPLES, SEGMENTS = "documents.parquet", "samples.parquet", "segments.parquet"
KEYS = "keys.parquet"
ATTRIBUTES, ATTRIBUTE_RECORD = "attributes", "attribute.json"
COPIES, COPIES_RECORD, JOIN, KEYED = "dedup", "dedup.json", "join", "keys"
PARAGRAPHS = "paragraphs"
TWINS = "validation_twins"
DECONTAMINATION = "decontamination.json"
STATISTICS, DECILES = "stats.json", "token_decile.json"
LOGS, WORK, _PLANNING = "logs", ".work", "plan.lock"
REPORT, TRAINER = "report", "trainer"
"""Of the run, beside its phases: what a person looks at, and the models that were trained on it."""
TRAINING_LOG = "metrics.jsonl"
"""In the folder of each kind of model: a line a step."""

OF_A_PHASE = (
    *(RUN, PLAN, DIGESTS, CARD, LOCK, *PARTS, REJECTS, LISTINGS, ORDER, ASIDE, ATTRIBUTES, COPIES_RECORD, JOIN),
    *(DECONTAMINATION, KEYED, PARAGRAPHS, LOGS, WORK),
)
"""Everything that lies in the folder of a phase."""

_LAYOUT = "-tokenized-chunked-"  # in the name of every split's folder, as published
_SPLIT_FILES = frozenset({INDEX, MARKER, DOCUMENTS, SAMPLES, SEGMENTS, KEYS, STATISTICS, DECILES})
_SHARD = re.compile(r"shard\.\d{5,}\.mds(\.zstd)?")
_INTERVAL = re.compile(r"interval_\d{6,}\.parquet")
_NFS = re.compile(r"\.nfs[0-9a-f]+")  # what NFS keeps of a file that was removed while somebody reads it
_COPY = re.compile(r"([^/]+?)(?:-dup(?:_(\d+))?)?")
_BEAT = re.compile(r"(build|share-\d+-of-\d+)\.json")
_SHARE = re.compile(r"share-(\d+)-of-(\d+)\.lock")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(?=/)")
_SHOWS = (RUN, PLAN, DIGESTS, POOLS, f"{ORDER}/{ORDER_FILE}")


@dataclass(frozen=True)
class Phase:
    """The folder of one phase, and the paths in it; nothing is opened.

    Splits have names relative to it, `<part>/<source or copy>/<folder>`.
    """

    folder: Path
    name: str

    @property
    def run_json(self) -> Path:
        return self.folder / RUN

    @property
    def plan_json(self) -> Path:
        return self.folder / PLAN

    @property
    def digests_json(self) -> Path:
        return self.folder / DIGESTS

    @property
    def order_json(self) -> Path:
        return self.folder / ORDER / ORDER_FILE

    @property
    def card(self) -> Path:
        return self.folder / CARD

    @property
    def lock(self) -> Path:
        return self.folder / LOCK

    @property
    def planning(self) -> Path:
        """The lock of a share that writes what all shares have in common."""
        return self.folder / WORK / _PLANNING

    def share_lock(self, number: int, of: int) -> Path:
        return self.folder / WORK / f"share-{number}-of-{of}.lock"

    def beat(self, share: str) -> Path:
        """What a build says of itself, or the share `3/64` of one."""
        return self.folder / WORK / (f"share-{share.replace('/', '-of-')}.json" if share else "build.json")

    def beats(self) -> list[Path]:
        """Of every build and share that is at work, or ended without success."""
        return sorted(path for path in (self.folder / WORK).glob("*.json") if _BEAT.fullmatch(path.name))

    def made_index(self, digest: str) -> Path:
        """The evaluation texts of a build as its workers read them, while it is at work."""
        return self.folder / WORK / f"evaluation-{digest}.index"

    def made_indexes(self) -> list[Path]:
        return sorted((self.folder / WORK).glob("evaluation-*.index"))

    def log(self, source: str, split: str) -> Path:
        """The log of a split of the pool."""
        return self.folder / LOGS / source / f"{split}.log"

    def share_locks(self) -> list[tuple[int, int, Path]]:
        """(number, of how many, lock) of every share that has ever begun here; held or not."""
        found = ((_SHARE.fullmatch(path.name), path) for path in (self.folder / WORK).glob("*.lock"))
        return sorted((int(match[1]), int(match[2]), path) for match, path in found if match)

    @property
    def decontamination_json(self) -> Path:
        """Which evaluation texts were looked for, of a phase whose recipe asks for that."""
        return self.folder / DECONTAMINATION

    @property
    def train(self) -> Path:
        return self.folder / TRAIN

    @property
    def order(self) -> Path:
        return self.folder / ORDER

    @property
    def aside(self) -> Path:
        """Where a repair keeps what is damaged until a good one is in its place."""
        return self.folder / ASIDE

    def attribute(self, step: str) -> Path:
        """The folder of what a step over whole sources has said."""
        return self.folder / ATTRIBUTES / step

    @property
    def copies_json(self) -> Path:
        """How the copies of a phase were found, whose tables are the attribute `COPIES`."""
        return self.folder / COPIES_RECORD

    def keyed(self, source: str, folder: str) -> Path:
        """A split that has keys and no samples: those of a pass before packing, or that were made after a build."""
        return self.folder / KEYED / source / folder

    def paragraphs(self, source: str, folder: str) -> Path:
        """The paragraphs of a split, that a first pass over its text has left."""
        return self.folder / PARAGRAPHS / source / folder

    @property
    def join(self) -> Path:
        """What a search for copies has done so far; it is removed when the search ends."""
        return self.folder / JOIN

    def listing(self, source: str) -> Path:
        return self.folder / LISTINGS / f"{source}.json"

    def rejects(self, source: str, split: str) -> Path:
        return self.folder / reject_log(source, split)

    def pool(self, source: str, folder: str) -> Path:
        return self.folder / POOLS / source / folder

    @property
    def finished(self) -> bool:
        """Whether its build has ended; see above."""
        return self.run_json.exists() or (not self.plan_json.exists() and self.order_json.exists())

    def splits(self, *parts: str) -> list[str]:
        """Names of the splits of these parts, sorted in each; finished or not, private folders left out."""
        return [f"{part}/{name}" for part in parts for name in splits_in(self.folder / part)]

    @property
    def begun(self) -> bool:
        """Whether a build has made or proven anything here, which a command that looks then leaves as it is."""
        return any((self.folder / name).exists() for name in (RUN, DIGESTS, ORDER, *PARTS))

    def folders(self) -> Iterator[Path]:
        """The phase's own folder and those in it, but for the folders of splits."""
        yield self.folder
        for part in (*PARTS, REJECTS, LISTINGS, ORDER, ATTRIBUTES):
            for folder, below, _ in os.walk(self.folder / part, followlinks=True):
                yield Path(folder)
                if part in PARTS and Path(folder) != self.folder / part:
                    below.clear()

    def leftovers(self) -> Iterator[Path]:
        """What processes that were killed were writing, but for what lies behind a link out of the phase.

        Only under the lock may it be removed.
        """
        folders = [self.folder] if self.folder.is_dir() else []
        for _ in ("phase", "part", "source"):
            below: list[Path] = []
            for folder in folders:
                for path in sorted(folder.iterdir()):
                    if is_temporary(path.name):
                        yield path
                    elif path.is_dir() and not path.is_symlink():
                        below.append(path)
            folders = below


def phases_in(path: Path) -> list[Phase]:
    """The phases that a path names, by name: itself if it is one, or else those in it, finished or not.

    Raises:
        BuildError: there is none.
    """
    path = Path(path)
    if scheme := _ADDRESS.match(str(path)):
        raise BuildError(
            f"{scheme[0]}/… is an address, and a run lies in a folder",
            why="commands read runs where they lie on a disk or a mount",
            remedy="copy it here first (ettin-data mirror pull), or send one there: ettin-data publish RUN TARGET",
            status=ExitStatus.USAGE,
        )
    if _is_phase(path):
        return [_phase(path)]
    found = [_phase(folder) for folder in (sorted(path.iterdir()) if path.is_dir() else ()) if _is_phase(folder)]
    if not found:
        raise BuildError(
            "there is no run here",
            where=path,
            why=_why_none(path),
            remedy="name a run folder, or one of its phases (<run>/pretrain)",
            status=ExitStatus.NOT_FOUND,
        )
    return found


def _why_none(path: Path) -> str:
    if not path.exists():
        return "there is no such folder"
    return "no folder in it is a phase of a run" if path.is_dir() else "it is a file"


def open_phase(path: Path, name: str | None = None) -> Phase:
    """The phase in a folder, finished or not; of a run the one of this name.

    Raises `BuildError` when the folder is not a phase's own, nor a run's that has one so called.
    """
    found = phases_in(path)
    for phase in found:
        if phase.folder == Path(path) or phase.name == name:
            return phase
    names = ", ".join(phase.name for phase in found)
    raise BuildError(
        "this is a run, not one of its phases",
        where=path,
        remedy=f"name a phase in it: {names}",
        status=ExitStatus.USAGE,
    )


def _phase(folder: Path) -> Phase:
    return Phase(folder, folder.name if folder.name not in ("", "..") else folder.resolve().name)


def _is_phase(folder: Path) -> bool:
    return any((folder / name).exists() for name in _SHOWS)


def splits_in(root: Path) -> list[str]:
    """`<source>/<folder>` of every folder below a part of a phase, sorted; finished or not, private ones left out."""
    return [
        f"{source}/{split}"
        for source in _folders(root)
        for split in _folders(root / source)
        if not split.startswith(TEMPORARY)
    ]


def _folders(root: Path) -> list[str]:
    if not root.is_dir():
        return []
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


# ---------------------------------------------------------------------------------------------------------------------
# names


def copy_name(source: str, copy: int) -> str:
    """The folder of a source's pass number `copy` (from 0), as published: `books`, `books-dup`, `books-dup_2`."""
    return source if copy == 0 else f"{source}-dup" if copy == 1 else f"{source}-dup_{copy}"


def parse_copy(folder: str) -> tuple[str, int]:
    """The source and the pass (from 0) of such a folder. A source's own name has no dash."""
    found = _COPY.fullmatch(folder)
    if found is None or found[0] == found[1]:
        return folder, 0
    return found[1], int(found[2] or 1)


def source_of(split: str) -> str:
    """The source of the split `<part>/<source or copy>/<folder>`."""
    return parse_copy(split.split("/")[1])[0]


def pool_of(split: str) -> str:
    """The split of the pool that the split `<part>/<source or copy>/<folder>` is made from."""
    return f"{POOLS}/{source_of(split)}/{split.split('/')[2]}"


def attribute_file(split: str) -> str:
    """The file of an attribute for `<source>/<folder>`, relative to the folder of its step."""
    return f"{split}.parquet"


def weight_attribute(weight: int) -> str:
    """The attribute that leaves out documents that are taken no more than so often in a pass."""
    return f"weight_{weight}"


def reject_log(source: str, split: str) -> str:
    """The log of what a split could not use, relative to the phase."""
    return f"{REJECTS}/{source}/{split}.jsonl"


SHARDS = "shard.*"


def shard_name(number: int) -> str:
    return f"shard.{number:05}.mds"


def is_split_file(name: str) -> bool:
    """Whether a file in the folder of a split has a name that we give."""
    return name in _SPLIT_FILES or bool(_SHARD.fullmatch(name) or _NFS.fullmatch(name))


def is_order_file(name: str) -> bool:
    """Whether a file in the folder of an order has a name that we give."""
    return name in (ORDER_FILE, EARLIER) or bool(_INTERVAL.fullmatch(name) or _NFS.fullmatch(name))


def is_split_folder(folder: Path) -> bool:
    """Whether a folder is a split of ours, finished or not: it has a marker, or our name and nothing but our files."""
    if (folder / MARKER).is_file():
        return True
    return _LAYOUT in folder.name and all(is_split_file(path.name) and path.is_file() for path in folder.iterdir())


def interval_name(number: int) -> str:
    """The file of a checkpoint interval (from 1) of the order."""
    return f"interval_{number:06d}.parquet"
