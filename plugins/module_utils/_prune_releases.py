# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The releases of a host's instances: which stay, which go, and what those that stay need."""

from __future__ import annotations

import json
import os
import typing as t
from dataclasses import dataclass, field

from ansible_collections.baremetal.vllm.plugins.module_utils._trash import (
    TRASH,
    is_directory,
    names_in,
    thrown,
)


@dataclass(frozen=True)
class Release:
    """One release directory. `described` is its release.json, empty where it cannot be read."""

    instance: str
    path: str
    described: t.Mapping[str, t.Any]
    written: float
    """When release.json was written, in seconds since the epoch."""
    run: str
    """The command that its unit runs."""

    @property
    def id(self) -> str:
        return os.path.basename(self.path)

    @property
    def references(self) -> list[str]:
        """The image, as Docker is given it and as the inventory names it."""
        named = (self.described.get(key) for key in ("image", "reference"))
        return [reference for reference in named if isinstance(reference, str) and reference]

    @property
    def directories(self) -> list[str]:
        """Directories of the host that the release says it mounts as models."""
        model = str(self.described.get("model", ""))
        return [*(self._weights or []), *([model] if model.startswith("/") else [])]

    @property
    def unspecified(self) -> str:
        """The model (`org/name`) of which it does not say which copy it needs; else empty.

        Collections before 0.3.0 wrote no `weights`.
        """
        model = str(self.described.get("model", ""))
        told = self._weights is not None or model.startswith("/")
        return "" if told else model.partition("@")[0]

    @property
    def _weights(self) -> list[str] | None:
        weights = self.described.get("weights")
        return [str(path) for path in weights] if isinstance(weights, list) else None


@dataclass
class Releases:
    """All releases of a host."""

    staying: list[Release] = field(default_factory=list)
    going: list[Release] = field(default_factory=list)
    thrown: list[Release] = field(default_factory=list)
    """In the trash of a run that was killed."""

    @property
    def references_of_all(self) -> list[str]:
        """Image references of all of them, those that go included."""
        every = [*self.staying, *self.going, *self.thrown]
        return [reference for release in every for reference in release.references]

    @property
    def references(self) -> list[str]:
        """Image references of those that stay."""
        return [reference for release in self.staying for reference in release.references]

    @property
    def trashed_in(self) -> list[str]:
        """Directories that have a trash once what goes is in it."""
        beside = {os.path.dirname(release.path) for release in self.going}
        within = {os.path.dirname(os.path.dirname(release.path)) for release in self.thrown}
        return sorted(beside | within)


def sort_out(state_directory: str, keep: int, mounted: t.Callable[[str], bool]) -> Releases:
    """Return which releases stay and which go.

    :param state_directory: without links in it.
    :param keep: how many besides the one in force stay, of each instance.
    :param mounted: whether a container that runs has something of a directory.
    """
    found = Releases()
    for instance in names_in(state_directory):
        directory = os.path.join(state_directory, instance, "releases")
        paths = [os.path.join(directory, name) for name in names_in(directory) if name != TRASH]
        releases = [_read(instance, path) for path in paths if os.path.isdir(path)]
        going: list[Release] = []
        # What lies elsewhere is not ours to remove, but counts.
        if os.path.realpath(directory) == directory:
            link = os.path.join(state_directory, instance, "current")
            earlier = _earlier(releases, _in_force(link), _switched(link))[keep:]
            going = [each for each in earlier if not mounted(each.path)]
            found.thrown += [_read(instance, path) for path in thrown(directory)]
        found.going += going
        found.staying += [release for release in releases if release not in going]
    return found


def _earlier(releases: t.Sequence[Release], in_force: str, switched: float) -> list[Release]:
    """Return the releases that are not in force, the newest first; none if none is in force.

    What was written after the last switch has been staged (playbooks/stage.yml) and waits for its
    own: it is none of these.
    """
    if in_force not in [release.id for release in releases]:
        return []
    return sorted(
        (
            release
            for release in releases
            if release.id != in_force
            and release.written <= switched
            and release.described
            and is_directory(release.path)
        ),
        key=lambda release: (release.written, release.id),
        reverse=True,
    )


def _in_force(link: str) -> str:
    return os.path.basename(os.readlink(link)) if os.path.islink(link) else ""


def _switched(link: str) -> float:
    """Return when the link was last moved, in seconds since the epoch."""
    return os.lstat(link).st_mtime if os.path.islink(link) else 0.0


def _read(instance: str, path: str) -> Release:
    """Return a release.

    Raises OSError unless it just is not there: unread, it would count as one that needs nothing.
    """
    described, written = {}, 0.0
    try:
        with open(os.path.join(path, "release.json"), encoding="utf-8") as file:
            written = os.fstat(file.fileno()).st_mtime
            described = json.load(file)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        pass
    if not isinstance(described, dict) or not {"id", "image"} <= set(described):
        described = {}
    return Release(instance, path, described, written, _text(os.path.join(path, "run")))


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""
