"""The pool: building one split of one source, from upstream files to a finished, marked folder.

`SplitJob` is everything that a worker needs, small and picklable; `build_split` runs the stages over it. The stages are
datatrove steps, chained here as datatrove's executors chain them: one pass over the text, nothing in between on disk.
"""

from __future__ import annotations

import os
import shutil
import time
import traceback
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from ettin_data.base import disk_errors
from ettin_data.base import files as disk
from ettin_data.base.errors import BuildError, EttinError, ShardError
from ettin_data.base.modules import code_digest
from ettin_data.base.redact import redact
from ettin_data.base.units import count, size
from ettin_data.build.inputs import InputChanged, LocalInputs, holding_still, input_digest, local_inputs
from ettin_data.dedup.keys import KeyChoice
from ettin_data.sources.base import ReadOptions, Source, SourceFile
from ettin_data.sources.formats import versions
from ettin_data.stages.batches import Tally
from ettin_data.stages.contamination.options import Decontamination
from ettin_data.stages.contamination.step import Decontaminate
from ettin_data.stages.counts import counts_of
from ettin_data.stages.filters.registry import ChosenFilter, numbered
from ettin_data.stages.keys import Keys, Known, WriteKeys
from ettin_data.stages.pack import Choice
from ettin_data.stages.pack.framing import Framing
from ettin_data.stages.pack.step import Pack
from ettin_data.stages.paragraphs import CutParagraphs, Paragraphs, WriteParagraphs
from ettin_data.stages.read import FilesLost, Read, RejectLog
from ettin_data.stages.running import run_steps
from ettin_data.stages.tokenize import Tokenize
from ettin_data.stages.write import Write
from ettin_data.storage import split as markers
from ettin_data.storage import worklog
from ettin_data.storage.attributes import AttributeFile, read_attribute
from ettin_data.storage.keys import read_keys
from ettin_data.storage.mds import Layout
from ettin_data.storage.phase import DOCUMENTS, KEYS, MARKER
from ettin_data.storage.split import Marker
from ettin_data.tokenizer.encoder import MODERNBERT_SHA256, Backend, BackendMismatch, Tokenizer

FORMAT = 2
"""Raised when a change of this code changes the content of splits: pools made before are then built again."""

REFEREE: Backend = "tokenizers"

_SAID_ELSEWHERE = ("transport", "vocabulary")  # the one decides nothing, the other follows from tokenizer and frame


