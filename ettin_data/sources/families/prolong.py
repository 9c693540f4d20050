"""ProLong: code repositories and textbooks of the decay phase, published as Llama-3 token ids in MDS.

The unpacked S3 copies (one document per sample, no BOS/EOS, no id; requester pays) are most likely what Ettin used.
Sub-folder names of the bucket are not documented: the reader follows `index.json`. Those without an AWS account find a
packed copy on the hub, with documents cut at 65,536 tokens and far less code (6 to 10 billion tokens, estimated). A
recipe takes it with

    sources:
      textbooks:
        root: hf://datasets/princeton-nlp/prolong-data-64K@1447128c751f0fbc7d2082b2a113a938426a9bba/
        globs: ["textbooks/proc{00..63}-64/index.json"]  # for code_repos: thestackv1_concat_by_repo-65536/proc…
"""

from __future__ import annotations

from typing import Final

from ettin_data.sources.base import Source

# Llama 3's own repository is gated; this one carries the same tokenizer and is what Ettin's scripts name.
TOKENIZER: Final = "princeton-nlp/Llama-3-8B-ProLong-64k-Base"
S3_ROOT: Final = "s3://princeton-prolong/data_before_packing/"
TERMS: Final = "https://github.com/princeton-nlp/ProLong"

SOURCES: Final[tuple[Source, ...]] = (
    Source(
        key="code_repos",
        category="code",
        title="Code repositories (ProLong)",
        root=S3_ROOT + "code_repos/",
        globs=("**/index.json",),
        format="mds",
        licence="not stated (The Stack v1 terms)",
        terms=TERMS,
        gated="AWS requester-pays",
        bytes=689_000_000_000,
        upstream_tokens=172_000_000_000,
        tokenizer=TOKENIZER,
        storage={"requester_pays": True},
    ),
    Source(
        key="textbooks",
        category="reference",
        title="Textbooks (ProLong)",
        root=S3_ROOT + "textbooks/",
        globs=("**/index.json",),
        format="mds",
        licence="not stated",
        terms=TERMS,
        gated="AWS requester-pays",
        bytes=1_000_000_000,
        upstream_tokens=250_000_000,
        tokenizer=TOKENIZER,
        storage={"requester_pays": True},
        note="two passes",
    ),
)
