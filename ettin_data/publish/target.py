"""Where a run is published: `hf://ORG/NAME`, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ettin_data.base.errors import BuildError, ExitStatus

HUB = "hf"
OBJECTS = ("s3", "gs")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_FORMS = "hf://ORG/NAME, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"


@dataclass(frozen=True)
class Target:
    """A place to publish to.

    Attributes:
        protocol: `HUB`, or one of `OBJECTS`.
        place: `ORG/NAME` of a data set, or `BUCKET/PREFIX` without a slash at its end.
    """

    protocol: str
    place: str

    def __str__(self) -> str:
        return f"{self.protocol}://{self.place}"

    @property
    def name(self) -> str:
        """What the data set is called there."""
        return self.place.rpartition("/")[2]


def parse_target(text: str) -> Target:
    """Read a target. Raises `BuildError` for what is none."""
    protocol, separator, place = text.partition("://")
    place = place.strip("/")
    if separator and protocol == HUB:
        place = place.removeprefix("datasets/")
        parts = place.split("/")
        if len(parts) == 2 and all(_NAME.fullmatch(part) for part in parts):
            return Target(HUB, place)
        raise _wrong(text, "a data set of the hub has an owner and a name, of letters, digits, dots, dashes and _")
    protocol = {"gcs": "gs", "s3a": "s3"}.get(protocol, protocol)
    if separator and protocol in OBJECTS:
        if place and ".." not in place.split("/"):
            return Target(protocol, place)
        raise _wrong(text, "it names no bucket")
    if separator and protocol != "file":
        raise _wrong(text, f"{protocol}:// is no place that it knows")
    raise _wrong(text, "it is a folder of this machine; a copy of the run there needs no publication: cp -a")


def _wrong(text: str, why: str) -> BuildError:
    return BuildError(
        f"nothing can be published to {text!r}", why=why, remedy=f"write {_FORMS}", status=ExitStatus.USAGE
    )
