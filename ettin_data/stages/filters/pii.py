"""Personal data: e-mail addresses, IP addresses and phone numbers are counted, or replaced by Dolma's markers.

The markers are single tokens of ModernBERT's tokenizer. Mode `datatrove` finds what datatrove's `PIIFormatter` finds
(its two expressions, public addresses only) at a part of the cost: an expression is only tried around an `@`, or where
four numbers stand between dots. Phone numbers are Dolma's (its `pii` tagger), which datatrove does not look for. Mode
`strict` leaves alone what is rather a version, a file name or a part of a longer number.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from datatrove.data import Document

from ettin_data.base.errors import RecipeError
from ettin_data.stages.filters.base import Answer, Count, Filter

NAME, VERSION = "pii", 1

MARKERS = {"email": "|||EMAIL_ADDRESS|||", "ip": "|||IP_ADDRESS|||", "phone": "|||PHONE_NUMBER|||"}

_LOCAL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_EMAIL = re.compile(
    rf"\b{_LOCAL}+(?:\.{_LOCAL}+)*@(?:(?:{_LABEL}\.)+{_LABEL}|"
    rf"\[(?:{_BYTE}\.){{3}}(?:{_BYTE}|[A-Za-z0-9-]*[A-Za-z0-9]:)\])"
)
_BEFORE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+/=?^_`{|}~-.")
_BEHIND = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.[]:")
_IP = re.compile(rf"(?:{_BYTE}\.){{3}}{_BYTE}")
_FOUR = re.compile(r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")
_PHONE = re.compile(r"(?<=\s)\(?\d{3}\)?[-. ]*\d{3}[-. ]?\d{4}")

_FILES = frozenset("png jpg jpeg gif svg webp bmp ico css js ts json html htm php py md txt gz zip".split())
_SEVERAL = r"(?:[\d.]+[a-z]?\s*(?:,|/|&|and|or|to|until|through|via|-|–|->|→)+\s*)*"
_A_VERSION = re.compile(
    r"(?:\b(?:v|ver|vers|versions?|releases?d?|rel|revisions?|rev|builds?|firmware|drivers?|updated?|updates|upgraded?|"
    r"upgrades|upgrading|bump(?:ed|s)?|downgraded?|patch(?:ed|es)?|since|sdk|api|kernel|package|plugin|section|sec|"
    rf"chapter|clause|figure|fig|table|oid)\b\.?|§)"
    rf"(?:\s+(?:from|to|was|is|no|number))*[\s:=#\"'(\[<>~^]*{_SEVERAL}$",
    re.IGNORECASE,
)
_CONTEXT = 60  # characters before a number that may say that it is a version
_STRICT_PHONE = re.compile(
    r"(?<![\w.@/+=-])(?:\+[0-9]{1,3}[-. ]?)?(?:\([0-9]{3}\) ?|[0-9]{3}[-. ])[0-9]{3}[-. ][0-9]{4}(?![\w-]|\.\d)"
    r"|(?<![\w.@/+=-])\+[0-9]{1,3}[-. ]?(?:\([0-9]{1,4}\)[-. ]?)?[0-9]{1,4}(?:[-. ]?[0-9]{2,4}){2,4}(?![\w-]|\.\d)"
)
_MAYBE_PHONE = re.compile(r"[0-9]{3}[-. ][0-9]{4}|\+[0-9]")

Action = Literal["replace", "count"] | None
Spans = Iterator[tuple[int, int]]


@dataclass(kw_only=True, eq=False, repr=False)
class PersonalData(Filter):
    """Replace personal data by markers, or count it: this filter **edits the text**. Kinds in this order:

    Args:
        email, ip, phone: "replace" by the marker, "count" only, or `None`.
        drop_above: drop documents with more of them, whether replaced or counted; `None` drops none. Dolma: 5. Reason
            `personal_data`.
        mode: "datatrove" or "strict".

    Raises:
        RecipeError: nothing is looked for.

    Statistics besides the common ones: `email`, `ip`, `phone`, how many were found in the documents that are kept.
    """

    name = "📞 Personal data"
    options_of: ClassVar = {"personal_data": "drop_above"}

    email: Action = "replace"
    ip: Action = "replace"
    phone: Action = "count"
    drop_above: Count | None = None
    mode: Literal["datatrove", "strict"] = "strict"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.email is self.ip is self.phone is None:
            raise RecipeError(
                "there is no personal data to look for", where=NAME, remedy="leave pii out, or one kind in"
            )

    def filter(self, document: Document) -> Answer:
        text, found = document.text, {}
        for kind, action in (("email", self.email), ("ip", self.ip), ("phone", self.phone)):
            if action is None:
                continue
            spans = list(_FINDERS[self.mode, kind](text))
            if spans:
                found[kind] = len(spans)
                if action == "replace":
                    text = _replaced(text, spans, MARKERS[kind])
        if reason := self.at_most("personal_data", sum(found.values()), self.drop_above):
            return False, reason
        for kind, number in found.items():
            self.tally[kind] += number
        document.text = text
        return True


def told(options: Mapping[str, Any]) -> str:
    """What such a filter does, in words."""
    chosen = PersonalData(**options)
    kinds = {"e-mail addresses": chosen.email, "IP addresses": chosen.ip, "phone numbers": chosen.phone}
    done = {"replace": "replaced by markers", "count": "counted", None: "not looked for"}
    dropped = f"; documents with more than {chosen.drop_above} dropped" if chosen.drop_above is not None else ""
    return f"{', '.join(f'{kind} {done[action]}' for kind, action in kinds.items())}{dropped} (mode {chosen.mode})"


def found_in(steps: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """How many of each kind these steps of a source found in what they kept, and documents `dropped` for them."""
    mine = [counts for name, counts in steps.items() if name.partition("#")[0] == NAME]
    found = {kind: sum(int(counts.get(kind, 0)) for counts in mine) for kind in MARKERS}
    return {**found, "dropped": sum(int(counts.get("dropped", 0)) for counts in mine)}


def _replaced(text: str, spans: list[tuple[int, int]], marker: str) -> str:
    pieces, end = [], 0
    for begin, behind in spans:
        pieces += [text[end:begin], marker]
        end = behind
    return "".join([*pieces, text[end:]])


def _emails(text: str) -> Spans:
    """What the expression of datatrove finds in the text, tried around each `@` only: no match is without one."""
    done = 0
    at = text.find("@")
    while at >= 0:
        begin, end = at, at + 1
        while begin > done and text[begin - 1] in _BEFORE:
            begin -= 1
        while end < len(text) and text[end] in _BEHIND:
            end += 1
        match = _EMAIL.search(text, begin, end)  # `\b` sees what stands before `begin`
        done = at + 1
        if match:
            yield match.span()
            done = match.end()
        at = text.find("@", done)


def _ips(text: str) -> Spans:
    """Public addresses, as datatrove finds them: also in longer numbers."""
    if _FOUR.search(text):
        yield from (match.span() for match in _IP.finditer(text) if _is_public(match.group()))


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:  # a number with a zero in front
        return False


def _phones(text: str) -> Spans:
    return (match.span() for match in _PHONE.finditer(text))


def _strict_emails(text: str) -> Spans:
    """Those whose domain ends like one: `left-pad@1.3.0` is a version, `logo@2x.png` a file."""
    for begin, end in _emails(text):
        last = text[begin:end].rpartition(".")[2].lower()
        if (last.isalpha() and len(last) > 1 and last not in _FILES) or text[end - 1] == "]":
            yield begin, end


def _strict_ips(text: str) -> Spans:
    """Those that stand alone, are of a host, and are not called a version."""
    for begin, end in _ips(text):
        before, behind = text[max(begin - _CONTEXT, 0) : begin], text[end : end + 2]
        if before and (before[-1].isalnum() or before[-1] in "._+~^@" or before.endswith(("-", "=="))):
            continue
        if before.endswith("/") and not before.endswith("//"):  # a folder or a tag; an address follows two
            continue
        if behind and (behind[0].isalnum() or behind[0] in "_+~@" or (behind[0] in ".-" and behind[1:].isalnum())):
            continue
        if not text[begin:end].endswith(".0") and not _A_VERSION.search(before):
            yield begin, end


def _strict_phones(text: str) -> Spans:
    """Those that are written as one: with their parts apart, or a plus in front."""
    if _MAYBE_PHONE.search(text):
        yield from (match.span() for match in _STRICT_PHONE.finditer(text))


_FINDERS: dict[tuple[str, str], Callable[[str], Spans]] = {
    ("datatrove", "email"): _emails,
    ("datatrove", "ip"): _ips,
    ("datatrove", "phone"): _phones,
    ("strict", "email"): _strict_emails,
    ("strict", "ip"): _strict_ips,
    ("strict", "phone"): _strict_phones,
}
