"""What an English word is: the tables behind `splitter`.

The heuristic filters count the words of spaCy's blank English pipeline, which is what datatrove uses, so "the same
decision" means the same words. These are the facts of that language (spaCy 3.8, MIT licence, Explosion AI): which
characters are letters to it, which marks it cuts off, and which strings it takes as they are. Letters and symbols are
those of its own frozen lists, not of the Unicode version of the Python at hand. The two sets of punctuation that
datatrove adds (0.9, Apache 2.0) are here as well.
"""

from __future__ import annotations


def _spans(ranges: str) -> list[tuple[int, int]]:
    """First and last code point of each of the hexadecimal ranges: `41-5A C0` is A to Z, and À."""
    ends = (span.partition("-") for span in ranges.split())
    return [(int(first, 16), int(last or first, 16)) for first, _, last in ends]


def _inside(ranges: str) -> str:
    """The inside of a `re` character class."""
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in _spans(ranges))


def _members(ranges: str) -> frozenset[str]:
    return frozenset(chr(code) for first, last in _spans(ranges) for code in range(first, last + 1))


_CASED = """
41-5A 61-7A C0-D6 D8-F6 F8-1BF 1C4-2AF 386 388-38A 38C 38E-38F 391-3A9 3AC-3AF 3B1-3C9 3CC-3CE 400-401 403-40A
40C-40D 410-451 453-45A 45C-45D 490-491 496-497 4A2-4A3 4AE-4AF 4BA-4BB 4D8-4D9 4E8-4E9 1D00-1D25 1D6B-1D77
1D79-1D9A 1E00-1EFF 2C60-2C7B 2C7E-2C7F A722-A76F A771-A787 A78B-A78E A790-A7B9 A7FA AB30-AB5A AB60-AB64
FF21-FF3A FF41-FF5A"""  # Latin, Greek, Cyrillic

_UNCASED = """
591-5F4 620-64A 66E-6D5 6E5-6FF 750-77F 8A0-8BD 900-9FF B80-CFF D80-DFF 1100-137F 2E80-2FDF 2FF0-30FF 31C0-31EF
3200-4DBF 4E00-9FFF AC00-D7AF F900-FAFF FB1D-FBB1 FBD3-FD3D FD50-FDC7 FDF0-FDFB FE30-FE4F FE70-FEFC 1EE00-1EEBB
1F200-1F2FF 20000-2A6DF 2A700-2EBEF 2F800-2FA1F"""  # scripts without case, and what lies in their blocks

_SYMBOLS = """
A6 A9 AE B0 482 58D-58E 60E-60F 6DE 6E9 6FD-6FE 7F6 9FA B70 BF3-BF8 BFA C7F D4F D79 F01-F03 F13 F15-F17 F1A-F1F
F34 F36 F38 FBE-FC5 FC7-FCC FCE-FCF FD5-FD8 109E-109F 1390-1399 1940 19DE-19FF 1B61-1B6A 1B74-1B7C 2100-2101
2103-2106 2108-2109 2114 2116-2117 211E-2123 2125 2127 2129 212E 213A-213B 214A 214C-214D 214F 218A-218B
2195-2199 219C-219F 21A1-21A2 21A4-21A5 21A7-21AD 21AF-21CD 21D0-21D1 21D3 21D5-21F3 2300-2307 230C-231F
2322-2328 232B-237B 237D-239A 23B4-23DB 23E2-2426 2440-244A 249C-24E9 2500-25B6 25B8-25C0 25C2-25F7 2600-266E
2670-2767 2794-27BF 2800-28FF 2B00-2B2F 2B45-2B46 2B4D-2B73 2B76-2B95 2B98-2BC8 2BCA-2BFE 2CE5-2CEA 2E80-2E99
2E9B-2EF3 2F00-2FD5 2FF0-2FFB 3004 3012-3013 3020 3036-3037 303E-303F 3190-3191 3196-319F 31C0-31E3 3200-321E
322A-3247 3250 3260-327F 328A-32B0 32C0-32FE 3300-33FF 4DC0-4DFF A490-A4C6 A828-A82B A836-A837 A839 AA77-AA79
FDFD FFE4 FFE8 FFED-FFEE FFFC-FFFD 10137-1013F 10179-10189 1018C-1018E 10190-1019B 101A0 101D0-101FC 10877-10878
10AC8 1173F 16B3C-16B3F 16B45 1BC9C 1D000-1D0F5 1D100-1D126 1D129-1D164 1D16A-1D16C 1D183-1D184 1D18C-1D1A9
1D1AE-1D1E8 1D200-1D241 1D245 1D300-1D356 1D800-1D9FF 1DA37-1DA3A 1DA6D-1DA74 1DA76-1DA83 1DA85-1DA86 1ECAC
1F000-1F02B 1F030-1F093 1F0A0-1F0AE 1F0B1-1F0BF 1F0C1-1F0CF 1F0D1-1F0F5 1F110-1F16B 1F170-1F1AC 1F1E6-1F202
1F210-1F23B 1F240-1F248 1F250-1F251 1F260-1F265 1F300-1F3FA 1F400-1F6D4 1F6E0-1F6EC 1F6F0-1F6F9 1F700-1F773
1F780-1F7D8 1F800-1F80B 1F810-1F847 1F850-1F859 1F860-1F887 1F890-1F8AD 1F900-1F90B 1F910-1F93E 1F940-1F970
1F973-1F976 1F97A 1F97C-1F9A2 1F9B0-1F9B9 1F9C0-1F9C2 1F9D0-1F9FF 1FA60-1FA6D"""  # pictures and other symbols

