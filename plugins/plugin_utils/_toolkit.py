# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The NVIDIA container toolkit: its packages, and the CDI specification that it keeps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.baremetal.vllm.plugins.module_utils._apt_source import (
    AptSourceError,
    Cleaner,
    repository,
    sources_text,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._debian_version import (
    is_older,
    upstream,
)

NAME = "baremetal-vllm-nvidia-container-toolkit"
PREFERENCES = f"/etc/apt/preferences.d/{NAME}"
SPECIFICATION = "/var/run/cdi/nvidia.yaml"
_SOURCES = f"/etc/apt/sources.list.d/{NAME}.sources"
_BY_HAND = "/etc/cdi/nvidia.yaml"
# CUDA does not start without it. The node is what a specification can name, and the module is what
# makes it one of the driver.
_UVM, _UVM_MODULE = "/dev/nvidia-uvm", "/sys/module/nvidia_uvm"
# Entries as NVIDIA's manuals have had them through the years.
_LEFTOVERS = tuple(
    f"/etc/apt/sources.list.d/{name}.list"
    for name in (
        "nvidia-container-toolkit",
        "nvidia-docker",
        "nvidia-container-runtime",
        "libnvidia-container",
    )
)

_BASE = "nvidia-container-toolkit-base"
_ALL = (
    "nvidia-container-toolkit",
    _BASE,
    "libnvidia-container-tools",
    "libnvidia-container1",
)
PATH_UNIT, SERVICE_UNIT = "nvidia-cdi-refresh.path", "nvidia-cdi-refresh.service"

PACKAGES = (*_ALL, "ca-certificates")
SERVICES = (PATH_UNIT, SERVICE_UNIT)
READS = (_SOURCES, PREFERENCES, SPECIFICATION, *_LEFTOVERS)
PATHS = (_BY_HAND, _UVM, _UVM_MODULE)

KEY = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"
"""Key of NVIDIA's repository for libnvidia-container and the toolkit."""

FLOOR = "1.19.1"
"""CVE-2026-24260: below it a container can get at the host's files."""

_SITE = "https://nvidia.github.io/libnvidia-container"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_KIND = "nvidia.com/gpu="
_UUID = re.compile(r"(GPU|MIG)-.+")
# What nvidia-ctk mounts into a container; the version is that of the driver it was made for.
_LIBRARY = re.compile(r"/lib(?:cuda|nvidia-ml)\.so\.(\d+(?:\.\d+)+)")
# Not /dev/nvidia-uvm-tools.
_UVM_NAMED = re.compile(rf"{_UVM}(?![-\w])")

JSON = dict[str, Any]


def plan(facts: Mapping[str, Any], state: Mapping[str, Any], settings: Mapping[str, Any]) -> JSON:
    """What the role container_toolkit has to do on one host.

    :param settings: the role's variables without prefix, `wants_gpus`, `gpu_uuids` (None while no
        driver answers), `driver_changes` (whether this run brings another driver) and `bundled`
        (packages come from a bundle: no source is wanted).
    :returns: `problems`, `notes`, `converged`, and for the tasks:

        - `source`: arguments for apt_source, or None where that is as it shall be
        - `preferences`: text of the file that pins the versions; `pin` says whether it differs
        - `prerequisites`, `packages`, `hold`: packages, each empty where nothing is to do
        - `services`: units to enable; `start`: whether that is to do
        - `refresh`: why the CDI specification is to be written anew, empty where it is not
        - `daemon_options`: what the engine's daemon.json needs of it
        - `brief`: what would be done to packages, in words, for check mode
    """
    if not settings.get("wants_gpus", True):
        return _nothing()
    if settings["source"] == "preinstalled":
        return _preinstalled(state, settings)
    return _from_nvidia(facts, state, settings)


def _nothing() -> JSON:
    return {
        "problems": [],
        "notes": [],
        "converged": True,
        "source": None,
        "preferences": "",
        "pin": False,
        "prerequisites": [],
        "packages": [],
        "hold": [],
        "services": [],
        "start": False,
        "refresh": "",
        "daemon_options": {},
        "brief": "",
    }