@dataclass(frozen=True)
class SplitJob:
    """One split to build.

    Attributes:
        name: of the split, unique in its source.
        folder: where the finished split goes.
        rejects: where its reject log goes.
        log: where it is written down what became of each attempt.
        source, files: what to read.
        read, filters, pack, frame, layout: the options of the stages.
        tokenizer: loaded by the worker that builds.
        decoder: digest (or hub id) of the tokenizer that decodes a source of token ids.
        seed: of every keyed draw.
        keys: by which copies of documents are found; None makes none.
        decontaminate: the evaluation texts that are looked for; None looks for none.
        only_keys: make these, and no samples.
        keyed: the split that a job with `only_keys` has made of the same documents, whose keys are taken.
        copies: which of those documents are copies, and not to be packed; None if none is.
        paragraphs: what is done about repeated paragraphs; None leaves texts as they are.
        beside: where keys of this split may have been made since it was built (`build.copies.keys_beside`).
        skip_bad_files: go on without what cannot be read of a damaged file. It is not in the fingerprint, so that
            finished splits stay; one with a damaged file counts as finished only where this is set.
        distrust_fast: the fast tokenizer has been wrong in this run, so that what it made does not count as finished.
        own_code: what other code than this made does not count as finished either.
    """

    name: str
    folder: Path
    rejects: Path
    log: Path
    source: Source
    files: tuple[SourceFile, ...]
    read: ReadOptions
    filters: tuple[ChosenFilter, ...]
    pack: Choice
    frame: Framing
    layout: Layout
    tokenizer: Tokenizer
    decoder: str | None
    seed: int
    keys: KeyChoice | None = None
    decontaminate: Decontamination | None = None
    only_keys: bool = False
    keyed: Path | None = None
    copies: AttributeFile | None = None
    paragraphs: Paragraphs | None = None
    beside: Path | None = None
    skip_bad_files: bool = False
    distrust_fast: bool = False
    own_code: bool = False

    def __repr__(self) -> str:
        """What a message about a failed split shows: the input, not the options."""
        more = f" and {len(self.files) - 3:,} more" if len(self.files) > 3 else ""
        return f"{redact(self.source.root)} {', '.join(file.name for file in self.files[:3])}{more}"

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def made_from(self) -> dict[str, Any]:
        """What decides the content of the split; the place of the files and the speed of the backend do not."""
        return {
            "format": FORMAT,
            "source": self.source.key,
            "split": self.name,
            "inputs": [file.describe() for file in self.files],
            "keys": [self.source.text_key, self.source.id_key],
            "decoder": self.decoder,
            "formats": versions(self.source, self.files),
            "read": {name: value for name, value in asdict(self.read).items() if name not in _SAID_ELSEWHERE},
            "filters": [chosen.describe() for chosen in self.filters],
            "pack": self.pack.made_from(),
            "frame": asdict(self.frame),
            "layout": asdict(self.layout),
            "tokenizer": self.tokenizer.digest,
            "seed": self.seed,
            **self._kept_as_text(),
            **({"encoding": self.source.encoding} if self.source.encoding else {}),
            **({"keys": self.keys.made_from()} if self.keys else {}),
            **({"decontaminate": self.decontaminate.made_from()} if self.decontaminate else {}),
            **({"only_keys": True} if self.only_keys else {}),
            **({"copies": self.copies.digest} if self.copies else {}),
            **(self.paragraphs.made_from() if self.paragraphs else {}),
        }

    def _kept_as_text(self) -> dict[str, Any]:
        """The ids that no text becomes, which a frame decides too. ModernBERT's are known by its digest."""
        if self.tokenizer.digest == MODERNBERT_SHA256:
            return {}
        return {"kept_as_text": list(self.tokenizer.vocabulary.reserved)}

    def fingerprint(self) -> str:
        return markers.fingerprint(self.made_from())

    def problem(self) -> str | None:
        """Why the split has to be built, or None if it is there."""
        problem = markers.problem(self.folder, self.fingerprint())
        if problem is None and self.distrust_fast and markers.read_marker(self.folder).tally["backend"] != REFEREE:
            return "made with the fast tokenizer, which was wrong elsewhere"
        if problem is None and self.own_code and markers.read_marker(self.folder).code != code_digest(__name__):
            return "made by other code"
        if problem is None and not self.skip_bad_files and (lost := markers.read_marker(self.folder).tally["damaged"]):
            return f"made without what cannot be read of {sum(lost.values()):,} damaged files"
        if problem is None and not self._has_rejects():
            return "its log of rejects is missing or damaged"
        if problem is None and (changed := self.changed_inputs()):
            return f"{changed[0][0]} has other content now"
        return problem

    def _has_rejects(self) -> bool:
        marker = markers.read_marker(self.folder)
        return marker.rejects is None or disk.is_still(self.rejects, marker.rejects, self.folder / MARKER)

    def lost_files(self) -> set[str]:
        """Names of the files without whose rest the finished split was made."""
        try:
            return {said["file"] for said in markers.read_marker(self.folder).tally["lost"]}
        except (ShardError, KeyError):  # there is none, or it is of before this was written down
            return set()

    def local_inputs(self) -> dict[SourceFile, Path]:
        """Where those of its inputs are that are files of this machine."""
        return local_inputs(self.source, self.files)

    def changed_inputs(self) -> list[tuple[str, str]]:
        """Files of this machine that are not what the finished split was made from: (path, what changed).

        A size is in the fingerprint, and so is the ETag of a remote file. A local file has nothing but its content to
        tell it: it is hashed again if it was touched after the split was finished.
        """
        try:
            marker = markers.read_marker(self.folder)
            finished = os.stat(self.folder / DOCUMENTS).st_mtime_ns  # written when everything had been read
        except (ShardError, OSError):
            return []
        changed, paths = [], self.local_inputs()
        for entry, file in zip(marker.inputs, self.files, strict=False):
            path = paths.get(file)
            if path is None or "xxh3_64" not in entry:
                continue
            status = path.stat()
            if max(status.st_mtime_ns, status.st_ctime_ns) > finished:
                digest = input_digest(file, path, self.read)
                if digest != entry["xxh3_64"]:
                    changed.append((file.name, f"xxh3 {entry['xxh3_64']} then, {digest} now"))
        return changed


