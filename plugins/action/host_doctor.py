# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Examines a host, or shows what was found on all; documented in modules/host_doctor.py."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants, context
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars

from ansible_collections.baremetal.vllm.plugins.action.gpu_info import controller_library
from ansible_collections.baremetal.vllm.plugins.plugin_utils import (
    _doctor,
    _doctor_edge,
    _doctor_report,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._doctor_findings import (
    SEVERITIES,
    Commands,
    Finding,
    Findings,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import nearest
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import (
    gpu_devices,
    is_present,
    port_of,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._variables import (
    HostVariables,
    RoleInterfaces,
    plain,
)

_ARGUMENTS: dict[str, Any] = {
    "collect": {"type": "dict"},
    "json_file": {"type": "str", "default": ""},
    "fail_on": {"type": "str", "choices": list(_doctor_report.FAIL_ON), "default": "error"},
}
_EXTRA_VARIABLES = ("doctor_json", "doctor_fail_on")
_HOST_STATE = "baremetal.vllm.host_state"
_GPU_INFO = "baremetal.vllm.gpu_info"
_BY_HAND = "preinstalled"


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Reads the host with host_state and gpu_info, and judges on the controller."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(_ARGUMENTS)
        task_vars = task_vars or {}
        commands = _commands(str(task_vars.get("playbook_dir", "playbooks")))
        refused = self._refusal(task_vars)
        if refused:
            return result | {"changed": False, "failed": True, "msg": refused}
        if arguments["collect"] is not None:
            return result | _collected(plain(arguments["collect"]), arguments, commands)
        found = self._examined(task_vars, commands)
        return result | {"changed": False, "findings": [finding.as_json() for finding in found]}

    def _refusal(self, task_vars: Mapping[str, Any]) -> str:
        """What is wrong with the run itself."""
        groups = task_vars.get("groups") or {}
        host = str(task_vars.get("inventory_hostname"))
        if not any(host in groups.get(group, ()) for group in ("gpu_hosts", "edge_hosts")):
            return (
                "the inventory has no host in the group gpu_hosts; name at least one GPU host"
                " there, as inventories/homelab/hosts.yml shows."
            )
        for name in load_extra_vars(self._loader):
            if str(name).startswith("doctor_") and name not in _EXTRA_VARIABLES:
                hint = nearest(str(name), _EXTRA_VARIABLES) or "; leave it out."
                known = ", ".join(_EXTRA_VARIABLES)
                return f"{name} is no variable of the doctor, which has {known}{hint}"
        return ""

    def _examined(self, task_vars: dict[str, Any], commands: Commands) -> list[Finding]:
        host = str(task_vars["inventory_hostname"])
        variables = HostVariables(RoleInterfaces(self._loader), task_vars, self._templar)
        instances = _instances(variables, task_vars)
        settings = _settings(variables, instances, task_vars, commands)
        state_directory = str(variables.get("vllm_state_directory", "/var/lib/vllm"))
        asked = _doctor.questions(settings, state_directory, settings.instances)
        answer = self._ask(_HOST_STATE, asked, task_vars)
        gpu_info = None
        unread = _unread(answer)
        if settings.wants_gpus and not unread:
            gpu_info = self._ask(_GPU_INFO, {"library": controller_library()}, task_vars)
            unread = _unread(gpu_info)
        if unread:
            findings = Findings(host, commands)
            findings.add("unreadable", reason=unread)
            return findings
        return _doctor.diagnose(
            host,
            answer["host_state"]["platform"],
            answer["host_state"],
            gpu_info["ansible_facts"]["gpu_info"] if gpu_info else None,
            settings,
        )

    def _ask(
        self, module: str, arguments: dict[str, Any], task_vars: dict[str, Any]
    ) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_name=module, module_args=arguments, task_vars=task_vars
        )
        return answer


def _unread(answer: Mapping[str, Any]) -> str:
    """Why a module's answer says nothing of the host, empty where it can be judged.

    Others than root are refused Docker's socket and the journal, which looks like a host without.
    """
    if answer.get("root") is False:
        return "the user of its connection is not root; set ansible_become: true."
    return _sentence(answer) if answer.get("failed") else ""


def _sentence(result: Mapping[str, Any]) -> str:
    text = str(result.get("msg") or "no reason was given").strip()
    return text.removeprefix("Task failed: ").rstrip(".") + "."


# -- what the inventory wants --------------------------------------------------------------------


def _instances(
    variables: Mapping[str, Any], task_vars: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Instances that this host shall have; what the inventory has wrong preflight tells."""
    gpu_hosts = (task_vars.get("groups") or {}).get("gpu_hosts") or []
    listed = variables.get("vllm_instances")
    if task_vars["inventory_hostname"] not in gpu_hosts or not isinstance(listed, list):
        return []
    return [
        each
        for each in listed
        if isinstance(each, Mapping) and each.get("name") and is_present(each)
    ]


def _settings(
    variables: Mapping[str, Any],
    instances: list[Mapping[str, Any]],
    task_vars: Mapping[str, Any],
    commands: Commands,
) -> _doctor.Settings:
    groups = task_vars.get("groups") or {}
    host = task_vars["inventory_hostname"]
    edge = host in (groups.get("edge_hosts") or groups.get("gpu_hosts") or [])
    edge_ports = _edge_ports(variables) if edge else {}
    ports = {_port(each): f"the instance {each['name']}" for each in instances}
    addresses = dict.fromkeys(ports, _listen_address(variables, groups, host))
    ports |= edge_ports
    addresses |= dict.fromkeys(edge_ports, str(variables.get("edge_listen_address") or ""))
    sources = {
        "docker": ("docker_engine_source", "docker"),
        "driver": ("nvidia_driver_source", "nvidia"),
        "toolkit": ("container_toolkit_source", "nvidia"),
    }
    return _doctor.Settings(
        gpu_host=host in (groups.get("gpu_hosts") or []),
        edge=edge,
        wants_gpus=any(gpu_devices(each.get("gpus", "all")) for each in instances),
        instances=[str(each["name"]) for each in instances],
        ports=ports,
        addresses=addresses,
        edge_ports=list(edge_ports),
        certificate=_doctor_edge.certificate_of(variables) if edge else None,
        shares_address=edge and bool(variables.get("edge_vip_address")),
        managed=[part for part, (name, vendor) in sources.items() if variables.get(name) == vendor],
        by_hand=[part for part in sources if variables.get(sources[part][0]) == _BY_HAND],
        guard=bool(variables.get("host_tuning_guard", True)),
        vllm_release=str(variables.get("vllm_release", "")),
        commands=commands,
    )


def _edge_ports(variables: Mapping[str, Any]) -> dict[int, str]:
    """Port -> what it is for."""
    ports = {int(variables.get("edge_port", 8080)): "the edge"}
    if variables.get("edge_tls") == "acme":
        ports[int(variables.get("edge_acme_port", 80))] = "the ACME challenges of the edge"
    return ports


def _listen_address(variables: Mapping[str, Any], groups: Mapping[str, Any], host: str) -> str:
    """Where engines listen, as roles/vllm/vars has it; empty where only facts could tell."""
    edges = groups.get("edge_hosts") or [host]
    return "127.0.0.1" if list(edges) == [host] else str(variables.get("vllm_address") or "")


def _port(instance: Mapping[str, Any]) -> int:
    try:
        return int(port_of(instance))
    except (TypeError, ValueError):
        return 0


def _commands(playbooks: str) -> Commands:
    """The commands of this run's collection and inventory, as one would type them here."""
    given = context.CLIARGS.get("inventory") or ()
    default = constants.config.get_config_value("DEFAULT_HOST_LIST")
    sources = [] if list(given) == list(default) else [_from_here(source) for source in given]
    inventory = "".join(f" -i {source}" for source in sources)
    return Commands(
        play=f"ansible-playbook{inventory} {_from_here(playbooks)}",
        ansible=f"ansible{inventory}",
    )


def _from_here(path: str) -> str:
    """A path as it is shorter: relative where it lies below the working directory."""
    if not os.path.isabs(path):
        return path
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


# -- all hosts -----------------------------------------------------------------------------------


def _collected(
    hosts: Mapping[str, Any], arguments: Mapping[str, Any], commands: Commands
) -> dict[str, Any]:
    """Show the findings of all hosts, write them, and fail as asked."""
    found: list[Finding] = []
    for host, answer in hosts.items():
        if isinstance(answer, Mapping) and "findings" in answer:
            found += [Finding(**each) for each in answer["findings"]]
            continue
        findings = Findings(str(host), commands)
        reached = isinstance(answer, Mapping) and answer and not answer.get("unreachable")
        reason = _sentence(answer if isinstance(answer, Mapping) else {})
        findings.add("unreadable" if reached else "unreachable", reason=reason)
        found += findings
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    names = [str(host) for host in hosts]
    Display().display(f"\n{_doctor_report.table(found, names)}")
    report = _doctor_report.as_json(found, names)
    trouble = _written(arguments["json_file"], report)
    message = " ".join(filter(None, (_doctor_report.failure(found, arguments["fail_on"]), trouble)))
    failed = {"failed": True, "msg": message} if message else {}
    # The table says it all; a task that fails shows its result, so that stays short.
    return {"changed": False, "hosts": names, "counts": report["counts"], **failed}


def _written(file: str, content: Mapping[str, Any]) -> str:
    """Write the JSON on the controller; a sentence where that fails."""
    if not file:
        return ""
    path = Path(file).expanduser()
    try:
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        return (
            f"doctor_json: {path} cannot be written ({error.strerror}); name a file in a directory"
            " that exists."
        )
    return ""
