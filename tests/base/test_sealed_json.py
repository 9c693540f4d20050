"""A sealed file is the JSON that `json.dumps` writes with an indent of one, and its digest."""

import json

from hypothesis import given
from hypothesis import strategies as st

from ettin_data.base import sealed_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda some: st.lists(some, max_size=4) | st.dictionaries(st.text(), some, max_size=4),
)


@given(st.dictionaries(st.text().filter(lambda name: name != "self"), VALUES, min_size=1, max_size=4), st.text())
def test_the_text_is_that_of_json(body, word):
    body |= {"numbers": list(range(200)), "words": [word, "a\n b", 'c",\n'] * 50, "mixed": [1, True, None, 2.5] * 30}
    body |= {"long": word * 150, "ascii": "".join(map(chr, range(127))), "all ascii": "".join(map(chr, range(128)))}
    text = sealed_json.seal(body)
    expected = json.dumps(body, indent=1).removesuffix("\n}")
    assert text.decode().startswith(f'{expected},\n "self": "') and len(text) == len(expected.encode()) + 64 + 14 + 2
    assert sealed_json.unseal(text, "it") == json.loads(json.dumps(body))
