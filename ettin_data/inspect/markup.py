"""How something gets into an HTML page: foreign text as words alone, pages with one style."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from string import Template

from ettin_data.base.visible import visible


def shown(text: object) -> str:
    """Foreign text for a page: no markup, and nothing that turns a line around."""
    return html.escape(visible(text))


def page_of(template: str, parts: Mapping[str, str]) -> str:
    """A page from one of the templates beside this module, in the style that all share; `parts` are HTML."""
    folder = files("ettin_data") / "inspect"
    style = (folder / "style.css").read_text(encoding="utf-8")
    return Template((folder / template).read_text(encoding="utf-8")).substitute(parts, style=style)


def table(head: Sequence[str], rows: Iterable[Sequence[object]], total: Sequence[object] = ()) -> str:
    """A table of foreign text that scrolls where it is too wide."""

    def line(cells: Sequence[object], tag: str = "td") -> str:
        return "<tr>" + "".join(_cell(str(cell), tag) for cell in cells) + "</tr>"

    body = "".join(map(line, rows))
    foot = f"<tfoot>{line(total)}</tfoot>" if total else ""
    return f'<div class="scroll"><table><thead>{line(head, "th")}</thead><tbody>{body}</tbody>{foot}</table></div>'


def _cell(text: str, tag: str) -> str:
    kind = ' class="number"' if tag == "td" and text[:1].isdigit() else ""
    return f"<{tag}{kind}>{shown(text)}</{tag}>"
