"""The page of a run: whole in itself, true to the run, and in a real browser light, dark, narrow and on paper."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shown_run

from ettin_data.inspect.decoding import words_of
from ettin_data.inspect.lookup import Phase, open_phases
from ettin_data.inspect.report import page
from ettin_data.inspect.report.charts import pictures
from ettin_data.inspect.report.drawing import DIM, write_files
from ettin_data.inspect.report.facts import PhaseFacts, Steps, facts_of
from ettin_data.inspect.report.page import report_page
from ettin_data.inspect.view import page as step_page
from ettin_data.stages.filters.measured import Measured, histogram
from ettin_data.storage.phase import TRAINER, TRAINING_LOG, parse_copy

BROWSER = next(
    (p for name in ("chromium-headless-shell", "chromium", "google-chrome") if (p := shutil.which(name))), None
)
LOG = [
    {"phase": "first", "step": n, "loss": 9 - n / 10, "unigram": 8.0, "lr": 1e-3, "kept": None} for n in range(1, 13)
]


@pytest.fixture(scope="module")
def run(built_shown_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "run"
    shutil.copytree(built_shown_run, folder)
    log = folder / TRAINER / "encoder" / TRAINING_LOG
    log.parent.mkdir(parents=True)
    log.write_text("\n".join(map(json.dumps, LOG)) + '\n{"phase": "first", "st')
    return folder


@pytest.fixture(scope="module")
def phases(run: Path) -> list[PhaseFacts]:
    opened = open_phases(run)
    words = words_of(opened[0].loader.vocabulary)
    assert words.problem is None
    return [facts_of(one, words, run / TRAINER, examples=2, characters=200, pairs=10_000) for one in opened]


@pytest.fixture(scope="module")
def text(phases: list[PhaseFacts]) -> str:
    return report_page("demo", phases[:1])


def test_the_page_is_whole_and_needs_nothing_else(text: str) -> None:
    tags: list[str] = []
    ids: Counter[str] = Counter()
    links: set[str] = set()
    alone = {"meta", "br"}

    class Check(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            given = dict(attrs)
            ids.update([given["id"]] if "id" in given else [])
            assert "src" not in given
            if "href" in given:
                links.add(given["href"])
            if tag not in alone:
                tags.append(tag)

        def handle_startendtag(self, tag, attrs):
            self.handle_starttag(tag, attrs)
            if tag not in alone:
                tags.pop()

        def handle_endtag(self, tag):
            assert tags.pop() == tag

    Check(convert_charrefs=True).feed(text)
    assert tags == []
    assert [name for name, times in ids.items() if times > 1] == []
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids) and all(link[0] == "#" for link in links)
    named = set(re.findall(r"url\(#([^)]+)\)", text))
    assert named <= set(ids)
    outside = set(re.findall(r"https?://[^\"'<\s]+", text)) - {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert outside == set()
    assert "@import" not in text and "<script" not in text


def test_it_says_what_the_run_says(text: str, phases: list[PhaseFacts]) -> None:
    run = phases[0].run
    assert run.root in text
    for name, row in run.sources.items():
        assert re.search(rf"<td>{name}</td><td>own</td>.*?{row.tokens:,}</td>", text), name
    assert f'<td>filter</td><td>too_few_words</td><td class="number">{shown_run.FILTERED}</td>' in text
    assert f'<td class="number">{shown_run.REJECTED}</td>' in text
    assert sum(row["documents"] for row in phases[0].copies or []) == shown_run.COPIES
    measured = phases[0].true_copies
    assert sum(one["alike"] for one in measured["precision"].values()) == shown_run.COPIES
    assert sum(one["left_out"] for one in measured["recall"]["bins"]) == shown_run.COPIES
    assert "CC-BY-4.0" in text and "as_stored" in text
    names = [picture.name for picture in pictures(phases[0])]
    assert names == ["mixture", "lengths", "not-used", "filters", "packing", "batches", "order", "times", "training"]
    assert "training" not in [picture.name for picture in pictures(phases[1])], "no step of this phase is in the log"


def test_evaluation_texts_and_personal_data_are_counted_as_words_alone(phases: list[PhaseFacts]) -> None:
    assert "Nobody looked for personal data" in (plain := "".join(page._looked_for(phases[0])))
    assert "Nobody looked for evaluation texts" in plain
    run, items = phases[0].run, {f"<b>x.jsonl:{number} question" + "y" * 500: 1 for number in range(15_000)}
    name, row = next(iter(run.sources.items()))
    steps = {"decontaminate": {"hits": 15_000, "items": items}, "pii": {"email": 7_000, "dropped": 3}}
    run = run.model_copy(update={
        "recipe": run.recipe | {"decontaminate": {"action": "drop"}, "pii": {"ip": None, "drop_above": 5}},
        "sources": {name: row.model_copy(update={"steps": steps})},
    })  # fmt: skip
    said = "".join(page._looked_for(replace(phases[0], run=run)))
    assert "Paraphrases are not found" in said and "<summary>The 100 evaluation texts that were found most" in said
    assert len(said) < 100_000 and "<b>x" not in said and "&lt;b&gt;x.jsonl:0 question" in said
    assert "e-mail addresses replaced by markers, IP addresses not looked for, phone numbers counted; documents" in said
    assert (
        '<td class="number">7,000</td><td class="number">0</td><td class="number">0</td><td class="number">3</td>'
        in said
    )


def test_lengths_and_steps_are_those_of_the_shards_and_the_order(phases: list[PhaseFacts], run: Path) -> None:
    facts, phase = phases[0], Phase(run / "first")
    stored = [len(sample.tokens) for sample in phase]
    assert facts.lengths.samples.sum() == len(stored)
    assert facts.lengths.samples.tolist() == np.histogram(stored, facts.lengths.sample_edges)[0].tolist()
    assert facts.lengths.documents.sum() == sum(row.documents for row in facts.run.sources.values())
    steps = facts.steps
    assert steps.numbers.tolist() == list(range(1, phase.order.steps + 1))
    for row, number in zip(steps.shares, steps.numbers.tolist(), strict=True):
        held = Counter(parse_copy(sample.split.source)[0] for sample in phase.step(number - 1))
        assert row.tolist() == [held[name] / 8 for name in steps.sources]
    assert steps.mix.sum() == pytest.approx(1) and facts.curves[0].loss.tolist() == [row["loss"] for row in LOG]


def test_how_mixed_a_batch_is() -> None:
    """Steps with the shares of the mix differ by nothing; steps of one source each by what the other one has."""
    mix, numbers = np.array([0.5, 0.5]), np.arange(1, 5)
    even = Steps(("a", "b"), numbers, 4, np.full((4, 2), 0.5), mix, np.zeros(2))
    apart = Steps(("a", "b"), numbers, 4, np.array([[1.0, 0.0], [0.0, 1.0]] * 2), mix, np.zeros(2))
    assert even.distance == 0 and apart.distance == 0.5
    drawn = np.random.default_rng(1).hypergeometric(5000, 5000, 100, 20_000) / 100
    spread = np.full(2, np.sqrt(0.25 / 100 * 9900 / 9999))
    by_chance = Steps(("a", "b"), np.arange(20_000), 20_000, np.stack([drawn, 1 - drawn], 1), mix, spread)
    assert by_chance.distance == pytest.approx(by_chance.distance_by_chance, rel=0.03)


def test_a_histogram_has_each_document_on_its_side_of_the_threshold() -> None:
    for at_least in (True, False):
        measured = Measured(10.0, at_least)
        measured.recent.extend([9.0, 9.9, 10.0, 10.1, 11.0, 80.0])
        values, counts, drops = histogram(measured.to_json())
        assert counts.sum() == 6 and counts[drops].sum() == (2 if at_least else 3)
        assert (np.diff(values) > 0).all()


def test_pictures_are_the_same_files_every_time(phases: list[PhaseFacts], tmp_path: Path) -> None:
    (order,) = [picture for picture in pictures(phases[0]) if picture.name == "order"]
    svg, png = write_files(order, tmp_path, "a")
    assert [path.read_bytes() for path in write_files(order, tmp_path, "b")] == [svg.read_bytes(), png.read_bytes()]
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "var(--" not in svg.read_text() and DIM in svg.read_text(), "a file has colours of its own"


MEASURE = """
<script>{
const box = e => e.getBoundingClientRect(), seen = [...document.querySelectorAll("svg")].filter(e => box(e).width > 0);
const lost = [...document.querySelectorAll("svg text")].filter(e => box(e).width > 0 && box(e).right > innerWidth + 1);
const style = getComputedStyle(document.body);
const done = document.createElement("output");
done.textContent = JSON.stringify({wide: document.documentElement.scrollWidth, inner: innerWidth,
  paper: style.backgroundColor, ink: style.color, pictures: seen.map(e => e.getAttribute("class")), lost: lost.length,
  line: getComputedStyle(document.documentElement).getPropertyValue("--line").trim()});
document.body.append(done);
}</script></body>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
@pytest.mark.parametrize("width", [390, 1100])
@pytest.mark.parametrize("dark", [False, True])
def test_the_pages_fit_a_browser(text: str, run: Path, tmp_path: Path, width: int, dark: bool) -> None:
    """Nothing is wider than the window, pictures are those for its width, colours follow the reader's choice."""
    (phase,) = open_phases(run, "first")
    pages = {"report": text, "step": step_page(phase, 1, words_of(phase.loader.vocabulary).decode)}
    for name, written in pages.items():
        path = tmp_path / f"{name}.html"
        path.write_text(written.replace("</body>", MEASURE), encoding="utf-8")
        command = [
            str(BROWSER),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
        ]
        command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", f"--window-size={width},900"]
        done = subprocess.run(
            [*command, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120, check=True
        )
        (found,) = re.findall(r"<output>(.*?)</output>", done.stdout)
        found = json.loads(html.unescape(found))
        assert found["inner"] == width and found["wide"] <= width, (name, found)
        assert found["paper"] == ("rgb(20, 23, 26)" if dark else "rgb(255, 255, 255)")
        assert found["lost"] == 0 and set(found["pictures"]) <= {"narrow" if width < 640 else "wide"}
        assert bool(found["pictures"]) == (name == "report")
