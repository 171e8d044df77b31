# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the containers of a host use, and which images of our repositories nobody does."""

from __future__ import annotations

import typing as t

from ansible_collections.baremetal.vllm.plugins.module_utils._docker_api import (
    DockerAPI,
    DockerAPIError,
    quote_segment,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._image_reference import (
    LOCAL_REGISTRY,
    local_name,
    split_registry,
)

# The engine deletes the files of an image before it answers: tens of GiB on a slow disk. Seconds.
_LONGEST_SILENCE = 600
_STOPPED = ("created", "dead", "exited")


class Container(t.NamedTuple):
    """A container of the host; `mounts` are directories and files of the host."""

    image: str  # its id
    runs: bool
    mounts: tuple[str, ...]


class Image(t.NamedTuple):
    """An image that nobody uses.

    `names` are all its tags and digests, the tags first, and the local name last: it is what
    releases run, so it is what an image keeps that the engine refuses to remove.
    """

    id: str
    bytes: int
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.names[0]


def containers(api: DockerAPI) -> list[Container]:
    """Return all containers, running or not. A paused one runs. Raises DockerError."""
    return [
        Container(
            image=str(each.get("ImageID", "")),
            runs=each.get("State") not in _STOPPED,
            mounts=tuple(
                mount["Source"] for mount in each.get("Mounts") or [] if mount.get("Source")
            ),
        )
        for each in api.get("/containers/json?all=1")
    ]


def unused_images(
    api: DockerAPI,
    repositories: t.Iterable[str],
    references: t.Iterable[str],
    users: t.Iterable[Container],
) -> list[Image]:
    """Return the images of the repositories that no reference names and no container uses.

    One that has a name in another repository too is left out: somebody else wants it. Raises
    DockerError.

    :param repositories: references whose repositories are ours. The local names of what is in them
        are ours too, and other names below the same registry are not.
    :param references: those of them that are still needed.
    """
    ours = {kind for reference in repositories for kind in _repositories(reference)}
    needed = {name for reference in references for name in _equal(reference)}
    in_use = {container.image for container in users}
    found = []
    for each in api.get("/images/json"):
        every = [*(each.get("RepoTags") or []), *(each.get("RepoDigests") or [])]
        names = sorted((name for name in every if "<none>" not in name), key=_is_local)
        if (
            names
            and each["Id"] not in in_use
            and all((_familiar(name)[0], _is_local(name)) in ours for name in names)
            and not any(_equal(name) & needed for name in names)
        ):
            found.append(Image(str(each["Id"]), int(each.get("Size", 0)), tuple(names)))
    return found


def _is_local(name: str) -> bool:
    """Return whether a name is a local one, by its tag or as the containerd store shows it."""
    repository, whole = _familiar(name)
    digits = whole[len(repository) + 1 :]
    digest = digits if "@" in whole else f"sha256:{digits}"
    own = repository.partition("/")[0] == LOCAL_REGISTRY
    return own and local_name(repository, digest) != ""


def _repositories(reference: str) -> set[tuple[str, bool]]:
    """Return the repository of a reference and that of its local names, each with `_is_local`."""
    repository, _whole = _familiar(reference)
    local = f"{LOCAL_REGISTRY}/{split_registry(_repository(reference))[1]}"
    return {(local, True)} if _is_local(reference) else {(repository, False), (local, True)}


def _equal(reference: str) -> set[str]:
    """Return the names that name the same image: a digest and its local name are one."""
    digest = reference.partition("@")[2]
    names = {_familiar(reference)[1], local_name(_repository(reference), digest)}
    return names - {""}


def _repository(reference: str) -> str:
    """Return the repository of a reference as it is written there."""
    rest = reference.partition("@")[0]
    return rest.rpartition(":")[0] if ":" in rest.rpartition("/")[2] else rest


def _familiar(reference: str) -> tuple[str, str]:
    """Return repository and whole name of a reference, as the engine shows them.

    The engine leaves out what is the default: docker.io/library/nginx is nginx there.
    """
    rest, _at, digest = reference.partition("@")
    repository = _repository(reference)
    tag = rest[len(repository) + 1 :] or "latest"
    for default in ("index.docker.io/", "docker.io/", "library/"):
        if repository.startswith(default):
            repository = repository[len(default) :]
    return repository, f"{repository}@{digest}" if digest else f"{repository}:{tag}"


def remove_image(api: DockerAPI, image: Image) -> str:
    """Remove an image by its names, so that one that it was given meanwhile keeps it.

    Return what the engine says where it refuses, which it does for an image that is in use; empty
    otherwise. Raises DockerError.
    """
    for name in image.names:
        try:
            list(api.stream("DELETE", f"/images/{quote_segment(name)}", timeout=_LONGEST_SILENCE))
        except DockerAPIError as error:
            if error.status == 409:
                return error.message
            # The digests of a repository go with its last tag.
            if error.status != 404:
                raise
    return ""