@dataclass(frozen=True)
class PoolSplit:
    """A finished split of a pool."""

    folder: Path
    marker: Marker


Pools = dict[str, list[PoolSplit]]
"""Source -> the finished splits of its pool, by name."""


def pipeline(job: SplitJob, folder: Path, tokenizer: Tokenizer | None = None) -> list[PipelineStep]:
    """The stages of a split as datatrove steps, which run once, in one task.

    Args:
        folder: where `Write` puts the files of the split, and the reject log goes; it has to be there.
        tokenizer: instead of the job's.
    """
    tally, words, keys, cut = Tally(), tokenizer or job.tokenizer, job.keys, job.paragraphs
    rejects = RejectLog(folder / "rejects.jsonl", job.files, tally)
    dropped, hashed = partial(rejects.filtered, by="decontaminate"), keys is not None and job.keyed is None
    steps: list[PipelineStep] = [
        Read(
            job.source,
            job.files,
            job.read,
            tally,
            rejects,
            job.skip_bad_files,
            words.decode if job.filters or keys or job.decontaminate or cut else None,
        ),
        *(
            chosen.step(partial(rejects.filtered, by=name))
            for name, chosen in zip(numbered([one.name for one in job.filters]), job.filters, strict=True)
        ),
    ]
    if cut and cut.only:
        return [*steps, WriteParagraphs(folder, cut.choice, tally)]
    steps += [
        *([CutParagraphs(cut, partial(rejects.filtered, by="paragraphs"))] if cut else []),
        *([Decontaminate(job.decontaminate, dropped, rejects.used, hashed)] if job.decontaminate else []),
    ]
    if keys and job.keyed:
        found = read_attribute(job.copies.path) if job.copies else None
        steps.append(Known(read_keys(job.keyed / KEYS, keys.values), found, rejects.filtered))
    elif keys:
        steps.append(Keys(keys))
    if keys and job.only_keys:
        return [*steps, WriteKeys(folder, keys.values, tally)]
    return [
        *steps,
        Tokenize(words, job.seed, f"{job.source.key}/{job.name}", tally, rejects),
        Pack(job.pack, job.frame, job.seed, job.source.key, tally),
        Write(folder, job.layout, tally, keys.values if keys else None),
    ]


def step_names(job: SplitJob) -> list[str]:
    """What each of the stages is called in markers and in `run.json`; the second filter of a name is `name#2`."""
    first, cut = ["read", *numbered([chosen.name for chosen in job.filters])], job.paragraphs
    if cut and cut.only:
        return [*first, "write"]
    all_of_ours = (("paragraphs", cut), ("decontaminate", job.decontaminate), ("keys", job.keys))
    ours = [name for name, there in all_of_ours if there]
    return [*first, *ours, *(["write"] if job.only_keys else ["tokenize", "pack", "write"])]


