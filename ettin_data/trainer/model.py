"""A ModernBERT-shaped transformer, encoder and decoder from the same code.

Pre-norm blocks (the first layer's attention has no norm: the embedding was just normalised), GeGLU, rotary positions
with a local and a global base, a sliding window in two of three layers, no biases but the vocabulary's, embeddings
tied to the output. `causal` is the only difference between encoder and decoder; a model of one kind continues as the
other with the same weights (Ettin's cross-objective training).

Sources: Warner et al. 2024 (ModernBERT, arXiv 2412.13663), Weller et al. 2025 (Ettin, arXiv 2507.11412), and the
published training configurations. The numbers agree with `ModernBertForMaskedLM` and `ModernBertDecoderForCausalLM`
of transformers (tests/trainer/test_model.py). Two things differ from the training configurations on purpose: no
dropout (they drop 10% of each attention output; here a step must be reproducible), and the decoder's window is
transformers' (63 keys to the left and the query's own; flash attention in the original trainer reaches one further).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ettin_data.base.errors import RecipeError
from ettin_data.tokenizer.vocabulary import MODERNBERT
from ettin_data.trainer.attention import Borders, attend, rotary_table, rotate

WINDOW = 128  # a local layer of an encoder sees 64 tokens on each side
EPSILON = 1e-5
HEAD_CHUNK = 128  # positions whose logits exist at one time on CPU: 26 MB of float32, stays in cache


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a model.

    `rope_global` is the base of every third layer and changes with the phase (ARCHITECTURE 5.7). `initial` is the
    deviation of the initial weights: 0.02 is right at 768 wide; with so little a very narrow model learns late.
    `vocabulary` is the number of ids of the data; Ettin's sizes have ModernBERT's.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    causal: bool = False
    rope_local: float = 10_000.0
    rope_global: float = 10_000.0
    window: int = WINDOW
    global_every: int = 3
    vocabulary: int = MODERNBERT.size
    initial: float = 0.02

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    def span(self, layer: int) -> tuple[int, int] | None:
        """How far a token of this layer sees to the left and right, itself not counted; None: the whole document."""
        if layer % self.global_every == 0:
            return None
        half = self.window // 2
        return (half - 1, 0) if self.causal else (half, half)


SIZES: dict[str, ModelConfig] = {
    "nano": ModelConfig(layers=3, hidden=64, intermediate=96, heads=2, initial=0.16),
    "17m": ModelConfig(layers=7, hidden=256, intermediate=384, heads=4),
    "32m": ModelConfig(layers=10, hidden=384, intermediate=576, heads=6),
    "68m": ModelConfig(layers=19, hidden=512, intermediate=768, heads=8),
    "150m": ModelConfig(layers=22, hidden=768, intermediate=1152, heads=12),
    "400m": ModelConfig(layers=28, hidden=1024, intermediate=2624, heads=16),
    "1b": ModelConfig(layers=28, hidden=1792, intermediate=3840, heads=28),
}


def model_config(size: str, *, causal: bool, vocabulary: int) -> ModelConfig:
    """The shape of a named size for data of so many ids. Raises `RecipeError` for an unknown name."""
    if size.lower() not in SIZES:
        raise RecipeError(f"no model of size {size!r}", remedy=f"one of {', '.join(SIZES)}")
    return replace(SIZES[size.lower()], causal=causal, vocabulary=vocabulary)


class Layer(nn.Module):
    """Attention and GeGLU, each added to the stream."""

    def __init__(self, config: ModelConfig, number: int) -> None:
        super().__init__()
        hidden = config.hidden
        self.heads, self.causal, self.span = config.heads, config.causal, config.span(number)
        self.attention_norm = nn.LayerNorm(hidden, EPSILON, bias=False) if number else nn.Identity()
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.attention_out = nn.Linear(hidden, hidden, bias=False)
        self.mlp_norm = nn.LayerNorm(hidden, EPSILON, bias=False)
        self.mlp_in = nn.Linear(hidden, 2 * config.intermediate, bias=False)
        self.mlp_out = nn.Linear(config.intermediate, hidden, bias=False)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], borders: Borders) -> Tensor:
        q, k, v = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        seen = attend(rotate(q, rope), rotate(k, rope), v, borders, self.span, self.causal)
        x = x + self.attention_out(seen.flatten(-2))
        value, gate = self.mlp_in(self.mlp_norm(x)).chunk(2, dim=-1)
        out: Tensor = self.mlp_out(F.gelu(value) * gate)
        return x + out


class Model(nn.Module):
    """Tokens in, loss out. All tensors are packed streams (see `attention`); T is the number of tokens.

    Args:
        config: the shape.
        seed: of the initial weights; the same seed gives the same weights on every machine.
    """

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden
        self.embedding = nn.Embedding(config.vocabulary, hidden)
        self.embedding_norm = nn.LayerNorm(hidden, EPSILON, bias=False)
        self.layers = nn.ModuleList(Layer(config, number) for number in range(config.layers))
        self.final_norm = nn.LayerNorm(hidden, EPSILON, bias=False)
        self.head = nn.Linear(hidden, hidden, bias=False)
        self.head_norm = nn.LayerNorm(hidden, EPSILON, bias=False)
        self.vocabulary_bias = nn.Parameter(torch.zeros(config.vocabulary))
        self._initialise(seed)

    def _initialise(self, seed: int) -> None:
        """Megatron's: a normal, cut at two deviations; what writes to the stream is scaled by 1 / sqrt(2 layers)."""
        random = torch.Generator().manual_seed(seed)
        inner = self.config.initial
        outer = inner / math.sqrt(2 * self.config.layers)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                std = outer if name.endswith(("attention_out.weight", "mlp_out.weight", "head.weight")) else inner
                nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=random)

    def set_rope(self, base: float, local: float) -> None:
        """Change the bases of the global layers and of the others, as at the start of a context extension."""
        self.config = replace(self.config, rope_global=base, rope_local=local)

    def hidden(self, tokens: Tensor, borders: Borders) -> Tensor:
        """The normalised stream after the last layer: int64 (T,) -> (T, hidden)."""
        config = self.config
        tables = {
            base: rotary_table(borders.positions, config.head_dim, base)
            for base in {config.rope_local, config.rope_global}
        }
        x = self.embedding_norm(self.embedding(tokens))
        for number, layer in enumerate(self.layers):
            base = config.rope_global if config.span(number) is None else config.rope_local
            x = layer(x, tables[base], borders)
        normalised: Tensor = self.final_norm(x)
        return normalised

    def features(self, hidden: Tensor) -> Tensor:
        """What the tied vocabulary matrix is applied to."""
        features: Tensor = self.head_norm(F.gelu(self.head(hidden)))
        return features

    def forward(self, tokens: Tensor, borders: Borders, scored: Tensor, targets: Tensor) -> Tensor:
        """Sum of the cross entropy, in nats, at the scored positions.

        The vocabulary's matrix is most of a small model's work, so logits exist only where they are asked for and only
        a chunk at a time (`torch.nn.functional.linear_cross_entropy`; all at once with a torch that does not have it).

        Args:
            tokens: int64 (T,). borders: of the documents in it.
            scored: positions in the stream, int64 (S,). targets: the right token at each of them, int64 (S,).
        """
        if not len(scored):  # nothing to predict in this batch: a zero that still reaches every parameter
            return self.forward(tokens, borders, tokens.new_zeros(1), tokens.new_zeros(1)) * 0.0
        features = self.features(self.hidden(tokens, borders)[scored])
        kind = features.device.type
        if torch.is_autocast_enabled(kind):
            features = features.to(torch.get_autocast_dtype(kind))
        weight, bias = (w.to(features.dtype) for w in (self.embedding.weight, self.vocabulary_bias))
        if not hasattr(F, "linear_cross_entropy"):
            return F.cross_entropy(F.linear(features, weight, bias).float(), targets, reduction="sum")
        # A sum in bf16 is off by percents: there the losses come one by one and are added up in float32. In float32 the
        # chunked sum is used, which computes the gradient on the way and saves a product.
        exact = features.dtype == torch.float32
        options, reduction = nn.LinearCrossEntropyOptions(), "sum" if exact else "none"
        if kind == "cpu":
            options = nn.LinearCrossEntropyOptions(batch_chunk_size=HEAD_CHUNK, chunking_method=None)
        losses = F.linear_cross_entropy(
            features, weight, targets, linear_bias=bias, reduction=reduction, options=options
        )
        return losses.float().sum()
