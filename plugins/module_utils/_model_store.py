# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The store of models on a host: where copies lie, what is known of them, whether they are whole.

<store>/<org>--<name>/<commit>/          the files; there only when complete and verified
<store>/<org>--<name>/<commit>.json      their manifest: model, commit, source, sizes, hashes
<store>/<org>--<name>/<commit>.partial/  a download on its way, or cut off
<store>/<org>--<name>/revisions.json     which commit a branch or tag was resolved to
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import tempfile
import time
import typing as t
from dataclasses import dataclass

PROGRESS_NAME = ".progress.json"
"""Where a download in a partial copy says how far it is."""

_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
_HOME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*--[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_ENTRY = re.compile(r"([0-9a-f]{40})(\.json|\.partial)?\Z")
_HASH_CHUNK = 4 * 1024 * 1024
_MOST_THREADS = 8


class StoreError(Exception):
    """The store is not as it must be; the text is one sentence for the operator."""


@dataclass(frozen=True)
class Copy:
    """Where one model at one commit lies in a store, whether it is there or not."""

    store: str
    model: str
    commit: str

    @classmethod
    def of(cls, store: str, model: str, commit: str) -> Copy:
        """Return the copy of these names. Raises StoreError for names that are none."""
        if not _MODEL.match(model) or "--" in model:
            raise StoreError(f"model: {model!r} is no model's name; allowed is org/name.")
        if not _COMMIT.match(commit):
            raise StoreError(
                f"commit: {commit!r} of {model} is no commit; allowed are its 40 hex digits."
            )
        return cls(store, model, commit)

    @property
    def home(self) -> str:
        """The directory of all commits of the model."""
        return os.path.join(self.store, self.model.replace("/", "--", 1))

    @property
    def directory(self) -> str:
        return os.path.join(self.home, self.commit)

    @property
    def manifest(self) -> str:
        return f"{self.directory}.json"

    @property
    def partial(self) -> str:
        return f"{self.directory}.partial"

    @property
    def revisions(self) -> str:
        return os.path.join(self.home, "revisions.json")

    def __str__(self) -> str:
        return f"{self.model} at {self.commit[:8]}"


def checked_path(path: str) -> str:
    """Return a file's path within a model. Raises StoreError where it would lie elsewhere."""
    parts = path.split("/")
    if not path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise StoreError(
            f"files: {path!r} is no path within a model; do not trust what its source says."
        )
    return path


def regular_size(path: str) -> int:
    """Return the size of a regular file in bytes; -1 for anything else, and for nothing."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def sync(path: str) -> None:
    """Have a file's content, or a directory's entries, on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str, content: t.Any) -> None:
    """Replace a JSON file as a whole, so that it is the old or the new one after a power cut."""
    directory = os.path.dirname(path)
    descriptor, fresh = tempfile.mkstemp(prefix=".new-", dir=directory)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        raise
    sync(directory)


