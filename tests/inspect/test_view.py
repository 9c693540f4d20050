"""The page of a step: whole in itself, true to the data, and alive in a real browser."""

from __future__ import annotations

import html.parser
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from small_run import SmallRun

from ettin_data.inspect.lookup import open_phases
from ettin_data.inspect.view import page

BROWSER = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)


def decode(tokens: np.ndarray) -> str:
    return " ".join(f"<{token}>" if token < 50_000 else "[S]" for token in tokens.tolist())


@pytest.fixture
def text(small_run: SmallRun) -> str:
    (phase,) = open_phases(small_run.folder, "pretrain")
    return page(phase, 2, decode, max_seq_len=50)


def test_the_page_is_whole_and_needs_nothing_else(text: str) -> None:
    tags: list[str] = []

    class Check(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "input", "th", "option"):
                tags.append(tag)
            assert not {"src", "href"} & {name for name, _ in attrs}

        def handle_endtag(self, tag):
            if tag not in ("th", "option"):
                assert tags.pop() == tag

    Check(convert_charrefs=True).feed(text)
    assert tags == []
    assert "http://" not in text and "$" not in re.sub(r"<script>.*", "", text, flags=re.S)


def test_rows_sources_edits_and_text_are_those_of_the_step(text: str, small_run: SmallRun) -> None:
    (phase,) = open_phases(small_run.folder, "pretrain")
    samples = phase.samples(phase.order.step(1).tolist())
    rows = re.findall(r'<tr class="row" data-source="(\w+)" data-length="(\d+)" data-n="(\d+)"', text)
    assert rows == [(s.split.source.removesuffix("-dup"), str(len(s.tokens)), str(i)) for i, s in enumerate(samples)]
    assert text.count("encoder: last") == sum(len(s.tokens) > 50 for s in samples) > 0
    first = samples[0].tokens
    assert f"&lt;{first[1]}&gt; &lt;{first[2]}&gt;" in text  # escaped
    assert f"position {samples[0].position:,}" in text
    cut = sum(max(0, len(s.tokens) - 50) for s in samples)
    assert f"<tr><td>decoder</td><td>0</td><td>{sum(len(s.tokens) > 50 for s in samples)}</td><td>{cut}</td>" in text


def test_ranks_short_texts_and_the_limit_of_the_run(small_run: SmallRun) -> None:
    (phase,) = open_phases(small_run.folder, "decay")
    whole, part = page(phase, 1, decode), page(phase, 1, decode, rank=1, world=4, characters=30)
    assert whole.count('<tr class="row"') == 8 and part.count('<tr class="row"') == 2
    assert "rank 1 of 4" in part and "more characters" in part
    assert "loader ettin, max_seq_len 128" in whole


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_the_page_works_in_a_browser(text: str, small_run: SmallRun, tmp_path: Path) -> None:
    """Chromium runs the page's script, then a script that filters, sorts and searches, and prints what is shown."""
    (phase,) = open_phases(small_run.folder, "pretrain")
    samples = phase.samples(phase.order.step(1).tolist())
    actions = """
    <script>{
    const out = [], state = () => out.push(document.getElementById("shown").textContent);
    state();
    document.querySelector("#mixture button[data-source=web]").click(); state();
    document.getElementById("all").click(); state();
    const words = document.getElementById("find"); words.value = "position POSITION"; words.oninput(); state();
    words.value = ""; words.oninput();
    const by = document.getElementById("sort"); by.value = "length"; by.onchange();
    out.push([...document.querySelectorAll("#rows tr")].map(r => r.dataset.length).join(","));
    const bar = document.querySelector(".length i").getBoundingClientRect();
    out.push(bar.width > 0 && bar.height > 0);
    const done = document.createElement("output"); done.textContent = out.join("|"); document.body.append(done);
    }</script></body>""".replace("POSITION", f"{samples[3].position:,} ")
    path = tmp_path / "step.html"
    path.write_text(text.replace("</body>", actions), encoding="utf-8")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    shown = subprocess.run(
        [*command, "--virtual-time-budget=5000", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    (result,) = re.findall(r"<output>(.*?)</output>", shown)
    all_rows, web, again, one, lengths, bar = result.split("|")
    count = sum(s.split.source == "web" for s in samples)
    assert (all_rows, again) == ("16 of 16 rows", "16 of 16 rows")
    assert web == f"{count} of 16 rows of web" and one.startswith("1 of 16")
    assert [int(n) for n in lengths.split(",")] == sorted(len(s.tokens) for s in samples)
    assert bar == "true"
