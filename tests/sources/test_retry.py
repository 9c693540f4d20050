"""What the exceptions of the clients mean, and how long is waited."""

from __future__ import annotations

import email.utils
import json
import time
from typing import Any

import aiohttp
import botocore.exceptions
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from ettin_data.base.errors import SourceError
from ettin_data.sources.access.retry import Patience, diagnose
from ettin_data.sources.base import Damaged, TransportOptions


def aiohttp_error(status: int, headers: dict[str, str] | None = None) -> Exception:
    from multidict import CIMultiDict, CIMultiDictProxy

    url = URL("https://h.example/a")
    info = aiohttp.RequestInfo(url, "GET", CIMultiDictProxy(CIMultiDict()), url)
    return aiohttp.ClientResponseError(info, (), status=status, headers=CIMultiDict(headers or {}))


def requests_error(status: int, headers: dict[str, str] | None = None) -> Exception:
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers or {})
    return requests.HTTPError(response=response)


def boto_error(status: int, headers: dict[str, str] | None = None) -> Exception:
    meta: Any = {"ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers or {}}, "Error": {"Code": "X"}}
    return botocore.exceptions.ClientError(meta, "GetObject")


def caused(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize("make", [aiohttp_error, requests_error, boto_error])
@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, "missing"), (410, "missing"), (401, "denied"), (403, "denied"), (400, "denied")]
    + [(status, "again") for status in (408, 429, 500, 502, 503, 504)],
)
def test_statuses(make: Any, status: int, kind: str) -> None:
    for error in (make(status), caused(FileNotFoundError("x"), make(status)), caused(OSError("x"), make(status))):
        found = diagnose(error)
        assert found is not None and found.kind == kind


@pytest.mark.parametrize("make", [aiohttp_error, requests_error, boto_error])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"Retry-After": "in a minute"}, 60),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": "-5"}, 0),
        ({"RateLimit": '"resolvers";r=0;t=120'}, 120),
        ({}, 0),
    ],
)
def test_how_long_a_server_asks_to_wait(make: Any, headers: dict[str, str], seconds: float) -> None:
    if headers.get("Retry-After") == "in a minute":
        headers = {"Retry-After": email.utils.formatdate(time.time() + 60, usegmt=True)}
    found = diagnose(make(429, headers))
    assert found is not None and found.kind == "again" and found.wait_s == pytest.approx(seconds, abs=3)


def test_other_failures() -> None:
    again = [
        aiohttp.ClientPayloadError("cut"),
        aiohttp.ServerDisconnectedError(),
        TimeoutError(),
        ConnectionResetError(),
        requests.ConnectionError(),
        requests.exceptions.ChunkedEncodingError(),
        EOFError("short"),
        json.JSONDecodeError("Expecting value", "<html>", 0),
        botocore.exceptions.EndpointConnectionError(endpoint_url="x"),
        OSError(5, "input/output error"),
        caused(FileNotFoundError("fsspec says so"), aiohttp.ClientConnectionError("refused")),
    ]
    for error in again:
        found = diagnose(error)
        assert found is not None and found.kind == "again", error
    gcsfs = OSError("Forbidden: https://…"), ValueError("Bad Request: https://…")
    for error, kind in ((FileNotFoundError("x"), "missing"), *((e, "denied") for e in (PermissionError("x"), *gcsfs))):
        found = diagnose(error)
        assert found is not None and found.kind == kind
    found = diagnose(botocore.exceptions.NoCredentialsError())
    assert found is not None and found.kind == "denied"
    assert diagnose(ZeroDivisionError()) is None, "a programming error is nobody's network"


def test_programming_errors_are_raised_as_they_are() -> None:
    with pytest.raises(ZeroDivisionError):
        Patience(TransportOptions(), "x").failed(ZeroDivisionError())


@given(st.integers(1, 30), st.floats(0, 100))
def test_waits_double_with_jitter_and_respect_the_server(failures: int, asked: float) -> None:
    options = TransportOptions(backoff_s=1, backoff_max_s=60)
    patience = Patience(options, "x")
    patience.failures = failures
    backoff = min(60.0, 2.0 ** (failures - 1))
    waits = [patience.wait_s(asked) for _ in range(20)]
    assert all(max(asked, backoff / 2) <= wait <= max(asked * 1.0 + backoff * 0.1, backoff) for wait in waits)
    assert len(set(waits)) > 1, "workers do not come back all at once"


def test_giving_up() -> None:
    patience = Patience(TransportOptions(attempts=3, backoff_s=0.001), "https://me:hunter2@h.example/x")
    patience.failed(TimeoutError())
    patience.failed(TimeoutError())
    with pytest.raises(SourceError, match="gave up after 3 failed attempts") as error:
        patience.failed(TimeoutError("https://h.example/x?sig=hunter2"))
    assert "hunter2" not in str(error.value)
    with pytest.raises(Damaged, match="file_missing"):
        patience.failed(FileNotFoundError("x"))


def test_progress_forgives_failures_but_a_trickle_does_not() -> None:
    patience = Patience(TransportOptions(attempts=3, backoff_s=0.001), "x")
    for _ in range(10):
        patience.failed(TimeoutError())
        patience.progress(1 << 20)
    patience.failed(TimeoutError())
    patience.progress(100)
    patience.failed(TimeoutError())
    patience.progress(100)
    with pytest.raises(SourceError, match="gave up"):
        patience.failed(TimeoutError())
