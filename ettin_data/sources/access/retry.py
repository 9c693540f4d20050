"""What a failed request means, and how long to wait before the next one.

Every client has its own exceptions (aiohttp below fsspec, requests or httpx below the hub client, botocore below s3fs,
gcsfs), and fsspec turns some into `FileNotFoundError` whatever they were. `diagnose` looks through the chain of causes
for an HTTP status before it believes a class.
"""

from __future__ import annotations

import email.utils
import json
import random
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ettin_data.base.errors import SourceError
from ettin_data.base.redact import redact
from ettin_data.sources.base import Damaged, TransportOptions

RETRIED = frozenset({408, 409, 421, 423, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
PROGRESS = 1 << 20
REFUSALS = 5
"""Attempts at a file that was listed and is refused (401, 403, 404 …): more often meant than other failures."""
_CLIENTS = frozenset(
    {"aiohttp", "requests", "urllib3", "httpx", "httpcore", "http", "botocore", "aiobotocore", "gcsfs"}
)
_NAMELESS = 2
"""Failures to resolve a name before it is given up, while sources are listed: a person is waiting. A build that has
begun waits out the fault of a name server as any other."""
_UNRESOLVED = re.compile(
    r"Name or service not known|[Tt]emporary failure in name resolution|nodename nor servname|No address associated|"
    r"getaddrinfo failed|NameResolutionError|Could not resolve host|Domain name not found|Could not contact DNS servers"
)
_SAID_BY_GCSFS = ("Forbidden: ", "Bad Request: ")  # an OSError or ValueError, without the status
_jitter = random.Random()  # spreads the retries of many workers; no data depends on it
_RESET = re.compile(r"\bt=(\d+)")


@dataclass(frozen=True)
class Diagnosis:
    """What a failure means: try again (after `wait_s` at least), the file is not there, or it may not be read."""

    kind: Literal["again", "missing", "denied"]
    wait_s: float = 0.0


def diagnose(error: BaseException) -> Diagnosis | None:
    """The meaning of an exception from any of the clients; None if it is not one of theirs (a programming error)."""
    chain = list(_causes(error))
    for link in chain:
        status, headers = _status(link)
        if status is None:
            continue
        if status in RETRIED or "Retry-After" in headers or "retry-after" in headers:
            return Diagnosis("again", _retry_after(headers))
        if status in (404, 410):
            return Diagnosis("missing")
        if 400 <= status < 500:
            return Diagnosis("denied")
    for link in chain:
        name = type(link).__name__
        if name in ("NoCredentialsError", "PartialCredentialsError", "GatedRepoError", "LocalTokenNotFoundError"):
            return Diagnosis("denied")
    if any(isinstance(link, json.JSONDecodeError) for link in chain):  # a web page where a service answers in JSON
        return Diagnosis("again")
    if any(_is_network(link) for link in chain):  # before the class: fsspec calls a refused connection "not found"
        return Diagnosis("again")
    if isinstance(error, FileNotFoundError):
        return Diagnosis("missing")
    if isinstance(error, PermissionError) or str(error).startswith(_SAID_BY_GCSFS):
        return Diagnosis("denied")
    return Diagnosis("again") if isinstance(error, OSError | EOFError | TimeoutError) else None


def refused(error: BaseException) -> bool:
    """Whether a failure says that something is not there or may not be read."""
    found = diagnose(error)
    return found is not None and found.kind != "again"


def of_network(error: BaseException) -> bool:
    """Whether an exception comes from a network and not from what was read."""
    return any(_is_network(link) or _status(link)[0] is not None for link in _causes(error))


def _is_network(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in _CLIENTS or isinstance(error, ConnectionError | TimeoutError)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> tuple[int | None, Mapping[str, Any]]:
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        meta = response.get("ResponseMetadata", {})
        return meta.get("HTTPStatusCode"), meta.get("HTTPHeaders", {})
    if response is not None and isinstance(getattr(response, "status_code", None), int):  # requests, httpx
        return response.status_code, response.headers
    status = getattr(error, "status", None)  # aiohttp
    if isinstance(status, int):
        return status, getattr(error, "headers", None) or {}
    code = str(getattr(error, "code", ""))  # gcsfs
    return (int(code), {}) if type(error).__name__ == "HttpError" and code.isdigit() else (None, {})


def _retry_after(headers: Mapping[str, Any]) -> float:
    """Seconds that a server asks to wait: `Retry-After` (a number or a date), or the hub's `RateLimit: …;t=seconds`."""
    lower = {str(key).lower(): str(value) for key, value in headers.items()}
    value = lower.get("retry-after", "").strip()
    if value:
        try:
            return max(0.0, float(value))
        except ValueError:
            parsed = email.utils.parsedate_tz(value)
            return max(0.0, email.utils.mktime_tz(parsed) - time.time()) if parsed else 0.0
    match = _RESET.search(lower.get("ratelimit", ""))
    return float(match[1]) if match else 0.0


class Unreachable(SourceError):
    """There is no network, or no name server: nothing that needs it can be had, and waiting is for who started it."""


def unresolved(error: BaseException) -> bool:
    """Whether a name was not resolved, in whatever words of whichever client."""
    return any(isinstance(link, socket.gaierror) or _UNRESOLVED.search(str(link)) for link in _causes(error))


class Patience:
    """Counts the failures of one transfer and waits between them."""

    def __init__(self, options: TransportOptions, what: str, listed: bool = False) -> None:
        """`listed`: it was there when its source was listed, so that a refusal is a fault of the network as well."""
        self.options, self.what, self.listed = options, redact(what), listed
        self.failures = 0
        self._since = 0

    def progress(self, size: int) -> None:
        """Bytes came; a MiB of them forgives the failures before."""
        self._since += size
        if self._since >= PROGRESS:
            self.failures = 0

    def failed(self, error: BaseException) -> None:
        """Wait before the next attempt, or give up.

        Raises `Damaged` for a file that is not there or may not be read, `SourceError` when the network stays down or
        what was listed stays refused, and the error itself when it is no network's.
        """
        found = diagnose(error)
        said = redact(f"{type(error).__name__}: {error}")[:300]
        if found is None:
            raise error
        denied = found.kind != "again"
        if denied and not self.listed:
            raise Damaged("file_missing" if found.kind == "missing" else "permission_denied", said) from None
        self.failures += 1
        self._since = 0
        if not self.listed and self.failures >= _NAMELESS and unresolved(error):
            raise Unreachable(
                "a name is not resolved: there is no network here, or no name server",
                where=self.what,
                why=said,
                remedy="look at the connection, at HTTPS_PROXY or at the endpoint's name; or build from a mirror with "
                "--sources-root",
            ) from None
        if self.failures >= (min(REFUSALS, self.options.attempts) if denied else self.options.attempts):
            status = next((status for link in _causes(error) if (status := _status(link)[0]) is not None), None)
            check = "check the network"
            if denied:
                check = "check access (token, terms), or accept a changed source with --relist"
            elif status is not None and (status == 429 or status >= 500):
                check = f"the service itself says {status}: wait until it is well, or ask less of it with fewer workers"
            raise SourceError(
                f"gave up after {self.failures} failed attempts" + (" at a file that was listed" if denied else ""),
                where=self.what,
                why=said,
                remedy=f"start again, what is finished is kept; {check}",
            ) from None
        if found.wait_s > self.options.patience_s:
            raise SourceError(
                f"the server asks to wait {found.wait_s:,.0f} s, longer than {self.options.patience_s:,.0f} s",
                where=self.what,
                why=said,
                remedy="start again later, or read fewer files at a time",
            ) from None
        time.sleep(self.wait_s(found.wait_s))

    def wait_s(self, asked: float) -> float:
        """Seconds to wait after the failures so far, at least what the server asked for."""
        backoff = min(self.options.backoff_max_s, self.options.backoff_s * 2.0 ** (self.failures - 1))
        return max(asked + backoff * 0.1 * _jitter.random() if asked else 0.0, backoff * (0.5 + _jitter.random() / 2))
