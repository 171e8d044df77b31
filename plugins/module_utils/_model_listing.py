# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What a source has of a model, and what serving needs of that.

Whatever comes from a source is checked here: its file names become files on the host.
"""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
import posixpath
import re
import typing as t
from dataclasses import dataclass

from ansible_collections.baremetal.vllm.plugins.module_utils._source_client import SourceError

COMMIT = re.compile(r"[0-9a-f]{40}\Z")
SHA1 = re.compile(r"[0-9a-f]{40}\Z")
SHA256 = re.compile(r"[0-9a-f]{64}\Z")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+/-]*\Z")
_OLDER_WEIGHTS = ("*.bin", "*.pt", "*.pth")
_SAFETENSORS = "*.safetensors"
_WEIGHTS = (_SAFETENSORS, *_OLDER_WEIGHTS, "*.gguf")


@dataclass(frozen=True)
class Model:
    """A model as the inventory names it, at one revision."""

    organisation: str
    name: str
    revision: str

    @classmethod
    def parse(cls, text: str, default_revision: str) -> Model:
        """Return the parts of `org/name` or `org/name@revision`; raise SourceError."""
        identifier, at, revision = text.partition("@")
        organisation, _slash, name = identifier.partition("/")
        # The store's directory is <org>--<name>; the hub forbids -- and .. for the same reason.
        fits = all(
            _NAME.match(part) and "--" not in part and ".." not in part
            for part in (organisation, name)
        )
        if not fits:
            raise SourceError(
                f"models: {text!r} names no model; allowed is org/name or org/name@revision, with"
                " letters, digits and single . - _ in both names."
            )
        if at and not (_REVISION.match(revision) and is_inside(revision)):
            raise SourceError(
                f"models: the revision of {text!r} is none; allowed is a branch, a tag or a commit."
            )
        return cls(organisation, name, revision or default_revision)

    @property
    def identifier(self) -> str:
        return f"{self.organisation}/{self.name}"

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit."""
        return COMMIT.match(self.revision) is not None


@dataclass(frozen=True)
class File:
    """One file of a model: sha256 of its content, or the name that Git has for it, or both."""

    path: str
    size: int
    sha256: str | None
    git_sha1: str | None
    url: str = dataclasses.field(repr=False)


@dataclass(frozen=True)
class Snapshot:
    """All that a source has of a model at one commit."""

    commit: str
    files: tuple[File, ...]


def is_inside(path: str) -> bool:
    """Whether a name from elsewhere stays inside the directory that it is relative to."""
    segments = path.split("/")
    return path.isprintable() and "\\" not in path and not {"", ".", ".."} & set(segments)


def checked_file(
    model: Model, path: object, size: object, sha256: object, git_sha1: object, url: str
) -> File:
    """Return a file of a source's answer; raise SourceError for what cannot be verified."""
    file = f"The source's answer for {model.identifier} "
    if not isinstance(path, str) or not is_inside(path):
        raise SourceError(
            f"{file}has a file called {path!r}, which does not stay in the model's directory;"
            " nothing of it is fetched, and whoever runs the source must mend it."
        )
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise SourceError(
            f"{file}has no size for {path}, so it cannot be verified; a mirror must give sizes and"
            " hashes as the original does."
        )
    content = sha256.lower() if isinstance(sha256, str) else ""
    blob = git_sha1.lower() if isinstance(git_sha1, str) else ""
    if not SHA256.match(content) and not SHA1.match(blob):
        raise SourceError(
            f"{file}has no hash for {path}, so it cannot be verified; a mirror must give sizes and"
            " hashes as the original does."
        )
    return File(
        path,
        size,
        content if SHA256.match(content) else None,
        blob if SHA1.match(blob) else None,
        url,
    )


def listing(
    model: Model, source: str, snapshot: Snapshot, exclude: t.Sequence[str]
) -> dict[str, t.Any]:
    """Return the plain listing of what serving needs; raise SourceError if it cannot be served."""
    paths = [file.path for file in snapshot.files]
    doubled = sorted(path for path, times in collections.Counter(paths).items() if times > 1)
    if doubled:
        raise SourceError(
            f"The source's answer for {model.identifier} has {doubled[0]} more than once; whoever"
            " runs the source must mend it."
        )
    kept = needed(snapshot.files, exclude)
    _check_servable(model, source, {file.path for file in kept}, set(paths))
    left_out = sum(file.size for file in snapshot.files) - sum(file.size for file in kept)
    return {
        "model": model.identifier,
        "revision": model.revision,
        "commit": snapshot.commit,
        "source": source,
        "files": [dataclasses.asdict(file) for file in kept],
        "excluded_bytes": left_out,
    }


def needed(files: t.Iterable[File], exclude: t.Sequence[str]) -> list[File]:
    """Return what serving needs, by path: not the excluded, nor the same weights once more.

    Older formats beside a safetensors file hold the same weights; vLLM would not read them.
    """
    wanted = sorted(
        (file for file in files if not _matches(file.path, exclude)), key=lambda file: file.path
    )
    modern = {
        posixpath.dirname(file.path) for file in wanted if _matches(file.path, (_SAFETENSORS,))
    }
    return [
        file
        for file in wanted
        if not (_matches(file.path, _OLDER_WEIGHTS) and posixpath.dirname(file.path) in modern)
    ]


def _matches(path: str, patterns: t.Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def _check_servable(model: Model, source: str, kept: set[str], found: set[str]) -> None:
    where = f"{model.identifier} at revision {model.revision} of {source}"
    if "config.json" not in kept:
        if "config.json" in found:
            raise SourceError(f"exclude: it leaves out config.json of {where}, which vLLM needs.")
        raise SourceError(
            f"{where} has no config.json, which vLLM needs; name a repository in the format of"
            " transformers."
        )
    if not any(_matches(path, _WEIGHTS) for path in kept):
        if any(_matches(path, _WEIGHTS) for path in found):
            raise SourceError(f"exclude: it leaves out all weights of {where}.")
        raise SourceError(
            f"{where} has no weights ({', '.join(_WEIGHTS)}); name a repository that holds them."
        )
