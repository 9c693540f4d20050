"""The hub, S3 and GCS through their real clients, each against a local server: the same documents as from disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import source_kit as kit
import yaml
from fault_server import Fault, serve

from ettin_data import sources
from ettin_data.base.errors import SourceError
from ettin_data.sources import ReadOptions, TransportOptions
from ettin_data.sources.families import prolong

FAST = ReadOptions(transport=TransportOptions(attempts=3, backoff_s=0.01, backoff_max_s=0.05))

# The endpoint of the hub's client is fixed when it is imported: it is driven in a process of its own.
SCRIPT = textwrap.dedent(
    """
    import json, sys
    from dataclasses import replace
    from ettin_data import sources
    from ettin_data.sources import ReadOptions, Record, TransportOptions
    job = json.loads(sys.argv[1])
    transport = TransportOptions(attempts=4, backoff_s=0.01, backoff_max_s=0.05, block_bytes=job.get("block", 1 << 20))
    answer = {}
    for key in job["keys"]:
        source = sources.get(key)
        if job.get("packed"):
            root, globs = job["packed"]["root"], tuple(job["packed"]["globs"])
            source = replace(source, root=root, globs=globs, storage={}, tokenizer=job["tokenizer"])
        if job.get("mirror"):
            source = sources.with_root(source, job["mirror"])
        if job.get("root"):
            source = replace(source, root=job["root"])
        check = sources.check_source(source, targets={}, transport=transport)
        found = {"problems": check.problems(), "revision": check.revision, "notes": list(check.notes)}
        answer[key] = found
        if check.error is None:
            files = sources.list_files(source, transport=transport)
            found["files"] = [[f.path, f.size, f.etag] for f in files]
            items = [i for f in files for i in sources.read_file(source, f, options=ReadOptions(transport=transport))]
            found["texts"] = [i.text for i in items if isinstance(i, Record)]
            found["rejects"] = [i.reason for i in items if not isinstance(i, Record)]
    print(json.dumps(answer))
    """
)


def on_the_hub(url: str, home: Path, **job: Any) -> dict[str, Any]:
    """List, check and read sources with their true `hf://` roots, the hub being at `url`."""
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(home), "HF_TOKEN": "hf_secretsecretsecret"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(job)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout)


def test_hub_sources_read_as_from_disk(mirror: tuple[Path, dict[str, kit.Expected]], tmp_path: Path) -> None:
    root, expected = mirror
    keys = ["dclm", "dclm_dolmino", "math_dolmino", "stackexchange_dolmino"]
    with serve(root) as running:
        stackexchange = (
            "/datasets/allenai/dolmino-mix-1124/resolve/bb54cab/data/stackexchange/stackexchange-0000.json.gz"
        )
        running.faults[stackexchange] = [Fault(status=429, headers={"Retry-After": "0"}), Fault(cut=50)]
        weather = f"/datasets/allenai/dolmino-mix-1124/resolve/bb54cab/{min(expected['math_dolmino'].files)}"
        running.always_at["/cdn"] = Fault(status=403)
        signed = Fault(status=302, headers={"Location": f"{running.url}/cdn?Expires=0"})
        running.faults[weather] = [Fault(status=403), signed, Fault(status=404)]
        answer = on_the_hub(running.url, tmp_path, keys=keys, block=200)
        for key in keys:
            assert answer[key]["texts"] == expected[key].texts, key
            assert answer[key]["rejects"] == []
            assert [path for path, _, _ in answer[key]["files"]] == sorted(expected[key].files)
            assert all(size > 0 and etag for _, size, etag in answer[key]["files"])
            assert "the hub has moved on" in " ".join(answer[key]["notes"]), "the pin is not the latest revision"
        assert running.faults[stackexchange] == [] == running.faults[weather]
        resolved = [path for method, path, _ in running.requests if "/resolve/" in path]
        assert all(
            "/resolve/817d6752765f6a41261085171dd546b104f60626/" in p or "/resolve/bb54cab/" in p for p in resolved
        )
        sent = {token for token in running.tokens if token}  # newer clients ask for some pages without one
        assert sent == {"Bearer hf_secretsecretsecret"}, "the token of the environment is sent"


def test_a_mirror_on_the_hub(mirror: tuple[Path, dict[str, kit.Expected]], tmp_path: Path) -> None:
    """Every family, the tokenizer beside ProLong's included, from one data set of one's own."""
    root, expected = mirror
    (tmp_path / "www/datasets/me").mkdir(parents=True)
    (tmp_path / "www/datasets/me/mirror").symlink_to(root)
    keys = ["arxiv", "cc_news", "dclm", "math_dolmino", "code_repos"]
    with serve(tmp_path / "www") as running:
        answer = on_the_hub(running.url, tmp_path / "home", keys=keys, mirror="hf://datasets/me/mirror@main")
    for key in keys:
        assert (answer[key]["texts"], answer[key]["rejects"]) == (expected[key].texts, []), key


def test_languages_on_the_hub_cost_one_listing_and_a_request_a_file(tmp_path: Path) -> None:
    names = ["deu_Latn", "ell_Grek", "fao_Latn", "zul_Latn"]
    folder = tmp_path / "datasets/HuggingFaceFW/fineweb-2/data"
    for name in names:
        for part in (f"{name}/train", f"{name}/test", f"{name}_removed/train"):
            (folder / part).mkdir(parents=True)
            (folder / part / "000_00000.parquet").write_bytes(kit.parquet({"text": [part], "id": [part]}))
    with serve(tmp_path) as running:
        answer = on_the_hub(running.url, tmp_path / "home", keys=[f"fineweb2.{name}" for name in names])
        asked = [path for _, path, _ in running.requests]
    assert [answer[f"fineweb2.{name}"]["texts"] for name in names] == [[f"{name}/train"] for name in names]
    assert sum("/tree/" in path for path in asked) == 1 and sum("/resolve/" in path for path in asked) == len(names)


def test_packed_prolong_from_the_hub(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    root = tmp_path / "www"
    kit.train_llama_like(root / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(root / "tokenizer.json"))
    texts = [f"document {n} of a packed sample" for n in range(4)]
    bos, eos = tokenizer.token_to_id(kit.BOS), tokenizer.token_to_id(kit.EOS)
    ids = [[bos, *tokenizer.encode(text, add_special_tokens=False).ids, eos] for text in texts]
    columns = {"domain": "str", "input_ids": "ndarray:uint32", "indices": "ndarray:uint32", "length": "uint64"}
    rows = []
    for a, b in ((ids[0], ids[1]), (ids[2], ids[3])):
        spans = [[0, len(a)], [len(a), len(a) + len(b)]]
        rows.append({"domain": "textbooks", "input_ids": a + b, "indices": spans, "length": len(a + b)})
    data = kit.mds_shard(columns, rows)
    repo = root / "datasets/princeton-nlp/prolong-data-64K/textbooks/proc00-64"
    kit.write(repo / "shard.00000.mds", data)
    kit.write(repo / "index.json", kit.mds_index(columns, {"shard.00000.mds": (len(data), 2)}))
    with serve(root) as running:
        advised = yaml.safe_load((prolong.__doc__ or "").partition("with\n")[2])["sources"]["textbooks"]
        job = {"packed": advised, "tokenizer": str(root / "tokenizer.json")}
        answer = on_the_hub(running.url, tmp_path / "home", keys=["textbooks"], **job)["textbooks"]
    assert (answer["texts"], answer["rejects"]) == (texts, [])
    assert "63 files are missing" in " ".join(answer["problems"])


def test_a_gated_or_missing_data_set_says_what_to_do(tmp_path: Path) -> None:
    with serve(tmp_path) as running:
        answer = on_the_hub(running.url, tmp_path / "home", keys=["dclm"], root="hf://datasets/no/such@main/")["dclm"]
    [problem] = answer["problems"]
    assert "HF_TOKEN" in problem and "secretsecret" not in json.dumps(answer)


# --- S3 --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3(mirror: tuple[Path, dict[str, kit.Expected]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server that holds ProLong's bucket and a mirror of everything; its endpoint."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    endpoint = f"http://127.0.0.1:{port}"
    saved = dict(os.environ)
    os.environ |= {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }  # fmt: skip
    try:
        import boto3

        client = boto3.client("s3", endpoint_url=endpoint)
        root, _ = mirror
        for bucket in ("princeton-prolong", "a-mirror"):
            client.create_bucket(Bucket=bucket)
        for path in sorted(root.rglob("*")):
            if path.is_file():
                name = path.relative_to(root).as_posix()
                client.put_object(Bucket="a-mirror", Key=f"deep/{name}", Body=path.read_bytes())
                if name.startswith("princeton-prolong/"):
                    key = name.removeprefix("princeton-prolong/")
                    client.put_object(Bucket="princeton-prolong", Key=key, Body=path.read_bytes())
        yield endpoint
    finally:
        os.environ.clear()
        os.environ.update(saved)
        server.stop()


@pytest.mark.parametrize("key", ["code_repos", "textbooks"])
def test_prolong_from_its_bucket(key: str, s3: str, mirror: tuple[Path, dict[str, kit.Expected]]) -> None:
    """The true root, requester pays included."""
    root, expected = mirror
    source = replace(sources.get(key), tokenizer=str(root / "princeton-prolong/tokenizer.json"))
    assert source.root.startswith("s3://princeton-prolong/") and source.storage["requester_pays"]
    files = sources.list_files(source)
    assert [file.path for file in files] == sorted(expected[key].files) and all(file.etag for file in files)
    records, rejects = kit.read_source(source)
    assert ([record.text for _, record in records], rejects) == (expected[key].texts, [])


def test_requester_pays_is_sent(s3: str) -> None:
    from ettin_data.sources.access.transport import filesystem
    from ettin_data.sources.base import TransportOptions

    fs, _ = filesystem(sources.get("textbooks"), TransportOptions())
    assert fs.req_kw == {"RequestPayer": "requester"}
    fs, _ = filesystem(replace(sources.get("textbooks"), root="s3://a-mirror/deep/", storage={}), TransportOptions())
    assert fs.req_kw == {}


@pytest.mark.parametrize("key", ["arxiv", "cc_news", "dclm", "math_dolmino", "textbooks"])
def test_a_mirror_on_s3(key: str, s3: str, mirror: tuple[Path, dict[str, kit.Expected]]) -> None:
    root, expected = mirror
    source = sources.with_root(sources.get(key), "s3://a-mirror/deep")
    assert source.root == f"s3://a-mirror/deep/{sources.mirror_path(sources.get(key).root)}/"
    if source.tokenizer:
        source = replace(source, tokenizer=str(root / "princeton-prolong/tokenizer.json"))
    records, rejects = kit.read_source(source)
    assert ([record.text for _, record in records], rejects) == (expected[key].texts, [])


def test_the_tokenizer_beside_a_mirror_on_s3(s3: str, mirror: tuple[Path, dict[str, kit.Expected]]) -> None:
    source = sources.with_root(sources.get("textbooks"), "s3://a-mirror/deep")
    assert source.tokenizer == "s3://a-mirror/deep/princeton-prolong/tokenizer.json"
    records, _ = kit.read_source(source)
    assert [record.text for _, record in records] == mirror[1]["textbooks"].texts
    assert sources.with_root(sources.get("textbooks"), "s3://a-mirror/elsewhere").tokenizer == prolong.TOKENIZER


def test_an_object_that_changed_since_it_was_listed(s3: str) -> None:
    source = sources.with_root(sources.get("wikipedia"), "s3://a-mirror/deep")
    file = sources.list_files(source)[0]
    with pytest.raises(SourceError, match=r"(?s)ETag .*another was listed"):
        list(sources.read_file(source, replace(file, etag="another"), options=FAST))


def test_s3_says_what_is_missing(s3: str) -> None:
    with pytest.raises(SourceError, match="no file matches"):
        sources.list_files(replace(sources.get("textbooks"), root="s3://princeton-prolong/nothing/"))
    check = sources.check_source(replace(sources.get("textbooks"), root="s3://no-such-bucket/x/"), targets={})
    assert not check.ok and check.lost_share == 1.0
    source = sources.get("textbooks")
    with pytest.raises(SourceError, match="at a file that was listed"):
        list(sources.read_file(source, sources.SourceFile("gone.mds", 10), options=FAST))


def test_a_mirror_on_gcs(mirror: tuple[Path, dict[str, kit.Expected]], tmp_path: Path) -> None:
    """Google's real client against a small stand-in for its API."""
    root, expected = mirror
    (tmp_path / "bucket").symlink_to(root)
    with serve(tmp_path) as running:
        for key in ("wikipedia", "dclm", "dclm_dolmino", "textbooks"):
            source = sources.with_root(replace(sources.get(key), tokenizer=None), "gs://bucket")
            tokenizer = str(root / "princeton-prolong/tokenizer.json") if key == "textbooks" else None
            storage = {"token": "anon", "endpoint_url": running.url}
            records, rejects = kit.read_source(replace(source, storage=storage, tokenizer=tokenizer))
            assert ([record.text for _, record in records], rejects) == (expected[key].texts, []), key
        files = sources.list_files(replace(source, storage=storage))
        with pytest.raises(SourceError, match=r"(?s)ETag .*another was listed"):
            list(sources.read_file(replace(source, storage=storage), replace(files[0], etag="another"), options=FAST))


def test_any_other_fsspec_store(mirror: tuple[Path, dict[str, kit.Expected]]) -> None:
    import fsspec

    root, expected = mirror
    memory = fsspec.filesystem("memory")
    try:
        for path in root.rglob("*"):
            if path.is_file():
                memory.pipe(f"/store/{path.relative_to(root).as_posix()}", path.read_bytes())
        for key in ("books", "dclm_dolmino", "dclm"):
            records, rejects = kit.read_source(sources.with_root(sources.get(key), "memory://store"))
            assert ([record.text for _, record in records], rejects) == (expected[key].texts, [])
    finally:
        memory.store.clear()
