"""What a place has to be able to do to be published to, and how often it is asked again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from ettin_data.base.errors import BuildError
from ettin_data.publish.contents import Content, Hashes
from ettin_data.sources.access.retry import Patience
from ettin_data.sources.base import Damaged, TransportOptions

T = TypeVar("T")


@dataclass(frozen=True)
class Held:
    """A file as a place has it: its size, and a digest that the place made itself, by its kind."""

    bytes: int
    kind: str
    digest: str

    def agrees(self, hashes: Hashes) -> bool:
        """Whether it is a file with these hashes."""
        known = {
            "sha256": (hashes.sha256,), "git": (hashes.git,), "md5": (hashes.md5_base64,), "etag": hashes.etags,
        }  # fmt: skip
        return self.bytes == hashes.size and self.digest in known[self.kind]


class Remote(Protocol):
    """A place to publish to."""

    most_entries: int | None
    """Of a folder; None where there is no such limit."""

    def there(self) -> Mapping[str, Held]:
        """What it holds now: path -> file. Changes nothing; nothing where the place does not exist yet."""

    def send(self, files: Sequence[Content]) -> None:
        """Send files that it does not have, or has otherwise."""

    def fetch(self, path: str, to: Path) -> None:
        """Write a file that it has into a file here."""


def patiently(what: str, options: TransportOptions, do: Callable[[], T]) -> T:
    """`do()`, and again after what passes: 429 and 503 after the time that the server asks for, broken connections.

    Raises:
        BuildError: it is refused. SourceError: it does not pass.
    """
    patience = Patience(options, what)
    while True:
        try:
            return do()
        except Exception as error:
            try:
                patience.failed(error)
            except Damaged as refused:
                raise BuildError(
                    f"{what} refuses it",
                    why=refused.detail,
                    remedy="look at the name and at the credentials (HF_TOKEN, or those of AWS or Google)",
                ) from None
