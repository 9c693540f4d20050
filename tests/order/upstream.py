"""The reference's loader itself as referee: unmodified, from a checkout that `MODERNBERT_CHECKOUT` names.

That is AnswerDotAI/ModernBERT (seen with 8c57a0f), or orionw/bert24 (9ca0df4), the fork that trained Ettin. Nothing of
it is in this project. Loaded are its `src/text_data.py` and `src/sequence_packer.py`; what they import and do not need
for reading shards is stood in for here: composer (only who is which rank), omegaconf (only the name of a type), and
numba, where it is not installed, by Python.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ettin_data.tokenizer.encoder import TokenizerFile

VARIABLE = "MODERNBERT_CHECKOUT"
PACKER_PAD = -1  # of a packer that is told no other


class Config(dict):  # type: ignore[type-arg]
    """As omegaconf's: keys are attributes too."""

    __getattr__ = dict.__getitem__


def module(name: str, **names: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(names)
    sys.modules[name] = made
    return made


class Upstream:
    """The loaded modules, and loaders made by them as the training script makes them."""

    def __init__(self, checkout: Path) -> None:
        self.world, self.rank = 1, 0
        dist = ModuleType("dist")
        vars(dist).update(get_world_size=lambda: self.world, get_global_rank=lambda: self.rank)
        module("composer")
        module("composer.core", Time=str)
        module("composer.core.types", Batch=dict)
        module("composer.utils", dist=dist)
        module("omegaconf", DictConfig=dict, OmegaConf=dict)
        if find_spec("numba") is None:
            module("numba", njit=lambda function: function)
        module("src", __path__=[str(checkout / "src")])  # not its __init__, which loads the models
        self.text_data = import_module("src.text_data")
        self.packer = import_module("src.sequence_packer").GreedyBestFitSequencePacker
        self.edits = "is_decoder" in (checkout / "src/text_data.py").read_text()  # the fork's

    def sampler(self, data: Any, world: int, rank: int, seed: int) -> Any:
        return self.text_data.DistributedSamplerPCG64DXSM(data, world, rank, shuffle=True, seed=seed, drop_last=True)

    def loader(self, data: Path, words: Any, world: int, rank: int, batch: int, micro: int, **options: Any) -> Any:
        """What one of the ranks reads with; options of the data set, and of the loader, are known by their names."""
        self.world, self.rank = world, rank
        of_loader = {
            "sequence_packing", "packing_buffer_size", "batch_size_warmup_min_size", "batch_size_warmup_tokens"
        }  # fmt: skip
        dataset = {key: value for key, value in options.items() if key not in of_loader}
        config = Config(
            name="text",
            drop_last=True,
            num_workers=0,
            pin_memory=False,
            prefetch_factor=None,
            persistent_workers=False,
            dataset=Config(local=str(data.parent), split=data.name, shuffle=True, streaming=False, **dataset),
            **{key: value for key, value in options.items() if key in of_loader},
        )
        return self.text_data.build_text_dataloader(config, words, batch // world, micro)


def checkout() -> Path | None:
    """Where there is one."""
    return Path(os.environ[VARIABLE]) if VARIABLE in os.environ else None


def special_tokens(file: TokenizerFile) -> Any:
    """ModernBERT's tokenizer as transformers has it."""
    from transformers import PreTrainedTokenizerFast

    named = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_file=str(file.path), **named)


def unmasked(batch: Any) -> np.ndarray:
    """The ids of a batch before tokens were drawn."""
    ids, labels = batch["input_ids"].numpy(), batch["labels"]
    return ids if labels is None else np.where(labels.numpy() != -100, labels.numpy(), ids)


def pieces(batch: Any) -> Iterator[list[np.ndarray]]:
    """The samples of each row of a packed batch, before tokens were drawn."""
    there = batch["attention_mask"].numpy() if "attention_mask" in batch else batch["input_ids"].numpy() != PACKER_PAD
    held = there.sum(1)
    for row, bounds, length in zip(unmasked(batch), batch["cu_seqlens"], held.tolist(), strict=True):
        ends = [end for end in bounds.tolist() if end <= length]
        yield [row[a:b] for a, b in pairwise(ends)]
