# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What keeps the NVIDIA driver from running: one finding, the cause that explains the others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._doctor_findings import Findings
from ansible_collections.baremetal.vllm.plugins.plugin_utils._driver_state import pending_kernel
from ansible_collections.baremetal.vllm.plugins.plugin_utils._driver_tables import PREBUILT

State = Mapping[str, Any]

# Where DKMS keeps the certificate of the key that it signs modules with.
_KEYS = {"Ubuntu": "/var/lib/shim-signed/mok/MOK.der"}
_DEBIAN_KEY = "/var/lib/dkms/mok.pub"
_NVRM = re.compile(r"NVRM: (?!loading )(.*)")


def is_installed(state: State) -> bool:
    """Whether any part of a driver is there, running or not."""
    nvidia = state.get("nvidia") or {}
    return bool(nvidia.get("module") or nvidia.get("library") or nvidia.get("built"))


def display_devices(state: State) -> list[str]:
    """PCI addresses of the GPUs."""
    devices = (state.get("nvidia") or {}).get("devices") or []
    return [device["address"] for device in devices if device["class"].startswith("03")]


def examine(
    findings: Findings,
    facts: Mapping[str, Any],
    state: State,
    gpu_info: Mapping[str, Any] | None,
    deployed: bool,
) -> None:
    """Look at the driver of a host whose instances want GPUs."""
    nvidia = state.get("nvidia") or {}
    module, library = nvidia.get("module"), nvidia.get("library")
    if not display_devices(state):
        findings.add("gpu_missing")
    elif not is_installed(state):
        if deployed:
            findings.add("driver_missing", gpus=_gpus(state))
    elif not module:
        _not_loaded(findings, facts, state)
    elif not library:
        findings.add("driver_library_missing", module=module["version"])
    elif module["version"] != library:
        findings.add("driver_mismatch", module=module["version"], library=library)
    else:
        _answers(findings, gpu_info or {})
        _next_kernel(findings, state)


def _gpus(state: State) -> str:
    addresses = display_devices(state)
    count = "the GPU" if len(addresses) == 1 else f"the {len(addresses)} GPUs"
    return f"{count} at {', '.join(addresses)}"


def _not_loaded(findings: Findings, facts: Mapping[str, Any], state: State) -> None:
    kernel = state.get("kernel") or {}
    built = (state.get("nvidia") or {}).get("built") or {}
    release = str(kernel.get("release"))
    if kernel.get("nouveau"):
        findings.add("nouveau_loaded")
    elif release not in built and not kernel.get("headers"):
        findings.add("headers_missing", kernel=release)
    elif release not in built:
        others = f", only for {', '.join(sorted(built))}" if built else ""
        findings.add("driver_not_built", kernel=release, others=others)
    elif kernel.get("secure_boot") and not _is_trusted(state):
        key = _KEYS.get(str(facts.get("distribution")), _DEBIAN_KEY)
        findings.add("secure_boot", key=key)
    else:
        said = [found[1] for line in log_lines(state) if (found := _NVRM.search(line))]
        text = f" The kernel says: {said[-1].rstrip('. ')}." if said else ""
        findings.add("driver_not_loaded", said=text)


def _is_trusted(state: State) -> bool:
    """Whether the firmware knows the key of the module: then something else keeps it out.

    Modules that the distribution builds are signed with its own key, which every firmware knows.
    """
    return bool(_prebuilt(state) or (state.get("kernel") or {}).get("module_key_enrolled"))


def _prebuilt(state: State) -> list[str]:
    packages = state.get("packages") or {}
    return [name for name, version in packages.items() if version and name.startswith(PREBUILT)]


def log_lines(state: State) -> list[str]:
    """What the kernel said of GPUs, oldest first."""
    return [str(entry["line"]) for entry in state.get("kernel_log") or []]


def _answers(findings: Findings, gpu_info: Mapping[str, Any]) -> None:
    condition, message = gpu_info.get("state"), gpu_info.get("message")
    if condition == "no_library":
        findings.add("nvml_unread", message=message)
    elif condition in ("no_gpu", "no_driver", "mismatch", "error"):
        findings.add("driver_silent", message=message)


def _next_kernel(findings: Findings, state: State) -> None:
    """A kernel that was installed beside the running one, and what comes up with it."""
    running = str(state["kernel"]["release"])
    built, newest = state["nvidia"]["built"], pending_kernel(state)
    if not newest or newest in built or running not in built:
        return
    own = next((name for name in _prebuilt(state) if name.endswith(f"-{running}")), "")
    if own:
        package = own.replace(running, newest)
        findings.add("next_kernel_without_package", kernel=newest, package=package)
    else:
        findings.add("next_kernel_without_driver", kernel=newest)