def daemon_options(settings: Mapping[str, Any]) -> JSON:
    """What daemon.json needs so that `docker run --runtime nvidia` goes on working."""
    if not settings.get("legacy_runtime"):
        return {}
    return {"runtimes": {"nvidia": {"path": "nvidia-container-runtime", "args": []}}}


def stale(state: Mapping[str, Any], gpu_uuids: Sequence[str] | None) -> str:
    """Why the CDI specification does not describe the host's GPUs; empty where it does.

    :param gpu_uuids: UUIDs of the GPUs, MIG instances in place of those that are cut; None while
        no driver answers.
    """
    named = _named(state)
    if not named:
        return "no CDI specification names a GPU"
    if gpu_uuids is None:
        return ""
    uuids = [name for name in named if _UUID.fullmatch(name)]
    missing = [uuid for uuid in gpu_uuids if uuid not in uuids]
    if missing and (uuids or len(_numbered(named)) != len(gpu_uuids)):
        return f"the CDI specification does not name {', '.join(missing)}"
    gone = [uuid for uuid in uuids if uuid not in gpu_uuids]
    if gone and not _exists(state, _BY_HAND):
        return f"the CDI specification names {', '.join(gone)}, which the host does not have"
    library = (state.get("nvidia") or {}).get("library")
    versions = set(_LIBRARY.findall((state.get("read") or {}).get(SPECIFICATION) or ""))
    if library and versions and library not in versions:
        return f"the CDI specification is that of driver {max(versions)}, the host has {library}"
    return ""


def _named(state: Mapping[str, Any]) -> list[str]:
    return [
        device.partition("=")[2]
        for device in state.get("cdi_devices") or []
        if device.startswith(_KIND)
    ]


def _numbered(named: Sequence[str]) -> list[str]:
    """Names by index, of GPUs and of MIG instances: ``0``, ``0:1``."""
    return [name for name in named if re.fullmatch(r"\d+(:\d+)?", name)]


def _exists(state: Mapping[str, Any], path: str) -> bool:
    return bool(((state.get("paths") or {}).get(path) or {}).get("exists"))


def _preinstalled(state: Mapping[str, Any], settings: Mapping[str, Any]) -> JSON:
    """Nothing is changed; a specification that somebody else keeps is as good as the toolkit's."""
    version = upstream((state.get("packages") or {}).get(_BASE) or "")
    problems = []
    if version and is_older(version, FLOOR):
        problems.append(
            f"has NVIDIA container toolkit {version}, below {FLOOR}, which closes CVE-2026-24260;"
            " install a newer one, or set container_toolkit_source: nvidia."
        )
    # While a driver is on its way there can be no specification.
    why = "" if settings.get("driver_changes") else stale(state, settings.get("gpu_uuids"))
    if why:
        problems.append(
            f"{why}, and container_toolkit_source is 'preinstalled'; run"
            " `systemctl restart nvidia-cdi-refresh.service` or `nvidia-ctk cdi generate"
            f" --output={_BY_HAND}`, or set container_toolkit_source: nvidia."
        )
    return _nothing() | {
        "problems": problems,
        "converged": not problems,
        "daemon_options": daemon_options(settings),
    }


def _from_nvidia(
    facts: Mapping[str, Any], state: Mapping[str, Any], settings: Mapping[str, Any]
) -> JSON:
    version: str = settings["version"]
    installed: Mapping[str, str | None] = state.get("packages") or {}
    read: Mapping[str, str | None] = state.get("read") or {}
    source = _repository(facts, settings)
    problems = _check_settings(version, source)
    if problems:
        return _nothing() | {"problems": problems, "converged": False}
    # The CDI specification needs one package; what is there of the others goes with it.
    wanted = [
        name for name in _ALL if name == _BASE or settings["legacy_runtime"] or installed.get(name)
    ]
    right = all(upstream(installed.get(name) or "") == version for name in wanted)
    entry = repository(source)
    left = any(Cleaner(entry).has_entry(path, read.get(path)) for path in _LEFTOVERS)
    has_entry = read.get(_SOURCES) == sources_text(entry) and not left
    bundled = bool(settings.get("bundled"))
    preferences = _preferences(version)
    packages = [] if right else [f"{name}={version}-*" for name in wanted]
    held = right and set(wanted) <= set(state.get("held") or [])
    result = _nothing() | {
        "source": None if has_entry or bundled else source,
        "preferences": preferences,
        "pin": read.get(PREFERENCES) != preferences,
        "prerequisites": [] if bundled or installed.get("ca-certificates") else ["ca-certificates"],
        "packages": packages,
        "hold": [] if held else wanted,
        "services": [PATH_UNIT, SERVICE_UNIT],
        "start": not _is_kept(state),
        "refresh": _refresh(state, settings, bool(packages)),
        "daemon_options": daemon_options(settings),
        "notes": _notes(state),
        "brief": _brief(packages, held, wanted),
    }
    work = ("source", "pin", "prerequisites", "packages", "hold", "start", "refresh")
    return result | {"converged": not any(result[key] for key in work)}


