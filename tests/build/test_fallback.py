"""A fast tokenizer that is wrong is caught, reported, and not used for any split of the run."""

import json

from progress_log import ProgressLog

from ettin_data import recipe
from ettin_data.build import build as run
from ettin_data.build.prepare import BuildOptions
from ettin_data.executor import ExecutorOptions
from ettin_data.storage import split as marker
from ettin_data.tokenizer.encoder import BackendMismatch, CheckedEncoder


def build_with_a_wrong_backend(payload):
    """`pool.build_split` in a worker whose fast tokenizer fails its check in one split."""
    from ettin_data.build import pool

    original = CheckedEncoder.finish

    def finish(self):
        if self.tokenizer.active_backend == "fastokens" and payload.name.endswith("2"):
            raise BackendMismatch("document 'x' differs at token 3")
        return original(self)

    CheckedEncoder.finish = finish
    try:
        return pool.build_split(payload)
    finally:
        CheckedEncoder.finish = original


def test_one_mismatch_ends_the_use_of_the_fast_tokenizer(tmp_path, monkeypatch):
    for number in range(4):
        lines = [json.dumps({"text": f"text {i} of {number} " * 20, "id": f"{number}-{i}"}) for i in range(30)]
        (tmp_path / f"part_{number}.jsonl").write_text("\n".join(lines))
    loaded = recipe.load_recipe(
        "pretrain",
        overrides=["order.batch=4", "split_bytes=1"],
        add_sources=[f"mine={tmp_path}/part_*.jsonl:8k"],
        drop_sources=list(recipe.load_recipe("pretrain").sources),
    )
    progress = ProgressLog()
    options = BuildOptions(tmp_path / "out", executor=ExecutorOptions(workers=1), progress=progress)
    monkeypatch.setattr(run.pool, "build_split", build_with_a_wrong_backend)
    done = run.build_phase(loaded, options)
    assert any("differs at token 3" in message and "3 splits are made again" in message for message in progress.said)
    assert done.sources["mine"].backends == {"tokenizers": 4}
    assert len(done.sources["mine"].fallbacks) == 1
    roots = {
        path.parent.name: marker.read_marker(path.parent).root
        for path in (tmp_path / "out").rglob("pools/*/*/split.json")
    }
    monkeypatch.undo()
    right = run.build_phase(loaded, BuildOptions(tmp_path / "right", executor=ExecutorOptions(workers=1)))
    assert right.root == done.root and len(roots) == 4
    assert right.sources["mine"].backends == {"fastokens": 4}
