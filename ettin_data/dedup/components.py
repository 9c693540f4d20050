"""The rule `components`: of all documents that a chain of copies connects, the best-ranked alone stays.

That is what datatrove's clusters are, and here for comparison with them: it has to hold a number for every document at
once, and a lower-ranked document can connect two that would both stay without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ettin_data.dedup import arrays
from ettin_data.dedup.groups import Documents, GroupJob
from ettin_data.storage.split import fingerprint

MOST_DOCUMENTS = 1 << 25
"""That are joined by this rule at most, in one process: some 60 bytes of memory each."""


@dataclass(frozen=True)
class ComponentJob:
    """All groups of a join; what connects documents is that they share one.

    Attributes:
        path: of the output.
        groups: what the jobs before have left.
    """

    path: Path
    groups: tuple[GroupJob, ...]

    @property
    def digest(self) -> str:
        """Of all that decides the output."""
        return fingerprint({"components": [group.digest for group in self.groups]})

    def output(self) -> arrays.Arrays:
        """What the job has left; see `find_components`."""
        return arrays.Arrays(self.path, self.digest)


def find_components(job: ComponentJob) -> None:
    """Make the output: `survivor` (int64), by document the number of the one that stays of its component."""
    arrays.make_once(job.path, job.digest, lambda: _found(job))


def _found(job: ComponentJob) -> Iterator[tuple[str, arrays.Array]]:
    documents = Documents(job.groups[0].runs)
    rank = np.concatenate([documents.output(run)["rank"] for run in range(len(documents.runs))])
    order = np.argsort(rank, kind="stable")  # the best first; of equal ranks the lower number
    del rank
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    label = np.arange(len(order))  # by place: the best place that is known to be connected
    connected = False
    while not connected:  # of the labels that meet another one at least half go each time
        connected = True
        for group in job.groups:
            output = group.output()
            one, other = label[place[output["document"]]], label[place[output["twin"]]]
            apart = one != other
            if not apart.any():
                continue
            connected = False
            one, other = one[apart], other[apart]
            np.minimum.at(label, np.maximum(one, other), np.minimum(one, other))
            while not np.array_equal(further := label[label], label):
                label = further
    yield "survivor", order[label[place]]
