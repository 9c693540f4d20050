"""A checkpoint in the form that `transformers` loads, as Ettin's and mmBERT's checkpoints are published.

    <folder>/config.json, model.safetensors, tokenizer.json, tokenizer_config.json

An encoder becomes a `ModernBertForMaskedLM`, a decoder a `ModernBertDecoderForCausalLM`. Both have the same weights
under nearly the same names, which is why one kind can continue as the other (Ettin's cross-objective training).

transformers below 5 gives the local layers of a decoder the RoPE base of the global ones, whatever the configuration
says. Where the two bases differ (from the context extension on), its logits are those of another model.

Sources of the names: transformers' `modeling_modernbert.py` and `modeling_modernbert_decoder.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ettin_data.base import files
from ettin_data.base.errors import TokenizerError
from ettin_data.base.extras import need
from ettin_data.order.loader_edits import Loader
from ettin_data.storage import records
from ettin_data.storage.phase import open_phase
from ettin_data.tokenizer.files import resolve, tokenizer_text
from ettin_data.tokenizer.vocabulary import Vocabulary
from ettin_data.trainer import state
from ettin_data.trainer.model import EPSILON, ModelConfig

_ENDS = {
    "embedding.weight": "model.embeddings.tok_embeddings.weight",
    "embedding_norm.weight": "model.embeddings.norm.weight",
    "final_norm.weight": "model.final_norm.weight",
    "vocabulary_bias": "decoder.bias",
}
_LAYER = {
    "attention_norm": "attn_norm",
    "attention_out": "attn.Wo",
    "mlp_norm": "mlp_norm",
    "mlp_in": "mlp.Wi",
    "mlp_out": "mlp.Wo",
}


def export_checkpoint(path: Path, run: Path, folder: Path) -> list[str]:
    """Write a checkpoint's model into a folder of its own, each file whole or not there.

    Args:
        path: a checkpoint of `state`, such as `runs/demo/trainer/encoder/decay6.pt`.
        run: the run that it was trained on, which knows the tokenizer and the longest sample.
        folder: made if it is missing; files of the same names are replaced.

    Returns: what a person should know, a sentence each.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
        BuildError: the run has no such phase, or it is not finished.
        MissingPackage: safetensors is not installed.
    """
    tensors = need("safetensors.torch", "a checkpoint for transformers")
    checkpoint = state.load(path)
    loader = Loader.of_run(records.read_run(open_phase(run / checkpoint.phase)))
    causal = checkpoint.identity["kind"] == "decoder"
    rules = checkpoint.identity["phases"][checkpoint.phase]["phase"]
    ropes = {name: rules[name] for name in ("rope_global", "rope_local") if name in rules}
    shape = ModelConfig(**{**checkpoint.identity["model"], "causal": causal, **ropes})
    folder.mkdir(parents=True, exist_ok=True)
    with files.replacing(folder / "model.safetensors") as partial:
        tensors.save_file(weights(checkpoint.model, causal), partial, metadata={"format": "pt"})
    config = configuration(shape, loader.vocabulary, rules["max_seq_len"])
    files.write(folder / "config.json", json.dumps(config, indent=2) + "\n")
    said = _write_tokenizer(folder, loader.vocabulary, rules["max_seq_len"])
    if causal and shape.rope_local != shape.rope_global:
        said.append(
            f"load it with transformers 5 or newer: older ones give the decoder's local layers the base "
            f"{shape.rope_global:,.0f} of the global ones"
        )
    return said


def weights(model: Mapping[str, Tensor], causal: bool) -> dict[str, Tensor]:
    """A model's weights under transformers' names; the vocabulary's matrix once, as it is tied to the embedding."""
    head = "lm_head" if causal else "head"
    named = {**_ENDS, "head.weight": f"{head}.dense.weight", "head_norm.weight": f"{head}.norm.weight"}
    found: dict[str, Tensor] = {}
    for name, weight in model.items():
        if name in named:
            found[named[name]] = weight
            continue
        _, number, part, kind = name.split(".")  # layers.3.mlp_in.weight
        prefix = f"model.layers.{number}"
        if part != "qkv":
            found[f"{prefix}.{_LAYER[part]}.{kind}"] = weight
        elif causal:
            for letter, third in zip("qkv", weight.chunk(3), strict=True):
                found[f"{prefix}.attn.{letter}_proj.{kind}"] = third.contiguous()
        else:
            found[f"{prefix}.attn.Wqkv.{kind}"] = weight
    return found


def configuration(shape: ModelConfig, words: Vocabulary, max_seq_len: int) -> dict[str, Any]:
    """`config.json`: for transformers 4 (`global_rope_theta`) and 5 (`rope_parameters`) alike."""
    kinds = ["full_attention" if shape.span(n) is None else "sliding_attention" for n in range(shape.layers)]
    bases = {"full_attention": shape.rope_global, "sliding_attention": shape.rope_local}
    return {
        "architectures": ["ModernBertDecoderForCausalLM" if shape.causal else "ModernBertForMaskedLM"],
        "model_type": "modernbert-decoder" if shape.causal else "modernbert",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "max_position_embeddings": max_seq_len,
        "norm_eps": EPSILON,
        "local_attention": shape.window,
        "global_attn_every_n_layers": shape.global_every,
        "layer_types": kinds,
        "global_rope_theta": shape.rope_global,
        "local_rope_theta": shape.rope_local,
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": base} for kind, base in bases.items()},
        "tie_word_embeddings": True,
        "attention_dropout": 0.0,
        "torch_dtype": str(torch.float32).rpartition(".")[2],
        "bos_token_id": words.open,
        "cls_token_id": words.open,
        "eos_token_id": words.close,
        "sep_token_id": words.close,
        "pad_token_id": words.pad,
    }


def _write_tokenizer(folder: Path, words: Vocabulary, max_seq_len: int) -> list[str]:
    named = words.frame
    both = {"bos_token": named.open, "cls_token": named.open, "eos_token": named.close, "sep_token": named.close}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_seq_len,
        "model_input_names": ["input_ids", "attention_mask"],
        **both,
        "pad_token": named.pad,
        **({"mask_token": named.mask} if named.mask else {}),
        **({"unk_token": named.unknown} if named.unknown else {}),
    }
    files.write(folder / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")
    try:
        files.write(
            folder / "tokenizer.json", tokenizer_text(resolve(words.name, sha256=words.digest, asked_for=False))
        )
    except TokenizerError as error:
        return [f"tokenizer.json is not among them: {error}; copy the file of sha256 {words.digest} there"]
    return []
