# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What a host lacks below vLLM: driver, Docker Engine, container toolkit, tuning.

Each part decides for itself (``_driver``, ``_engine``, ``_toolkit``, ``_tuning``); here is who is
asked, in which order, and what they are told of each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils import (
    _driver,
    _engine,
    _toolkit,
    _tuning,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import (
    gpu_devices,
    is_present,
)

ROLES = {
    "driver": "nvidia_driver",
    "engine": "docker_engine",
    "toolkit": "container_toolkit",
    "tuning": "host_tuning",
}
# Written by the role edge while its nginx is in force.
_EDGE_IN_FORCE = "/etc/nginx/vllm/in_force"
_MODULES = {"driver": _driver, "engine": _engine, "toolkit": _toolkit, "tuning": _tuning}


def parts(is_gpu_host: bool, gpus: bool) -> list[str]:
    """What a host needs below vLLM; an edge alone needs no ground for engines."""
    if not is_gpu_host:
        return ["tuning"]
    return ["driver", "engine", "toolkit", "tuning"] if gpus else ["engine", "tuning"]


def wants_gpus(instances: Sequence[Mapping[str, Any]]) -> bool:
    """Whether one of the entries of vllm_instances, for a host that runs them, uses GPUs."""
    return any(gpu_devices(each.get("gpus", "all")) for each in instances if is_present(each))


def needs(is_gpu_host: bool, gpus: bool) -> dict[str, list[str]]:
    """What the decisions want to know of a host, as options of the module host_state."""
    modules = [_MODULES[part] for part in parts(is_gpu_host, gpus)]
    lists = {"packages": "PACKAGES", "services": "SERVICES", "read": "READS", "paths": "PATHS"}
    return {
        option: sorted({name for module in modules for name in getattr(module, constant)})
        for option, constant in lists.items()
    }


@dataclass(frozen=True)
class Provision:
    """What every part decided.

    :param plans: part -> its plan; a part that this host does not need is not there.
    :param is_edge: whether the streams of other hosts' engines run through this one.
    """

    plans: dict[str, dict[str, Any]] = field(default_factory=dict)
    is_edge: bool = False

    @property
    def needed(self) -> list[str]:
        """Parts that are not as they shall be."""
        return [part for part, plan in self.plans.items() if not plan["converged"]]

    @property
    def in_turn(self) -> bool:
        """Whether other hosts have to wait meanwhile: it may reboot, and it is an edge in force."""
        driver = self.plans.get("driver", {})
        return self.is_edge and "driver" in self.needed and bool(driver.get("may_reboot"))

    @property
    def problems(self) -> list[str]:
        return [problem for plan in self.plans.values() for problem in plan["problems"]]

    @property
    def notes(self) -> list[str]:
        return [note for plan in self.plans.values() for note in plan["notes"]]

    @property
    def missing(self) -> list[str]:
        """What is said of a part that the run has not brought, such as a driver not loaded yet."""
        return [
            self.plans[part].get("reboot")
            or f"{ROLES[part]} has not brought the host to its state; run playbooks/doctor.yml."
            for part in self.needed
        ]

    def as_json(self) -> dict[str, Any]:
        """Every part; one that this host does not need is as it shall be."""
        unneeded = {part: {"problems": [], "notes": [], "converged": True} for part in ROLES}
        return {
            **unneeded,
            **self.plans,
            "parts": list(self.plans),
            "needed": self.needed,
            "in_turn": self.in_turn,
        }


def provision(
    facts: Mapping[str, Any],
    state: Mapping[str, Any],
    gpu_info: Mapping[str, Any] | None,
    instances: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Mapping[str, Any]],
    is_gpu_host: bool = True,
    local: bool = False,
    bundled: bool = False,
) -> Provision:
    """Decide every part of one host.

    :param facts: ``platform`` of host_state.
    :param state: result of host_state.
    :param gpu_info: fact of the module gpu_info, None where no instance wants a GPU.
    :param instances: entries of vllm_instances for this host.
    :param settings: role -> its public variables, without the role's prefix.
    :param is_gpu_host: whether engines may run here; an edge alone needs none of their ground.
    :param local: whether Ansible runs on this very host.
    :param bundled: whether packages come from a bundle, so that no vendor's repository is wanted.
    """
    gpus = wants_gpus(instances)
    told = {
        "wants_gpus": gpus,
        "serving": _serving(state),
        "local": local,
        "bundled": bundled,
        "gpu_uuids": _uuids(gpu_info),
    }
    asked = {part: {**settings[role], **told} for part, role in ROLES.items()}
    plans: dict[str, dict[str, Any]] = {}
    for part in ("driver", "toolkit", "engine", "tuning"):
        if part in parts(is_gpu_host, gpus):
            plans[part] = _MODULES[part].plan(facts, state, asked[part])
        if part == "driver":
            asked["toolkit"]["driver_changes"] = part in plans and not plans[part]["converged"]
        if part == "toolkit" and part in plans:
            asked["engine"]["extra_options"] = plans[part]["daemon_options"]
    return Provision(plans, is_edge=bool((state.get("read") or {}).get(_EDGE_IN_FORCE)))


def _serving(state: Mapping[str, Any]) -> list[str]:
    """Units of engines that run now, or end their last streams."""
    return sorted(
        name
        for name, unit in (state.get("services") or {}).items()
        if name.startswith("vllm@")
        and unit.get("active") in ("active", "reloading", "deactivating")
    )


def _uuids(gpu_info: Mapping[str, Any] | None) -> list[str] | None:
    """UUIDs of what CDI can give: of a GPU that is cut its instances; None while unknown."""
    if not gpu_info or gpu_info.get("state") != "ok":
        return None
    found = []
    for gpu in gpu_info.get("gpus") or []:
        mig = gpu.get("mig") or {}
        cut = mig.get("instances") or []
        found += [each["uuid"] for each in cut] if mig.get("enabled") else [gpu["uuid"]]
    return found
