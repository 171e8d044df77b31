# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Whether a host can do what the inventory asks of it; facts and state in, sentences out."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._disks import check_disks
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import (
    HostPlans,
    engines,
    extra_models,
    gpu_devices,
    is_local,
    is_present,
)

SUPPORTED = (("Debian", "12"), ("Debian", "13"), ("Ubuntu", "22.04"), ("Ubuntu", "24.04"))
# libnginx-mod-http-js came with Debian 12 and Ubuntu 24.04.
WITHOUT_NJS = ("Ubuntu 22.04",)
_CDI_KIND = "nvidia.com/gpu="
_DAEMON_JSON = "/etc/docker/daemon.json"

Instance = Mapping[str, Any]


def check_host(
    hostname: str,
    facts: Mapping[str, Any],
    state: Mapping[str, Any],
    instances: Sequence[Instance],
    ports: Sequence[Mapping[str, Any]] = (),
    own_ports: Sequence[int] = (),
    edge_models: Sequence[str] = (),
    disk_needs: Sequence[Mapping[str, Any]] = (),
    planned: HostPlans | None = None,
    coming: Collection[str] = (),
) -> list[str]:
    """All that keeps this host from serving, one sentence each.

    :param facts: ``platform`` of host_state; distribution and service manager are read.
    :param state: result of the module host_state.
    :param instances: entries of vllm_instances for this host.
    :param ports: further ports that will be listened on: ``{port, what}``.
    :param own_ports: ports on which this collection's services listen already.
    :param edge_models: names of the models behind the edge of this host; none where it is no edge.
    :param disk_needs: free space wanted, as :func:`check_disks` takes it.
    :param planned: what ``_instance_plans.plan_on`` made of the instances.
    :param coming: parts that this run brings before anything starts: ``driver``, ``engine``,
        ``toolkit``. What they will mend is no problem yet; the host is checked again behind them.
    """
    planned = planned or HostPlans()
    wanted = [instance for instance in instances if is_present(instance)]
    problems = _check_platform(facts, state)
    if wanted:
        # Without a GPU that Docker can give there is nothing to plan for.
        problems += _check_gpus(state, wanted, coming) or [
            *planned.problems,
            *([] if "toolkit" in coming else _check_devices(state, wanted, planned)),
        ]
    problems += _check_forgotten(state, instances)
    problems += _check_models(state, wanted)
    problems += _check_ports(state, engines(wanted, planned.plans), ports, own_ports)
    problems += _check_memory(state, planned)
    problems += check_disks(state, disk_needs)
    problems += _check_daemon_json(state)
    problems += _check_nginx(state) if ports else []
    problems += _check_njs(facts, edge_models)
    return [f"{hostname}: {problem}" for problem in problems]


def _check_memory(state: Mapping[str, Any], planned: HostPlans) -> list[str]:
    """An engine that runs has its memory; one that does not would not get it."""
    services = state.get("services") or {}
    return [
        entry["in_use"]
        for name, entry in planned.plans.items()
        if entry["in_use"]
        and (services.get(f"vllm@{name}.service") or {}).get("active") != "active"
    ]