def build_split(job: SplitJob) -> Marker | FilesLost:
    """Build a split and put it in place; returns its marker, also when it was there already.

    Damaged files are returned, not raised, so that the splits beside it are built all the same. If the fast tokenizer
    and the referee disagree about a checked document, the split is built again with the referee.
    """
    if job.problem() is None:
        return markers.read_marker(job.folder)
    started = time.monotonic()
    worklog.note(job.log, worklog.BEGAN, f"{len(job.files):,} files, {size(job.bytes)}: {job!r}")
    try:
        made = _build_checked(job)
    except FilesLost as lost:
        worklog.note(job.log, worklog.FAILED, lost.full_text())
        return lost
    except Exception as error:
        text = error.full_text() if isinstance(error, EttinError) else traceback.format_exc()
        worklog.note(job.log, worklog.FAILED, text)
        raise
    except BaseException as end:
        worklog.note(job.log, worklog.STOPPED, type(end).__name__)
        raise
    worklog.note(job.log, worklog.FINISHED, _told(made, time.monotonic() - started))
    return made


def _told(made: Marker, seconds: float) -> str:
    """What the log says of a finished split."""
    tally = made.tally
    speed = f"{count(made.tokens / max(seconds, 1e-3))} tokens/s, {tally['backend']}"
    lines = [
        f"{tally['records']:,} records, {made.samples:,} samples, {made.tokens:,} tokens in {seconds:.1f}s ({speed})"
    ]
    lines += [
        f"{name}: {', '.join(f'{reason} {number:,}' for reason, number in tally[name].items())}"
        for name in ("rejected", "filtered", "damaged", "skipped", "noted")
        if tally[name]
    ]
    return "\n".join([*lines, *([f"fallback: {tally['fallback']}"] if tally["fallback"] else [])])


def _build_checked(job: SplitJob) -> Marker:
    if job.distrust_fast:
        return _build(job, job.tokenizer.with_backend(REFEREE))
    try:
        return _build(job, job.tokenizer)
    except BackendMismatch as mismatch:
        return _build(job, job.tokenizer.with_backend(REFEREE), fallback=str(mismatch))


def _with_digests(job: SplitJob, inputs: LocalInputs) -> list[dict[str, Any]]:
    """The inputs as the marker lists them. They are hashed after they were read, while the system still holds them."""
    return [
        {**file.describe(), **({"xxh3_64": input_digest(file, inputs[file], job.read)} if file in inputs else {})}
        for file in job.files
    ]


def _build(job: SplitJob, tokenizer: Tokenizer, fallback: str | None = None) -> Marker:
    with disk_errors.explained(job.folder):
        try:
            return _build_here(job, tokenizer, fallback)
        except InputChanged:  # by a copy that has ended meanwhile; or it only has a new mode or a further link
            return _build_here(job, tokenizer, fallback)


def _build_here(job: SplitJob, tokenizer: Tokenizer, fallback: str | None) -> Marker:
    folder = disk.private_folder(job.folder.parent, job.name)
    try:
        steps = pipeline(job, folder, tokenizer)
        read, write = steps[0], steps[-1]
        assert isinstance(read, Read) and isinstance(write, Write | WriteKeys)
        tally, log = read.tally, read.rejects.path
        inputs = job.local_inputs()
        with holding_still(job.source, inputs, job.read):
            try:
                run_steps(steps)
            except FilesLost:
                disk.move(log, job.rejects)
                raise
            finally:
                read.rejects.close()
            described = _with_digests(job, inputs)
        if law := tally.broken_law():
            raise BuildError(law, where=f"{job.source.key}/{job.name}", why="a conservation law does not hold")
        assert write.root is not None
        rejected = None
        if log.exists():
            rejected = disk.digest(log)
            disk.move(log, job.rejects)
        else:
            job.rejects.unlink(missing_ok=True)
        made_from = job.made_from()
        marker = Marker(
            name=job.name,
            source=job.source.key,
            fingerprint=markers.fingerprint(made_from),
            made_from=made_from,
            inputs=described,
            tally={
                **tally.to_json(),
                "steps": {name: counts_of(step) for name, step in zip(step_names(job), steps, strict=True)},
                "backend": tokenizer.active_backend,
                "fallback": fallback,
            },
            samples=tally.samples,
            tokens=tally.tokens,
            root=write.root,
            code=code_digest(__name__),
            rejects=rejected,
        )
        return markers.publish(folder, job.folder, marker, write.shards, write.written)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
