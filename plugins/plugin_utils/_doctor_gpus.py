# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What is wrong with GPUs whose driver runs: cards, fabric, and how containers get them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.baremetal.vllm.plugins.module_utils._host_state import cdi_names
from ansible_collections.baremetal.vllm.plugins.plugin_utils import _toolkit
from ansible_collections.baremetal.vllm.plugins.plugin_utils._debian_version import upstream
from ansible_collections.baremetal.vllm.plugins.plugin_utils._doctor_findings import Findings

State = Mapping[str, Any]
Gpu = Mapping[str, Any]

FABRIC_MANAGER = "nvidia-fabricmanager.service"
# In order of precedence: a device of the first takes the place of one of the second.
SPECIFICATIONS = ("/var/run/cdi/nvidia.yaml", "/etc/cdi/nvidia.yaml")
_CDI_KIND = "nvidia.com/gpu="
_LIBRARY = re.compile(r"\blibcuda\.so\.(\d{3}\.\d+(?:\.\d+)?)")
_SWITCH_CLASS = "0680"  # PCI: other bridge
_COMPLETED = "completed"


def named(gpu: Gpu) -> str:
    """How a sentence calls a GPU."""
    where = gpu.get("pci_bus_id")
    if gpu.get("index") is None:
        return f"the GPU at {where}" if where else "a GPU whose place is unknown"
    return f"GPU {gpu['index']} ({where})" if where else f"GPU {gpu['index']}"


# -- cards ---------------------------------------------------------------------------------------


def examine_cards(findings: Findings, gpu_info: Mapping[str, Any]) -> None:
    """GPUs off the bus, and memory that is or was in error."""
    lost = gpu_info.get("lost_gpus") or []
    if lost:
        findings.add("gpu_lost", gpus=" and ".join(map(named, lost)))
    for gpu in gpu_info.get("gpus") or []:
        if not gpu.get("lost"):
            _memory(findings, gpu)
            _modes(findings, gpu)


def _memory(findings: Findings, gpu: Gpu) -> None:
    rows = gpu.get("remapped_rows") or {}
    errors = (gpu.get("ecc") or {}).get("uncorrected_volatile")
    if rows.get("failed"):
        findings.add("row_remap_failed", gpu=named(gpu))
    elif rows.get("pending"):
        findings.add("row_remap_pending", gpu=named(gpu))
    elif errors:
        findings.add("ecc_uncorrected", gpu=named(gpu), count=errors)


def _modes(findings: Findings, gpu: Gpu) -> None:
    for key, code in (("ecc", "ecc_pending"), ("mig", "mig_pending")):
        mode = gpu.get(key) or {}
        now, later = mode.get("enabled"), mode.get("pending")
        if None not in (now, later) and now != later:
            findings.add(code, gpu=named(gpu), state="on" if later else "off")


# -- fabric --------------------------------------------------------------------------------------


def examine_fabric(
    findings: Findings, state: State, gpu_info: Mapping[str, Any], deployed: bool
) -> None:
    """The fabric manager of a host that has NVSwitches of its own.

    In a virtual machine the GPUs may be behind switches that the host below manages: their links
    tell of switches, but no switch is on the bus.
    """
    nvidia = state.get("nvidia") or {}
    switches = [each for each in nvidia["devices"] if each["class"].startswith(_SWITCH_CLASS)]
    if not switches and not nvidia.get("switch_managers"):
        return
    waiting = {
        named(gpu): trouble
        for gpu in gpu_info.get("gpus") or []
        if (trouble := _fabric_trouble(gpu.get("fabric")))
    }
    unit = (state.get("services") or {}).get(FABRIC_MANAGER) or {}
    manager = _fabric_manager(state)
    module = nvidia["module"]["version"]
    if manager is None and unit.get("load", "not-found") == "not-found":
        if deployed:
            findings.add("fabric_manager_missing", module=module)
    elif manager is not None and manager != module:
        findings.add("fabric_manager_version", manager=manager, module=module)
    elif unit.get("active") != "active":
        findings.add("fabric_manager_down", active=unit.get("active"))
    elif waiting:
        findings.add(
            "fabric_not_completed",
            gpus=", ".join(waiting),
            state=" and ".join(sorted(set(waiting.values()))),
            units=" ".join(engine_units(state)),
        )


