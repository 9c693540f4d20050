"""A data set of the hub, through its own client: large files first (LFS or Xet, where what is there is not sent again),
then commits of bounded size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ettin_data.base.extras import need
from ettin_data.publish.contents import Content
from ettin_data.publish.remote import Held, patiently
from ettin_data.publish.target import Target
from ettin_data.sources.base import TransportOptions

_AT_ONCE = 8
_KIND = "dataset"


class Hub:
    """A data set of the hub, on its main branch. `private` counts when it is made."""

    most_entries: int | None = 10_000

    def __init__(self, target: Target, options: TransportOptions, private: bool = False) -> None:
        need("huggingface_hub", "publishing to the hub")
        from huggingface_hub import HfApi

        self.target, self.options, self.private = target, options, private
        self.api = HfApi(library_name="ettin-data")
        self.made = False

    def there(self) -> Mapping[str, Held]:
        return patiently(str(self.target), self.options, self._listed)

    def _listed(self) -> Mapping[str, Held]:
        from huggingface_hub.errors import RepositoryNotFoundError
        from huggingface_hub.hf_api import RepoFile

        found = {}
        try:
            for item in self.api.list_repo_tree(self.target.place, recursive=True, repo_type=_KIND):
                if isinstance(item, RepoFile):
                    digest = ("sha256", item.lfs.sha256) if item.lfs else ("git", item.blob_id)
                    found[item.path] = Held(item.size, *digest)
        except RepositoryNotFoundError:
            return {}
        return found

    def send(self, files: Sequence[Content]) -> None:
        from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

        if not self.made:
            patiently(str(self.target), self.options, self._make)
            self.made = True
        # Built once: each reads its file for its SHA-256.
        operations = [self._operation(content) for content in files]
        message = f"{len(files)} files: {files[0].path}" + (" …" if len(files) > 1 else "")
        silent = are_progress_bars_disabled()
        disable_progress_bars()  # one a file: ours is one for all
        try:
            patiently(str(self.target), self.options, lambda: self._upload(operations))
            patiently(str(self.target), self.options, lambda: self._commit(operations, message))
        finally:
            if not silent:
                enable_progress_bars()

    def fetch(self, path: str, to: Path) -> None:
        from huggingface_hub import HfFileSystem

        name = f"datasets/{self.target.place}/{path}"
        patiently(f"{self.target}/{path}", self.options, lambda: HfFileSystem().get_file(name, str(to)))

    def _make(self) -> None:
        self.api.create_repo(self.target.place, repo_type=_KIND, private=self.private or None, exist_ok=True)

    def _operation(self, content: Content) -> Any:
        from huggingface_hub import CommitOperationAdd

        source = content.source if isinstance(content.source, bytes) else str(content.source)
        return CommitOperationAdd(path_in_repo=content.path, path_or_fileobj=source)

    def _upload(self, operations: list[Any]) -> None:
        self.api.preupload_lfs_files(
            self.target.place, operations, repo_type=_KIND, num_threads=_AT_ONCE, free_memory=False
        )

    def _commit(self, operations: list[Any], message: str) -> None:
        self.api.create_commit(
            self.target.place, operations, repo_type=_KIND, commit_message=message, num_threads=_AT_ONCE
        )