def _brief(packages: Sequence[str], held: bool, wanted: Sequence[str]) -> str:
    if packages:
        return f"Would install and hold {', '.join(packages)}."
    return "" if held else f"Would hold {', '.join(wanted)}."


def _refresh(state: Mapping[str, Any], settings: Mapping[str, Any], packages: bool) -> str:
    if packages:
        return "the toolkit changes"
    if settings.get("driver_changes"):
        return "the driver changes"
    return stale(state, settings.get("gpu_uuids")) or without_uvm(state)


def without_uvm(state: Mapping[str, Any]) -> str:
    """Why containers cannot compute by the specification, made before nvidia-uvm had its node."""
    text = (state.get("read") or {}).get(SPECIFICATION) or ""
    if not text or _UVM_NAMED.search(text):
        return ""
    if not (_exists(state, _UVM) and _exists(state, _UVM_MODULE)):
        return ""
    return f"the CDI specification does not name {_UVM}, without which CUDA does not start"


def _is_kept(state: Mapping[str, Any]) -> bool:
    """Whether systemd writes the specification at boot and whenever kernel modules change."""
    services = state.get("services") or {}
    path, service = services.get(PATH_UNIT) or {}, services.get(SERVICE_UNIT) or {}
    enabled = path.get("enabled") == service.get("enabled") == "enabled"
    return bool(enabled and path.get("active") == "active")


def _notes(state: Mapping[str, Any]) -> list[str]:
    if not _exists(state, _BY_HAND):
        return []
    return [
        f"has {_BY_HAND}, which nothing keeps up to date, besides {SPECIFICATION}, which goes"
        f" before it; remove it (rm {_BY_HAND}) if nvidia-ctk wrote it."
    ]


def _repository(facts: Mapping[str, Any], settings: Mapping[str, Any]) -> JSON:
    """Arguments for apt_source."""
    architecture = _ARCHITECTURES.get(str(facts.get("architecture", "")), "amd64")
    fingerprints = list(settings.get("key_fingerprints") or [KEY])
    return {
        "name": NAME,
        "uris": [settings.get("repository") or f"{_SITE}/stable/deb/{architecture}"],
        "suites": ["/"],
        "components": [],
        "architectures": [architecture],
        "key_url": settings.get("key_url") or f"{_SITE}/gpgkey",
        "fingerprints": fingerprints,
        "replaces": {
            "uris": [
                "nvidia.github.io/libnvidia-container/",
                "nvidia.github.io/nvidia-container-runtime/",
                "nvidia.github.io/nvidia-docker/",
            ],
            "keys": sorted({KEY, *fingerprints}),
        },
        "state": "present",
    }


def _check_settings(version: str, source: JSON) -> list[str]:
    problems = []
    if is_older(version, FLOOR):
        problems.append(
            f"container_toolkit_version is {version}, below {FLOOR}, which closes CVE-2026-24260;"
            f" give {FLOOR} or newer."
        )
    try:
        repository(source)
    except AptSourceError as error:
        problems.append(f"container_toolkit_repository and its keys do not fit: {error}")
    return problems


def _preferences(version: str) -> str:
    """Above 1000, so that apt keeps to it downwards too, apt_preferences(5)."""
    return (
        "Explanation: Managed by Ansible (baremetal.vllm), changes are overwritten.\n"
        f"Package: {' '.join(_ALL)}\n"
        f"Pin: version {version}-*\n"
        "Pin-Priority: 1001\n"
    )
