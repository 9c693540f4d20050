"""A checkpoint in transformers' form: what transformers loads of it scores as our model does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ettin_data.cli.train import checkpoint as command
from ettin_data.order.loader_edits import Kind
from ettin_data.tokenizer.encoder import TokenizerFile
from ettin_data.trainer import state
from ettin_data.trainer.attention import Borders
from ettin_data.trainer.config import TrainConfig
from ettin_data.trainer.loop import train
from ettin_data.trainer.model import Model, ModelConfig
from ettin_data.trainer.phases import run_phases
from ettin_data.trainer.transformers_form import export_checkpoint


def trained(run: Path, kind: Kind) -> Path:
    """Folder of a nano model's checkpoints after a step of each phase, and of the other kind after it."""
    train(TrainConfig(run_phases(run, 1), run / "trainer" / kind, kind, "nano", scored_tokens=50, device="cpu"))
    return run / "trainer" / kind


def logits(path: Path, tokens: torch.Tensor, rope: float) -> torch.Tensor:
    found = state.load(path)
    shape = ModelConfig(
        **{**found.identity["model"], "causal": found.identity["kind"] == "decoder", "rope_global": rope}
    )
    model = Model(shape)
    model.load_state_dict(found.model)
    borders = Borders.of(torch.tensor([0, len(tokens)], dtype=torch.int32), torch.device("cpu"))
    with torch.no_grad():
        return F.linear(model.features(model.hidden(tokens, borders)), model.embedding.weight, model.vocabulary_bias)


@pytest.mark.parametrize(
    "kind, name, rope",
    [
        ("encoder", "step1", 10_000.0),
        ("encoder", "ext1", 160_000.0),
        ("decoder", "step1", 10_000.0),
        ("decoder", "decay1", 160_000.0),
    ],
)
def test_transformers_loads_it_with_equal_logits(run: Path, tmp_path: Path, kind: Kind, name: str, rope: float) -> None:
    transformers = pytest.importorskip("transformers")
    import transformers.utils.import_utils as found

    found._torchvision_available = False  # a torchvision of another build than torch's cannot be imported
    path = trained(run, kind) / f"{name}.pt"
    said = export_checkpoint(path, run, tmp_path / "out")
    crossed = kind == "decoder" and rope != 10_000.0
    assert any("transformers 5 or newer" in sentence for sentence in said) == crossed
    if crossed and int(transformers.__version__.split(".")[0]) < 5:
        return
    load = transformers.AutoModelForCausalLM if kind == "decoder" else transformers.AutoModelForMaskedLM
    theirs, report = load.from_pretrained(tmp_path / "out", attn_implementation="eager", output_loading_info=True)
    assert not any(report[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokens = torch.randint(300, 700, (150,), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs.eval()(tokens[None]).logits[0]
    torch.testing.assert_close(logits(path, tokens, rope), expected, atol=2e-5, rtol=1e-4)
    assert (logits(path, tokens, 3_000.0) - expected).abs().max() > 1e-3, "the test sees a wrong base"


def test_the_tokenizer_goes_with_it(run: Path, tmp_path: Path, tokenizer_file: TokenizerFile) -> None:
    transformers = pytest.importorskip("transformers")
    path = trained(run, "encoder") / "step1.pt"
    command(path, tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("the river", add_special_tokens=False)["input_ids"]
    assert (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id) == (50281, 50282, 50284)
    assert json.loads((tmp_path / "out/config.json").read_text())["vocab_size"] == 50368


def test_a_model_of_the_other_kind_begins_with_its_weights(run: Path) -> None:
    encoder = trained(run, "encoder") / "decay1.pt"
    out = run / "crossed"
    train(
        TrainConfig(run_phases(run, 1)[:1], out, "decoder", "nano", scored_tokens=50, device="cpu", start_from=encoder)
    )
    crossed, before = state.load(out / "step1.pt"), state.load(encoder)
    assert crossed.identity["kind"] == "decoder" and crossed.identity["start_from"]
    near = (crossed.model["layers.1.qkv.weight"] - before.model["layers.1.qkv.weight"]).abs().max()
    assert 0 < near < 0.02, "one step away from where it began"


def test_a_damaged_one_is_named(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "step1.pt"
    path.write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(state.CheckpointError, match="cannot be read"):
        export_checkpoint(path, run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
