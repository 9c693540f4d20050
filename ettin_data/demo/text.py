"""Real text for the demo mirror, from what every machine with Python has.

Prose is docstrings (read with `ast`; no module is imported), the language reference in `pydoc_data`, package
descriptions, licences and documentation files. Code is the source files of the standard library and of the installed
packages.

What is gathered is a function of the installation alone: files are listed from the packages' own RECORD (not by walking
folders, which would find caches), and taken in an order keyed by their names. This package's own files are never used,
so that editing it does not change the mirror.
"""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import os
import platform
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ettin_data.base import draws

KINDS = ("prose", "math", "code", "math_code", "repositories")

_OWN_PACKAGE = "ettin-data"
_CODE_FILE_BYTES = (40, 60_000)  # most files of StarCoder are short
_PROSE_FILE_BYTES = (4_000, 400_000)  # opening smaller ones takes longer than their docstrings are worth
_MIN_PASSAGE = 120  # characters: shorter paragraphs (headings, one-line notes) stay with the one that follows
_MAX_PASSAGE = 2_000  # characters: longer ones (classes, tables) are cut at a line
# At first only files that are mostly documentation, because parsing is what takes time, and no package may be more than
# this part of one kind of text. Where that is not enough, the rest of what is installed.
_PASSES = ((0.45, 0.08), (0.15, 1.0))  # (docstrings' part of a file, package's part of a kind of text)
_REPOSITORY_BYTES = (8_000, 160_000)
_MATH_PACKAGES = {"sympy", "mpmath", "scipy"}
_MATH_PATHS = re.compile(
    r"numpy/(linalg|polynomial|fft|random|lib|ma)/|networkx/(algorithms|linalg|generators)/|torch/(distributions|linalg)/"
    r"|python/(statistics|fractions|decimal|_pydecimal|random|numbers|heapq|bisect)\.py"
)
_DOCUMENTATION_SUFFIXES = (".md", ".rst", ".txt")
_LICENCE_NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS", "CHANGES", "HISTORY", "README")
_PARAGRAPH = re.compile(r"(?<=\n\n)")
_BLOCK = re.compile(r"(?<=\n\n)(?=\S)")  # of code: what starts at the margin
_HAS_WORD = re.compile(r"[A-Za-z]{3}")
_NOT_PROSE = {"entry_points.txt", "top_level.txt", "SOURCES.txt", "requires.txt", "CMakeLists.txt"}


@dataclass(frozen=True, slots=True, order=True)
class InstalledFile:
    """One file of the standard library (package `python`) or of an installed distribution."""

    name: str  # posix path that does not depend on where Python is installed: "python/json/decoder.py"
    package: str
    path: str
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Work:
    """One real text: passages (characters, separators included) that give it back when joined."""

    name: str
    package: str
    passages: tuple[str, ...]


# ---- what is installed


def installation() -> dict[str, str | list[str]]:
    """What the text depends on: the interpreter, and the distributions as sorted `name==version`, without this one."""
    python = f"{platform.python_implementation()} {platform.python_version()} {platform.system()}"
    return {"python": python, "packages": [f"{name}=={found.version}" for name, found in distributions().items()]}


def distributions() -> dict[str, importlib.metadata.Distribution]:
    """The installed distributions by normalised name, sorted, without this one."""
    # Only the environment's own folders: sys.path also holds the working folder and PYTHONPATH.
    folders = list(dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]))
    found: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions(path=folders):
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        if name and name != _OWN_PACKAGE:
            found.setdefault(name, distribution)
    return dict(sorted(found.items()))