def _json_object(path: str) -> dict[str, t.Any]:
    """Return a file's JSON object; empty where there is none.

    Raises OSError for one that cannot be read: it must not be taken for one that is not there.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_manifest(path: str) -> dict[str, t.Any] | None:
    """Return a manifest; None where there is none or what is there is none."""
    content = _json_object(path)
    files = content.get("files")
    if not isinstance(files, dict) or not content.get("model"):
        return None
    for name, entry in files.items():
        try:
            checked_path(name)
            if not (isinstance(entry["size"], int) and len(entry["sha256"]) == 64):
                return None
        except (StoreError, KeyError, TypeError):
            return None
    return content


def read_revisions(copy: Copy) -> dict[str, str]:
    """Return {branch or tag: commit} as recorded for the model."""
    return {
        str(name): str(commit)
        for name, commit in _json_object(copy.revisions).items()
        if _COMMIT.match(str(commit))
    }


def record_revision(copy: Copy, revision: str, write: bool = True) -> bool:
    """Record what a branch or tag was resolved to; return whether that is new."""
    known = read_revisions(copy)
    if revision in ("", copy.commit) or known.get(revision) == copy.commit:
        return False
    if write:
        write_json(copy.revisions, {**known, revision: copy.commit})
    return True


# -- looking, by stat only ---------------------------------------------------------------------


def look(store: str) -> list[dict[str, t.Any]]:
    """Return what copies a store has, complete or not, without reading their files.

    Each has `model`, `commit`, `directory`, `source`, `complete`, `manifest` (whether there is
    one), `missing` and `wrong_size` (paths; `damaged` are both), `files` and `bytes` (as the
    manifest says), `partial_bytes` (of a download that is under way or was cut off) and
    `revisions` (names).
    """
    found = []
    for home in _names(store):
        if not _HOME.match(home):
            continue
        entries = (_ENTRY.match(name) for name in _names(os.path.join(store, home)))
        for commit in sorted({entry.group(1) for entry in entries if entry}):
            found.append(_look_at(Copy(store, home.replace("--", "/", 1), commit)))
    return found


def _look_at(copy: Copy) -> dict[str, t.Any]:
    manifest = read_manifest(copy.manifest)
    files = manifest["files"] if manifest else {}
    sizes = {name: regular_size(os.path.join(copy.directory, name)) for name in sorted(files)}
    missing = [name for name, size in sizes.items() if size < 0]
    wrong = [name for name, size in sizes.items() if size >= 0 and size != files[name]["size"]]
    recorded = read_revisions(copy).items()
    return {
        "model": copy.model,
        "commit": copy.commit,
        "directory": copy.directory,
        "source": str(manifest.get("source", "")) if manifest else "",
        "manifest": manifest is not None,
        "complete": bool(files) and not missing and not wrong,
        "missing": missing,
        "wrong_size": wrong,
        "damaged": sorted(missing + wrong),
        "files": len(files),
        "bytes": sum(entry["size"] for entry in files.values()),
        "partial_bytes": bytes_below(copy.partial),
        "revisions": sorted(name for name, commit in recorded if commit == copy.commit),
    }


def bytes_below(directory: str) -> int:
    """Return the size of all regular files below a directory; 0 where there is none."""
    return sum(
        max(0, regular_size(os.path.join(parent, name)))
        for parent, _directories, names in os.walk(directory)
        for name in names
        if not name.startswith(PROGRESS_NAME)
    )


def damaged(copy: Copy, files: t.Iterable[t.Mapping[str, t.Any]]) -> list[str]:
    """Return which files of a listing the copy lacks, or has of another size or hash."""
    manifest = read_manifest(copy.manifest)
    known = manifest["files"] if manifest else {}
    wanted = []
    for file in files:
        entry = known.get(file["path"]) or {"size": -1, "sha256": ""}
        same_hash = file.get("sha256") in (None, "", entry["sha256"])
        size = regular_size(os.path.join(copy.directory, file["path"]))
        if not (same_hash and file["size"] == entry["size"] == size):
            wanted.append(file["path"])
    return wanted


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


# -- verifying, by reading everything ----------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """One file of a copy that is not as its manifest says."""

    path: str
    text: str


@dataclass(frozen=True)
class Verification:
    """What was read of a copy, in bytes and seconds, and what is wrong with it."""

    problems: tuple[Problem, ...]
    bytes: int
    seconds: float


def verify(copy: Copy, threads: int = 0) -> Verification:
    """Read every file of a copy and compare it with the manifest.

    Raises StoreError where there is no copy or no manifest.
    """
    import concurrent.futures  # most runs only look

    start = time.monotonic()
    manifest = read_manifest(copy.manifest)
    if not os.path.isdir(copy.directory):
        raise StoreError(f"{copy} is not in {copy.store}; fetch it with model_fetch.")
    if manifest is None:
        raise StoreError(
            f"{copy} has no manifest {copy.manifest}, so nothing can be said of its files; fetch "
            "it again with model_fetch."
        )
    files = manifest["files"]
    # The largest first, so that none is left alone at the end.
    order = sorted(files, key=lambda name: (-files[name]["size"], name))
    count = threads or min(_MOST_THREADS, os.cpu_count() or 1)
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        texts = list(pool.map(lambda name: _compare(copy, name, files[name]), order))
    problems = [Problem(name, text) for name, text in zip(order, texts) if text]
    strangers = sorted(set(_files_below(copy.directory)) - set(files))
    problems += [Problem(name, "is not in the manifest") for name in strangers]
    read = sum(files[name]["size"] for name, text in zip(order, texts) if not text)
    ordered = tuple(sorted(problems, key=lambda problem: problem.path))
    return Verification(ordered, read, round(time.monotonic() - start, 1))


def _compare(copy: Copy, name: str, wanted: t.Mapping[str, t.Any]) -> str:
    """Return what is wrong with a file; empty if nothing is."""
    path = os.path.join(copy.directory, name)
    size = regular_size(path)
    if size < 0:
        return "is no regular file" if os.path.lexists(path) else "is missing"
    if size != wanted["size"]:
        return f"has {size} bytes instead of {wanted['size']}"
    content = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(_HASH_CHUNK):
                content.update(chunk)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if content.hexdigest() != wanted["sha256"]:
        digests = f"{content.hexdigest()[:12]} instead of {wanted['sha256'][:12]}"
        return f"has the sha256 {digests}"
    return ""


def _files_below(directory: str) -> t.Iterator[str]:
    """Yield the paths of all that is no directory; a link to one is none."""
    for parent, directories, names in os.walk(directory):
        links = [name for name in directories if os.path.islink(os.path.join(parent, name))]
        for name in names + links:
            yield os.path.relpath(os.path.join(parent, name), directory)
