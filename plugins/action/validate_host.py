# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Controller side of ``validate_host``; documented in plugins/modules."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.baremetal.vllm.plugins.plugin_utils._host import check_host
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instance_plans import plan_on
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import HostPlans
from ansible_collections.baremetal.vllm.plugins.plugin_utils._report import report
from ansible_collections.baremetal.vllm.plugins.plugin_utils._variables import plain

_ARGUMENTS: dict[str, Any] = {
    "host_state": {"type": "dict", "required": True},
    "instances": {"type": "list", "elements": "dict", "default": []},
    "gpu_info": {"type": "dict"},
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
        planned = _planned(arguments, state, instances)
        hostname = str(task_vars["inventory_hostname"])
        problems = check_host(
            hostname=hostname,
            facts=task_vars.get("ansible_facts", {}),
            state=state,
            instances=instances,
            ports=arguments["ports"],
            own_ports=arguments["own_ports"],
            disk_needs=arguments["disk_needs"],
            planned=planned,
        )
        warnings = [f"{hostname}: {note}" for note in planned.notes]
        return (
            result
            | {"plans": planned.plans}
            | ({"warnings": warnings} if warnings else {})
            | report(problems, "the host")
        )


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
