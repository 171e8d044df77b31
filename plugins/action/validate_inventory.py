# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Controller side of ``validate_inventory``; documented in plugins/modules."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.baremetal.vllm.plugins.plugin_utils._bundle import (
    BundleError,
    lacking,
    read,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import is_present
from ansible_collections.baremetal.vllm.plugins.plugin_utils._inventory import check, edge_models
from ansible_collections.baremetal.vllm.plugins.plugin_utils._models import (
    asked,
    extra_directories,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._pins import pinned_image
from ansible_collections.baremetal.vllm.plugins.plugin_utils._provision import needs, wants_gpus
from ansible_collections.baremetal.vllm.plugins.plugin_utils._report import report
from ansible_collections.baremetal.vllm.plugins.plugin_utils._variables import (
    HostVariables,
    RoleInterfaces,
)


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Checks a host's variables without connecting to it."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        task_vars = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(
            {
                "roles": {"type": "list", "elements": "str"},
                "bundle": {"type": "str", "choices": ["used", "written"], "default": "used"},
            }
        )
        interfaces = RoleInterfaces(self._loader, arguments["roles"])
        hostname = str(task_vars["inventory_hostname"])
        own = HostVariables(interfaces, task_vars, self._templar)
        fleet = _Fleet(interfaces, task_vars["hostvars"], self._templar)
        problems = check(hostname, own, task_vars["groups"], fleet, interfaces.specs)
        problems += [f"{hostname}: {name} {error}" for name, error in own.errors.items()]
        is_gpu_host = hostname in task_vars["groups"].get("gpu_hosts", [])
        instances = own.get("vllm_instances", []) if is_gpu_host else []
        pins = own.get("vllm_pins", {})
        if not problems and arguments["bundle"] == "used":
            problems += _not_in_bundle(hostname, own, instances)
        result |= report(problems, "the inventory")
        if not problems:
            result["needs"] = needs(is_gpu_host, wants_gpus(instances))
            result["needs"]["paths"] += extra_directories(instances)
            result["needs_facts"] = own.waiting
            result["image"] = pinned_image(own.get("vllm_image", ""), pins)
            result["models"] = asked(instances, pins)
            result["edge_models"] = edge_models(hostname, own, task_vars["groups"], fleet)
            result["source"] = _source(own)
        return result


def _source(own: HostVariables) -> dict[str, Any]:
    """Where a host's models come from; nothing where a bundle has them."""
    if own.get("bundle_directory"):
        return {}
    names = ("provider", "endpoint", "exclude")
    return {name: own[f"model_store_{name}"] for name in names if f"model_store_{name}" in own}


def _not_in_bundle(hostname: str, own: HostVariables, instances: list[Any]) -> list[str]:
    """What the host's bundle lacks for it, where it has one."""
    directory = own.get("bundle_directory")
    if not directory:
        return []
    pins = own.get("vllm_pins", {})
    models = asked(instances, pins)
    images = [pinned_image(own["vllm_image"], pins)] if any(map(is_present, instances)) else []
    try:
        found = lacking(directory, read(directory), images, models.values())
    except BundleError as error:
        found = [str(error)]
    return [f"{hostname}: {problem}" for problem in found]


class _Fleet(dict[str, HostVariables]):
    """Host -> its variables, read when a check asks for them: only an edge looks at others."""

    def __init__(self, interfaces: RoleInterfaces, hostvars: Any, templar: Any) -> None:
        super().__init__()
        self._interfaces, self._hostvars, self._templar = interfaces, hostvars, templar

    def __missing__(self, host: str) -> HostVariables:
        self[host] = HostVariables(self._interfaces, self._hostvars.raw_get(host), self._templar)
        return self[host]