def _installed_files(packages: Mapping[str, importlib.metadata.Distribution]) -> list[InstalledFile]:
    """Every Python and documentation file of the standard library and the installed distributions, sorted by name."""
    files = []
    standard = Path(sysconfig.get_path("stdlib"))
    for folder, folders, names in os.walk(standard):
        folders[:] = sorted(f for f in folders if f not in ("site-packages", "dist-packages", "__pycache__"))
        below = PurePosixPath("python", Path(folder).relative_to(standard).as_posix())
        for name in filter(_is_text, names):
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                files.append(InstalledFile(f"{below / name}", "python", path, os.path.getsize(path)))
    for package, distribution in packages.items():
        site = str(distribution.locate_file(""))
        for line in (distribution.read_text("RECORD") or "").splitlines():
            name, _, size = line.rsplit(",", 2) if line.count(",") >= 2 else ("", "", "")
            if _is_text(name.rpartition("/")[2]) and ".." not in name and size.isdecimal():
                files.append(InstalledFile(name, package, os.path.join(site, name), int(size)))
    return sorted(files)


def _is_text(name: str) -> bool:
    if name.startswith("__editable__") or name in _NOT_PROSE:
        return False
    return name.endswith((".py", *_DOCUMENTATION_SUFFIXES)) or name.upper().startswith(_LICENCE_NAMES)


def _read(file: InstalledFile) -> str:
    """The file's text, or nothing where it is not UTF-8, not there, or not text."""
    try:
        with open(file.path, encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError):
        return ""
    return "" if "\0" in text else text


# ---- from files to works


class _Gathering:
    """Collects works of each kind until each has as many characters as are wanted, every passage once."""

    def __init__(self, wanted: Mapping[str, int]) -> None:
        self.wanted = wanted
        self.works: dict[str, list[Work]] = {kind: [] for kind in KINDS}
        self.held: Counter[str] = Counter()
        self._by_package: Counter[tuple[str, str]] = Counter()
        self._seen: set[str] = set()

    def has_room(self, kind: str, package: str, share: float = 1.0) -> bool:
        wanted = self.wanted[kind]
        return self.held[kind] < wanted and self._by_package[kind, package] < share * wanted

    def add(self, kind: str, name: str, package: str, passages: Iterator[str]) -> None:
        kept = []
        for passage in passages:
            if passage not in self._seen and _HAS_WORD.search(passage) and _is_encodable(passage):
                self._seen.add(passage)
                kept.append(passage)
        if kept:
            size = sum(map(len, kept))
            self.works[kind].append(Work(name, package, tuple(kept)))
            self.held[kind] += size
            self._by_package[kind, package] += size


def gather(wanted: Mapping[str, int]) -> dict[str, list[Work]]:
    """Collect text of each of `KINDS` until there are `wanted[kind]` characters of it, or no more is installed.

    Returns works by kind, in an order that depends only on the installation. A passage appears in one work only.
    """
    packages = distributions()
    files = _installed_files(packages)
    gathering = _Gathering(wanted)
    _add_repositories(gathering, files)
    _add_reference(gathering, packages)
    files.sort(key=lambda file: draws.document_key(file.name))
    used: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's docstrings
        for density, share in _PASSES:
            for file in files:
                if all(gathering.held[kind] >= wanted[kind] for kind in KINDS if kind != "repositories"):
                    break
                if file.name not in used and _add_file(gathering, file, density, share):
                    used.add(file.name)
    return gathering.works


def _add_file(gathering: _Gathering, file: InstalledFile, density: float, share: float) -> bool:
    """Put one file's text where it belongs; False where it may be wanted in a later pass."""
    if not file.name.endswith(".py"):
        if not gathering.has_room("prose", file.package, share):
            return False
        gathering.add("prose", file.name, file.package, _prose_passages(_read(file)))
        return True
    is_math = file.package in _MATH_PACKAGES or _MATH_PATHS.match(file.name) is not None
    is_code = draws.key64("demo", "role", file.name) % 4 == 0  # a quarter as code, the others for their docstrings
    own, other = ("math_code", "code") if is_code else ("math", "prose")
    kinds = [own, other] if is_math else [other]
    kind = next((kind for kind in kinds if gathering.has_room(kind, file.package, share)), None)
    if kind is None:
        return False
    smallest, largest = _CODE_FILE_BYTES if is_code else _PROSE_FILE_BYTES
    if not smallest <= file.size <= largest:
        return True
    text = _read(file)
    if is_code:
        gathering.add(kind, file.name, file.package, _split(text, _BLOCK))
        return True
    if sum(map(len, text.split('"""')[1::2])) < density * len(text):
        return False
    gathering.add(kind, file.name, file.package, _docstring_passages(text))
    return True


