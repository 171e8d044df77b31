# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Controller side of ``validate_host``; documented in plugins/modules."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.baremetal.vllm.plugins.plugin_utils._bundle import (
    BundleError,
    read,
    unfit,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._certificates import (
    check_certificate,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._edge_vip import check_edge_vip
from ansible_collections.baremetal.vllm.plugins.plugin_utils._host import check_host
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instance_plans import plan_on
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import HostPlans
from ansible_collections.baremetal.vllm.plugins.plugin_utils._models import (
    decide,
    disk_needs,
    expected,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._provision import (
    ROLES,
    Provision,
    provision,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._report import report
from ansible_collections.baremetal.vllm.plugins.plugin_utils._variables import (
    HostVariables,
    RoleInterfaces,
    plain,
)

_ARGUMENTS: dict[str, Any] = {
    "host_state": {"type": "dict", "required": True},
    "instances": {"type": "list", "elements": "dict", "default": []},
    "gpu_info": {"type": "dict"},
    "provision": {"type": "str", "choices": ["no", "before", "after"], "default": "no"},
    "gpu_host": {"type": "bool", "default": True},
    "bundle": {"type": "path", "default": ""},
    "vllm_release": {"type": "str", "default": ""},
    "shutdown_timeout": {"type": "int", "default": 60},
    "ports": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "port": {"type": "int", "required": True},
            "what": {"type": "str", "required": True},
        },
    },
    "own_ports": {"type": "list", "elements": "int", "default": []},
    "models": {"type": "dict", "default": {}},
    "listings": {"type": "dict", "default": {}},
    "models_directory": {"type": "path", "default": ""},
    "certificate": {
        "type": "dict",
        "options": {
            "tls": {"type": "str", "required": True},
            "certificate": {"type": "path", "required": True},
            "names": {"type": "list", "elements": "str", "default": []},
            "authority": {"type": "str", "default": ""},
        },
    },
    "edge_models": {"type": "list", "elements": "str", "default": []},
    "edge_vip": {
        "type": "dict",
        "options": {
            "address": {"type": "str", "required": True},
            "interface": {"type": "str", "default": ""},
        },
    },
    "disk_needs": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "path", "required": True},
            "need_gib": {"type": "float", "required": True},
            "what": {"type": "str", "required": True},
        },
    },
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Holds what the inventory asks against what was read from the host, and plans it."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        task_vars = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(_ARGUMENTS)
        state, instances = plain(arguments["host_state"]), plain(arguments["instances"])
        below = self._provision(arguments, state, instances, task_vars)
        coming = below.needed if arguments["provision"] == "before" else []
        # GPUs are planned for when their driver runs.
        planned = HostPlans() if "driver" in coming else _planned(arguments, state, instances)
        hostname = str(task_vars["inventory_hostname"])
        store = arguments["models_directory"]
        models = decide(
            plain(arguments["models"]), state.get("models", {}), plain(arguments["listings"]), store
        )
        problems = check_host(
            hostname=hostname,
            facts=state["platform"],
            state=state,
            instances=instances,
            ports=arguments["ports"],
            own_ports=arguments["own_ports"],
            edge_models=arguments["edge_models"],
            disk_needs=[*arguments["disk_needs"], *disk_needs(models, store)],
            planned=planned,
            coming=coming,
        )
        unserved, ending = _certificate(arguments, state)
        unheld, interface = _edge_vip(arguments, state)
        problems += [f"{hostname}: {problem}" for problem in [*unserved, *unheld]]
        problems += [f"{hostname}: {problem}" for problem in _unfit(arguments, state, below)]
        missing = below.missing if arguments["provision"] == "after" else []
        problems += [f"{hostname}: {problem}" for problem in below.problems or missing]
        warnings = [f"{hostname}: {note}" for note in [*planned.notes, *below.notes, *ending]]
        result |= {"warnings": warnings} if warnings else {}
        if problems:  # a person reads the sentences and not the plans above them
            after = arguments["provision"] == "after"
            untouched = "no instance was touched" if after else "nothing was changed"
            return result | report(problems, "the host", untouched)
        free = (state.get("disks", {}).get(store) or {}).get("free_bytes", 0)
        for line in expected(models, store, free):
            Display().display(f"{hostname}: {line}")
        return result | {
            "changed": False,
            "plans": planned.plans,
            "models": models,
            "planned": "driver" not in coming,
            "provision": below.as_json(),
            "edge_vip_interface": interface,
        }

    def _provision(
        self,
        arguments: dict[str, Any],
        state: dict[str, Any],
        instances: list[dict[str, Any]],
        task_vars: dict[str, Any],
    ) -> Provision:
        """What the host lacks below vLLM, as far as it is asked for."""
        if arguments["provision"] == "no":
            return Provision()
        interfaces = RoleInterfaces(self._loader, list(ROLES.values()))
        variables = HostVariables(interfaces, task_vars, self._templar)
        settings = {
            role: {
                name.removeprefix(f"{role}_"): value
                for name, value in variables.items()
                if name.startswith(f"{role}_")
            }
            for role in interfaces.roles
        }
        return provision(
            state["platform"],
            state,
            plain(arguments["gpu_info"]),
            instances,
            settings,
            is_gpu_host=arguments["gpu_host"],
            local=self._connection.transport == "local",
            bundled=bool(arguments["bundle"]),
        )


def _unfit(arguments: dict[str, Any], state: dict[str, Any], below: Provision) -> list[str]:
    """What keeps the host from being provisioned from its bundle, where it has one."""
    directory = arguments["bundle"]
    if not directory or arguments["provision"] != "before":
        return []
    try:
        return unfit(directory, read(directory), state["platform"], below.plans)
    except BundleError as error:
        return [str(error)]


def _certificate(arguments: dict[str, Any], state: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What is wrong with the certificate of the edge, and what should be known of it."""
    wanted = arguments["certificate"]
    return check_certificate(state, plain(wanted)) if wanted else ([], [])


def _edge_vip(arguments: dict[str, Any], state: dict[str, Any]) -> tuple[list[str], str]:
    """What keeps the host from holding the virtual address, and its interface."""
    wanted = arguments["edge_vip"]
    return check_edge_vip(state, plain(wanted)) if wanted else ([], "")


def _planned(
    arguments: dict[str, Any], state: dict[str, Any], instances: list[dict[str, Any]]
) -> HostPlans:
    """Plan what is listed."""
    if not instances or not arguments["vllm_release"]:
        return HostPlans()
    return plan_on(
        state,
        instances,
        plain(arguments["gpu_info"]),
        arguments["vllm_release"],
        arguments["shutdown_timeout"],
    )
