# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What one GPU host shall look like, and which of its instances do not look so yet.

Pure: the wanted instances and the state that was read go in, the files to install and the
instances to switch come out. Nothing here knows Ansible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import (
    is_local,
    is_present,
    port_of,
    split_image,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._release import build

# Labels that a release's `run` gives its container.
_LABEL = "baremetal.vllm.release"


def image_to_run(
    reference: str, found: Mapping[str, Any] | None, pulled_digest: str | None = None
) -> str:
    """The reference by digest that `docker run` is given.

    :param reference: ``vllm_image`` as the inventory has it.
    :param found: what host_state says of it, None where the host has no such image.
    :param pulled_digest: ``repository@sha256:...`` of a pull in this run.
    :returns: the reference itself when it has a digest or when nothing is known of it yet (check
        mode on a virgin host); an image that was built on the host and never came from a registry
        runs by its id.
    """
    repository, _tag, digest = split_image(reference)
    if digest:
        return f"{repository}@{digest}"
    if pulled_digest:
        return pulled_digest
    if not found:
        return reference
    digests = found.get("repo_digests") or []
    own = [known for known in digests if _same_repository(known.partition("@")[0], repository)]
    return str((own or [found["id"]])[0])


def _same_repository(one: str, other: str) -> bool:
    """Docker leaves its own registry out of the names it shows."""
    short = [name.removeprefix("docker.io/").removeprefix("library/") for name in (one, other)]
    return short[0] == short[1]


def plan_host(
    instances: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    state: Mapping[str, Any],
    pulled_digest: str | None = None,
) -> dict[str, Any]:
    """Everything that the roles need to know of this host.

    :param instances: entries of vllm_instances.
    :param settings: fields of :class:`_release.Settings`; ``image`` as in the inventory.
    :param state: result of host_state, with images, containers, services and instances.
    :returns: ``releases`` (see :func:`_release.build`; ``proved`` says whether the process that
        runs has generated a token), ``pending`` (the releases that do not run),
        ``remove`` (instances with state absent that are on the host), ``serving`` (whether one of
        the pending instances runs an older release), ``endpoints``, and ``directories`` and
        ``files`` for the module file_set.
    :raises ValueError: an instance cannot be built.
    """
    found = (state.get("images") or {}).get(settings["image"])
    by_digest = {
        **settings,
        "image": image_to_run(settings["image"], found, pulled_digest),
        "reference": settings["image"],
    }
    present = [instance for instance in instances if is_present(instance)]
    releases = [build(instance, by_digest) for instance in present]
    releases = [release | {"proved": _is_proved(release, state)} for release in releases]
    pending = [release for release in releases if not _runs(release, state)]
    known = {entry["name"] for entry in state.get("instances") or []}
    return {
        "releases": releases,
        "pending": pending,
        "serving": any(_is_active(release["unit"], state) for release in pending),
        "remove": [
            instance
            for instance in instances
            if not is_present(instance) and instance["name"] in known
        ],
        "endpoints": [
            {
                "name": instance["name"],
                "address": settings["listen_address"],
                "port": port_of(instance),
                "in_rotation": True,
            }
            for instance in present
        ],
        "directories": _directories(present, by_digest)
        + [{"path": release["directory"], "mode": "0755"} for release in releases],
        "files": _files(releases),
    }


def _runs(release: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    """Whether the unit is up, starts at boot, and its container is of this very release."""
    unit = (state.get("services") or {}).get(release["unit"]) or {}
    container = (state.get("containers") or {}).get(release["container"]) or {}
    current = {entry["name"]: entry["current"] for entry in state.get("instances") or []}
    return (
        unit.get("active") == "active"
        and unit.get("enabled") == "enabled"
        and (container.get("labels") or {}).get(_LABEL) == release["id"]
        and current.get(release["name"]) == release["id"]
    )


def _is_proved(release: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    """Both times are of the host's own clock; a unit that has started anew is proved anew."""
    unit = (state.get("services") or {}).get(release["unit"]) or {}
    proved_at = {entry["name"]: entry.get("proved_at") for entry in state.get("instances") or []}
    at = proved_at.get(release["name"])
    started = unit.get("active_enter")
    return at is not None and started is not None and at >= started


def _is_active(unit: str, state: Mapping[str, Any]) -> bool:
    return ((state.get("services") or {}).get(unit) or {}).get("active") == "active"


def _directories(
    instances: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    state_directory = settings["state_directory"]
    user, _colon, group = str(settings["container_user"]).partition(":")
    # What the engine caches is code that it loads again: nobody else may write or read there.
    private = {"mode": "0700", "owner": user, "group": group or "0"}
    wanted: list[dict[str, Any]] = [{"path": state_directory, "mode": "0755"}]
    if any(not is_local(instance["model"]) for instance in instances):
        wanted.append({"path": f"{state_directory}/models", **private})
    for instance in instances:
        root = f"{state_directory}/{instance['name']}"
        wanted += [
            {"path": root, "mode": "0755"},
            {"path": f"{root}/releases", "mode": "0755"},
            {"path": f"{root}/cache", **private},
        ]
    return wanted


def _files(releases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "path": f"{release['directory']}/{name}",
            "content": content,
            "mode": "0755" if name == "run" else "0644",
        }
        for release in releases
        for name, content in release["files"].items()
    ]
