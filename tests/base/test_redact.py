"""Secrets are blanked wherever text leaves the program; prose and paths stay as they are."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettin_data import recipe
from ettin_data.base.errors import BuildError
from ettin_data.base.redact import redact, redact_all
from ettin_data.cli import main as cli


@pytest.mark.parametrize(
    "text",
    [
        "https://user:SECRETSECRET@host/path",
        "https://user:SECRET@SECRET@host/path",
        "git+https://SECRETSECRET@host/path",
        "s3://AKIAABCDEFGHIJKLSECRET@bucket/key",
        "https://b.example/x?X-Amz-Signature=SECRETSECRET&X-Amz-Credential=SECRETSECRET%2Faws4&a=b",
        "https://b.example/x?sv=2020&sig=SECRETSECRET%3D",
        "https://b.example/x?access_token=SECRETSECRET",
        "headers={'Authorization': 'Bearer SECRETSECRETSECRET'}",
        "authorization: basic SECRET",
        "Authorization: SECRET",
        "sent Bearer SECRETSECRET123 and was refused",
        "sent bearer eyJhbGciSECRETOiJIUzI1",
        "sent Basic SECRETSECRET==",
        "token hf_SECRETSECRETSECRET was refused",
        "key ASIASECRETSECRETSECR",
        "aws_secret_access_key=SECRET/SECRET+SECRET",
        '{"secret_key": "SECRETSECRET", "a": 1}',
        "client_kwargs={'password': 'SECRETSECRET'}",
    ],
)
def test_secrets_are_blanked(text: str) -> None:
    assert "SECRET" not in redact(text) and "***" in redact(text)
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "hf://datasets/org/name@817d6752765f6a41261085171dd546b104f60626/data",
        "https://olmo-data.org/dolma-v1_7/wiki/wiki-0000.json.gz",
        "token out_of_vocabulary: ids from 5 to 99999",
        "https://example.org/?page=2&lang=en",
        "write to someone@example.org",
        "the bearer of the ring, a basic understanding of counterintelligence",
        "basic input/output, bearer securities, Basic Instructions and Bearer Certificates",
        "hf_transformers and hf_hub_download",
        "the password is asked for; a secret key is not shown",
        "pools/hf_datasets/part_0001: tokens: 1024",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz ,.-'\n", max_size=200))
def test_prose_stays(text: str) -> None:
    words = text if max(map(len, text.split()), default=0) < 24 else ""
    for kind in ("bearer", "basic"):
        assert redact(f"{kind} {words}") == f"{kind} {words}"


def test_all_strings_of_a_value() -> None:
    value = {"a": ["https://u:hunter2@h/", 1, None], "b": {"c": "sig", "d": "x?sig=hunter2"}}
    assert "hunter2" not in json.dumps(redact_all(value))
    assert redact_all(value)["a"][1:] == [1, None] and redact_all(value).keys() == value.keys()


def test_no_error_of_ours_says_a_secret() -> None:
    error = BuildError("x.jsonl?token=hunter2 is not there", where="https://u:hunter2@h/", why=OSError("?sig=hunter2"))
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert "hunter2" not in str(each) and "***@h/" in str(each)


@pytest.mark.parametrize("query", ["u:hunter2@127.0.0.1:9/x*.jsonl", "127.0.0.1:9/x.jsonl?token=hunter2"])
def test_the_command_line_says_no_secret(query: str, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    others = [word for key in recipe.load_recipe("decay").sources for word in ("--drop-source", key)]
    monkeypatch.setattr(
        "sys.argv", ["ettin-data", "plan", "decay", *others, "--add-source", f"mine=https://{query}:1k"]
    )
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = "".join(capsys.readouterr())
    assert stopped.value.code == 1 and "hunter2" not in said and "cannot be listed" in said


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "part", ["x", "?", "://", "?sig", "a:", "Basic ", "Authorization ", "@", "hf_", ".", "password ", "&key"]
)
def test_long_foreign_text_takes_no_longer_than_it_is(part: str) -> None:
    text = part * (100_000 // len(part))
    redact(text)
    said = str(BuildError("too long", where=text, why=f"{text} SECRET", remedy="none"))
    assert len(said) < 200_000 and "characters more" in said and said.endswith("do: none")
