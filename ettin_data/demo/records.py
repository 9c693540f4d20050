"""The demo mirror's records: each source's schema as it stands upstream.

The keys, their types and their oddities are those recorded from real files: numbers written as strings, `attributes`
and `doc` that are a struct in one record and null in the next, ids that are urls, urns, small integers which repeat
from file to file, or missing. Values that the text does not give are keyed by it; hosts end in `.example`, which nobody
can own.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from ettin_data.base import draws
from ettin_data.demo.deal import Document

Record = dict[str, Any]


def record(source: str, file: str, ordinal: int, document: Document) -> Record:
    """The upstream record of a document.

    Args:
        source: the source's key.
        file: path of its file below the mirror.
        ordinal: position in that file, from 0.
    """
    return _SCHEMAS[source](file, ordinal, document)


def _draw(document: Document, purpose: str, below: int) -> int:
    """A number in [0, below) keyed by the text."""
    return draws.key64("demo", purpose, document.text) % below


def _hex(document: Document, digits: int) -> str:
    return hashlib.sha256(document.text.encode("utf-8")).hexdigest()[:digits]


def _uuid(document: Document) -> str:
    h = _hex(document, 32)
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:32]}"


def _moment(document: Document, purpose: str, year: int) -> datetime.datetime:
    start = datetime.datetime(year, 1, 1, tzinfo=datetime.UTC)
    return start + datetime.timedelta(seconds=_draw(document, purpose, 365 * 24 * 3600))


def _created(document: Document) -> str:
    return _moment(document, "created", 2020).strftime("%Y-%m-%dT%H:%M:%SZ")


def _url(document: Document) -> str:
    """The address of the page that this text would be on. The hash keeps two parts of one module apart."""
    page = PurePosixPath(document.name).with_suffix("").as_posix()
    return f"https://{document.package}.example/{page}/{_hex(document, 10)}/"


def _dolma(origin: str, identity: str, document: Document, **more: Any) -> Record:
    """What the Dolma toolkit's contract asks of every record, and what the source adds."""
    added = _moment(document, "added", 2023).isoformat(timespec="microseconds")
    base = {"added": added, "created": _created(document), "id": identity, "source": origin, "text": document.text}
    return base | more


def _provenance(file: str, ordinal: int) -> str:
    return f"{PurePosixPath(file).name}:{ordinal + 1}"


def _arxiv(file: str, ordinal: int, document: Document) -> Record:
    number = f"{_draw(document, 'month', 12) + 2001:04d}.{_draw(document, 'number', 100_000):05d}"
    metadata = {"timestamp": _created(document), "url": f"https://arxiv.example/abs/{number}", "language": "en"}
    return _dolma("redpajama/arxiv", _hex(document, 40), document, metadata=metadata | {"yymm": number[:4]})


def _books(file: str, ordinal: int, document: Document) -> Record:
    return _dolma("gutenberg", str(10_000 + _draw(document, "book", 60_000)), document)


def _common_crawl(file: str, ordinal: int, document: Document) -> Record:
    url, lines = _url(document), document.text.count("\n") + 1
    segment = f"crawl-data/CC-MAIN-2020-16/segments/{1585370490000 + _draw(document, 'segment', 9999)}.64/wet"
    metadata = {
        "bucket": PurePosixPath(file).parent.name.rpartition("_")[2],  # cc_en_head, cc_news_middle, ...
        "cc_segment": f"{segment}/CC-MAIN-20200329074745-20200329104745-00210.warc.wet.gz",
        "date_download": _created(document),
        "digest": f"sha1:{_hex(document, 32).upper()}",
        "language": "en",
        "language_score": round(0.8 + _draw(document, "language", 20) / 100, 2),
        "length": len(document.text),
        "line_ids": list(range(3, min(lines, 40) + 3)),
        "nlines": lines,
        "original_length": len(document.text) * 2,
        "original_nlines": lines * 3,
        "perplexity": round(100 + _draw(document, "perplexity", 3000) / 10, 1),
        "provenance": _provenance(file, ordinal),
        "source_domain": f"{document.package}.example",
        "title": document.name,
        "url": url,
    }
    return _dolma("common-crawl", url, document, metadata=metadata)


def _dclm(file: str, ordinal: int, document: Document) -> Record:
    return {
        "id": f"<urn:uuid:{_uuid(document)}>",
        "text": document.text,
        "url": _url(document),
        "language": "en",
        "language_score": 0.65 + _draw(document, "language", 35) / 100,
        "fasttext_score": 0.018 + _draw(document, "quality", 980) / 1000,
    }


