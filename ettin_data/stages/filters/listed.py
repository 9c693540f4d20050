"""Documents whose URL is on a list of domains and addresses, such as a block list."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from datatrove.data import Document

from ettin_data.base.errors import RecipeError
from ettin_data.stages.filters.base import Answer, Filter

NAME, VERSION = "listed", 1

_STRANGE = re.compile(r"[^\w.:-]|^$")


@dataclass(kw_only=True, eq=False, repr=False)
class Listed(Filter):
    """Drop documents whose URL is on a list, or, with `keep`, all others. One without a URL is on no list.

    Args:
        domains: `example.org` is also `www.example.org`, in any letters.
        urls: whole addresses, with a slash; the scheme and a slash at the end do not matter.
        file, sha256: a file of more of both, one a line, and its digest, which stands for what is in it. A line with a
            slash is an address. Blank lines and those that begin with `#` are nothing.
        keep: keep what is on the list.

    Reasons: `listed_domain`, `listed_url`; with `keep`, `not_listed`.

    Raises:
        RecipeError: the file cannot be read, or is another one; nothing is on the list, or something that is neither.
    """

    name = "📋 Listed"

    domains: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    file: str | None = None
    sha256: str | None = None
    keep: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if wrong := [one for one in self.domains if "/" in one]:
            raise _neither(wrong[0], "domains", "write the domain alone, as example.org; an address goes among `urls`")
        if wrong := [one for one in self.urls if "/" not in one]:
            raise _neither(wrong[0], "urls", "a domain goes among `domains`")
        self._urls, self._domains = _sorted_out([*self.domains, *self.urls], "domains")
        if self.file:
            urls, domains = _read(self.file, self.sha256)
            self._urls, self._domains = self._urls | urls, self._domains | domains
        if not self._urls and not self._domains:
            raise RecipeError("nothing is on the list", where=NAME, remedy="give it domains, urls, or a file of them")

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


@lru_cache(maxsize=4)
def _read(file: str, sha256: str | None) -> tuple[frozenset[str], frozenset[str]]:
    """Addresses and domains of a file, read once in a process: each split makes its filters anew."""
    try:
        raw = Path(file).expanduser().read_bytes()
    except OSError as error:
        raise RecipeError("the list cannot be read", where=file, why=error) from error
    if (digest := hashlib.sha256(raw).hexdigest()) != sha256:
        raise RecipeError(
            "the list is not the one of the recipe" if sha256 else "a list needs its digest",
            where=file,
            why=f"its sha256 is {digest}",
            remedy=f"write sha256: {digest}",
        )
    lines = (line.strip() for line in raw.decode("utf-8", "replace").splitlines())
    return _sorted_out([line for line in lines if line and not line.startswith("#")], file)


def _sorted_out(lines: list[str], where: str) -> tuple[frozenset[str], frozenset[str]]:
    """Addresses and domains."""
    domains = frozenset(line.strip().lower().strip(".") for line in lines if "/" not in line)
    if strange := min(filter(_STRANGE.search, domains), default=None):
        raise _neither(strange, where, "write example.org: it stands for all below it, and there are no wildcards")
    return frozenset(_bare(line) for line in lines if "/" in line), domains


def _neither(line: str, where: str, remedy: str) -> RecipeError:
    return RecipeError(f"{line!r} is not what is listed here", where=f"{NAME}: {where}", remedy=remedy)


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
