"""Documents whose URL is on a list of domains and addresses, such as a block list."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from datatrove.data import Document

from ettin_data.base.errors import RecipeError
from ettin_data.stages.filters.base import Answer, Filter

NAME, VERSION = "listed", 1


@dataclass(kw_only=True, eq=False, repr=False)
class Listed(Filter):
    """Drop documents whose URL is on a list, or, with `keep`, all others. One without a URL is on no list.

    Args:
        domains: `example.org` is also `www.example.org`, in any letters.
        urls: whole addresses; the scheme and a slash at the end do not matter.
        file, sha256: a file of more of both, one a line, and its digest, which stands for what is in it. A line with a
            slash is an address. Blank lines and those that begin with `#` are nothing.
        keep: keep what is on the list.

    Reasons: `listed_domain`, `listed_url`; with `keep`, `not_listed`.

    Raises:
        RecipeError: the file cannot be read, or is another one.
    """

    name = "📋 Listed"

    domains: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    file: str | None = None
    sha256: str | None = None
    keep: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        lines = [*self.domains, *self.urls, *(self._lines(self.file) if self.file else [])]
        self._urls = {_bare(line) for line in lines if "/" in line}
        self._domains = {line.strip().lower().strip(".") for line in lines if "/" not in line}

    def _lines(self, file: str) -> list[str]:
        try:
            raw = Path(file).expanduser().read_bytes()
        except OSError as error:
            raise RecipeError("the list cannot be read", where=file, why=error) from error
        if (digest := hashlib.sha256(raw).hexdigest()) != self.sha256:
            raise RecipeError(
                "the list is not the one of the recipe" if self.sha256 else "a list needs its digest",
                where=file,
                why=f"its sha256 is {digest}",
                remedy=f"write sha256: {digest}",
            )
        lines = (line.strip() for line in raw.decode("utf-8", "replace").splitlines())
        return [line for line in lines if line and not line.startswith("#")]

    def filter(self, document: Document) -> Answer:
        reason = self._reason(str(document.metadata.get("url") or ""))
        if self.keep:
            return True if reason else (False, "not_listed")
        return (False, reason) if reason else True

    def _reason(self, url: str) -> str | None:
        if not url:
            return None
        if self._urls and _bare(url) in self._urls:
            return "listed_url"
        host = _host(url)
        while host and self._domains:
            if host in self._domains:
                return "listed_domain"
            host = host.partition(".")[2]
        return None


def _host(url: str) -> str:
    try:
        return (urlsplit(url if "//" in url else f"//{url}").hostname or "").strip(".")
    except ValueError:
        return ""


def _bare(url: str) -> str:
    """An address without its scheme and the slash at its end, its host in small letters."""
    rest = url.strip().partition("://")[2] or url.strip()
    host, slash, path = rest.partition("/")
    return f"{host.lower()}{slash}{path}".rstrip("/") + "/"