def _check_platform(facts: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    problems = []
    distribution = facts.get("distribution", "an unknown system")
    version = str(facts.get("distribution_version", ""))
    if not any(
        distribution == name and (version == release or version.startswith(f"{release}."))
        for name, release in SUPPORTED
    ):
        names = ", ".join(" ".join(pair) for pair in SUPPORTED)
        problems.append(
            f"runs {distribution} {version}; supported are {names}; install one of them."
        )
    manager = facts.get("service_mgr", "systemd")
    if manager != "systemd" or not state.get("systemd", True):
        init = "another init" if manager == "systemd" else manager
        problems.append(
            f"is run by {init} and not by systemd, which keeps the engines; boot it with systemd."
        )
    return problems


def _check_gpus(
    state: Mapping[str, Any], wanted: Sequence[Instance], coming: Collection[str]
) -> list[str]:
    """GPUs are given by CDI, so without a specification there are none."""
    if _named(state):
        return []
    users = [instance for instance in wanted if gpu_devices(instance.get("gpus", "all"))]
    if users and state.get("nvidia_gpus"):
        if "toolkit" in coming:
            return []
        return [
            "has NVIDIA GPUs but no CDI specification names them; install the driver and the"
            " NVIDIA container toolkit, then run"
            " `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`."
        ]
    return [
        f"vllm_instances ({instance['name']}) wants GPUs ({_words(instance)}) but no NVIDIA GPU"
        " is on the PCI bus; fit one, or set gpus: none for the CPU engine."
        for instance in users
    ]


def _named(state: Mapping[str, Any]) -> list[str]:
    return [
        device.partition("=")[2]
        for device in state.get("cdi_devices") or []
        if device.startswith(_CDI_KIND)
    ]


def _check_devices(
    state: Mapping[str, Any], wanted: Sequence[Instance], planned: HostPlans
) -> list[str]:
    """Docker finds only those names that the host's specification has."""
    named = _named(state)
    problems = []
    for instance in wanted:
        missing = [device for device in _devices(instance, planned) if device not in named]
        if missing:
            problems.append(
                f"vllm_instances ({instance['name']}) wants GPUs {', '.join(missing)} but the"
                f" host's CDI specification names {', '.join(named)}; ask for those, or run"
                " `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` if it is out of date."
            )
    return problems


def _devices(instance: Instance, planned: HostPlans) -> list[str]:
    """CDI names that an instance will be given; none where the plan was refused."""
    entry = planned.plans.get(instance["name"])
    if entry is None and planned.problems:
        return []
    devices = (entry or {}).get("devices")
    if devices is None:
        return gpu_devices(instance.get("gpus", "all")) or []
    return [device for replica in devices for device in replica]


def _check_forgotten(state: Mapping[str, Any], listed: Sequence[Instance]) -> list[str]:
    """An instance that left the inventory would go on with its port and its GPUs."""
    names = {instance["name"] for instance in listed}
    return [
        f"has the instance {entry['name']}, which vllm_instances does not name; list it with"
        " state: absent to remove it."
        for entry in state.get("instances") or []
        if not {entry["name"], entry.get("replica_of")} & names and entry.get("current")
    ]


def _words(instance: Instance) -> str:
    return f"gpus: {instance.get('gpus', 'all')}"


def _check_models(state: Mapping[str, Any], wanted: Sequence[Instance]) -> list[str]:
    problems = []
    named = [
        (instance, model)
        for instance in wanted
        for model in (str(instance.get("model", "")), *extra_models(instance).values())
    ]
    for instance, model in named:
        if not is_local(model):
            continue
        entry = state.get("paths", {}).get(model) or {}
        if not entry.get("exists"):
            problems.append(
                f"vllm_instances ({instance['name']}) serves {model}, which is not on the host;"
                " copy the model there, or name a Hugging Face id."
            )
        elif entry.get("type", "directory") not in ("directory", "link"):
            problems.append(
                f"vllm_instances ({instance['name']}) serves {model}, which is a {entry['type']};"
                " name the directory that holds config.json and the weights."
            )
    return problems


def _check_ports(
    state: Mapping[str, Any],
    wanted: Sequence[Mapping[str, Any]],
    ports: Sequence[Mapping[str, Any]],
    own_ports: Sequence[int],
) -> list[str]:
    problems = []
    uses: dict[int, str] = {}
    names: dict[str, str] = {}
    for engine in wanted:
        what = f"vllm_instances ({engine['name']})"
        if engine["port"] in uses:
            problems.append(
                f"{what} wants port {engine['port']}, which {uses[engine['port']]} has too;"
                " replicas take the ports after their instance's, leave room for them."
            )
        if engine["name"] in names:
            problems.append(
                f"vllm_instances ({engine['instance']}) would name an engine {engine['name']}, as"
                f" {names[engine['name']]} does; rename one of them."
            )
        uses.setdefault(engine["port"], what)
        names.setdefault(engine["name"], f"vllm_instances ({engine['instance']})")
    for entry in ports:
        if int(entry["port"]) in uses and not _said_of_inventory(wanted, int(entry["port"])):
            problems.append(
                f"{uses[int(entry['port'])]} wants port {entry['port']}, which is {entry['what']};"
                " replicas take the ports after their instance's, leave room for them."
            )
        uses[int(entry["port"])] = str(entry["what"])
    # A port of ours is free only to the instance that has it now.
    held = {
        str(entry["publish"]).rpartition(":")[2]: entry["name"]
        for entry in state.get("instances") or []
        if entry.get("publish")
    }
    for port, what in uses.items():
        if port in own_ports or what == f"vllm_instances ({held.get(str(port))})":
            continue
        others = [entry for entry in state.get("listening", []) if entry.get("port") == port]
        if others:
            holder = others[0].get("process") or "another program"
            problems.append(
                f"{what} wants port {port}, on which {holder} listens"
                f" ({others[0].get('address', '*')}); stop it or choose another port."
            )
    return problems


def _said_of_inventory(wanted: Sequence[Mapping[str, Any]], port: int) -> bool:
    """Whether an instance itself has that port: the check of the inventory tells it then."""
    return any(engine["port"] == port and engine["name"] == engine["instance"] for engine in wanted)


def _check_daemon_json(state: Mapping[str, Any]) -> list[str]:
    text = (state.get("read") or {}).get(_DAEMON_JSON)
    if text is None or not text.strip():
        return []
    try:
        options = json.loads(text)
    except ValueError as error:
        return [f"{_DAEMON_JSON} is not valid JSON ({error}); mend it, nothing is merged into it."]
    if not isinstance(options, dict):
        return [f"{_DAEMON_JSON} holds no JSON object; mend it, nothing is merged into it."]
    return []


def _check_njs(facts: Mapping[str, Any], edge_models: Sequence[str]) -> list[str]:
    """Only njs tells several models behind one edge apart."""
    version = str(facts.get("distribution_version", ""))
    system = f"{facts.get('distribution')} {'.'.join(version.split('.')[:2])}"
    if len(edge_models) < 2 or system not in WITHOUT_NJS:
        return []
    return [
        f"runs {system}, whose nginx has no njs module, by which an edge routes between several"
        f" models ({', '.join(edge_models)}); give the edge another system, or serve one model."
    ]


def _check_nginx(state: Mapping[str, Any]) -> list[str]:
    """The edge owns nginx.conf: it takes over no web server that serves something else."""
    active = ((state.get("services") or {}).get("nginx.service") or {}).get("active")
    ours = (state.get("paths") or {}).get("/etc/nginx/nginx.conf.distribution") or {}
    if active != "active" or ours.get("exists"):
        return []
    return [
        "runs an nginx that serves something else, whose configuration the edge would replace; stop"
        " it (systemctl disable --now nginx), or make another host the edge."
    ]
