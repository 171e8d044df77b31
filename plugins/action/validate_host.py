# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Controller side of ``validate_host``; documented in plugins/modules."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.baremetal.vllm.plugins.plugin_utils._host import check_host
from ansible_collections.baremetal.vllm.plugins.plugin_utils._report import report
from ansible_collections.baremetal.vllm.plugins.plugin_utils._variables import plain

_ARGUMENTS: dict[str, Any] = {
    "host_state": {"type": "dict", "required": True},
    "instances": {"type": "list", "elements": "dict", "default": []},
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
    """Holds what the inventory asks against what was read from the host."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        task_vars = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(_ARGUMENTS)
        problems = check_host(
            hostname=str(task_vars["inventory_hostname"]),
            facts=task_vars.get("ansible_facts", {}),
            state=plain(arguments["host_state"]),
            instances=plain(arguments["instances"]),
            ports=arguments["ports"],
            own_ports=arguments["own_ports"],
            disk_needs=arguments["disk_needs"],
        )
        return result | report(problems, "the host")
