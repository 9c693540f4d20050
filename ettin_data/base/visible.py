"""Foreign text as it may be shown: what would steer a terminal, or turn a line around, stands there as an escape.

Ids, texts, file names and messages of libraries come from whoever made the data. Written to a terminal as they are,
they move the cursor, clear the screen, set its title, end a line and begin a false one, or make a name read backwards.
"""

from __future__ import annotations

import re
from typing import Any, TextIO

# C0 (but tab and line feed), DEL and C1; then what Unicode has for direction, line ends and invisible marks. The
# joiners U+200C and U+200D stay: Persian, Hindi and emoji are written with them, and they move nothing. Lone surrogates
# cannot be encoded at all; Python holds the bytes of a file name that are not UTF-8 as such.
_UNSEEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f"
)
_IN_LINES = re.compile(f"[{_UNSEEN}]")
_IN_A_LINE = re.compile(f"[{_UNSEEN}\n]")
_NAMED = {"\n": "\\n", "\r": "\\r"}


def visible(value: object, *, lines: bool = True) -> str:
    """`str(value)` with control, escape, bidi and other unseen characters as `\\x1b`, `\\u202e`; words stay.

    Args:
        lines: whether line ends stay; without, the text is one line.
    """
    return (_IN_LINES if lines else _IN_A_LINE).sub(_escaped, str(value))


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if named := _NAMED.get(character):
        return named
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that was no UTF-8
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


class VisibleStream:
    """A text stream on which everything becomes visible, whoever writes: `print`, `warnings`, `logging`, a library.

    `rich` writes its own colours past it: its consoles take the stream behind from `rich_proxied_file`.
    """

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        if not isinstance(text, str):  # by which click finds out that this is no binary stream
            raise TypeError(f"text is written here, not {type(text).__name__}")
        self.rich_proxied_file.write(visible(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)
