# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Whether a host can do what the inventory asks of it; facts and state in, sentences out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import (
    gpu_devices,
    is_local,
    is_present,
    port_of,
)

SUPPORTED = (("Debian", "12"), ("Debian", "13"), ("Ubuntu", "22.04"), ("Ubuntu", "24.04"))
_GIB = 2**30
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
    disk_needs: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    """All that keeps this host from serving, one sentence each.

    :param facts: ``ansible_facts``; distribution and service manager are read.
    :param state: result of the module host_state.
    :param instances: entries of vllm_instances for this host.
    :param ports: further ports that will be listened on: ``{port, what}``.
    :param own_ports: ports on which this collection's services listen already.
    :param disk_needs: free space wanted: ``{path, need_gib, what}``.
    """
    wanted = [instance for instance in instances if is_present(instance)]
    problems = _check_platform(facts, state)
    if wanted:
        problems += _check_gpus(state, wanted)
        problems += _check_engine(facts, state, wanted)
    problems += _check_forgotten(state, instances)
    problems += _check_models(state, wanted)
    problems += _check_ports(state, wanted, ports, own_ports)
    problems += _check_disks(state, disk_needs)
    problems += _check_daemon_json(state)
    problems += _check_nginx(state) if ports else []
    return [f"{hostname}: {problem}" for problem in problems]


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
    if facts.get("service_mgr", "systemd") != "systemd" or not state.get("systemd", True):
        problems.append(
            f"is run by {facts.get('service_mgr', 'another init')} and not by systemd, which keeps"
            " the engines; boot it with systemd."
        )
    return problems


def _check_gpus(state: Mapping[str, Any], wanted: Sequence[Instance]) -> list[str]:
    """GPUs are given by CDI names, so the names that the host's specification has decide."""
    users = [instance for instance in wanted if gpu_devices(instance.get("gpus", "all"))]
    named = [
        device.partition("=")[2]
        for device in state.get("cdi_devices") or []
        if device.startswith(_CDI_KIND)
    ]
    if users and not named:
        if state.get("nvidia_gpus"):
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
    problems = []
    for instance in users:
        missing = [d for d in gpu_devices(instance.get("gpus", "all")) or [] if d not in named]
        if missing:
            problems.append(
                f"vllm_instances ({instance['name']}) wants GPUs {', '.join(missing)} but the"
                f" host's CDI specification names {', '.join(named)}; ask for those, or run"
                " `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` if it is out of date."
            )
    return problems


def _check_engine(
    facts: Mapping[str, Any], state: Mapping[str, Any], wanted: Sequence[Instance]
) -> list[str]:
    """CDI came with Docker 25."""
    if not any(gpu_devices(instance.get("gpus", "all")) for instance in wanted):
        return []
    version = (state.get("docker") or {}).get("version")
    found = f"Docker {version}" if version else ""
    if not version and facts.get("distribution_major_version") == "12":
        found = "Debian 12's own Docker 20.10"
    if not found or (version and int(version.partition(".")[0]) >= 25):
        return []
    return [
        f"would run on {found}, which cannot give GPUs by CDI; install Docker 25 or newer and set"
        " docker_engine_source: preinstalled, or use Debian 13."
    ]


def _check_forgotten(state: Mapping[str, Any], listed: Sequence[Instance]) -> list[str]:
    """An instance that left the inventory would go on with its port and its GPUs."""
    names = {instance["name"] for instance in listed}
    return [
        f"has the instance {entry['name']}, which vllm_instances does not name; list it with"
        " state: absent to remove it."
        for entry in state.get("instances") or []
        if entry["name"] not in names and entry.get("current")
    ]


def _words(instance: Instance) -> str:
    return f"gpus: {instance.get('gpus', 'all')}"


def _check_models(state: Mapping[str, Any], wanted: Sequence[Instance]) -> list[str]:
    problems = []
    for instance in wanted:
        model = str(instance.get("model", ""))
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
    wanted: Sequence[Instance],
    ports: Sequence[Mapping[str, Any]],
    own_ports: Sequence[int],
) -> list[str]:
    uses = {port_of(instance): f"vllm_instances ({instance['name']})" for instance in wanted}
    uses |= {int(entry["port"]): str(entry["what"]) for entry in ports}
    problems = []
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


def _check_disks(state: Mapping[str, Any], disk_needs: Sequence[Mapping[str, Any]]) -> list[str]:
    problems = []
    for need in disk_needs:
        disk = state.get("disks", {}).get(need["path"])
        if not disk or disk.get("free_bytes") is None:
            problems.append(
                f"the free space of {need['path']} could not be read; look at its mount."
            )
            continue
        free = disk["free_bytes"] / _GIB
        if free < float(need["need_gib"]):
            problems.append(
                f"{need['path']} has {free:.1f} GiB free and {need['what']} needs"
                f" {float(need['need_gib']):g} GiB; make room or put a larger disk there."
            )
    return problems


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
