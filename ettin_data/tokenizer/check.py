"""Which library may encode somebody's text with somebody's tokenizer: `ettin-data tokenizer check`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ettin_data.tokenizer import backends, proof
from ettin_data.tokenizer.files import TokenizerFile
from ettin_data.tokenizer.libraries import ACCELERATORS, Unusable
from ettin_data.tokenizer.vocabulary import MODERNBERT, UNFRAMED, Frame


@dataclass(frozen=True)
class Checked:
    """What was found about one library.

    Attributes:
        name: of the library.
        note: what the proof from the file says, or why there is none.
        on_text: None where the proof failed already, or the library cannot be used.
        difference: the first one, in words; None if there was none.
    """

    name: str
    note: str
    on_text: proof.OnText | None
    difference: str | None

    def said(self) -> Iterator[str]:
        yield f"{self.name}: {self.note}"
        if self.on_text is not None and self.difference:
            yield f"  your text: the first difference is in {self.difference}"
        elif self.on_text is not None:
            yield (
                f"  your text: no difference in {self.on_text.documents:,} documents of {self.on_text.characters:,} "
                f"characters, {self.on_text.speed:.1f} times as fast as tokenizers"
            )


@dataclass(frozen=True)
class Check:
    """What was found about a tokenizer.

    Attributes:
        checked: one for each accelerator.
        used: the library that a build would use, and why.
        law: where long texts are cut.
    """

    checked: tuple[Checked, ...]
    used: str
    law: str

    def said(self) -> Iterator[str]:
        """The findings, a line each."""
        for each in self.checked:
            yield from each.said()
        yield f"long texts are cut {self.law}" if self.law.startswith(("before", "around")) else self.law
        yield f"a build would use {self.used}"


def check_libraries(file: TokenizerFile, frame: Frame | None, documents: Sequence[tuple[str, str]]) -> Check:
    """Prove every installed accelerator for a tokenizer, then compare it on documents (name, text).

    A proof is made anew, whatever the cache has, and what is found goes there. Raises `TokenizerError` for a file that
    is no tokenizer or lacks a token of its frame; without a frame none is needed.
    """
    if frame is None and file.sha256 != MODERNBERT.digest:
        frame = UNFRAMED
    engine = backends.load(file, "tokenizers", False, frame)
    text = backends.prepared_text(file, engine.vocabulary)
    checked = []
    for library in ACCELERATORS:
        tried = backends.with_library(text, engine, library)
        if tried.fast is None:
            checked.append(Checked(library.name, tried.note, None, None))
            continue
        done, found = proof.prove(tried, library, text), None
        difference = done.difference
        if difference is None:
            try:
                found = proof.on_text(tried, (text for _, text in documents))
                if found.difference:
                    difference = f"{documents[found.difference.document][0]}: {found.difference.said()}"
            except Unusable as error:
                difference = f"it fails, {error}"
        # How fast it is on true text is the better measure; a difference there is one for every build.
        speed = found.speed if found is not None and found.seconds > 0 else done.speed
        kept = replace(done, speed=speed, difference=difference)
        proof.keep(proof.depends_on(text, False, library), kept)
        checked.append(Checked(library.name, done.said(), found, difference))
    backends.load.cache_clear()  # so that the choice below sees what was found
    used = backends.load(file, "auto", False, frame)
    return Check(tuple(checked), f"{used.library}: {used.note}", engine.law.name)