# U+0294, a glottal stop, counts as lower case, and U+03A2, no letter, as upper case; title case (ǅ) is neither
_LOWER_CASED = sorted(c for c in _members(_CASED) if c.islower() or c == "\u0294")
_UPPER_CASED = sorted(c for c in _members(_CASED) if c.isupper() or c == "\u03a2")

LOWER = "".join(_LOWER_CASED) + _inside(_UNCASED)  # the insides of character classes of `re`
UPPER = "".join(_UPPER_CASED) + _inside(_UNCASED)
LETTER = _inside(_CASED) + _inside(_UNCASED)
SYMBOL = _inside(_SYMBOLS)
SYMBOLS = _members(_SYMBOLS)
LOWER_LETTERS = _members(_UNCASED).union(_LOWER_CASED)

# spaCy's: these words end a sentence
SENTENCE_END = _members("""
21 2E 3F 589 61F 6D4 700-702 7F9 964-965 104A-104B 1362 1367-1368 166E 1735-1736 1803 1809 1944-1945 1AA8-1AAB
1B5A-1B5B 1B5E-1B5F 1C3B-1C3C 1C7E-1C7F 203C-203D 2047-2049 2E2E 2E3C 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877
A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE52 FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 11047-11048
110BE-110C1 11141-11143 111C5-111C6 111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3
115C9-115D7 11641-11642 1173C-1173E 11A42-11A43 11A9B-11A9C 11C41-11C42 16A6E-16A6F 16AF5 16B37-16B38 16B44 1BC9F
1DA88""")

# datatrove's: these characters end a line of prose
TERMINAL_PUNCTUATION = SENTENCE_END | _members("""
61D-61E 837 839 83D-83E 17D4-17D6 17D9-17DA 1B7D-1B7E 2E53-2E54 10F55-10F59 10F86-10F89 11944 11946 11EF7-11EF8
11F43-11F44 16E98""")

# datatrove's: a word of nothing else is no word to Gopher's counts
PUNCTUATION = TERMINAL_PUNCTUATION | _members("""
0-8 B-1F 22-2D 2F 3A-3E 40 5B-60 7B-9F AB B4 BB 2013-2014 2019 201C-201E 2026 2236 2501 25BA 3001 3008-300D
3010-3011 FF05 FF08-FF09 FF0C FF11 FF1A-FF1B FF5E""")

QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉〈〉⟦⟧"
MARKS = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"
CURRENCIES = "$£€¥฿₽﷼₴₠₡₢₣₤₥₦₧₨₩₪₫₭₮₯₰₱₲₳₵₶₷₸₹₺₻₼₾₿"
DOLLARS = ("US$", "C$", "A$")
HYPHENS = ("-", "–", "—", "--", "---", "——", "~")  # in the order in which they are tried
UNITS = (
    "km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh mph hPa Pa "
    "mbar mb MB kb KB gb GB tb TB T G M K % км км² км³ м м² м³ дм дм² дм³ см см² см³ мм мм² мм³ нм кг г мг м/с км/ч "
    "кПа Па мбар Кб КБ кб Мб МБ мб Гб ГБ гб Тб ТБ "
    "тбكم كم² كم³ م م² م³ سم سم² سم³ مم مم² مم³ كم غرام جرام جم كغ ملغ كوب اكواب"
).split()  # "тбكم" is one unit in the original too: a space is missing there

