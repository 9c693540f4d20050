"""The model's numbers: against transformers' ModernBERT, and packed against padded against one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from modernbert import loader

from ettin_data.base.errors import RecipeError
from ettin_data.load.samples import Sample
from ettin_data.trainer.attention import Borders
from ettin_data.trainer.data import Collator
from ettin_data.trainer.model import SIZES, Model, ModelConfig, model_config

CPU = torch.device("cpu")
SMALL = ModelConfig(4, 32, 48, 2, rope_global=160_000.0, vocabulary=50_368, initial=0.5)


def single(length: int) -> Borders:
    return Borders.of(torch.tensor([0, length], dtype=torch.int32), CPU)


def logits(model: Model, tokens: torch.Tensor, borders: Borders) -> torch.Tensor:
    """Scores of every token of the vocabulary at every position: (T, vocabulary)."""
    return F.linear(model.features(model.hidden(tokens, borders)), model.embedding.weight, model.vocabulary_bias)


def loss_of(model: Model, batch) -> torch.Tensor:
    labels, scored = torch.from_numpy(batch.labels).long(), torch.from_numpy(batch.scored)
    borders = Borders.of(torch.from_numpy(batch.cu_seqlens), CPU)
    return model(torch.from_numpy(batch.tokens).long(), borders, scored, labels[scored])


# ---------------------------------------------------------------------------------------------------------------------
# against transformers


def published(causal: bool, local: float):
    """transformers' model with random weights and the same weights under our names."""
    import transformers.utils.import_utils as found

    found._torchvision_available = False  # a torchvision of another build than torch's cannot be imported
    from transformers import (
        ModernBertConfig,
        ModernBertDecoderConfig,
        ModernBertDecoderForCausalLM,
        ModernBertForMaskedLM,
    )

    kind, config = (
        (ModernBertDecoderForCausalLM, ModernBertDecoderConfig) if causal else (ModernBertForMaskedLM, ModernBertConfig)
    )
    model = kind._from_config(
        config(
            hidden_size=SMALL.hidden,
            intermediate_size=SMALL.intermediate,
            num_hidden_layers=SMALL.layers,
            num_attention_heads=SMALL.heads,
            global_rope_theta=SMALL.rope_global,
            local_rope_theta=local,
        ),
        attn_implementation="eager",
    ).eval()
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=random)
            weight.copy_(noise * 0.15 if weight.dim() == 2 else 1 + noise * 0.2)
        if causal and hasattr(model.model, "local_rotary_emb"):
            # transformers 4.57 gives the decoder's local layers the global base, whatever the configuration says
            steps = torch.arange(0, SMALL.head_dim, 2) / SMALL.head_dim
            model.model.local_rotary_emb.inv_freq.copy_(local**-steps)
    head = model.lm_head if causal else model.head
    weights = {
        "embedding.weight": model.model.embeddings.tok_embeddings.weight,
        "embedding_norm.weight": model.model.embeddings.norm.weight,
        "final_norm.weight": model.model.final_norm.weight,
        "head.weight": head.dense.weight,
        "head_norm.weight": head.norm.weight,
        "vocabulary_bias": model.decoder.bias,
    }
    for i, layer in enumerate(model.model.layers):
        attention = layer.attn
        names = (attention.q_proj, attention.k_proj, attention.v_proj) if causal else (attention.Wqkv,)
        weights[f"layers.{i}.qkv.weight"] = torch.cat([part.weight for part in names])
        weights[f"layers.{i}.attention_out.weight"] = attention.Wo.weight
        weights[f"layers.{i}.mlp_norm.weight"] = layer.mlp_norm.weight
        weights[f"layers.{i}.mlp_in.weight"] = layer.mlp.Wi.weight
        weights[f"layers.{i}.mlp_out.weight"] = layer.mlp.Wo.weight
        if i:
            weights[f"layers.{i}.attention_norm.weight"] = layer.attn_norm.weight
    return model, weights


@pytest.mark.parametrize("causal", [False, True], ids=["encoder", "decoder"])
def test_logits_agree_with_transformers(causal):
    theirs, weights = published(causal, local=10_000.0)
    ours = Model(replace(SMALL, causal=causal))
    ours.load_state_dict(weights)
    for length in (20, 400):  # within the window of 128, and well over it
        tokens = torch.randint(0, 50_000, (length,), generator=torch.Generator().manual_seed(length))
        with torch.no_grad():
            expected = theirs(tokens[None]).logits[0]
            found = logits(ours, tokens, single(length))
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
        if length == 400:  # the test would see a wrong window or a wrong base
            for wrong in (replace(ours.config, window=126), replace(ours.config, rope_local=160_000.0)):
                other = Model(wrong)
                other.load_state_dict(weights)
                with torch.no_grad():
                    assert (logits(other, tokens, single(length)) - expected).abs().max() > 1e-3


# ---------------------------------------------------------------------------------------------------------------------
# packed, padded, one by one