def _add_repositories(gathering: _Gathering, files: list[InstalledFile]) -> None:
    """Whole packages, each a work: its files end to end."""
    repositories: dict[tuple[str, str], list[InstalledFile]] = {}
    for file in files:
        parts = PurePosixPath(file.name).parts
        depth = 1 if file.package == "python" else 0
        if file.name.endswith(".py") and len(parts) > depth + 1:
            repositories.setdefault((file.package, "/".join(parts[: depth + 1])), []).append(file)
    smallest, largest = _REPOSITORY_BYTES
    for (package, name), members in sorted(repositories.items(), key=lambda r: draws.key64("demo", "repo", *r[0])):
        if gathering.held["repositories"] >= gathering.wanted["repositories"]:
            return
        if smallest <= sum(file.size for file in members) <= largest:
            texts = (_read(file).strip() + "\n\n" for file in members)
            gathering.add("repositories", name, package, (p for text in texts for p in _split(text, _BLOCK)))


def _add_reference(gathering: _Gathering, packages: Mapping[str, importlib.metadata.Distribution]) -> None:
    """The Python language reference and the long descriptions of the installed distributions."""
    from pydoc_data.topics import topics

    for topic, text in sorted(topics.items()):
        if gathering.has_room("prose", "pydoc_data"):
            gathering.add("prose", f"pydoc_data/{topic}.rst", "pydoc_data", _split(text, _PARAGRAPH))
    for package, distribution in packages.items():
        if gathering.has_room("prose", package):
            description = (distribution.read_text("METADATA") or "").partition("\n\n")[2]
            gathering.add("prose", f"{package}/description.md", package, _prose_passages(description))


def _docstring_passages(source: str) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for docstring in _docstrings(tree.body):
        yield from _split(inspect.cleandoc(docstring) + "\n\n", _PARAGRAPH)


def _docstrings(body: list[ast.stmt], *, documented: bool = True) -> Iterator[str]:
    """Docstrings in the order of the source. Only statements are visited: `ast.walk` would take far longer."""
    match body:
        case [ast.Expr(value=ast.Constant(value=str(docstring))), *_] if documented:
            yield docstring
    for statement in body:
        inner = getattr(statement, "body", None)
        if isinstance(inner, list):
            defines = isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            yield from _docstrings(inner, documented=defines)


def _prose_passages(text: str) -> Iterator[str]:
    """Passages of a documentation file; none of a list of numbers, names or addresses."""
    letters = sum(character.isalpha() or character == " " for character in text[:4000])
    if len(text) >= 200 and letters >= 0.7 * len(text[:4000]):
        yield from _split(text.rstrip() + "\n\n", _PARAGRAPH)


def _split(text: str, where: re.Pattern[str]) -> Iterator[str]:
    """Cut at `where` (a zero-width pattern), or else at a line, into passages that join to the text again."""
    passage = ""
    for piece in where.split(text):
        lines = [piece] if len(piece) <= _MAX_PASSAGE else piece.splitlines(keepends=True)
        for line in lines:
            if passage and len(passage) + len(line) > _MAX_PASSAGE:
                yield passage
                passage = ""
            passage += line
        if len(passage) >= _MIN_PASSAGE:
            yield passage
            passage = ""
    if passage:
        yield passage


def _is_encodable(text: str) -> bool:
    try:  # an escape in a docstring can make a lone surrogate, which no file can hold
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