WHOLE = r"""
' '' \") <space> \t \n — C++ a. b. c. d. e. f. g. h. i. j. k. l. m. n. o. p. q. r. s. t. u. v. w. x. y. z. ä. ö. ü.
:) :-) :)) :-)) :))) :-))) (: (-: =) (= :] :-] [: [-: [= =] :o) (o: :} :-} 8) 8-) (-8 ;) ;-) (; (-; :( :-( :(( :-((
:((( :-((( ): )-: =( >:( :') :'-) :'( :'-( :/ :-/ =/ =| :| :-| ]= =[ :1 :P :-P :p :-p :O :-O :o :-o :0 :-0 :() >:o :*
:-* :3 :-3 =3 :> :-> :X :-X :x :-x :D :-D ;D ;-D =D xD XD xDD XDD 8D 8-D ^_^ ^__^ ^___^ >.< >.> <.< ._. ;_; -_- -__-
v.v V.V v_v V_V o_o o_O O_o O_O 0_o o_0 0_0 o.O O.o O.O o.o 0.0 o.0 0.o @_@ <3 <33 <333 </3 (^_^) (-_-) (._.) (>_<)
(*_*) (¬_¬) ಠ_ಠ ಠ︵ಠ (ಠ_ಠ) ¯\(ツ)/¯ (╯°□°）╯︵┻━┻ ><(((*>
'S 's ‘S ‘s 'd 're and/or w/o 'Cause 'cause 'cos 'Cos 'coz 'Coz 'cuz 'Cuz 'bout em 'em ll 'll nuff 'nuff ma'am Ma'am
o'clock O'clock lovin lovin' Lovin Lovin' havin havin' Havin Havin' doin doin' Doin Doin' goin goin' Goin Goin' ol ol'
Ol Ol' nothin nothin' Nothin Nothin' nuthin nuthin' Nuthin Nuthin' somethin somethin' Somethin Somethin'
Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan. Jul. Jun. Kan.
Kans. Ky. La. Mar. Mass. Mich. Minn. Miss. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa. S.C.
Sep. Sept. Tenn. Va. Wash. Wis. a.m. Adm. Bros. co. Co. Corp. D.C. Dr. e.g. E.g. E.G. Gen. Gov. i.e. I.e. I.E. Inc.
Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms. p.m. Ph.D. Prof. Rep. Rev. Sen. St. vs. v.s.
""".split()  # kept whole although a rule would cut them

CUT = """
y'|all y|all how|'d|'y How|'d|'y not|'ve not|ve Not|'ve Not|ve can|not Can|not gon|na Gon|na got|ta Got|ta let|'s Let|'s
c'm|on C'm|on °|c|. °|f|. °|k|. °|C|. °|F|. °|K|.
""".split()  # cut at the bars

CONTRACTIONS = (  # each of the words, also with a capital, before each of the endings, also without their apostrophes
    ("i", "'m 'm|a"),
    ("i you he she it we they", "'ll 'll|'ve 'd 'd|'ve"),
    ("i you we they", "'ve"),
    ("you we they", "'re"),
    ("he she it", "'s"),
    ("who what when where why how there that this", "'s"),
    ("who what when where why how there that this these those", "'ll 'll|'ve 'd 'd|'ve"),
    ("who what when where why how there these those", "'re 've"),
    ("ca could do does did had may might must need ought sha should wo would", "n't n't|'ve"),
    ("could might must should would", "'ve"),
    ("ai are is was were have has dare", "n't"),
)
NOT_CONTRACTIONS = frozenset("Ill ill Its its Hell hell Shell shell Shed shed were Were Well well Whore whore".split())


def specials() -> dict[str, tuple[str, ...]]:
    """The strings that are split by table and by no rule, with their words; with ’ for ' too."""
    table: dict[str, tuple[str, ...]] = {word: (word,) for word in WHOLE}
    for words, endings in CONTRACTIONS:
        for word in (form for lower in words.split() for form in (lower, lower.title())):
            for ending in endings.split():
                for tail in (ending.split("|"), ending.replace("'", "").split("|")):
                    table[word + "".join(tail)] = (word, *tail)
    for hour in range(1, 13):
        table |= {f"{hour}{half}": (str(hour), half) for half in ("a.m.", "am", "p.m.", "pm")}
    for word in NOT_CONTRACTIONS:
        table.pop(word, None)
    table |= {"".join(cut.split("|")): tuple(cut.split("|")) for cut in CUT}
    typographic = {key: words for key, words in table.items() if "'" in key}
    return table | {k.replace("'", "’"): tuple(w.replace("'", "’") for w in v) for k, v in typographic.items()}
