# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What nothing on a host uses any more: releases, models, images. Finding it, and removing it.

Needed is what the releases that stay name, and what running containers mount whatever the releases
say. Nothing is guessed: what might be needed stays.
"""

from __future__ import annotations

import contextlib
import os
import typing as t
from dataclasses import dataclass, field

from ansible_collections.baremetal.vllm.plugins.module_utils._docker_api import (
    DockerAPI,
    DockerError,
    DockerUnavailable,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._prune_images import (
    Container,
    Image,
    containers,
    remove_image,
    unused_images,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._prune_releases import (
    Release,
    Releases,
    sort_out,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._prune_store import (
    Found,
    Home,
    look_at_store,
    remove_from,
    size,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._trash import empty, throw


class PruneError(Exception):
    """Nothing can be said, or removed; the text is one sentence for the operator."""


@dataclass(frozen=True)
class Settings:
    """Where to look, and how many earlier releases of each instance stay."""

    state_directory: str
    models_directory: str
    keep_releases: int


@dataclass
class Unused:
    """What nothing uses, and what nobody here knows."""

    known: Releases
    releases: list[Found] = field(default_factory=list)
    homes: list[Home] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    unknown: list[Found] = field(default_factory=list)
    silence: str = ""
    """Why Docker did not answer; empty where it did."""
    refused: list[str] = field(default_factory=list)
    """What Docker said about images that it did not remove."""

    @property
    def models(self) -> list[Found]:
        return [found for home in self.homes for found in home.models]

    @property
    def partial(self) -> list[Found]:
        return [found for home in self.homes for found in home.partial]

    @property
    def sizes(self) -> list[int]:
        """Bytes of each. Layers that images share count in each of these."""
        files = [*self.releases, *self.models, *self.partial]
        return [*(found.bytes for found in files), *(image.bytes for image in self.images)]


def prune(settings: Settings, api: DockerAPI, remove: bool, pretend: bool = False) -> Unused:
    """Find what nothing uses and, where `remove` is set and `pretend` is not, remove it.

    Raises PruneError, and OSError for what cannot be read or removed.
    """
    try:
        with contextlib.ExitStack() as locks:
            found = _look(settings, api, locks if remove and not pretend else None)
            if remove and found.silence and found.sizes:
                raise PruneError(
                    "Nothing is removed, because Docker is not running on this host and its "
                    "containers may use what no release names; start it with `systemctl start "
                    f"docker` and run again: {found.silence}."
                )
            if remove and not pretend:
                _remove(found, api)
    except DockerError as error:
        raise PruneError(
            "Docker does not say what its containers use, or does not remove images; read its log "
            f"with `journalctl -u docker` and run again: {error}."
        ) from error
    return found


def _look(settings: Settings, api: DockerAPI, locks: contextlib.ExitStack | None) -> Unused:
    users: list[Container] = []
    silence = ""
    try:
        users = containers(api)
    except DockerUnavailable as error:
        silence = str(error)
    state = os.path.realpath(settings.state_directory)
    models = os.path.realpath(settings.models_directory)
    mounts = _mounts(users, (state, models))
    known = sort_out(
        state, settings.keep_releases, lambda path: any(_overlap(path, each) for each in mounts)
    )
    needed = _Needed(known.staying, mounts, models, settings.models_directory)
    homes, unknown = look_at_store(models, needed, locks)
    found = Unused(known, _releases(known, settings.keep_releases), homes, silence=silence)
    found.unknown = [*unknown, *(each for home in homes for each in home.unknown)]
    found.unknown += [
        _release(each, "its release.json cannot be read")
        for each in known.staying
        if not each.described
    ]
    if not silence:
        found.images = unused_images(api, known.references_of_all, known.references, users)
    return found


def _mounts(users: t.Iterable[Container], roots: t.Sequence[str]) -> list[str]:
    """Return what running containers have of our directories.

    One that has a directory above them looks at the whole host, as monitoring does, and needs no
    model.
    """
    sources = [os.path.realpath(path) for each in users if each.runs for path in each.mounts]
    return [path for path in sources if any(_within(path, root) for root in roots)]


def _within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory}/")


def _overlap(path: str, other: str) -> bool:
    return _within(path, other) or _within(other, path)


def _releases(known: Releases, keep: int) -> list[Found]:
    why = "not in force, and newer ones stay for a rollback" if keep else "not in force"
    return [
        *(_release(each, why) for each in known.going),
        *(_release(each, "left by a prune that was cut off") for each in known.thrown),
    ]


def _release(release: Release, why: str) -> Found:
    return Found(f"{release.instance}/{release.id}", release.path, size(release.path), why)


class _Needed:
    """Whether anybody needs what is at a path of the store.

    :param models: the store, without links in it; `named` is what the operator calls it.
    """

    def __init__(
        self, staying: t.Sequence[Release], mounts: t.Sequence[str], models: str, named: str
    ) -> None:
        directories = [path for release in staying for path in release.directories]
        self._paths = [*mounts, *(os.path.realpath(path) for path in directories)]
        # It is what an instance runs, so it counts even where nothing else says the same.
        self._commands = "\n".join(release.run for release in staying)
        unspecified = {release.unspecified for release in staying}
        self._homes = {model.replace("/", "--", 1) for model in unspecified if model}
        self._models = models
        self._named = named.rstrip("/")

    def __call__(self, path: str) -> bool:
        below = os.path.relpath(path, self._models)
        return (
            any(_overlap(path, needed) for needed in self._paths)
            or below.partition("/")[0] in self._homes
            or path in self._commands
            or f"{self._named}/{below}" in self._commands
        )


def _remove(found: Unused, api: DockerAPI) -> None:
    """Remove what was found: releases first, as they need the rest.

    They are deleted last, as only they tell a later run which repositories were ours.
    """
    for release in found.known.going:
        throw(release.path)
    removed = []
    for image in found.images:
        refusal = remove_image(api, image)
        if refusal:
            found.refused.append(f"{image.name}: {refusal}")
        else:
            removed.append(image)
    found.images = removed
    for home in found.homes:
        remove_from(home)
    for directory in found.known.trashed_in:
        empty(directory)
