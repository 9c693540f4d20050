"""`ettin-data publish`: a finished run on the hub or in a bucket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ettin_data.cli.shared import FrameText, PhaseName, TokenizerName, bar, tell, words

if TYPE_CHECKING:
    from ettin_data.tokenizer.vocabulary import AnyTokens


def publish(
    run: Annotated[Path, typer.Argument(help="A run folder such as runs/demo, or one phase of it.")],
    target: Annotated[str, typer.Argument(help="hf://ORG/NAME, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Name what would be sent; send nothing.")] = False,
    whole: Annotated[
        bool, typer.Option("--whole", help="Pools, rejects and attributes too: a copy then passes verify.")
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="A data set of the hub that is made is private.")] = False,
    samples: Annotated[int, typer.Option(min=1, max=1000, help="Decoded samples of each source, to look at.")] = 50,
    phase: PhaseName = None,
    tokenizer: TokenizerName = None,
    frame: FrameText = None,
) -> None:
    """Send a finished run to the hub or a bucket, and check every file there; the same command continues.

    With it go a card, decoded samples for the hub's viewer, Croissant metadata, SHA-256 sums, and the EU's summary of
    training content. Nothing at the target is removed.
    """
    from ettin_data.base.units import size
    from ettin_data.inspect.lookup import Phase
    from ettin_data.publish.publish import publish_run
    from ettin_data.publish.target import parse_target

    def decode(folder: Path) -> Callable[[AnyTokens], str]:
        return words(Phase(folder).loader.vocabulary, tokenizer, frame).decode

    done = publish_run(
        run, parse_target(target), decode, phase=phase, whole=whole, private=private, dry_run=dry_run,
        samples=samples, progress=bar("publish"),
    )  # fmt: skip
    if dry_run:
        for content in done.sent:
            tell(f"{content.size:>15,}  {content.path}")
    verb = "would be sent" if dry_run else "sent"
    tell(f"{len(done.sent):,} files, {size(done.bytes)} {verb} to {done.target}; {len(done.there):,} are there already")
    if not dry_run:
        tell(f"all {len(done.sent) + len(done.there):,} have there the digests that they have here")
    if done.others:
        tell(f"{len(done.others):,} other files are there and stay, such as {done.others[0]}")


COMMANDS = (publish,)
