"""Secrets never reach a message or a file: credentials in URLs, signed queries, headers and tokens are blanked."""

from __future__ import annotations

import re
from typing import Any

# All of these take a time that grows with the text: nothing begins at every character and looks on to the end.
_USERINFO = re.compile(r"(?<=[A-Za-z0-9+.\-])://[^/\s'\"]+@(?=[^/\s@])")
_QUERY = re.compile(
    r"(?P<key>[?&;](?:[^=&\s'\"]{0,40}(?:sig|signature|token|secret|key|password|passwd|pwd|credential|auth|policy)"
    r"[^=&\s'\"]{0,40}))=[^&\s'\"<>]*",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"(?P<name>\bAuthorization['\"]?\s*[:=]\s*['\"]?(?:(?:Bearer|Basic|Token)\s+)?)"
    r"(?!\*\*\*|(?:Bearer|Basic|Token)\s)[^\s'\",;]+",
    re.IGNORECASE,
)
# Outside of a header only what no English word looks like, so that "basic understanding" stays as it is: a digit, a
# sign of base64, a capital after a small letter, or 24 letters in a row.
_BEARER = re.compile(
    r"(?P<kind>\b(?:Bearer|Basic)\s+)(?=\S*(?:(?-i:[a-z][A-Z])|[0-9=_~]|[A-Za-z]{24}))[A-Za-z0-9._~+/=\-]{12,}",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(
    r"(?P<name>\b(?:(?:aws_)?secret(?:_access)?_key|aws_access_key_id|(?:access|auth|api|hf|session|security)_token|"
    r"api_key|client_secret|password|passwd)['\"]?\s*[:=]\s*['\"]?)(?!\*\*\*)[^\s'\",;&]{4,}",
    re.IGNORECASE,
)
_TOKENS = re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|(?:AKIA|ASIA)[A-Z0-9]{12,}|gh[pousr]_[A-Za-z0-9]{16,}|ya29\.[\w\-.]+)")


def redact(value: object) -> str:
    """`str(value)` with the secrets blanked: user and password of URLs, signed query values, the value of an
    `Authorization` header, bearer tokens, `secret_key=…` and the like, hub tokens and S3 keys.

    `hf://datasets/org/name@revision` stays whole: its "@" is not in the host part. So does prose.
    """
    text = str(value)
    text = _USERINFO.sub("://***@", text)
    text = _QUERY.sub(r"\g<key>=***", text)
    text = _HEADER.sub(r"\g<name>***", text)
    text = _BEARER.sub(r"\g<kind>***", text)
    text = _ASSIGNED.sub(r"\g<name>***", text)
    return _TOKENS.sub("***", text)


def redact_all(value: Any) -> Any:
    """A JSON value with the secrets in its strings blanked; keys stay."""
    if isinstance(value, dict):
        return {key: redact_all(item) for key, item in value.items()}
    if isinstance(value, list):
        return [redact_all(item) for item in value]
    return redact(value) if isinstance(value, str) else value
