"""Send what is not there yet, in portions; then ask the place for all its digests and compare each with ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ettin_data.base.errors import BuildError, ExitStatus
from ettin_data.base.progress import SILENT, Progress, stage
from ettin_data.inspect.lookup import open_phases
from ettin_data.publish.buckets import Bucket
from ettin_data.publish.contents import Content, Hashes, contents_of, of_bytes, refuse_full_folders
from ettin_data.publish.hub import Hub
from ettin_data.publish.pages import CHECKSUMS, pages_of
from ettin_data.publish.remote import Held, Remote
from ettin_data.publish.target import HUB, Target
from ettin_data.sources.base import TransportOptions
from ettin_data.tokenizer.vocabulary import AnyTokens

PORTION_FILES, PORTION_BYTES = 500, 20 << 30
"""Of a portion, which on the hub is a commit: it allows some hundred of them an hour."""

_THREADS, _SHOWN = 4, 10


@dataclass
class Published:
    """What publishing has found and done; with a dry run, what it would do.

    Attributes:
        sent: files that were not there, or otherwise. there: files that were.
        others: paths at the place that are none of these files; they stay.
    """

    target: Target
    sent: list[Content] = field(default_factory=list)
    there: list[Content] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Of what is sent."""
        return sum(content.size for content in self.sent)


def publish_run(
    run: Path,
    target: Target,
    decode: Callable[[Path], Callable[[AnyTokens], str]],
    *,
    phase: str | None = None,
    whole: bool = False,
    private: bool = False,
    dry_run: bool = False,
    samples: int = 50,
    transport: TransportOptions | None = None,
    progress: Progress = SILENT,
) -> Published:
    """Publish the finished phases of a run.

    What is there with the same digest is not sent again, so the same call continues after any interruption. Nothing at
    the place is removed. The card, and with it the name of the root, comes last.

    Args:
        decode: folder of a phase -> how its token ids become text.
        phase: only this one. whole: pools, rejects and attributes too.
        private: of a data set of the hub that does not exist yet.
        dry_run: send nothing, and compare with what is there.
        samples: decoded ones of each source, for the hub's viewer.

    Raises:
        BuildError: a folder with too many files, a refusal, or a file that is not there as it was sent.
        ShardError: a file of the run is damaged; what was sent before stays.
        SourceError: the network stays down.
    """
    opened = open_phases(run, phase)
    contents = [content for one in opened for content in contents_of(one.place, whole)]
    pages = pages_of(target, opened, decode, samples)
    remote = remote_of(target, transport or TransportOptions(), private)
    if remote.most_entries is not None:
        refuse_full_folders([*contents, *pages, of_bytes(CHECKSUMS, b"")], remote.most_entries)
    done = Published(target)
    known = remote.there()
    hashes: dict[str, Hashes] = {}
    with stage(progress, f"publish to {target}", len(contents), sum(content.size for content in contents)):
        for portion in _portions(contents):
            _send(remote, portion, known, hashes, done, dry_run)
            for content in portion:
                progress.advance(content.size)
    *others, card = pages
    for portion in ([of_bytes(CHECKSUMS, _checksums(hashes)), *others], [card]):
        _send(remote, portion, known, hashes, done, dry_run)
    if not dry_run:
        known = remote.there()
        _compare(target, known, hashes)
    done.others = sorted(set(known) - set(hashes))
    return done


def remote_of(target: Target, transport: TransportOptions, private: bool) -> Remote:
    """The place of a target, through its client."""
    return Hub(target, transport, private) if target.protocol == HUB else Bucket(target, transport)


def _portions(contents: Sequence[Content]) -> Iterator[list[Content]]:
    portion: list[Content] = []
    size = 0
    for content in contents:
        if portion and (len(portion) == PORTION_FILES or size + content.size > PORTION_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(content)
        size += content.size
    if portion:
        yield portion


def _send(
    remote: Remote,
    portion: Sequence[Content],
    known: Mapping[str, Held],
    hashes: dict[str, Hashes],
    done: Published,
    dry_run: bool,
) -> None:
    """Send what of a portion is not there; its hashes are kept for the comparison at the end."""
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(Content.hashes, portion))
    lacking: list[Content] = []
    for content, hashed in zip(portion, found, strict=True):
        hashes[content.path] = hashed
        held = known.get(content.path)
        (done.there if held is not None and held.agrees(hashed) else lacking).append(content)
    if lacking and not dry_run:
        remote.send(lacking)
    done.sent += lacking


def _checksums(hashes: Mapping[str, Hashes]) -> bytes:
    """As `sha256sum --check` reads them."""
    return "".join(f"{hashed.sha256}  {path}\n" for path, hashed in sorted(hashes.items())).encode()


def _compare(target: Target, known: Mapping[str, Held], hashes: Mapping[str, Hashes]) -> None:
    wrong = []
    for path, hashed in sorted(hashes.items()):
        held = known.get(path)
        if held is None:
            wrong.append(f"{path}: it is not there")
        elif not held.agrees(hashed):
            wrong.append(f"{path}: {held.bytes:,} bytes, {held.kind} {held.digest}; here {hashed.size:,} bytes")
    if wrong:
        more = f"\nand {len(wrong) - _SHOWN:,} more" if len(wrong) > _SHOWN else ""
        raise BuildError(
            f"{len(wrong):,} of {len(hashes):,} files are not at {target} as they were sent",
            why="\n".join(wrong[:_SHOWN]) + more,
            remedy="run it again: what is there is not sent again; an ETag that is no MD5 is that of a bucket with "
            "keys of its own (SSE-KMS), where nothing can be compared",
            status=ExitStatus.WRONG,
        )