def engine_units(state: State) -> list[str]:
    """The units of instances that have a release in force."""
    instances = state.get("instances") or []
    return [f"vllm@{each['name']}.service" for each in instances if each.get("current")]


def _fabric_trouble(fabric: Mapping[str, Any] | None) -> str:
    """What is wrong with a GPU's part in the fabric; empty where nothing is, or nobody knows."""
    if not fabric:
        return ""
    if fabric["state"] != _COMPLETED:
        return f"{fabric['state'].replace('_', ' ')} instead of completed"
    return f"completed with error {fabric['status']}" if fabric.get("status") else ""


def _fabric_manager(state: State) -> str | None:
    """Version of the package; Ubuntu's own is called after the branch of the driver."""
    for name, version in (state.get("packages") or {}).items():
        if re.fullmatch(r"nvidia-fabricmanager(-\d+)?", name) and version:
            return upstream(version)
    return None


# -- CDI -----------------------------------------------------------------------------------------


def examine_cdi(findings: Findings, state: State, gpu_info: Mapping[str, Any]) -> None:
    """What Docker is told of the GPUs."""
    names = {
        device[len(_CDI_KIND) :]
        for device in state.get("cdi_devices") or []
        if device.startswith(_CDI_KIND)
    }
    if not names:
        has_toolkit = (state.get("packages") or {}).get("nvidia-container-toolkit-base")
        unit = (state.get("services") or {}).get("nvidia-cdi-refresh.service") or {}
        toolkit = has_toolkit or unit.get("load") == "loaded"
        findings.add("cdi_missing" if toolkit else "toolkit_missing", floor=_toolkit.FLOOR)
        return
    text = _in_force(state)
    if text:
        in_force = {name.partition("=")[2] for name in cdi_names(text)}
        names = in_force or names
    why = _other_driver(state, text) or _other_gpus(names, gpu_info) or _lacks_uvm(state, text)
    if why:
        findings.add("cdi_stale", why=why)


def _lacks_uvm(state: State, text: str) -> str:
    in_force = {**state, "read": {_toolkit.SPECIFICATION: text}}
    return _toolkit.without_uvm(in_force).replace("the CDI specification", "it", 1)


def _in_force(state: State) -> str:
    read = state.get("read") or {}
    return next((read[path] for path in SPECIFICATIONS if read.get(path)), "")


def _other_driver(state: State, text: str) -> str:
    """A container that is given files of a driver which has gone does not start."""
    versions = set(_LIBRARY.findall(text))
    library = (state.get("nvidia") or {}).get("library")
    if not versions or library in versions:
        return ""
    named_ones = ", ".join(sorted(versions))
    return f"it names the libraries of driver {named_ones}, and {library} is installed"


def _other_gpus(names: set[str], gpu_info: Mapping[str, Any]) -> str:
    if gpu_info.get("state") != "ok":
        return ""  # what is wrong with the GPUs is told, and the specification follows them
    gpus = gpu_info["gpus"]
    whole = [gpu for gpu in gpus if not (gpu.get("mig") or {}).get("enabled")]
    parts = [part["uuid"] for gpu in gpus for part in (gpu.get("mig") or {}).get("instances") or []]
    by_uuid = {name for name in names if name.startswith(("GPU-", "MIG-"))}
    if by_uuid:
        missing = {gpu["uuid"] for gpu in whole} | set(parts)
        missing -= by_uuid
        extra = by_uuid - {gpu["uuid"] for gpu in gpus} - set(parts)
    else:
        by_index = {name for name in names if name.isdigit()}
        missing = {str(gpu["index"]) for gpu in whole} - by_index if by_index else set()
        extra = by_index - {str(gpu["index"]) for gpu in gpus}
    told = [f"it lacks {', '.join(sorted(missing))}"] if missing else []
    told += [f"it names {', '.join(sorted(extra))}, which is not there"] if extra else []
    return " and ".join(told)
