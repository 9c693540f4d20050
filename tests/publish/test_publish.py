"""Runs on the hub and in a bucket, through faults and kills: the same bytes there, sent once, compared at the end."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import shown_run
import yaml
from fault_proxy import Harm, Proxy, proxied
from gcs_server import gcs
from hub_server import HubServer, hub
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.base.errors import BuildError
from ettin_data.build.card import card
from ettin_data.inspect.lookup import open_phases
from ettin_data.publish import contents as contents_module
from ettin_data.publish.contents import Hashes, contents_of, of_bytes, refuse_full_folders
from ettin_data.publish.pages import CHECKSUMS, CROISSANT, SUMMARY, pages_of
from ettin_data.publish.remote import Held
from ettin_data.publish.target import parse_target
from ettin_data.storage.phase import open_phase
from ettin_data.storage.records import read_run

# --- what is sent ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(built_shown_run: Path) -> Path:
    return built_shown_run


def local(run: Path, whole: bool = False) -> dict[str, bytes]:
    """path -> bytes of all that comes from the run itself."""
    found = [content for name in ("first", "second") for content in contents_of(open_phase(run / name), whole)]
    return {content.path: Path(content.source).read_bytes() for content in found}


def test_targets_are_read() -> None:
    assert str(parse_target("hf://me/mine")) == str(parse_target("hf://datasets/me/mine/")) == "hf://me/mine"
    assert str(parse_target("gcs://bucket/a/b/")) == "gs://bucket/a/b" and parse_target("s3://b").name == "b"
    for wrong in ("me/mine", "hf://me", "hf://me/a/b", "s3://", "s3://b/../c", "https://x/y", "hf://me/ö", ""):
        with pytest.raises(BuildError, match="hf://ORG/NAME"):
            parse_target(wrong)


@settings(max_examples=40)
@given(st.binary(max_size=300), st.integers(1, 64))
def test_hashes_are_those_of_the_places(data: bytes, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents_module, "CHUNK", chunk)
        patch.setattr(contents_module, "_READ", chunk)
        hashes = Hashes.of(data)
    parts = [hashlib.md5(data[i : i + chunk]).digest() for i in range(0, max(len(data), 1), chunk)]
    assert hashes.etags == (hashlib.md5(data).hexdigest(), f"{hashlib.md5(b''.join(parts)).hexdigest()}-{len(parts)}")
    assert hashes.sha256 == hashlib.sha256(data).hexdigest() and hashes.size == len(data)
    assert Held(len(data), "md5", base64.b64encode(hashlib.md5(data).digest()).decode()).agrees(hashes)
    assert not Held(len(data), "sha256", hashlib.sha256(data + b"x").hexdigest()).agrees(hashes)
    assert not Held(len(data) + 1, "git", hashes.git).agrees(hashes)


def test_git_names_a_blob_as_we_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"some bytes\n")
    said = subprocess.run(["git", "hash-object", tmp_path / "file"], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == Hashes.of(tmp_path / "file").git


def test_only_what_the_digests_name_is_sent(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    stray = tmp_path / "run/first/train/notes/mine.txt"
    stray.write_text("a secret of mine")
    names = set(local(tmp_path / "run"))
    assert "first/train/notes/mine.txt" not in names and not any(".lock" in n or "/logs/" in n for n in names)
    assert {"first/run.json", "first/train/index.json", "second/order/order.json", "first/README.md"} <= names
    assert not any(name.split("/")[1] in ("pools", "rejects", "attributes") for name in names)
    assert {name.split("/")[1] for name in local(run, whole=True)} >= {"pools", "rejects", "attributes", "train"}


def test_a_folder_with_too_many_entries_is_refused() -> None:
    many = [of_bytes(f"first/train/web/split-{n}/shard.00000.mds", b"") for n in range(12)]
    refuse_full_folders(many, 12)
    with pytest.raises(BuildError, match=r"first/train/web would hold 12 entries(?s:.*)split_bytes"):
        refuse_full_folders(many, 11)


# --- the pages -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages(run: Path) -> dict[str, bytes]:
    target = parse_target("hf://me/mine")
    made = pages_of(target, open_phases(run), lambda _: lambda ids: f"{len(ids)} tokens", 5)
    assert pages_of(target, open_phases(run), lambda _: lambda ids: f"{len(ids)} tokens", 5) == made
    return {content.path: bytes(content.source) for content in made}  # type: ignore[arg-type]


def test_the_card_has_a_head_whose_files_are_there(pages: dict[str, bytes], run: Path) -> None:
    _, head, body = pages["README.md"].decode().split("---\n", 2)
    said = yaml.safe_load(head)
    assert [c["config_name"] for c in said["configs"]] == ["first", "second"]
    for config in said["configs"]:
        rows = pq.read_table(io.BytesIO(pages[config["data_files"][0]["path"]])).to_pylist()
        assert {row["source"] for row in rows} == {"notes", "papers"} and len(rows) > 5
        assert all(row["text"] == f"{row['tokens']} tokens" for row in rows)
    assert said["license"] == ["cc-by-4.0", "other"] and said["size_categories"] == ["n<1K"]
    first = read_run(open_phase(run / "first"))
    assert f"| own | papers | {first.sources['papers'].tokens:,} |" in body and first.root[:16] in body
    licences = "Allowed:\n\n* papers: CC-BY-4.0\n\nRefused: none.\n\nNot known:\n\n* notes: your own\n"
    assert licences in body and licences in card(first) and "hf download me/mine --repo-type dataset" in body


def test_croissant_names_files_with_their_digests(pages: dict[str, bytes]) -> None:
    said = json.loads(pages[CROISSANT])
    assert said["@type"] == "sc:Dataset" and said["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    objects = {each["@id"]: each for each in said["distribution"]}
    assert all("@type" in each and each["name"] == each["@id"] for each in objects.values())
    for each in objects.values():
        assert each.get("containedIn", {"@id": "repository"})["@id"] in objects
        if each["name"].endswith(".parquet"):
            data = pages[each["contentUrl"]]
            assert each["sha256"] == hashlib.sha256(data).hexdigest() and each["contentSize"] == f"{len(data)} B"
    for records in said["recordSet"]:
        columns = pq.read_schema(io.BytesIO(pages[f"viewer/{records['name'].removesuffix('-samples')}.parquet"])).names
        assert [field["name"] for field in records["field"]] == columns
        assert all(field["source"]["fileObject"]["@id"] in objects for field in records["field"])


def test_mlcroissant_accepts_it(pages: dict[str, bytes], tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    for name, data in pages.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert not list(mlcroissant.Dataset(str(tmp_path / CROISSANT)).metadata.issues.errors)


def test_the_summary_has_the_sections_of_the_template(pages: dict[str, bytes]) -> None:
    text = pages[SUMMARY].decode()
    sections = re.findall(r"^###? (\d(?:\.\d)?)", text, re.MULTILINE)
    assert sections == ["1", "1.1", "1.2", "1.3", "2", "2.1", "2.2", "2.3", "2.4", "2.5", "3", "3.1", "3.2", "3.3"]
    assert "less than 1 billion tokens" in text and f"({shown_run.FILTERED} documents dropped)" in text
    assert "*to be filled in by the provider of the model*" in text


# --- the hub and a bucket --------------------------------------------------------------------------------------------

COMMAND = [sys.executable, "-m", "ettin_data.cli", "publish"]


def published(run: Path, target: str, environment: dict[str, str], *words: str, status: int = 0) -> str:
    done = subprocess.run(
        [*COMMAND, str(run), target, *words], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == status, done.stdout[-2000:] + done.stderr[-4000:]
    assert "Traceback" not in done.stderr, done.stderr[-4000:]
    return done.stdout + done.stderr


@pytest.fixture
def on_hub(tmp_path: Path) -> Iterator[tuple[HubServer, Proxy, dict[str, str]]]:
    with hub() as served, proxied(served.url) as proxy:
        environment = {
            **os.environ, "HF_ENDPOINT": proxy.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": "hf_secretsecret",
            "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*", "no_proxy": "*",
        }  # fmt: skip
        yield served, proxy, environment


def test_a_dry_run_sends_nothing_and_a_run_all(run: Path, on_hub: tuple[HubServer, Proxy, dict[str, str]]) -> None:
    served, proxy, environment = on_hub
    said = published(run, "hf://me/mine", environment, "--dry-run")
    expected = local(run)
    assert f"{len(expected) + 6} files" in said and "would be sent" in said and served.repos == {}
    assert all(path in said for path in expected)
    assert not proxy.asked("^(PUT|POST)")
    published(run, "hf://me/mine", environment)
    held = served.repos["me/mine"]
    assert {path: held[path] for path in expected} == expected
    assert set(held) - set(expected) == {
        "README.md", CHECKSUMS, CROISSANT, SUMMARY, "viewer/first.parquet", "viewer/second.parquet"
    }  # fmt: skip
    assert served.commits[-1] == ["README.md"]
    sums = dict(reversed(line.split("  ", 1)) for line in held[CHECKSUMS].decode().splitlines())
    assert sums == {path: hashlib.sha256(data).hexdigest() for path, data in expected.items()}


@pytest.mark.slow
def test_the_hub_with_faults_and_a_kill(
    run: Path, on_hub: tuple[HubServer, Proxy, dict[str, str]], tmp_path: Path
) -> None:
    """Refused, broken off before and after it was done, asked to wait, killed while sending; then it goes on."""
    served, proxy, environment = on_hub
    environment["HF_HUB_DISABLE_TELEMETRY"] = "1"
    proxy.harms += [
        Harm("POST /api/repos/create", status=503),
        Harm("POST .*preupload", status=429, headers={"Retry-After": "1"}),
        Harm("POST .*objects/batch", drop=True),
        Harm("PUT /lfs", skip=3, times=2, drop=True),
        Harm("PUT /lfs", skip=5, status=503),
        Harm("POST .*commit", status=429, headers={"Retry-After": "1"}),
        Harm("POST .*commit", drop=True, late=True),
    ]
    process: list[subprocess.Popen[bytes]] = []
    proxy.harms.append(Harm("PUT /lfs", skip=12, call=lambda: process[0].send_signal(signal.SIGKILL)))
    process.append(subprocess.Popen([*COMMAND, str(run), "hf://me/mine"], env=environment))
    assert process[0].wait(240) == -signal.SIGKILL
    assert "me/mine" in served.repos and served.commits == []
    before = set(served.objects)
    assert len(before) >= 10
    proxy.requests.clear()
    published(run, "hf://me/mine", environment)
    sent_again = {request.rpartition("/")[2] for request in proxy.asked("^PUT /lfs")} & before
    assert sent_again == set(), "what is there is not sent again"
    assert all(harm.times == 0 for harm in proxy.harms), proxy.harms
    expected = local(run)
    assert {path: served.repos["me/mine"][path] for path in expected} == expected
    proxy.requests.clear()
    assert "0 files" in published(run, "hf://me/mine", environment)
    assert not proxy.asked("^(PUT|POST)")
    # the viewer's configuration works
    script = (
        "import datasets; d = datasets.load_dataset('me/mine', 'second', split='train');print(sorted(set(d['source'])))"
    )
    pytest.importorskip("datasets")
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=240)
    assert done.stdout == "['notes', 'papers']\n", done.stderr[-3000:]


@pytest.mark.slow
def test_what_the_card_says_about_loading_works(
    run: Path, on_hub: tuple[HubServer, Proxy, dict[str, str]], tmp_path: Path, streaming: object
) -> None:
    served, _, environment = on_hub
    published(run, "hf://me/mine", environment)
    card = served.repos["me/mine"]["README.md"].decode()
    shell, python = (card.split(f"```{kind}\n")[1].split("```")[0] for kind in ("", "python"))
    where = {"cwd": tmp_path, "env": environment, "check": True, "timeout": 240}
    subprocess.run(["bash", "-ec", shell], **where)  # type: ignore[call-overload]
    python += "print(len(samples), len(dataset), sorted(set(decoded['source'])))\n"
    script = tmp_path / "load.py"
    script.write_text(f"if __name__ == '__main__':\n    {python.replace(chr(10), chr(10) + '    ')}\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, **where)  # type: ignore[call-overload]
    samples = read_run(open_phase(run / "first")).totals["samples"]
    assert done.stdout == f"{samples} {samples} ['notes', 'papers']\n", done.stderr[-2000:]


@pytest.mark.slow
def test_what_is_not_there_as_it_was_sent_is_named(run: Path, on_hub: tuple[HubServer, Proxy, dict[str, str]]) -> None:
    """A hub that changes a file when it is looked at at the end; a file of the run that is damaged; a refusal."""
    served, proxy, environment = on_hub

    def harm() -> None:
        served.repos["me/mine"]["first/run.json"] += b" "

    proxy.harms.append(Harm("GET .*/tree/", skip=1, call=harm))
    published(run, "hf://me/mine", environment, "--dry-run")
    said = published(run, "hf://me/mine", environment, status=0)  # the first listing after the commits is the last
    assert "have there the digests" in said
    proxy.harms[:] = [Harm("GET .*/tree/", skip=1, call=harm)]
    said = published(run, "hf://me/mine", environment, status=1)
    assert "first/run.json" in said and "1 of" in said
    proxy.harms[:] = [Harm("POST .*commit", times=9, status=403)]
    said = published(run, "hf://me/other", environment, status=1)
    assert "hf://me/other refuses it" in said and "HF_TOKEN" in said and "secretsecret" not in said


@pytest.mark.slow
def test_a_damaged_run_is_not_published(
    run: Path, on_hub: tuple[HubServer, Proxy, dict[str, str]], tmp_path: Path
) -> None:
    served, _, environment = on_hub
    shutil.copytree(run, tmp_path / "run")
    shard = next((tmp_path / "run/first/train/papers").rglob("shard.00000.mds"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.unlink()
    shard.write_bytes(data)
    said = published(tmp_path / "run", "hf://me/mine", environment, status=1)
    assert (
        "a file is damaged" in said and "shard.00000.mds" in said and "README.md" not in served.repos.get("me/mine", {})
    )


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    server.stop()


@pytest.fixture
def on_s3(s3_server: str, tmp_path: Path) -> Iterator[tuple[Any, Proxy, dict[str, str]]]:
    import boto3

    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    client = boto3.client(
        "s3",
        endpoint_url=s3_server,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="mine")
    with proxied(s3_server) as proxy:
        environment = {
            **os.environ, **keys, "AWS_ENDPOINT_URL": proxy.url, "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "NO_PROXY": "*", "no_proxy": "*",
        }  # fmt: skip
        yield client, proxy, environment


SEND_ONE = (
    "import sys; from pathlib import Path; from ettin_data.publish.buckets import Bucket;"
    "from ettin_data.publish.contents import Content; from ettin_data.publish.target import parse_target;"
    "from ettin_data.sources.base import TransportOptions;"
    "b = Bucket(parse_target(sys.argv[1]), TransportOptions()); p = Path(sys.argv[2]);"
    "c = Content('large', p, p.stat().st_size); b.send([c]); h = b.there()['large'];"
    "print(h.kind if h.kind != 'etag' else h.digest.rpartition('-')[2], h.agrees(c.hashes()))"
)
"""Sends a file and says by what the place knows it, and whether that agrees."""


def objects(client: Any, prefix: str) -> dict[str, bytes]:
    listed = client.list_objects_v2(Bucket="mine", Prefix=prefix).get("Contents", [])
    return {
        each["Key"].removeprefix(prefix): client.get_object(Bucket="mine", Key=each["Key"])["Body"].read()
        for each in listed
    }


@pytest.mark.slow
def test_a_bucket_with_faults_and_a_kill(run: Path, on_s3: tuple[Any, Proxy, dict[str, str]], tmp_path: Path) -> None:
    client, proxy, environment = on_s3
    process: list[subprocess.Popen[bytes]] = []
    proxy.harms += [
        Harm("^GET .*list-type", status=503),
        Harm("^PUT", skip=2, times=2, status=503),
        Harm("^PUT", skip=6, drop=True),
        Harm("^PUT", skip=8, drop=True, late=True),
        Harm("^PUT", skip=30, call=lambda: process[0].send_signal(signal.SIGKILL)),
    ]
    process.append(subprocess.Popen([*COMMAND, str(run), "s3://mine/deep/run", "--whole"], env=environment))
    assert process[0].wait(240) == -signal.SIGKILL
    before = objects(client, "deep/run/")
    expected = local(run, whole=True)
    assert 20 < len(before) < len(expected) and "README.md" not in before
    proxy.requests.clear()
    published(run, "s3://mine/deep/run", environment, "--whole")
    assert len(proxy.asked("^PUT")) <= len(expected) + 6 - len(before) + 1
    held = objects(client, "deep/run/")
    assert {path: held[path] for path in expected} == expected
    for path, data in held.items():  # a copy of it is a run that passes every check
        (tmp_path / "copy" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / path).write_bytes(data)
    subprocess.run(
        [*COMMAND[:-1], "verify", tmp_path / "copy", "--full", "--workers", "1"], check=True, env=environment
    )
    summed = subprocess.run(["sha256sum", "--quiet", "--check", CHECKSUMS], cwd=tmp_path / "copy", check=True)
    assert summed.returncode == 0
    client.put_object(Bucket="mine", Key="deep/run/first/run.json", Body=b"other")
    client.put_object(Bucket="mine", Key="deep/run/mine.txt", Body=b"of somebody")
    said = published(run, "s3://mine/deep/run", environment, "--whole")
    assert said.startswith("1 files") and "mine.txt" in said
    assert objects(client, "deep/run/")["first/run.json"] == expected["first/run.json"]


@pytest.mark.slow
def test_a_large_file_is_known_by_the_etag_of_its_parts(
    on_s3: tuple[Any, Proxy, dict[str, str]], tmp_path: Path
) -> None:
    _, _, environment = on_s3
    (tmp_path / "large").write_bytes(bytes(range(256)) * (150 << 12))  # 150 MiB: three parts
    done = subprocess.run(
        [sys.executable, "-c", SEND_ONE, "s3://mine/parts", tmp_path / "large"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "3 True\n", done.stderr[-3000:]


@pytest.mark.slow
def test_googles_storage_with_faults(run: Path, tmp_path: Path) -> None:
    """Uploads in one piece and in chunks, refused and broken off; MD5s are compared."""
    pytest.importorskip("gcsfs")
    with gcs() as served, proxied(served.url) as proxy:
        environment = {**os.environ, "STORAGE_EMULATOR_HOST": proxy.url, "NO_PROXY": "*", "no_proxy": "*"}
        proxy.harms += [
            Harm("POST .*multipart", skip=4, times=2, status=503),
            Harm("POST .*multipart", skip=9, drop=True),
        ]
        published(run, "gs://mine/deep/run", environment)
        assert all(harm.times == 0 for harm in proxy.harms)
        expected = local(run)
        assert {path: served.objects[f"deep/run/{path}"] for path in expected} == expected
        proxy.requests.clear()
        assert published(run, "gs://mine/deep/run", environment).startswith("0 files")
        assert not proxy.asked("^POST")
        (tmp_path / "large").write_bytes(bytes(range(256)) * (6 << 12))
        proxy.harms[:] = [Harm("POST .*upload_id", drop=True)]
        done = subprocess.run(
            [sys.executable, "-c", SEND_ONE, "gs://mine/parts", tmp_path / "large"],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.stdout == "md5 True\n" and proxy.harms[0].times == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_a_run_is_pushed_and_pulled(run: Path, on_hub: tuple[HubServer, Proxy, dict[str, str]], tmp_path: Path) -> None:
    """Killed while it comes, it goes on; what is damaged on the way, or leads elsewhere, is no run."""
    served, proxy, environment = on_hub
    mirror = [sys.executable, "-m", "ettin_data.cli", "mirror"]

    def pulled(name: str, to: str) -> subprocess.CompletedProcess[str]:
        command = [*mirror, "pull", f"hf://me/{name}", str(tmp_path / to)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)

    subprocess.run([*mirror, "push", run, "hf://me/mine"], env=environment, check=True)
    process: list[subprocess.Popen[bytes]] = []
    proxy.harms += [
        Harm("^GET .*resolve", skip=3, status=503),
        Harm("^GET .*resolve", skip=9, drop=True),
        Harm("^GET .*resolve", skip=60, call=lambda: process[0].send_signal(signal.SIGKILL)),
    ]
    process.append(subprocess.Popen([*mirror, "pull", "hf://me/mine", tmp_path / "back"], env=environment))
    assert process[0].wait(240) == -signal.SIGKILL
    assert not (tmp_path / "back/second/run.json").exists()
    done = pulled("mine", "back")
    assert done.returncode == 0 and "; 0 were here already" not in done.stdout.splitlines()[0], done.stderr[-3000:]
    assert done.stdout.count("sound") == 2 and read_run(open_phase(run / "first")).root in done.stdout
    expected = local(run, whole=True)
    assert {path: (tmp_path / "back" / path).read_bytes() for path in expected} == expected
    (tmp_path / "back/first/run.json").write_text("mine")
    done = pulled("mine", "back")
    assert done.returncode == 1 and "another file is here already" in done.stderr
    served.repos["me/mine"]["first/../../../outside"] = b"x"
    done = pulled("mine", "other")
    assert done.returncode == 1 and "leads elsewhere" in done.stderr and not (tmp_path / "outside").exists()
    done = pulled("no", "other")
    assert done.returncode == 4 and "no run at hf://me/no" in done.stderr


@pytest.mark.slow
def test_a_bucket_that_is_not_there(run: Path, on_s3: tuple[Any, Proxy, dict[str, str]]) -> None:
    _, _, environment = on_s3
    said = published(run, "s3://not-mine/run", environment, status=1)
    assert "there is no bucket not-mine" in said and "credentials" in said
