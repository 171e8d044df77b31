# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What one GPU host shall look like, and which of its instances do not look so yet.

Pure: the wanted instances and the state that was read go in, the files to install and the
instances to switch come out. Nothing here knows Ansible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.baremetal.vllm.plugins.module_utils._image_reference import (
    local_name,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import (
    is_present,
    split_image,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._release import build

# A person's variables may hold what is secret to them; dockerd's client reads them as root.
_MODES = {"run": "0755", "environment": "0600"}

# Labels that a release's `run` gives its container.
_LABEL = "baremetal.vllm.release"


def image_to_run(
    reference: str, found: Mapping[str, Any] | None, pulled_digest: str | None = None
) -> str:
    """The name that `docker run` is given: the same on a host that pulled and one that loaded it.

    :param reference: ``vllm_image`` as the inventory has it.
    :param found: what host_state says of it, None where the host has no such image.
    :param pulled_digest: ``repository@sha256:...`` of a pull in this run.
    :returns: the local name where the digest is known; the reference itself when nothing is known
        of it yet (check mode on a virgin host); an image that was built on the host and never came
        from a registry runs by its id.
    """
    repository, _tag, digest = split_image(reference)
    digest = digest or split_image(pulled_digest or "")[2] or (found or {}).get("digest", "")
    # A digest that is none the inventory's check has refused before.
    return local_name(repository, digest) or (found or {}).get("id") or reference


def plan_host(
    instances: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    state: Mapping[str, Any],
    pulled_digest: str | None = None,
    plans: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Everything that the roles need to know of this host.

    :param instances: entries of vllm_instances.
    :param settings: fields of :class:`_release.Settings`; ``image`` as in the inventory.
    :param state: result of host_state, with images, containers, services and instances.
    :param plans: instance -> its plan, as ``_instance_plans`` makes them.
    :returns: ``releases``, one for each replica of each instance (see :func:`_release.build`;
        ``proved`` says whether the process that runs has generated a token, ``gives_way`` names the
        units that stop before it starts), ``pending`` (the releases that do not run),
        ``remove`` (instances that are on the host and shall not be, replicas among them),
        ``serving`` (whether one of the pending instances runs an older release), ``endpoints``, and
        ``directories`` and ``files`` for the module file_set.
    :raises ValueError: an instance cannot be built, or would start on a GPU that others fill.
    """
    found = (state.get("images") or {}).get(settings["image"])
    by_digest = {
        **settings,
        "image": image_to_run(settings["image"], found, pulled_digest),
        "reference": settings["image"],
    }
    present = [instance for instance in instances if is_present(instance)]
    releases = [
        build(instance, by_digest, plan, replica)
        for instance in present
        for plan in [(plans or {}).get(instance["name"])]
        for replica in range(1, (plan or {}).get("replicas", 1) + 1)
    ]
    remove = _to_remove(instances, releases, state)
    releases = [
        release
        | {"proved": _is_proved(release, state), "gives_way": _giving_way(release, remove, state)}
        for release in releases
    ]
    pending = [release for release in releases if not _runs(release, state)]
    _refuse_full_gpus(pending, plans or {})
    return {
        "releases": releases,
        "pending": pending,
        "serving": any(_is_active(release["unit"], state) for release in pending),
        "remove": remove,
        "endpoints": [
            {
                "name": release["name"],
                "served_name": release["served_name"],
                "adapters": release["adapters"],
                "address": settings["listen_address"],
                "port": release["port"],
            }
            for release in releases
        ],
        "directories": _directories(releases, by_digest)
        + [{"path": release["directory"], "mode": "0755"} for release in releases],
        "files": _files(releases),
    }


def _to_remove(
    instances: Sequence[Mapping[str, Any]],
    releases: Sequence[Mapping[str, Any]],
    state: Mapping[str, Any],
) -> list[dict[str, str]]:
    """Instances of the inventory that are absent, and replicas that no plan has any more."""
    listed = {instance["name"] for instance in instances}
    wanted = {release["name"] for release in releases}
    return [
        {"name": entry["name"], "replica_of": entry.get("replica_of") or ""}
        for entry in state.get("instances") or []
        if entry["name"] not in wanted
        and (entry["name"] in listed or entry.get("replica_of") in listed)
    ]


def _giving_way(
    release: Mapping[str, Any], remove: Sequence[Mapping[str, str]], state: Mapping[str, Any]
) -> list[str]:
    """Replicas that are not wanted any more hold GPUs that their instance may want now."""
    units = [
        f"vllm@{entry['name']}.service"
        for entry in remove
        if entry["replica_of"] == release["served_name"]
    ]
    return [unit for unit in units if _is_active(unit, state)]


def _refuse_full_gpus(
    pending: Sequence[Mapping[str, Any]], plans: Mapping[str, Mapping[str, Any]]
) -> None:
    for release in pending:
        in_use = plans.get(release["served_name"], {}).get("in_use")
        if in_use:
            raise ValueError(in_use)


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
    releases: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    state_directory = settings["state_directory"]
    user, _colon, group = str(settings["container_user"]).partition(":")
    # What the engine caches is code that it loads again: nobody else may write or read there.
    private = {"mode": "0700", "owner": user, "group": group or "0"}
    wanted: list[dict[str, Any]] = [{"path": state_directory, "mode": "0755"}]
    for release in releases:
        root = f"{state_directory}/{release['name']}"
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
            "mode": _MODES.get(name, "0644"),
        }
        for release in releases
        for name, content in release["files"].items()
    ]