def documents(seed: int, lengths: list[int]) -> list[Sample]:
    random = np.random.default_rng(seed)
    ends = ([50281], [50282])
    return [
        Sample(0, i, np.concatenate([ends[0], random.integers(300, 5000, n - 2), ends[1]]).astype(np.uint16))
        for i, n in enumerate(lengths)
    ]


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_packed_padded_and_single_documents_give_the_same_loss_and_gradients(kind):
    """No leak between documents that share a batch: the same loss, the same gradient of every weight."""
    samples = documents(3, [7, 150, 90, 2, 201])
    model = Model(replace(SMALL, causal=kind == "decoder")).double()
    results = []
    for layout, limit in (("packed", 10_000), ("padded", 10_000), ("packed", 1), ("packed", 260)):
        step = Collator(kind, loader(1024), layout=layout, batch_tokens=limit)(samples)
        model.zero_grad()
        loss = sum(loss_of(model, batch) for batch in step.batches)
        loss.backward()
        gradients = {name: weight.grad.clone() for name, weight in model.named_parameters()}
        results.append((len(step.batches), loss.detach(), gradients))
    assert [batches for batches, _, _ in results] == [1, 1, 5, 2]
    for _, loss, gradients in results[1:]:
        torch.testing.assert_close(loss, results[0][1], rtol=1e-7, atol=0)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, results[0][2][name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_leak_would_be_seen():
    """The same documents without the border between them give another loss."""
    step = Collator("encoder", loader(1024))(documents(3, [70, 150]))
    batch = step.batches[0]
    model = Model(SMALL)
    leaking = batch._replace(cu_seqlens=np.array([0, 220], np.int32))
    with torch.no_grad():
        assert abs(float(loss_of(model, batch)) - float(loss_of(model, leaking))) > 1


def test_documents_inside_a_sample_do_not_see_each_other():
    """A sample of two documents scores as the two documents do."""
    a, b = documents(4, [40, 60])
    both = Sample(0, 7, np.concatenate([a.tokens, b.tokens]))
    model = Model(replace(SMALL, causal=True))
    together = Collator("decoder", loader(1024), split_documents=True)([both]).batches[0]
    apart = Collator("decoder", loader(1024))([a, b]).batches[0]
    assert together.cu_seqlens.tolist() == apart.cu_seqlens.tolist() == [0, 40, 100]
    assert torch.equal(loss_of(model, together), loss_of(model, apart))


# ---------------------------------------------------------------------------------------------------------------------
# the rest


@pytest.mark.parametrize("causal", [False, True])
def test_loss_is_the_cross_entropy_of_the_logits(causal):
    model = Model(replace(SMALL, causal=causal))
    tokens = torch.randint(0, 50_000, (30,))
    scored, targets = torch.tensor([2, 3, 29]), torch.tensor([5, 50_000, 7])
    expected = F.cross_entropy(logits(model, tokens, single(30))[scored], targets, reduction="sum")
    found = model(tokens, single(30), scored, targets)
    torch.testing.assert_close(found, expected)
    nothing = model(tokens, single(30), scored[:0], targets[:0])
    nothing.backward()
    assert nothing.item() == 0.0 and all(weight.grad is not None for weight in model.parameters())


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_torch_without_the_chunked_loss_gives_the_same(monkeypatch, precision):
    """`linear_cross_entropy` is younger than the oldest torch that will do."""
    if not hasattr(F, "linear_cross_entropy"):
        pytest.skip("this torch is such a one")
    model = Model(SMALL, 3)
    tokens, scored = torch.randint(0, SMALL.vocabulary, (30,)), torch.tensor([1, 5, 6, 29])

    def step() -> list[torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision != torch.float32):
            loss = model(tokens, single(30), scored, tokens[scored])
        return [loss, *torch.autograd.grad(loss, list(model.parameters()))]

    chunked = step()
    monkeypatch.delattr(F, "linear_cross_entropy")
    near = 1e-5 if precision == torch.float32 else 0.03  # other sums: as much as the precision leaves open
    for one, other in zip(step(), chunked, strict=True):
        assert (one - other).norm() <= near * other.norm()


def test_the_phase_changes_the_base_of_global_and_of_local_layers():
    model = Model(SMALL)
    tokens = torch.randint(0, 50_000, (40,))
    before = logits(model, tokens, single(40))
    for bases in ((10_000.0, SMALL.rope_local), (SMALL.rope_global, 20_000.0)):
        model.set_rope(*bases)
        assert not torch.equal(before, logits(model, tokens, single(40)))
    model.set_rope(SMALL.rope_global, SMALL.rope_local)
    assert torch.equal(before, logits(model, tokens, single(40)))


def test_sizes_are_the_published_ones():
    published = {"17m": 16.8, "32m": 31.9, "68m": 68.1, "150m": 149.0, "400m": 394.8, "1b": 1027.7}
    for name, millions in published.items():
        config = SIZES[name]
        with torch.device("meta"):
            layers = [torch.empty(4 * config.hidden**2 + 3 * config.hidden * config.intermediate)] * config.layers
        weights = sum(x.numel() for x in layers) + config.vocabulary * config.hidden
        assert weights / 1e6 == pytest.approx(millions, rel=0.01), name
        assert config.head_dim == 64
    spans = [model_config("150m", causal=False, vocabulary=50368).span(i) for i in range(6)]
    assert spans == [None, (64, 64), (64, 64), None, (64, 64), (64, 64)]


def test_same_seed_same_weights_and_other_sizes_are_refused():
    a, b, c = Model(SMALL, seed=1), Model(SMALL, seed=1), Model(SMALL, seed=2)
    assert torch.equal(a.layers[2].qkv.weight, b.layers[2].qkv.weight)
    assert not torch.equal(a.layers[2].qkv.weight, c.layers[2].qkv.weight)
    with pytest.raises(RecipeError, match="'2b'"):
        model_config("2b", causal=False, vocabulary=50368)
