"""What a verification asks of a worker, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ettin_data.base.errors import EttinError, ExitStatus
from ettin_data.storage.digests import Entry
from ettin_data.storage.split import Marker
from ettin_data.tokenizer.vocabulary import Vocabulary

Depth = Literal["quick", "full"]
State = Literal["complete", "incomplete"]

SOUND, DAMAGED, INCOMPLETE = ExitStatus.OK, ExitStatus.WRONG, ExitStatus.INCOMPLETE

MOST_FINDINGS = 50
"""Of one split; what is beyond is counted, not listed: a shard of zeros has a million bad samples and one cause."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        where: path relative to the phase: a file, or the folder of a split.
        reason: short snake_case slug.
        detail: a sentence with the values.
        unit: what has to be made again: `<part>/<source>/<folder>`, "order", or None where a build rewrites it anyway.
        row: of the sample in the shard `where`, from 0.
        also: other paths of the very same file (hard links in `train/` and `validation/`).
    """

    where: str
    reason: str
    detail: str
    unit: str | None = None
    row: int | None = None
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = self.where if self.row is None else f"{self.where}, sample {self.row}"
        also = f" (also {', '.join(self.also)})" if self.also else ""
        return f"{place}{also}: {self.detail} [{self.reason}]"


@dataclass(frozen=True)
class Rules:
    """What every sample of a phase must keep (ARCHITECTURE 5.2).

    Attributes:
        length: most tokens of a sample.
        vocabulary: ids by role.
        own_open, longest_loss: as the packing strategy says (`stages.pack.strategy.Strategy`).
    """

    length: int
    vocabulary: Vocabulary
    own_open: bool
    longest_loss: int


@dataclass(frozen=True)
class SplitCheck:
    """One split to look at.

    Attributes:
        phase: the phase's folder.
        name: `<part>/<source>/<folder>`.
        entry: what `digests.json` says of it; None where there is none yet.
        pool: name of the split of the pool that it was made from; None for the pool's own.
        rules: None for a quick look.
        held_out: names of the validation splits of its source, for a split of `train/`.
        attributes: of the phase, by which documents are left out (ARCHITECTURE 5.10).
    """

    phase: Path
    name: str
    entry: Entry | None
    pool: str | None = None
    rules: Rules | None = None
    held_out: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return self.phase / self.name


@dataclass
class SplitFacts:
    """What was seen of a split.

    Attributes:
        linked: every file is a hard link of the pool's, which is checked there.
        documents: of which it holds a part, as its marker says; None without one that can be used.
        root: recomputed from the decoded samples, in a full verification of a split that is not linked.
        marker: what the split says of itself, without the hashes of its files; None where it cannot be trusted.
    """

    name: str
    findings: list[Finding] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    samples: int = 0
    tokens: int = 0
    linked: bool = False
    documents: int | None = None
    root: str | None = None
    marker: Marker | None = None


@dataclass
class Report:
    """The result of verifying a phase.

    Attributes:
        state: "incomplete" when the phase has no `run.json`: its build has not ended.
        root: as `run.json` says; None without one.
        checked: splits, files, bytes, samples and tokens that were looked at (hard links once).
        findings: what is wrong; none means sound.
        notes: what a person may want to know and is not wrong.
    """

    folder: Path
    phase: str
    depth: Depth
    state: State
    root: str | None
    checked: Mapping[str, int]
    findings: Sequence[Finding]
    notes: Sequence[str]
    seconds: float

    @property
    def sound(self) -> bool:
        """Whether the build has ended and nothing is wrong with it."""
        return self.status == SOUND

    @property
    def status(self) -> int:
        """`SOUND`, `DAMAGED` or `INCOMPLETE`."""
        return DAMAGED if self.findings else INCOMPLETE if self.state == "incomplete" else SOUND

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "phase": self.phase,
            "depth": self.depth,
            "state": self.state,
            "sound": self.status == SOUND,
            "root": self.root,
            "checked": dict(self.checked),
            "findings": [asdict(finding) for finding in self.findings],
            "notes": list(self.notes),
            "seconds": round(self.seconds, 2),
        }


def sentence(error: EttinError) -> str:
    """What an error says, as the detail of a finding."""
    return error.what if error.why is None else f"{error.what}: {error.why}"
