# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What nothing uses in the store of models, and removing it. See _model_store for the layout."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.baremetal.vllm.plugins.module_utils._model_store import (
    bytes_below,
    read_manifest,
    regular_size,
    write_json,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._trash import (
    TRASH,
    empty,
    is_directory,
    names_in,
    throw,
    thrown,
)

_LOCK = ".lock"
_REVISIONS = "revisions.json"
_HOME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*--[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
_ENTRY = re.compile(r"([0-9a-f]{40})(\.json|\.partial|)\Z")
_UNFINISHED = ".new-"
"""How the names of files begin that `write_json` has not put in their place yet."""
_OF_THE_FILESYSTEM = "lost+found"


class Found(t.NamedTuple):
    """Something that can go, or (unknown) that stays because nobody here knows it."""

    name: str
    path: str
    bytes: int
    why: str


@dataclass
class Home:
    """What was found in the directory of one model."""

    path: str
    models: list[Found] = field(default_factory=list)
    partial: list[Found] = field(default_factory=list)
    unknown: list[Found] = field(default_factory=list)
    staying: set[str] = field(default_factory=set)
    """Commits of which something stays."""

    @property
    def model(self) -> str:
        return os.path.basename(self.path).replace("--", "/", 1)

    @property
    def going(self) -> list[Found]:
        return [*self.models, *self.partial]


def look_at_store(
    store: str, needed: t.Callable[[str], bool], locks: contextlib.ExitStack | None
) -> tuple[list[Home], list[Found]]:
    """Return the models' directories, without those that a download works in, and what is unknown.

    :param store: without links in it.
    :param needed: whether anybody needs what is at a path.
    :param locks: keeps downloads out of the directories until it is closed; None: only while each
        is looked at.
    """
    homes, unknown = [], []
    for name in names_in(store):
        path = os.path.join(store, name)
        if name == _OF_THE_FILESYSTEM:
            continue
        if not (_HOME.match(name) and is_directory(path)):
            unknown.append(Found(name, path, size(path), "not a directory of a model"))
            continue
        with contextlib.ExitStack() as short:
            if _lock(path, locks or short):
                homes.append(_look_at(path, needed))
    return homes, unknown


def size(path: str) -> int:
    """Return the bytes of the regular files at a path and below it."""
    return bytes_below(path) if is_directory(path) else max(0, regular_size(path))


def _lock(home: str, locks: contextlib.ExitStack) -> bool:
    """Keep downloads out of a model's directory; False where one works in it."""
    try:
        path = os.path.join(home, _LOCK)
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    locks.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _look_at(path: str, needed: t.Callable[[str], bool]) -> Home:
    home = Home(path)
    for name in names_in(path):
        entry, below = _ENTRY.match(name), os.path.join(path, name)
        if entry and _is_entry(below):
            commit = entry.group(1)
            if needed(below) or needed(os.path.join(path, commit)):
                home.staying.add(commit)
            else:
                _sort(home, commit, below)
        elif name == TRASH and is_directory(below):
            home.partial += [
                Found(home.model, left, size(left), "left by a prune that was cut off")
                for left in thrown(path)
            ]
        elif name.startswith(_UNFINISHED) and regular_size(below) >= 0:
            home.partial.append(_found(home, below, "left by a write that was cut off"))
        elif name not in (_LOCK, _REVISIONS) or regular_size(below) < 0:
            home.unknown.append(_found(home, below, "not of this collection"))
    if not (home.going or home.unknown or home.staying):
        home.partial.append(_found(home, path, "nothing is left of the model"))
    return home


def _is_entry(path: str) -> bool:
    """Whether an entry is of the kind that its name says."""
    return regular_size(path) >= 0 if path.endswith(".json") else is_directory(path)


def _sort(home: Home, commit: str, path: str) -> None:
    """Put a copy, a partial copy or a manifest that nobody needs to where it belongs."""
    directory = os.path.join(home.path, commit)
    manifest = f"{directory}.json"
    if path == manifest:
        if not os.path.lexists(directory):
            home.partial.append(_found(home, path, "a manifest without its files", commit))
        return
    if path != directory:
        home.partial.append(_found(home, path, "a download that was cut off", commit))
        return
    listed = read_manifest(manifest) if regular_size(manifest) >= 0 else None
    if listed is None:
        why = "it has no manifest, so it counts as missing"
        home.partial.append(_found(home, path, why, commit))
        return
    known = {os.path.join(path, name) for name in listed["files"]}
    strangers = [each for each in _files_below(path) if each not in known]
    if strangers:
        home.staying.add(commit)
        why = "not in the manifest of its copy, which stays for its sake"
        home.unknown += [_found(home, each, why, commit) for each in strangers]
        return
    found = _found(home, path, "no release names it, no container mounts it", commit)
    home.models.append(found._replace(bytes=found.bytes + size(manifest)))


def _found(home: Home, path: str, why: str, commit: str = "") -> Found:
    return Found(f"{home.model}@{commit}" if commit else home.model, path, size(path), why)


def _files_below(directory: str) -> t.Iterator[str]:
    """Yield all that is no directory, links to directories too."""
    for parent, directories, names in os.walk(directory):
        links = [name for name in directories if os.path.islink(os.path.join(parent, name))]
        for name in [*names, *links]:
            yield os.path.join(parent, name)


def remove_from(home: Home) -> None:
    """Remove what can go; wherever this is cut off, what is left is found again."""
    if not home.going:
        return
    going = {found.name.partition("@")[2] for found in home.going}
    _forget_revisions(home.path, going - home.staying)
    for found in home.models:
        # First: a copy without manifest counts as missing.
        os.unlink(f"{found.path}.json")
        throw(found.path)
    for found in home.partial:
        if os.path.dirname(found.path) != home.path:
            continue  # in the trash already, or the home itself
        if is_directory(found.path):
            throw(found.path)
        else:
            os.unlink(found.path)
    empty(home.path)
    left = names_in(home.path)
    if set(left) <= {_LOCK, _REVISIONS}:
        for name in left:
            os.unlink(os.path.join(home.path, name))
        with contextlib.suppress(OSError):  # a download has begun meanwhile
            os.rmdir(home.path)


def _forget_revisions(home: str, commits: t.Collection[str]) -> None:
    """Drop the names of commits that go."""
    path = os.path.join(home, _REVISIONS)
    try:
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
    except (FileNotFoundError, ValueError):
        return
    if not isinstance(known, dict):
        return
    kept = {name: commit for name, commit in known.items() if str(commit) not in commits}
    if kept != known:
        write_json(path, kept)