def _fineweb2(file: str, ordinal: int, document: Document) -> Record:
    language, _, script = PurePosixPath(file).parts[-3].partition("_")
    return {
        "text": document.text,
        "id": f"<urn:uuid:{_uuid(document)}>",
        "dump": "CC-MAIN-2020-16",
        "url": _url(document),
        "date": _created(document),
        "file_path": f"s3://commoncrawl/crawl-data/{_hex(document, 16)}.warc.gz",
        "language": language,
        "language_score": 0.65 + _draw(document, "language", 35) / 100,
        "language_script": script,
        "minhash_cluster_size": 1 + _draw(document, "copies", 9),
        "top_langs": f'{{"{language}_{script}_score": 1.0}}',
    }


def _proof_pile(prefix: str, document: Document, file: str, ordinal: int, doc: Record) -> Record:
    """Both Proof-Pile-2 sources: tagger results and the original record in some records, null in the others."""
    tagged = ordinal % 3 != 2
    attributes = {
        "paloma_documents": [] if ordinal % 3 else [[0, len(document.text), 0.0]],
        "paloma_paragraphs": [],
    }
    return _dolma(
        prefix,
        f"proofpile-{prefix}_{ordinal % 7:03d}-{ordinal}",
        document,
        version="v0",
        attributes=attributes if tagged else None,
        doc=doc if tagged else None,
        metadata={"provenance": f"{ordinal % 7:03d}.jsonl.gz:{ordinal + 1}"},
    )


def _open_web_math(file: str, ordinal: int, document: Document) -> Record:
    doc = {
        "url": _url(document),
        "date": _created(document),
        "warc_path": f"s3://commoncrawl/crawl-data/{_hex(document, 16)}.warc.gz",
        "config": {"markdown_headings": True, "markdown_code": True, "boilerplate_config": {"enable": True}},
        "extraction_info": {
            "found_math": True,
            "math_score": _draw(document, "math", 1000) / 1000,
            "perplexity": 1000 + _draw(document, "perplexity", 10_000) / 10,
        },
    }
    return _proof_pile("open-web-math", document, file, ordinal, doc)


def _algebraic_stack(file: str, ordinal: int, document: Document) -> Record:
    when = _moment(document, "timestamp", 2022)
    stamp: int | str = int(when.timestamp()) if ordinal % 2 else when.isoformat()  # both are seen upstream
    doc = {"ext": "py", "lang": "Python", "max_stars_count": ordinal, "size": len(document.text), "timestamp": stamp}
    return _proof_pile("algebraic-stack", document, file, ordinal, doc)


def _pes2o(file: str, ordinal: int, document: Document) -> Record:
    words = document.text.split()
    metadata = {
        "abstract": " ".join(words[:40]),
        "abstract_count": min(len(words), 40),
        "abstract_language": "en",
        "abstract_perplexity": -10 - _draw(document, "abstract", 100) / 10,
        "extfieldsofstudy": ["Computer Science"] if ordinal % 2 else [],
        "s2fieldsofstudy": ["Computer Science", "Mathematics"],
        "sha1": _hex(document, 40),
        "sources": ["ScienceParsePlus"],
        "title": document.name,
        "title_count": 1,
        "title_language": "en",
        "title_perplexity": -12.5,
        "top_frequencies": [{"token": word, "count": words.count(word)} for word in sorted(set(words[:20]))[:3]],
        "year": 2000 + _draw(document, "year", 23),
        "provenance": _provenance(file, ordinal),
    }
    attributes: Record | None = {"paloma_documents": []} if ordinal % 10 == 0 else None
    identity = str(_draw(document, "corpus", 250_000_000))
    return _dolma(
        "s2orc/train", identity, document, version="v3-fos", attributes=attributes, doc=None, metadata=metadata
    )


def _reddit(file: str, ordinal: int, document: Document) -> Record:
    metadata = {"subreddit": document.package, "length": len(document.text)}
    if ordinal % 4 == 0:  # a submission; the others are comments
        return _dolma("reddit", _hex(document, 6), document, metadata=metadata | {"subreddit_type": "public"})
    return _dolma("reddit", _hex(document, 32), document, metadata=metadata)


def _stackexchange(file: str, ordinal: int, document: Document) -> Record:
    metadata = {
        "timestamp": _created(document),
        "url": _url(document),
        "language": "en",
        "question_score": str(ordinal),
    }
    return _dolma("redpajama/stackexchange", _hex(document, 40), document, metadata=metadata)


