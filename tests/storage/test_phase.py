"""Names in a run folder, and which phases are there."""

import ast
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ettin_data
from ettin_data.base.errors import BuildError
from ettin_data.storage import phase as names
from ettin_data.storage.phase import Phase, copy_name, open_phase, parse_copy, phases_in, pool_of, source_of

SOURCES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.]*", fullmatch=True)  # what a recipe takes for a source
SPLITS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.\-]*", fullmatch=True)


@given(SOURCES, st.integers(0, 1000), SPLITS, st.sampled_from(names.PARTS))
def test_the_name_of_a_pass_says_its_source_and_its_number(source: str, copy: int, split: str, part: str) -> None:
    folder = copy_name(source, copy)
    assert parse_copy(folder) == (source, copy)
    assert source_of(f"{part}/{folder}/{split}") == source
    assert pool_of(f"{part}/{folder}/{split}") == f"pools/{source}/{split}"


@given(st.lists(SOURCES, min_size=1, unique=True), st.integers(1, 4))
def test_passes_of_all_sources_have_names_of_their_own(sources: list[str], passes: int) -> None:
    folders = [copy_name(source, copy) for source in sources for copy in range(passes)]
    assert len(set(folders)) == len(folders)


def test_published_names_of_passes() -> None:
    assert [copy_name("books", copy) for copy in range(3)] == ["books", "books-dup", "books-dup_2"]


def phase_with(run: Path, name: str, *files: str) -> Path:
    for file in files:
        path = run / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return run / name


@pytest.mark.parametrize(
    ("files", "finished"),
    [
        (("run.json", "plan.json"), True),
        (("run.json",), True),
        (("plan.json",), False),
        (("plan.json", "train/index.json", "order/order.json"), False),  # stopped right before its end
        (("digests.json",), False),
        (("pools/books/split/split.json",), False),
        (("train/index.json", "order/order.json"), True),  # shards of elsewhere with an order
    ],
)
def test_a_phase_is_finished_when_its_build_has_ended(tmp_path: Path, files: tuple[str, ...], finished: bool) -> None:
    folder = phase_with(tmp_path, "decay", *files)
    assert phases_in(tmp_path) == phases_in(folder) == [open_phase(folder)] == [Phase(folder, "decay")]
    assert open_phase(folder).finished is finished


def test_the_phases_of_a_run_by_name_and_nothing_else(tmp_path: Path) -> None:
    for name in ("pretrain", "decay", "mine"):
        phase_with(tmp_path, name, "plan.json")
    phase_with(tmp_path, "sources", "arxiv/part.json.gz")
    phase_with(tmp_path, "report", "training.json")
    (tmp_path / "notes.txt").write_text("")
    assert [phase.name for phase in phases_in(tmp_path)] == ["decay", "mine", "pretrain"]
    with pytest.raises(BuildError, match="this is a run, not one of its phases") as caught:
        open_phase(tmp_path)
    assert caught.value.remedy == "name a phase in it: decay, mine, pretrain"
    assert open_phase(tmp_path, "mine") == open_phase(tmp_path / "mine", "decay") == Phase(tmp_path / "mine", "mine")
    with pytest.raises(BuildError, match="this is a run, not one of its phases"):
        open_phase(tmp_path, "extension")


@pytest.mark.parametrize("path", ["", "missing", "report", "notes.txt"])
def test_a_folder_that_is_no_run_is_named(tmp_path: Path, path: str) -> None:
    phase_with(tmp_path, "report", "training.json")
    (tmp_path / "notes.txt").write_text("")
    for opens in (phases_in, open_phase):
        with pytest.raises(BuildError, match="there is no run here") as caught:
            opens(tmp_path / path)
        assert caught.value.where == tmp_path / path


def test_the_folder_that_one_is_in_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(phase_with(tmp_path, "decay", "run.json"))
    assert open_phase(Path()).name == "decay"
    assert [phase.name for phase in phases_in(Path(".."))] == ["decay"]


def test_what_killed_processes_leave_is_found_and_nothing_else(tmp_path: Path) -> None:
    folder = phase_with(tmp_path, "decay", "run.json", "pools/a/b/split.json", "order/order.json")
    ours, theirs = ".tmp-{}-abcdefgh.ettin", [".tmp-mine/a", "train/a/.tmp-my-download/b"]
    left = [ours.format("run.json"), f"manifests/{ours.format('a.json')}", f"train/a/{ours.format('split')}/shard"]
    phase_with(tmp_path, "decay", *left, *theirs)
    phase_with(tmp_path, "elsewhere", left[0])
    (folder / "validation").symlink_to(tmp_path / "elsewhere")
    found = {path.relative_to(folder).as_posix() for path in open_phase(folder).leftovers()}
    assert found == {*left[:2], left[2].removesuffix("/shard")}
    assert open_phase(folder).splits(*names.PARTS) == ["pools/a/b"]


# ---------------------------------------------------------------------------------------------------------------------
# the only place

PACKAGE = Path(ettin_data.__file__).parent
FILES = {
    value
    for name, value in vars(names).items()
    if (name.isupper() and isinstance(value, str) and "." in value[1:]) or name == "LOCK"
}
FOLDERS = {*names.PARTS, names.REJECTS, names.LISTINGS, names.ORDER, names.ASIDE}
UPSTREAM = ("sources/", "demo/")  # their `index.json`, and the locks of the cache, are not of a run


def literals(module: Path) -> list[str]:
    """Names of a run's files that a module spells itself: as a whole string, in an f-string, or joined to a path."""
    relative = module.relative_to(PACKAGE).as_posix()
    forbidden = FILES - ({names.INDEX, names.LOCK} if relative.startswith(UPSTREAM) else set())
    tree = ast.parse(module.read_text())
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            parts = node.value.split("/")
            if any(part in forbidden for part in parts) or (len(parts) > 1 and parts[0] in FOLDERS):
                found.append(f"{relative}:{node.lineno} {node.value!r}")
        match node:
            case ast.BinOp(op=ast.Div(), right=ast.Constant(value=str(name))) if name in FOLDERS:
                found.append(f"{relative}:{node.lineno} / {name!r}")
    return found


def test_no_other_module_spells_the_name_of_a_file_of_a_run() -> None:
    assert {"run.json", "plan.json", "digests.json", "split.json", ".lock", "samples.parquet"} <= FILES
    modules = [path for path in PACKAGE.rglob("*.py") if path != Path(names.__file__)]
    assert [line for module in modules for line in literals(module)] == []


def test_no_other_module_renames() -> None:
    found = subprocess.run(
        ["grep", "-rnE", r"(^|[^\"'])os\.(replace|renames?)\b|\.rename\(", "--include=*.py", str(PACKAGE)],
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    allowed = (str(PACKAGE / "base/files.py"), str(PACKAGE / "storage/split.py"))
    assert [line for line in found.splitlines() if not line.startswith(allowed)] == []
