# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Prints plans and writes them as JSON, on the controller; documented in modules/vllm_plan.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars

from ansible_collections.baremetal.vllm.plugins.plugin_utils._instance_plans import (
    model_of,
    plan_on,
    without_values,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import (
    HostPlans,
    check_instance,
    is_present,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._plan_request import (
    Request,
    read_request,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._variables import (
    RoleInterfaces,
    plain,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import gpus, plan
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.display import (
    plan_text,
    wrapped,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import Plan, Refusal

_ARGUMENTS: dict[str, Any] = {
    "instances": {"type": "list", "elements": "dict"},
    "host_state": {"type": "dict"},
    "gpu_info": {"type": "dict"},
    "release": {"type": "str"},
    "shutdown_timeout": {"type": "int", "default": 60},
    "collect": {"type": "dict"},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Plans for GPUs of the catalogue or of a host, or brings the plans of hosts together."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _validated, arguments = self.validate_argument_spec(_ARGUMENTS)
        arguments = plain(arguments)
        given = plain(self._templar.template(dict(load_extra_vars(self._loader))))
        interfaces = RoleInterfaces(self._loader)
        known = {name for options in interfaces.specs.values() for name in options}
        file = str(given.get("plan_json", ""))
        if arguments["collect"] is not None:
            return result | _collected(arguments["collect"], file)
        release = arguments["release"] or str(interfaces.defaults["vllm_release"])
        try:
            request = read_request(given, known, release)
            if arguments["instances"] is None:
                return result | _from_catalogue(request, file, arguments["shutdown_timeout"])
        except Refusal as refusal:
            return result | _refused(refusal, file)
        return result | _on_host(str(task_vars["inventory_hostname"]), request, arguments)


def _show(text: str) -> None:
    Display().display(text)


def _write(file: str, content: Any) -> dict[str, Any]:
    """Write JSON on the controller; nothing where no file is asked for."""
    if not file:
        return {"changed": False}
    path = Path(file).expanduser()
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    try:
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return {"changed": False}
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        return {
            "failed": True,
            "msg": f"plan_json: {path} cannot be written ({error.strerror}); name a file in a"
            " directory that exists.",
        }
    return {"changed": True}


def _refused(refusal: Refusal, file: str) -> dict[str, Any]:
    """The JSON is written before the task fails; a task that fails has changed nothing."""
    written = _write(file, plan.as_json(refusal))
    also = f" And {written['msg']}" if written.get("failed") else ""
    return {"changed": False, "failed": True, "msg": f"{refusal}{also}"}


# -- GPUs of the catalogue -----------------------------------------------------------------------


def _from_catalogue(request: Request | None, file: str, shutdown_timeout: int) -> dict[str, Any]:
    if request is None or not request.gpu_set:
        return {"changed": False, "skipped": True, "msg": "gpu_set is not given; see the hosts."}
    chosen = gpus.gpu_set(request.gpu_set, request.gpu_count)
    planned = plan.plan(
        chosen,
        model_of(request.model, {request.model: request.config or {}}),
        request.intent,
        request.release,
        request.options,
        max_model_len=request.max_model_len,
        env=request.env,
        shutdown_timeout=shutdown_timeout,
    )
    planned = without_values(planned, request.env)
    instance = request.instance()
    of_gpus = f"{len(chosen)} x {chosen[0].name}"
    _show(_text(f"{instance['name']} on {of_gpus}", instance, request.release, planned))
    found = plan.as_json(planned)
    return _write(file, found) | {"plan": found}


def _text(subject: str, instance: Mapping[str, Any], release: str, planned: Plan) -> str:
    title = f"{subject} for {instance.get('intent', 'chat')}, vLLM {release}"
    return "\n" + plan_text(title, planned)


# -- the GPUs of a host --------------------------------------------------------------------------


def _on_host(
    hostname: str, request: Request | None, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Print every instance; what is refused is told, and fails the play when all are told."""
    state, release = dict(arguments["host_state"]), arguments["release"]
    instances = [each for each in arguments["instances"] if is_present(each)]
    if request is not None:
        instances, release = [request.instance()], request.release
        state["model_configs"] = {request.model: request.config or {}}
    problems = [
        f"vllm_instances ({instance.get('name')}){problem}"
        for instance in instances
        for problem in check_instance(instance, release)
    ]
    found = HostPlans(problems=problems)
    if not problems:
        found = plan_on(
            state, instances, arguments["gpu_info"], release, arguments["shutdown_timeout"]
        )
    for instance in instances:
        planned = found.planned.get(instance["name"])
        subject = f"{instance['name']} on {hostname}"
        if planned:
            _show(_text(subject, instance, release, planned))
        elif instance["name"] in found.plans:
            _show(wrapped(f"{subject}: {_without_gpu(found.plans[instance['name']])}"))
    used = [entry["in_use"] for entry in found.plans.values() if entry["in_use"]]
    for sentence in found.problems + found.notes + used:
        _show(wrapped(f"{hostname}: {sentence}"))
    return {
        "changed": False,
        "plans": {name: _as_written(entry) for name, entry in found.plans.items()},
        "refused": found.problems + found.notes,
    }


def _without_gpu(planned: Mapping[str, Any]) -> str:
    if planned["kv_tokens"] is None:
        return "without GPU, or of unknown shape: nothing is predicted."
    return (
        f"CPU engine with {planned['memory_gib']['kv']:g} GiB of KV cache:"
        f" {planned['kv_tokens']:,} tokens, {planned['max_concurrency']:.2f} requests of full"
        " length at once."
    )


def _as_written(planned: Mapping[str, Any]) -> dict[str, Any]:
    """A plan under the keys of the JSON file."""
    empty = plan.as_json(Refusal(""))
    return {"refused": None} | {key: planned[key] for key in empty if key in planned}


def _collected(hosts: Mapping[str, Any], file: str) -> dict[str, Any]:
    """All hosts in one file: host -> instance -> plan, and what was refused."""
    refused = [
        f"{host}: {sentence}" for host, found in hosts.items() for sentence in found["refused"]
    ]
    content = {
        "refused": " ".join(refused) or None,
        "hosts": {host: found["plans"] for host, found in hosts.items()},
    }
    written = _write(file, content)
    if refused and not written.get("failed"):
        written |= {"changed": False, "failed": True, "msg": "\n".join(refused)}
    return written
