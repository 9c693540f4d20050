"""Small tokenizers of the kinds that models have, made with the library."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ettin_data.tokenizer.encoder import Tokenizer, TokenizerFile
from ettin_data.tokenizer.vocabulary import Frame

TEXT = [
    "The quick brown fox jumps over the lazy dog, and it's what's his, isn't it?\n\n",
    "Über allen Gipfeln ist Ruh, in allen Wipfeln spürest du kaum einen Hauch.\n",
    "\tdef f(x):\n\t\treturn x + 12345  # a remark\n",
    "日本語の文章 и русский текст 1234 नमस्ते دنیا 😀\n",
] * 30
GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
FRAME = Frame("<bos>", "<eos>", "<pad>", "<mask>", "<unk>")
SIGNS = ("<mask>", "<2mass>", "[@BOS@]", "<unused0>", "[toxicity=0]")
"""Added tokens that are neither special nor text, as Gemma 2 has them."""
MARKUP = ("<h1>", "</td>", "\n\n", "\n\n\n", "\t\t", "\u2581\u2581", "\u2581\u2581\u2581", "|||IP_ADDRESS|||")


def _added(library: Any) -> None:
    from tokenizers import AddedToken

    library.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>"])
    library.add_tokens([AddedToken(text, normalized=False, special=False) for text in (*SIGNS, *MARKUP)])


def byte_level(expression: str | None = GPT4, *, size: int = 600, **model: Any) -> dict[str, Any]:
    """A byte-level BPE that cuts with an expression; None is GPT-2's, of the step itself."""
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as Library

    library = Library(models.BPE(**model))
    step = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=expression is None)
    split = [] if expression is None else [pre_tokenizers.Split(Regex(expression), "isolated")]
    library.pre_tokenizer = pre_tokenizers.Sequence([*split, step])
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    library.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    _added(library)
    return dict(json.loads(library.to_str()))


def sentencepiece(*, across: bool = False, size: int = 900) -> dict[str, Any]:
    """A BPE over whole texts, with marks for spaces and bytes for the unknown; `across`: entries reach over spaces."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    spaces = normalizers.Replace(" ", "\u2581")
    learner = Library(models.BPE())
    learner.normalizer = spaces
    if not across:
        learner.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split("\u2581", "merged_with_next"),
                pre_tokenizers.Split("\n", "isolated"),
                pre_tokenizers.Split("\t", "isolated"),
            ]
        )
    learner.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=size, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    first = ["<pad>", "<eos>", "<bos>", "<unk>", *SIGNS, *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "\n"]
    names = list(
        dict.fromkeys(
            [*first, "\n\n", "\n\n\n", "\t", "\t\t", "\u2581\u2581", *map(chr, range(33, 127)), *learned["vocab"]]
        )
    )
    merges = [tuple(pair) for pair in learned["merges"]]
    vocab = {name: i for i, name in enumerate(names)}
    library = Library(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    library.normalizer = spaces
    library.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    library.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    _added(library)
    return dict(json.loads(library.to_str()))


def saved(folder: Path, content: dict[str, Any]) -> TokenizerFile:
    """The file of a tokenizer."""
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return TokenizerFile(path, hashlib.sha256(path.read_bytes()).hexdigest(), f"file {path}", str(path))


def opened(folder: Path, content: dict[str, Any], frame: Frame = FRAME, **options: Any) -> Tokenizer:
    return Tokenizer(saved(folder, content), frame=frame, **options)
