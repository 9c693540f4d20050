"""Text -> ids of ModernBERT's tokenizer: what each library must give at start-up, or it is not used.

Made with `tokenizers` 0.22.2 from the published file; some of the texts are test vectors of other implementations.
Covered: NFC (composition, reordering, exclusions, Hangul), runs of spaces up to and over the longest token, added tokens
that are not special, literal special tokens, white space of all kinds, digits, emoji, scripts without spaces, control
characters, and words that need many merges.
"""
# ruff: noqa: E501

from __future__ import annotations

# fmt: off

# Special tokens in text stay text: the default.
PLAIN: tuple[tuple[str, list[int]], ...] = (
    ('', []),
    ('Hello\nmy love!', [12092, 187, 2577, 2389, 2]),
    ('endoftext', [423, 1171, 1156]),
    ("They'll shouldn't've said it'd work (but it didn't)", [3726, 1833, 10095, 626, 1849, 753, 352, 1871, 789, 313, 2858, 352, 1904, 626, 10]),
    ("THEY'LL DON'T", [9707, 58, 8, 2293, 24694, 8, 53]),
    ('Cafe\u0301 caf\xe9 \u212b \u1e9b\u0323 \ufb01', [36, 2320, 860, 36241, 17732, 209, 9702, 238, 136, 98, 16141, 107, 212]),
    ('\uac00 \u1100\u1161\u11a8', [35061, 42984, 212]),
    ('\u0958 \u2126 \u0344', [24381, 2483, 122, 1454, 104, 209, 136, 219, 136, 212]),
    ('a\u0301\u0323 q\u0307\u0323', [30110, 136, 212, 2805, 136, 98, 136, 218]),
    ('a  b', [66, 50276, 67]),
    (' a', [247]),
    ('a ', [66, 209]),
    ('                         x', [50254, 1269]),
    ('                                                 ', [50254, 50254, 209]),
    ('\t\tif x:\n\t    return 1\n\n\n', [186, 186, 338, 1269, 27, 996, 50274, 2309, 337, 2756]),
    ('one\r\ntwo\r\n\r\nthree\r', [531, 190, 187, 9389, 4888, 187, 13524, 190]),
    ('\xa0\u2003x\u3000\u200b y\u2028z\x85', [575, 3930, 89, 19409, 12882, 340, 40702, 91, 16643]),
    ('3.14159 2024-01-31 1234567890 \u0663\u0664 \xbd \u2167', [20, 15, 1047, 17220, 1384, 1348, 14, 520, 14, 2405, 1249, 16767, 25025, 2270, 209, 149, 98, 149, 99, 24142, 3384, 216, 102]),
    ("Such joy \U0001f60a let's run!\U0001f3c3\u200d\u2642\ufe0f", [18869, 11010, 49042, 221, 1339, 434, 1408, 2, 14931, 226, 214, 325, 224, 158, 18713, 171, 118, 226]),
    ('\U0001f1e9\U0001f1ea\U0001f469\u200d\U0001f469\u200d\U0001f467 \u263a\ufe0e', [14931, 218, 104, 14931, 218, 105, 14931, 228, 104, 325, 224, 14931, 228, 104, 325, 224, 14931, 228, 102, 3384, 235, 120, 171, 118, 225]),
    ('\u306f\u306a\u304c\u3055\u304f [\u3076\u3093\u3051\u3093\u304c\u304f] \u6587\u732e\u5b66', [6418, 6686, 6957, 13129, 14016, 544, 765, 116, 13639, 17531, 13639, 6957, 14016, 62, 209, 20855, 163, 223, 108, 28586]),
    ('\u0928\u092e\u0938\u094d\u0924\u0947 \u0645\u0631\u062d\u0628\u0627 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35', [23068, 32191, 28733, 17665, 23936, 15472, 13504, 6900, 21931, 13621, 3142, 209, 41387, 31081, 25160, 41387, 35071, 26863]),
    ('\U000110ab\U00011099\U000110ba', [172, 228, 213, 106, 172, 228, 213, 237]),
    ('[CLS] a [SEP] b[PAD] \n [MASK] [UNK]', [60, 3207, 52, 62, 247, 544, 2354, 49, 62, 270, 60, 41420, 62, 2490, 544, 18690, 62, 544, 4037, 44, 62]),
    ('<|endoftext|><|padding|>', [29, 93, 423, 1171, 1156, 93, 2730, 93, 17333, 49651]),
    ('[unused0][unused82] [unused83]', [50285, 50367, 544, 328, 3197, 3245, 62]),
    ('|||IP_ADDRESS||| me@|||EMAIL_ADDRESS||| |||PHONE_NUMBER|||', [0, 479, 33, 50277, 209, 50278]),
    ("x = {'a': [1, 2, 3]}  # \xfcber\nassert x != y -> \u2260", [89, 426, 27428, 66, 5295, 544, 18, 13, 374, 13, 495, 18095, 50276, 4, 20150, 187, 8271, 1269, 3613, 340, 5204, 8611, 243]),
    ('\\begin{equation} \\frac{a}{b} \\leq \\infty \\end{equation}', [61, 2043, 92, 29813, 94, 393, 1124, 92, 66, 1217, 67, 94, 393, 3040, 393, 3259, 393, 423, 92, 29813, 94]),
    ('https://example.org/a_b?q=1&r=%20#top', [3614, 1358, 11667, 15, 2061, 16, 66, 64, 67, 32, 82, 30, 18, 7, 83, 23869, 938, 4, 3956]),
    ('a\x00b\x1f\x7f\ufffd\ufeff', [66, 177, 67, 208, 210, 21478, 41497]),
    ('The antidisestablishmentarianistically-minded researcher', [510, 1331, 30861, 15425, 8922, 6656, 18260, 14, 23674, 22780]),
)

# Special tokens in text are recognised: `special_tokens_in_text=True`.
SPECIAL: tuple[tuple[str, list[int]], ...] = (
    ('[CLS] a [SEP] b[PAD] \n [MASK] [UNK]', [50281, 247, 209, 50282, 270, 50283, 50284, 209, 50280]),
    ('<|endoftext|><|padding|>', [50279, 1]),
    ('a    [MASK].', [66, 50284, 15]),
    ('[SEP]  [sep] [ SEP ]', [50282, 50276, 60, 33032, 62, 544, 6725, 49, 5032]),
)
