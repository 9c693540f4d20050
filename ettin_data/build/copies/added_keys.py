"""Keys for a split that was built without them: the text is read once more, and not tokenized (ARCHITECTURE 5.11).

Where that reading was done since (`keys_beside`), its keys are taken.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from ettin_data.base import disk_errors, files
from ettin_data.build.assemble import link
from ettin_data.build.inputs import InputChanged
from ettin_data.build.pool import SplitJob, build_split, step_names
from ettin_data.stages.read import FilesLost
from ettin_data.storage import ledger
from ettin_data.storage import split as markers
from ettin_data.storage.keys import KeysWriter, read_keys
from ettin_data.storage.mds import read_index
from ettin_data.storage.phase import DOCUMENTS, KEYS
from ettin_data.storage.split import Marker


def keys_only(job: SplitJob, folder: Path) -> SplitJob:
    """The job that makes the keys of a split alone, in a folder of their own, its reject log beside it."""
    rejects = folder.with_name(f"{folder.name}.jsonl")
    return replace(job, only_keys=True, folder=folder, rejects=rejects, keyed=None, copies=None)


def build_missing(job: SplitJob) -> Marker | FilesLost:
    """Build what a split lacks: all of it, or keys alone where it is finished but for these."""
    if job.keys and not job.keyed and not job.only_keys and replace(job, keys=None).problem() is None:
        with suppress(InputChanged):  # then all of it is made again
            return _with_keys(job)
    return build_split(job)


def _with_keys(job: SplitJob) -> Marker | FilesLost:
    """The split with the keys that it would have, had it been built with them: the same bytes in every file."""
    assert job.keys is not None
    with disk_errors.explained(job.folder):
        folder = files.private_folder(job.folder.parent, job.name)
        try:
            light = keys_only(job, job.beside or folder / "keys")
            if light.problem() is not None:
                light = keys_only(job, folder / "keys")
            made, pool = build_split(light), markers.read_marker(job.folder)
            if isinstance(made, FilesLost):
                return made
            ours, theirs = (
                markers.document_places(pool.inputs, ledger.read_table(each, DOCUMENTS, ["file", "position"]))
                for each in (job.folder, light.folder)
            )
            rows = np.flatnonzero(np.isin(theirs, ours))  # a document without tokens is in no pool
            if made.inputs != pool.inputs or not np.array_equal(theirs[rows], ours):
                raise InputChanged(f"{job.source.key}/{job.name} was made of other documents than are there now")
            whole = folder / "whole"
            whole.mkdir()
            link(job.folder, whole, list(pool.outputs))
            with KeysWriter(whole / KEYS, job.keys.values) as file:
                file.add(read_keys(light.folder / KEYS, job.keys.values)[rows])
            counted = {**pool.tally["steps"], **made.tally["steps"], "write": pool.tally["steps"]["write"]}
            marker = replace(
                pool,
                made_from=job.made_from(),
                fingerprint=job.fingerprint(),
                tally={**pool.tally, "steps": {name: counted[name] for name in step_names(job)}},
            )
            written = {**pool.outputs, KEYS: file.digest}
            done = markers.publish(whole, job.folder, marker, read_index(whole), written)
            if light.folder == job.beside:
                shutil.rmtree(light.folder)
                light.rejects.unlink(missing_ok=True)
            return done
        finally:
            shutil.rmtree(folder, ignore_errors=True)
