"""Every key of a recipe with type, default and a sentence: read off the classes in `schema`, never written twice.

The sentence of a key is the string below its field (of the roles of a tokenizer, its line under `Attributes`), so the
page cannot say something else than the code.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
import textwrap
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import annotated_types
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ettin_data.base.options import Bytes, Count
from ettin_data.base.units import count, size
from ettin_data.recipe.amounts import AMOUNTS
from ettin_data.recipe.schema import Pack, Recipe, SourceChoice
from ettin_data.recipe.written import Languages, Part, Written, WrittenGroup, WrittenSource
from ettin_data.stages.pack import DEFAULT, strategies

_PACK = get_args(Pack)[0]
_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}
_HEAD = """# The keys of a recipe

`ettin-data recipe keys` prints this page, which is made from the code. A key with dots stands for nested
mappings, on the command line as well: `--set order.batch=32`. `<name>` is a name of yours. Of a source, one of
{amounts} says how much of it there is to be.

"""


class Key(NamedTuple):
    """One key: its path, what may stand there, what stands there if nothing is said ("required"), and a sentence."""

    path: str
    type: str
    default: str
    sentence: str


@functools.cache
def recipe_keys() -> tuple[Key, ...]:
    """All keys that a recipe may have, those of files that extend others first."""
    own = [name for name in Written.model_fields if name not in ("groups", "languages")]
    top = [*_of(Written, "", only=own), *_of(Recipe, "", leave=("sources",))]
    groups = [*_of(Written, "", only=("groups",))]
    groups += [key._replace(default="one of these") for key in _of(WrittenGroup, "groups.<name>.")]
    groups += [*_of(Written, "", only=("languages",)), *_of(Languages, "languages.")]
    words = {key.path: key for key in (*_of(SourceChoice, "sources.<name>."), *_of(WrittenSource, "sources.<name>."))}
    tokens = next(_of(SourceChoice, "sources.<name>.", only=("tokens",)))
    multiple = next(_of(WrittenSource, "sources.<name>.", only=("tokens",)))
    words[tokens.path] = tokens._replace(
        type=f"{tokens.type}, or a multiple", default="", sentence=f"{tokens.sentence} {multiple.sentence}"
    )
    amounts = [words.pop(f"sources.<name>.{word}")._replace(default="one of these") for word in AMOUNTS]
    return (*top, *groups, *_of(Recipe, "", only=("sources",)), *amounts, *words.values())


def page(word: str = "") -> str:
    """The keys as a page in Markdown; with a word, those in whose path it is."""
    keys = [key for key in recipe_keys() if word in key.path]
    rows = [f"| `{key.path}` | {_cell(key.type)} | {_cell(key.default)} | {_cell(key.sentence)} |" for key in keys]
    head = _HEAD.format(amounts=", ".join(f"`{each}`" for each in AMOUNTS)) if not word else ""
    return "\n".join([f"{head}| key | type | default | |", "|---|---|---|---|", *rows]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _of(
    model: type[BaseModel], at: str, *, only: tuple[str, ...] | list[str] = (), leave: tuple[str, ...] = ()
) -> Iterator[Key]:
    """The keys of a class and of those below it."""
    said = sentences(model)
    for name, field in model.model_fields.items():
        if (only and name not in only) or name in leave:
            continue
        yield Key(
            f"{at}{field.alias or name}", _type(field.annotation, field.metadata), _default(field), said.get(name, "")
        )
        if not only:
            yield from _below(field.annotation, field.metadata, f"{at}{name}")


def _below(kind: Any, metadata: list[Any], path: str) -> Iterator[Key]:
    if kind is _PACK:
        for strategy in strategies().values():
            yield from (
                key._replace(sentence=f"Of `{strategy.name}`: {key.sentence[:1].lower()}{key.sentence[1:]}")
                for key in _of(strategy.options, f"{path}.")
            )
    for one in _parts(kind):
        element = get_args(one)[0] if get_origin(one) is list and get_args(one) else one
        if isinstance(element, type) and issubclass(element, BaseModel):
            yield from _of(element, f"{path}[]." if element is not one else f"{path}.")
        elif dataclasses.is_dataclass(element) and isinstance(element, type) and element is not _PACK:
            said, hints = sentences(element), get_type_hints(element, include_extras=True)
            for field in dataclasses.fields(element):
                default = "required" if field.default is dataclasses.MISSING else _shown(field.default)
                yield Key(f"{path}.{field.name}", _type(hints[field.name], []), default, said.get(field.name, ""))


def _parts(kind: Any) -> list[Any]:
    """The types of which a value may be, without what is said of them besides."""
    if get_origin(kind) is Annotated:
        return _parts(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [part for one in get_args(kind) for part in _parts(one)]
    return [kind]


def _type(kind: Any, metadata: list[Any]) -> str:
    if get_origin(kind) is Annotated:
        inner, *more = get_args(kind)
        return _type(inner, [*more, *metadata])
    if get_origin(kind) in (Union, types.UnionType):
        words = [_type(one, metadata) for one in get_args(kind) if one is not type(None)]
        return " or ".join([*dict.fromkeys(words), *(["null"] if type(None) in get_args(kind) else [])])
    if kind is _PACK:
        return "name, or a mapping"
    flat = _notes(kind, metadata)
    for written, word in (
        (Count, "count, such as `10B`"),
        (Bytes, "size, such as `64MiB`"),
        (Part, "part, such as `3` or `60%`"),
    ):
        if get_args(written)[1] in flat:
            return word
    if get_origin(kind) is Literal:
        return " or ".join(f"`{each}`" for each in get_args(kind))
    if get_origin(kind) in (list, tuple):
        inside = get_args(kind)[0]
        mapping = any(isinstance(part, type) and issubclass(part, BaseModel) for part in _parts(inside))
        return f"list of {'mappings' if mapping else _type(inside, [])}"
    if kind in _WORDS:
        return _WORDS[kind] + _bounds(flat)
    return "mapping"


def _bounds(metadata: list[Any]) -> str:
    words = []
    for each in metadata:
        for kind, word in (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below")):
            if isinstance(each, annotated_types.Ge | annotated_types.Gt | annotated_types.Le | annotated_types.Lt):
                limit = getattr(each, kind, None)
                words += [f"{word} {limit:,}"] if limit is not None else []
    return f" {' '.join(words)}" if words else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, BaseModel):
        return "as below"
    if default is not None and field.annotation is _PACK:
        return f"`{DEFAULT}`"
    notes = _notes(field.annotation, field.metadata)
    for written, shown in ((Count, count), (Bytes, size)):
        if default is not None and get_args(written)[1] in notes:
            return f"`{shown(default).replace('.0', '').replace(' ', '')}`"
    return _shown(default)


def _notes(kind: Any, metadata: list[Any]) -> list[Any]:
    """All that is said of a type beside what it is, by whoever wraps it."""
    inside = get_args(kind) if get_origin(kind) in (Annotated, Union, types.UnionType) else ()
    flat = [each for one in metadata for each in (one.metadata if isinstance(one, FieldInfo) else [one])]
    if get_origin(kind) is Annotated:
        return [*_notes(inside[0], list(inside[1:])), *flat]
    return [*flat, *(note for one in inside for note in _notes(one, []))]


def _shown(value: Any) -> str:
    return f"`{yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}`"


@functools.cache
def sentences(kind: type) -> dict[str, str]:
    """Field -> the string below it in a class's source, on one line; of a dataclass its line under `Attributes`."""
    if not issubclass(kind, BaseModel):
        attributes = (inspect.getdoc(kind) or "").partition("Attributes:")[2]
        found = re.findall(r"^ {4}(\w[\w, ]*): (.+(?:\n {8}.+)*)", attributes, re.MULTILINE)
        return {name: _line(text[0].upper() + text[1:]) for names, text in found for name in names.split(", ")}
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    said = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            value = below.value if isinstance(below, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                said[field.target.id] = _line(value.value)
    return said


def _line(text: str) -> str:
    return re.sub(r"\bNone\b", "`null`", " ".join(text.split()))  # as it is written in YAML
