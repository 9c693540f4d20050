"""Text that is not UTF-8: read where its encoding is named, guessed where it is not."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettin_data.base.encodings import CESU8, decoded, known, likely, transcoded

FRENCH = "Le café n° 3 est fermé à l'été, voilà la vérité."
JAPANESE = "今日は海へ行って、夕日を見ました。風が強かったです。これはテストです。"
RUSSIAN = "Мы сегодня ходили к морю смотреть закат, ветер был сильный."
TEXTS = {
    "latin-1": FRENCH, "cp1252": f"“{FRENCH}” – oui…", "shift_jis": JAPANESE, "euc_jp": JAPANESE,
    "gb18030": "我们今天去海边看日落，风很大，天气很好。这是一个测试文本，用来检查编码。",
    "big5": "我們今天去海邊看日落，風很大，天氣很好。這是一個測試文本，用來檢查編碼。",
    "euc_kr": "우리는 오늘 바다에 가서 일몰을 보았습니다. 바람이 강했습니다.",
    "cp1251": RUSSIAN, "koi8_r": RUSSIAN, "utf-16": "plain text, and more of it: é",
    CESU8: "a smile \U0001f600 and another \U0001f603, naïve",
}  # fmt: skip


def encoded(text: str, name: str) -> bytes:
    if name != CESU8:
        return text.encode(name)
    units = text.encode("utf-16-be")
    halves = (chr(int.from_bytes(units[i : i + 2], "big")) for i in range(0, len(units), 2))
    return b"".join(half.encode("utf-8", "surrogatepass") for half in halves)


@pytest.mark.parametrize("name", TEXTS)
def test_texts_are_guessed_and_read(name: str) -> None:
    data = b'{"id": "1", "text": "' + encoded(TEXTS[name], name) + b'"}'
    assert likely(data) == name
    assert decoded(encoded(TEXTS[name], name), known(name)) == TEXTS[name]


def test_western_text_in_a_chinese_encoding() -> None:
    assert likely(FRENCH.encode("gb18030")) == "gb18030"


def test_no_guess() -> None:
    for data in (b"", FRENCH.encode(), JAPANESE.encode(), bytes(range(128, 256)) * 4):
        assert likely(data) is None


@given(st.sampled_from(sorted(TEXTS)), st.text(max_size=30), st.lists(st.integers(1, 200), max_size=6))
def test_blocks_may_end_anywhere(name: str, more: str, cuts: list[int]) -> None:
    text = TEXTS[name] + (more if name in ("gb18030", "utf-16", CESU8) else "")
    data = encoded(text, name)
    bounds = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    blocks = [data[a:b] for a, b in itertools.pairwise(bounds)]
    assert b"".join(transcoded(iter(blocks), name)).decode() == text


@given(st.sampled_from(sorted(TEXTS.keys() - {"utf-16", CESU8})), st.binary(max_size=80))
def test_what_cannot_be_decoded_is_seen(name: str, data: bytes) -> None:
    """It comes out as bytes that are no UTF-8, never as U+FFFD, so that it is repaired and counted by the reader."""
    out = b"".join(transcoded(iter([data]), name))
    try:
        assert out == data.decode(name).encode()
    except UnicodeDecodeError:
        with pytest.raises(UnicodeDecodeError):
            out.decode()


def test_utf_16_without_its_mark_is_left_as_it_is() -> None:
    data = "{}".encode("utf-16-le")
    assert b"".join(transcoded(iter([data[:2], data[2:]]), "utf-16")) == data
    assert decoded(data, "utf-16-le") == "{}"


@pytest.mark.parametrize("name", ["latin-15x", "base64", "rot13", ""])
def test_what_is_no_encoding_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no encoding"):
        known(name)
