"""Content that is no data at all, by its first bytes once compression is off."""

from __future__ import annotations

from ettin_data.sources.access.inflate import unsupported


def not_data(head: bytes) -> tuple[str, str] | None:
    """(reason, detail) for content that is no data at all."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<error")):
        return "html_instead_of_data", head[:120].decode("utf-8", "replace")
    if head.startswith(b"version https://git-lfs"):
        return "lfs_pointer", head[:130].decode("utf-8", "replace")
    if name := unsupported(head):
        return "unsupported_format", f"{name} content"
    if not head.strip(b"\0"):
        return "not_data", "zero bytes only"
    return None
