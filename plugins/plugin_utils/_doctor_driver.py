# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What keeps the NVIDIA driver from running: one finding, the cause that explains the others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._doctor_findings import Findings
from ansible_collections.baremetal.vllm.plugins.plugin_utils._driver_state import (
    kernels,
    pending_kernel,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._driver_tables import (
    OLDEST_BRANCH,
    PREBUILT,
    SECURE_VERSIONS,
)

State = Mapping[str, Any]

# Where DKMS keeps the certificate of the key that it signs modules with.
_KEYS = {"Ubuntu": "/var/lib/shim-signed/mok/MOK.der"}
_DEBIAN_KEY = "/var/lib/dkms/mok.pub"
_PREBUILT_KIND = re.compile(rf"{PREBUILT}\d{{3}}(-server)?(-open)?-")
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
            floor = SECURE_VERSIONS[OLDEST_BRANCH]
            findings.add("driver_missing", gpus=_gpus(state), floor=floor)
    elif not module:
        _not_loaded(findings, facts, state)
    elif not library:
        findings.add("driver_library_missing", module=module["version"])
    elif module["version"] != library:
        _mismatch(findings, state)
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
    elif release not in built:
        others = f", only for {', '.join(sorted(built))}" if built else ""
        _not_built(findings, state, release, others, "modprobe nvidia")
    elif kernel.get("secure_boot") and not _is_trusted(state):
        key = _KEYS.get(str(facts.get("distribution")), _DEBIAN_KEY)
        findings.add("secure_boot", key=key)
    else:
        said = [found[1] for line in log_lines(state) if (found := _NVRM.search(line))]
        text = f" The kernel says: {said[-1].rstrip('. ')}." if said else ""
        findings.add("driver_not_loaded", said=text)


def _mismatch(findings: Findings, state: State) -> None:
    """A reboot helps where the kernel that boots next has the module of the libraries."""
    module, library = state["nvidia"]["module"]["version"], state["nvidia"]["library"]
    release = kernels(state)[-1]
    on_disk = state["nvidia"]["built"].get(release)
    if on_disk == library:
        findings.add("driver_mismatch", module=module, library=library)
        return
    others = f", which has {on_disk or 'none'} while the libraries are {library}"
    _not_built(findings, state, release, others, "systemctl reboot")


def _not_built(findings: Findings, state: State, release: str, others: str, then: str) -> None:
    """A kernel that lacks its module.

    :param others: how the sentence goes on behind the kernel.
    :param then: the command that brings the module into force once it is there.
    """
    running = release == state["kernel"]["release"]
    values = {"kernel": release, "which": "running" if running else "next", "then": then}
    package = _prebuilt_package(state, release)
    if package:
        driver = state["nvidia"].get("library")
        version = f" for driver {driver}" if driver else ""
        findings.add("driver_package_missing", package=package, version=version, **values)
    elif running and not state["kernel"].get("headers"):
        findings.add("headers_missing", **values)
    else:
        # Whether another kernel than the running one has its headers nobody has looked.
        headers = "" if running else f"apt-get install --yes linux-headers-{release} && "
        findings.add("driver_not_built", others=others, headers=headers, **values)


def _prebuilt_package(state: State, release: str) -> str:
    """The package of signed modules for a kernel, empty where DKMS builds them."""
    found = [match[0] for name in _prebuilt(state) if (match := _PREBUILT_KIND.match(name))]
    return f"{max(found)}{release}" if found else ""


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
