"""What a recipe may say in numbers, and how large it may be: the rest is refused at once, by its key."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
import yaml
from filter_options import NEEDED as NEEDED_BY_FILTER
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ettin_data import recipe
from ettin_data.base import options, yaml_text
from ettin_data.base.errors import EttinError, RecipeError
from ettin_data.base.extras import MissingPackage
from ettin_data.base.units import parse_bytes, parse_count
from ettin_data.build.prepare import BuildOptions, resolve
from ettin_data.sources import globs
from ettin_data.stages.filters.options import defaults_of
from ettin_data.stages.filters.registry import choose_filters, shipped
from ettin_data.stages.pack import strategies

PLAIN = """phase: decay
length: 128
pack: {min_length: 32, always_skip: 8}
order: {batch: 8}
sources: {mine: {root: mine.jsonl, tokens: 5000}}
"""


def numeric(model: Any, at: str = "") -> Iterator[str]:
    """The key paths of all numbers of a class of options and of those below it."""
    for name, field in model.model_fields.items():
        yield from _numeric(field.annotation, f"{at}{name}")


def _numeric(kind: Any, path: str) -> Iterator[str]:
    if get_origin(kind) in (Union, UnionType, Annotated):
        for one in get_args(kind):
            yield from _numeric(one, path)
    elif get_origin(kind) is dict and isinstance(get_args(kind)[-1], type):
        yield from _numeric(get_args(kind)[-1], f"{path}.mine")
    elif isinstance(kind, type) and issubclass(kind, options.Options):
        yield from numeric(kind, f"{path}.")
    elif kind in (int, float):
        yield path


NEEDED = {
    "decontaminate": {"decontaminate": {"texts": [{"file": "held_out.jsonl"}]}}
}  # beside a number in such a section
KEYS = [(path, NEEDED.get(path.partition(".")[0], {})) for path in numeric(recipe.Recipe)]
KEYS += [
    (f"pack.{name}", {"pack": {"strategy": strategy.name}})
    for strategy in strategies().values()
    for name in strategy.options.model_fields
]
KEYS += [
    (f"filters.0.{kind.name}.{name}", {"filters": [{kind.name: NEEDED_BY_FILTER.get(kind.name, {})}]})
    for kind in shipped().values()
    for name, default in defaults_of(kind).items()
    if isinstance(default, int | float) and not isinstance(default, bool)
]


def test_the_keys_are_found() -> None:
    paths = {path for path, _ in KEYS}
    assert {"seed", "order.batch", "sources.mine.tokens", "pack.window", "shards.size_limit", "part_bytes"} <= paths
    assert len(paths) > 40


def written(path: str, value: str, changes: dict[str, Any]) -> str:
    """A recipe as text in which a key has that value, word for word."""
    body: Any = {**yaml.safe_load(PLAIN), **json.loads(json.dumps(changes))}
    at = body
    parts = path.split(".")
    for part in parts[:-1]:
        at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
    at[parts[-1]] = "@value@"
    return json.dumps(body).replace('"@value@"', value)


def numbers() -> st.SearchStrategy[str]:
    exponents = st.integers(-(10**20), 10**20)
    return st.one_of(
        st.sampled_from([".nan", ".inf", "-.inf", "1e400", "1.0e+400", "1e99999999", "-1", "0x" + "f" * 99]),
        st.builds("{}e{}".format, st.integers(0, 99), exponents),
        st.builds("'{}.5e{}'".format, st.integers(0, 99), exponents),
        st.integers(-(10**40), 10**40).map(str),
        st.integers(10**19, 10**400).map("'{}'".format),
        st.integers(0, 10**30).map("{}TiB".format),
        st.floats().map(lambda value: yaml.safe_dump(value).split("\n")[0]),
        st.lists(st.integers(0, 59), min_size=2, max_size=40).map(lambda parts: ":".join(map(str, parts))),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bounds")
    rows = ({"id": str(n), "text": f"some words of number {n} " * 20} for n in range(50))
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.mark.parametrize(
    ("text", "value"),
    [("no", "no"), ("yes", "yes"), ("off", "off"), ("1:30:00", "1:30:00"), ("1:30.5", "1:30.5"), ("0x10", 16),
     ("010", "010"), ("1e5", "1e5"), ("1_000", 1000), ("-3", -3), ("0", 0), ("1.5", 1.5), (".5", 0.5), ("1.0e5", 1e5),
     ("True", True), ("false", False), ("~", None), ("", None)],
)  # fmt: skip
def test_plain_words_of_yaml_mean_what_they_say(text: str, value: object) -> None:
    """`languages: [no, en]` has Norwegian in it, and a time of day is no number of minutes."""
    assert yaml_text.parse(f"a: {text}") == {"a": value}
    assert yaml_text.parse(f"a: [{text or '~'}, en]") == {"a": [value, "en"]}


@pytest.mark.parametrize("key", ["seed", "length", "order.batch", "max_epochs", "sources.mine.tokens"])
@pytest.mark.parametrize("value", ["yes", "true", "1:30:00"])
def test_what_is_no_number_is_refused_by_its_key(folder: Path, key: str, value: str) -> None:
    file = folder / "recipe.yaml"
    file.write_text(written(key, value, {}))
    with pytest.raises(RecipeError, match=re.escape(key)):
        recipe.load_recipe(file)


@given(st.sampled_from(KEYS), numbers())
@example(("max_epochs", {}), "1e400")
@example(("sources.mine.tokens", {}), "1e99999999")
@example(("seed", {}), "1:1:1:1:1:1:1:1:1:1:1:1:1:1")
@settings(deadline=2000, max_examples=150)
def test_a_number_is_of_64_bits_or_refused_by_its_key(folder: Path, key, value: str) -> None:
    path, changes = key
    file = folder / "recipe.yaml"
    file.write_text(written(path, value, changes))
    try:
        loaded = recipe.load_recipe(file)
        choose_filters(loaded.filters)
    except EttinError as error:
        # Without its model a filter has no number to refuse.
        no_model = isinstance(error, MissingPackage) or "the model cannot be read" in str(error)
        assert no_model or path.rpartition(".")[2] in str(error), error
        return
    assert json.loads(json.dumps(loaded.model_dump(mode="json"), allow_nan=False))
    for _, number in yaml_text._numbers(loaded.model_dump(mode="json"), ""):
        assert math.isfinite(number) if isinstance(number, float) else abs(number) < 1 << 63


EXTREMES = ("0", "1", "5.0e-324", "0.999999", "1.0e+300", "4294967295", str((1 << 63) - 1))


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key[0]}-{'-'.join(key[1])}")
def test_what_is_accepted_can_be_planned(folder: Path, monkeypatch, key) -> None:
    """Or the plan says what is wrong with it: no traceback, no time, no memory."""
    monkeypatch.chdir(folder)
    path, changes = key
    for value in EXTREMES:
        file = folder / "recipe.yaml"
        file.write_text(written(path, value, changes))
        start = time.monotonic()
        try:
            assert str(resolve(recipe.load_recipe(file), BuildOptions(folder / "run")).plan)
        except EttinError as error:
            assert error.what
        assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("a: " + "[" * 5000, "a.0.0"),
        ("a: " + "{b: " * 5000, "a.b.b"),
        ("".join(" " * n + "a:\n" for n in range(300)), "a.a"),
        ("x0: &x0 [1]\n" + "".join(f"x{n}: &x{n} [*x{n - 1}]\n" for n in range(1, 99)), "x31"),
        ("x0: &x0 [a]\n" + "".join(f"x{n}: &x{n} [{f'*x{n - 1},' * 9}]\n" for n in range(1, 9)), "x5"),
        ("x0: &x0 {a: 1}\n" + "".join(f"x{n}: &x{n} {{<<: [{f'*x{n - 1},' * 9}]}}\n" for n in range(1, 9)), "x5"),
        ("x: &x [1, *x]", "x.1"),
        ("x: [" + "1," * 60_000 + "]", "x."),
        ("seed: " + "1:" * 100_000 + "1", "seed"),
        ("seed: " + "9" * 4000, "seed"),
        ("seed: 9999-99-99", "month"),
        ("#" * (2 << 20), "characters"),
        ("seed: !!python/object/apply:os.getcwd []", "python/object"),
        ("shards: {compression: 'zstd:99'}", "shards.compression"),
        ("shards: {compression: 'zstd:0'}", "shards.compression"),
        ("sources: {mine: {tokens: 1, globs: ['f{0..9999999999}.jsonl']}}", "sources.mine.globs.0"),
        ("sources: {mine: {tokens: 1, globs: ['" + "{a,b}" * 40 + "']}}", "sources.mine.globs.0"),
        ("sources: {mine: {tokens: 1, root: '/d/{0..99999}{0..99999}.jsonl'}}", "sources.mine.root"),
        ("sources: {mine: {tokens: 1, root: '/d/{1.." + "9" * 4000 + "}.jsonl'}}", "sources.mine.root"),
    ],
)
def test_a_text_that_would_grow_is_refused_at_once(tmp_path: Path, text: str, key: str) -> None:
    """In a file, and as far as it fits there with `--set`."""
    file = tmp_path / "recipe.yaml"
    head = "".join(line + "\n" for line in PLAIN.splitlines() if not line.startswith(text.split(":")[0] + ":"))
    file.write_text(head + text)
    start = time.monotonic()
    with pytest.raises(RecipeError) as refused:
        recipe.load_recipe(file)
    told = str(refused.value)  # of what is nested so deep, PyYAML 6.0.4 says it first
    assert (key in told or "flow level" in told) and "recipe.yaml" in told
    name, colon, value = text.partition(":")
    if colon and "\n" not in text:
        with pytest.raises(RecipeError) as refused:
            recipe.load_recipe("decay", overrides=[f"{name}={value.strip()}"])
        assert name in str(refused.value) and len(str(refused.value)) < 10_000
    assert time.monotonic() - start < 5


def test_what_people_write_is_read() -> None:
    text = "base: &base {tokens: 5M, text_key: body}\na: {<<: *base, root: x}\nb: [*base, 0x1F, 1_000, .5]\n"
    assert yaml_text.parse(text) == yaml.safe_load(text)
    with open(recipe.shipped("pretrain")) as file:
        text = file.read()
    assert yaml_text.parse(text) == yaml.safe_load(text)


@pytest.mark.parametrize("parse", [parse_count, parse_bytes])
@pytest.mark.parametrize("value", ["1e400", "1e99999999", "9e9999999999999999999999", "9" * 30, float("inf"), 1e300])
def test_a_count_beyond_64_bits(parse, value) -> None:
    with pytest.raises(RecipeError, match=r"too large a number|is not a count"):
        parse(value)


@pytest.mark.parametrize("scale", [math.nan, math.inf, -1.0, 0.0, 1e300])
def test_a_scale_that_is_none(scale: float) -> None:
    with pytest.raises(RecipeError, match="--scale"):
        recipe.load_recipe("decay", scale=scale)


@given(st.text("ab/*?", max_size=9), st.text("ab/", max_size=9))
@example("**a*b", "a/ab")
@example("*a**b*", "aa/b")
def test_a_pattern_matches_what_it_matched_going_back(pattern: str, path: str) -> None:
    tokens = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    plain = "".join(globs._WILD.get(token) or re.escape(token) for token in tokens)
    assert bool(globs.to_regex(pattern).fullmatch(path)) == bool(re.fullmatch(plain, path, re.DOTALL))


@pytest.mark.parametrize("star", ["*", "**"])
def test_a_pattern_of_many_stars_takes_no_time(star: str) -> None:
    start = time.monotonic()
    assert not globs.to_regex(f"{star}a" * 40 + "b").fullmatch("a" * 200)
    assert globs.to_regex(f"{star}a" * 40 + f"{star}b").fullmatch("a" * 200 + "b")
    assert time.monotonic() - start < 2


def test_a_file_of_too_many_parts(folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "recipe.yaml").write_text(PLAIN)
    with pytest.raises(EttinError, match="part_bytes"):
        resolve(recipe.load_recipe(folder / "recipe.yaml", overrides=["part_bytes=1"]), BuildOptions(folder / "run"))


@pytest.mark.parametrize(
    ("text", "path"),
    [("a: 1\nb: 2\n'a': 3", "a"), ("s: {x: 1, y: 2, x: 1}", "s.x"), ("- {k: 1}\n- {k: 1, k: 2}", "1.k")],
)
def test_a_key_that_stands_twice_is_refused(text: str, path: str) -> None:
    with pytest.raises(RecipeError, match=rf"(?s){path}: stands here twice.*do: take one out"):
        yaml_text.parse(text)


def test_a_merged_key_may_be_said_again() -> None:
    assert yaml_text.parse("a: &a {x: 1, y: 1}\nb: {<<: *a, x: 2}\nc: {x: 3}")["b"] == {"x": 2, "y": 1}
