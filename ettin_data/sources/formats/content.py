"""Content that is no data, or data in a form that is not read, by its first bytes once compression is off.

What can be mended comes with the command that does it; `FILE` stands for the file, uncompressed.
"""

from __future__ import annotations

import re
import zlib

_CONTAINERS = {  # the first two only where their own headers are broken
    b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"PK\x03\x04": "zip", b"\x04\x22\x4d\x18": "lz4", b"7z\xbc\xaf": "7z",
    b"Obj\x01": "avro", b"\x89HDF": "hdf5", b"ORC": "orc",
}  # fmt: skip
_INFLATED = (
    'python3 -c "import sys, zlib; o = sys.stdout.buffer; o.write(zlib.decompress(sys.stdin.buffer.read(), {}))"'
)
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_UNPACKED = {
    "zip": "unzip FILE", "lz4": "lz4 -d FILE", "7z": "7z x FILE", "tar": "tar -xf FILE",
    "raw deflate": f"{_INFLATED.format(-15)} < FILE", "zlib": f"{_INFLATED.format(15)} < FILE",
}  # fmt: skip
_WRAPPED = re.compile(
    rb'\{\s*(?:"[^"\\]*"\s*:\s*[^][{}]*,\s*)?"(data|rows|records|documents|examples|items|train)"\s*:\s*\['
)
"""The start of a document that holds records under one of its keys, by the names that such a key has."""
_UNICODE = {
    b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16",
}  # fmt: skip


def not_data(head: bytes) -> tuple[str, str] | None:
    """(reason, detail) for content that is no data at all, or that a command has to mend first.

    `head`: 512 bytes, or all that there are.
    """
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<error")):
        return "html_instead_of_data", head[:120].decode("utf-8", "replace")
    if head.startswith(b"version https://git-lfs"):
        return "lfs_pointer", head[:200].decode("utf-8", "replace")
    if not head.strip(b"\0"):
        return "not_data", "zero bytes only"
    if head.startswith(b"PARE"):
        return "encrypted", "parquet with an encrypted footer; write it again without encryption"
    if name := _container(head):
        return "unsupported_format", f"{name} content; {_UNPACKED.get(name, 'convert it to parquet or JSON Lines')}"
    if name := _encoding(head):
        return (
            "unsupported_encoding",
            f"{name} text, which encoding: {name} of its source reads; iconv -f {name} -t UTF-8 FILE",
        )
    if not start.startswith(b"{") and len(_CONTROL.findall(head)) * 25 > len(head):
        return "not_data", f"binary content of no known form: {head[:16]!r}"
    return _json_document(head)


def _container(head: bytes) -> str | None:
    """The name of a known container that is not read."""
    name = next((name for magic, name in _CONTAINERS.items() if head.startswith(magic)), None)
    if name or len(head) < 8:
        return name
    if _is_tar(head):
        return "tar"
    if head[0] == 0x78 and int.from_bytes(head[:2], "big") % 31 == 0 and _inflates(head, 15):  # RFC 1950
        return "zlib"
    binary = not head[:64].isascii() and not head.lstrip().startswith((b"{", b"["))
    return "raw deflate" if binary and _inflates(head, -15) else None


def _is_tar(head: bytes) -> bool:
    """Whether bytes start a tar archive: a header holds the sum of its bytes, that field taken as blanks (POSIX)."""
    digits = head[148:156].strip(b" \0")
    if len(head) < 512 or not re.fullmatch(b"[0-7]+", digits):
        return False
    return int(digits, 8) == sum(head[:148]) + 8 * ord(" ") + sum(head[156:512])


def _inflates(head: bytes, wbits: int) -> bool:
    """Whether bytes inflate to what looks like JSON."""
    try:
        return zlib.decompressobj(wbits).decompress(head, 64).lstrip().startswith((b"{", b"["))
    except zlib.error:
        return False


def _encoding(head: bytes) -> str | None:
    """The encoding of text in units of two or four bytes, which nearly all of JSON shows by its zero bytes."""
    if mark := next((mark for mark in _UNICODE if head.startswith(mark)), None):
        return _UNICODE[mark]
    even, odd = head[:64:2], head[1:64:2]
    if len(head) >= 8 and head[:1] + head[1:2] in (b"{\0", b"\0{") and even.count(0) != odd.count(0):
        return "UTF-16LE" if odd.count(0) > even.count(0) else "UTF-16BE"
    return None


def _json_document(head: bytes) -> tuple[str, str] | None:
    """JSON that is one document over all of the file, not one in each line."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if re.match(rb"\[\s*\{", text):
        return "json_array", "one JSON array, not JSON Lines; jq -c '.[]' FILE"
    if re.match(rb"\[\s*\]\s*$", text):
        return "json_array", "an empty JSON array"
    if re.match(rb'\{[ \t\r]*\n\s*["}]', text):
        wrapped = _WRAPPED.match(text)
        inside = f"'.{wrapped[1].decode()}[]'" if wrapped else "."
        return "pretty_json", f"pretty-printed JSON, not JSON Lines; jq -c {inside} FILE"
    return None
