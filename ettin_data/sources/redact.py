"""Secrets never reach a message: credentials in URLs, signed queries and tokens are blanked."""

from __future__ import annotations

import re
from typing import Any

_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*://)[^/\s@'\"]+@(?=[^/\s])")
_QUERY = re.compile(
    r"(?P<key>[?&;](?:[^=&\s'\"]*(?:sig|signature|token|secret|key|password|passwd|pwd|credential|auth|policy)"
    r"[^=&\s'\"]*))=[^&\s'\"<>]*",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(?P<kind>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=\-]{12,}", re.IGNORECASE)
_TOKENS = re.compile(r"\b(?:hf_[A-Za-z0-9]{8,}|(?:AKIA|ASIA)[A-Z0-9]{12,}|gh[pousr]_[A-Za-z0-9]{16,}|ya29\.[\w\-.]+)")


def redact(value: object) -> str:
    """`str(value)` with the secrets blanked: user and password of URLs, signed query values, bearer and hub tokens.

    `hf://datasets/org/name@revision` stays whole: its "@" is not in the host part.
    """
    text = str(value)
    text = _USERINFO.sub(r"\g<scheme>***@", text)
    text = _QUERY.sub(r"\g<key>=***", text)
    text = _BEARER.sub(r"\g<kind>***", text)
    return _TOKENS.sub("***", text)


def redact_all(value: Any) -> Any:
    """A JSON value with the secrets in its strings blanked; keys stay."""
    if isinstance(value, dict):
        return {key: redact_all(item) for key, item in value.items()}
    if isinstance(value, list):
        return [redact_all(item) for item in value]
    return redact(value) if isinstance(value, str) else value