def _starcoder(file: str, ordinal: int, document: Document) -> Record:
    """Ids start again in every file; every value in `metadata` is a string; half of the texts start with markers."""
    repository, stars = f"{document.package}/{document.package}", _draw(document, "stars", 3000)
    if ordinal % 2 == 0:
        bins = "0" if stars == 0 else "1-10" if stars <= 10 else "10-100" if stars <= 100 else "100-1000"
        marks = f"<reponame>{repository}<filename>{document.name}<gh_stars>{bins if stars <= 1000 else '1000+'}\n"
        document = Document(marks + document.text, document.name, document.package, document.tokens)
    metadata = {
        "extension": PurePosixPath(document.name).suffix.lstrip("."),
        "max_stars_count": str(stars),
        "max_stars_repo_name": repository,
        "max_stars_repo_path": document.name,
        "provenance": _provenance(file, ordinal),
    }
    tags = {"code_secrets_v1__code_secrets_v1__doc_count": [[0, len(document.text), 0.0]]} if ordinal % 5 else None
    return _dolma("stack-dedup", str(ordinal), document, attributes=tags, doc=None, version="v0", metadata=metadata)


def _tulu_flan(file: str, ordinal: int, document: Document) -> Record:
    return _dolma("tulu_flan", f"{_hex(document, 32)}-{ordinal}", document)


def _wikipedia(file: str, ordinal: int, document: Document) -> Record:
    page = str(_draw(document, "page", 70_000_000))
    metadata = {
        "length": len(document.text),
        "provenance": _provenance(file, ordinal),
        "revid": str(_draw(document, "revision", 40_000_000)),
        "url": f"https://wikipedia.example/wiki?curid={page}",
    }
    return _dolma("wikipedia", page, document, version="v0", metadata=metadata)


def _dclm_dolmino(file: str, ordinal: int, document: Document) -> Record:
    return {
        "bff_contained_ngram_count_before_dedupe": _draw(document, "ngrams", 50),
        "fasttext_openhermes_reddit_eli5_vs_rw_v2_bigram_200k_train_prob": _draw(document, "quality", 1000) / 1000,
        "id": f"<urn:uuid:{_uuid(document)}>",
        "language_id_whole_page_fasttext": {"en": 0.65 + _draw(document, "language", 35) / 100},
        "metadata": {
            "Content-Type": "application/http; msgtype=response",
            "WARC-Date": _created(document),
            "WARC-Record-ID": f"<urn:uuid:{_uuid(document)}>",
            "WARC-Target-URI": _url(document),
        },
        "previous_word_count": len(document.text.split()),
        "source": "dclm-hero-run-fasttext_for_HF",
        "text": document.text,
        "url": _url(document),
        "warcinfo": "warc-type: WARC/1.0\r\nisPartOf: CC-MAIN-2020-16",
    }


def _math_dolmino(file: str, ordinal: int, document: Document) -> Record:
    """Each sub-folder was made by another script: ids are strings, numbers, null or missing."""
    parts = PurePosixPath(file).parts
    part = parts[parts.index("math") + 1]
    if part == "gsm8k":
        return {"id": ordinal, "text": document.text, "source": part}
    if part == "mathcoder2-synthmath":
        return {"text": document.text}
    if part == "tulu_math":
        return {"id": None, "text": document.text, "metadata": {"messages": 2}, "version": "v0"}
    if part == "dolmino_math_synth":
        return {"text": document.text, "id": f"{part}_{ordinal}", "attributes": None}
    return _dolma(part, f"{_hex(document, 16)}", document, metadata={"path": document.name})


def _stackexchange_dolmino(file: str, ordinal: int, document: Document) -> Record:
    metadata = {
        "forum": document.package,
        "score": _draw(document, "score", 40),
        "provenance": _provenance(file, ordinal),
    }
    return _dolma(
        "stackexchange", f"{document.package}-{_hex(document, 12)}", document, metadata=metadata, version="v0"
    )


_SCHEMAS: dict[str, Callable[[str, int, Document], Record]] = {
    "arxiv": _arxiv,
    "books": _books,
    "cc_head": _common_crawl,
    "cc_news": _common_crawl,
    "dclm": _dclm,
    "dclm_dolmino": _dclm_dolmino,
    "fineweb2": _fineweb2,
    "math_dolmino": _math_dolmino,
    "open_web_math": _open_web_math,
    "algebraic_stack": _algebraic_stack,
    "pes2o": _pes2o,
    "reddit": _reddit,
    "stackexchange": _stackexchange,
    "stackexchange_dolmino": _stackexchange_dolmino,
    "starcoder": _starcoder,
    "tulu_flan": _tulu_flan,
    "wikipedia": _wikipedia,
}
