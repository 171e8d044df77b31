# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the kernel says of NVIDIA GPUs, without NVML: PCI devices, driver, NUMA nodes, processes.

`root` is the directory below which /proc, /sys and /dev are looked for. PCI ids are written as
NVML writes them (00000000:19:00.0); sysfs calls the same device 0000:19:00.0.
"""

from __future__ import annotations

import glob
import os
import re
import typing as t

_NVIDIA_VENDOR = "0x10de"
_DISPLAY_CLASS = "0x03"  # base class of the PCI code list: display controller
# NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.126.09  Release Build
_VERSION = re.compile(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s")
# docker-<id>.scope, /docker/<id>, cri-containerd-<id>.scope, libpod-<id>.scope
_CONTAINER = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?=\.scope|[/\n]|$)")


class PciDevice(t.NamedTuple):
    """An NVIDIA display controller, and the name of the driver that is bound to it."""

    bus_id: str
    driver: str | None


def kernel_module_version(root: str = "/") -> str | None:
    """Return the version of the NVIDIA kernel module that is loaded, None where none is."""
    found = _VERSION.search(_read(root, "proc/driver/nvidia/version"))
    return found.group(1) if found else _read(root, "sys/module/nvidia/version").strip() or None


def pci_devices(root: str = "/") -> list[PciDevice]:
    """Return NVIDIA's display controllers on the PCI bus, with or without a driver."""
    found = []
    for path in sorted(glob.glob(os.path.join(root, "sys/bus/pci/devices/*"))):
        vendor, kind = (_read(path, name).strip() for name in ("vendor", "class"))
        if vendor == _NVIDIA_VENDOR and kind.startswith(_DISPLAY_CLASS):
            driver = os.path.join(path, "driver")
            bound = os.path.basename(os.readlink(driver)) if os.path.islink(driver) else None
            found.append(PciDevice(_nvml_name(os.path.basename(path)), bound))
    return found


def driver_gpus(root: str = "/") -> list[str]:
    """Return the PCI ids of the GPUs that the running driver has and that this host may use.

    Left out are those that the driver was told to exclude, and in a container those whose device
    node was not given to it.
    """
    found = []
    for path in sorted(glob.glob(os.path.join(root, "proc/driver/nvidia/gpus/*"))):
        lines = (line.split(":", 1) for line in _read(path, "information").splitlines())
        told = {line[0].strip(): line[-1].strip() for line in lines}
        node = os.path.join(root, f"dev/nvidia{told.get('Device Minor')}")
        if told.get("GPU Excluded", "No") == "No" and os.path.exists(node):
            found.append(_nvml_name(os.path.basename(path)))
    return found


def numa_node(bus_id: str, root: str = "/") -> int | None:
    """Return the NUMA node that a PCI device is at, None where the firmware does not say."""
    text = _read(root, f"sys/bus/pci/devices/{_sysfs_name(bus_id)}/numa_node").strip()
    return int(text) if text.isdigit() else None  # unknown is -1


def process_name(pid: int, root: str = "/") -> str | None:
    """Return the name of a process, None where it has gone or is in another PID namespace."""
    return _read(root, f"proc/{pid}/comm").strip() or None


def container_id(pid: int, root: str = "/") -> str | None:
    """Return the id (64 hexadecimal digits) of the container that a process runs in.

    Of containers in containers it is the outermost that this host can see: where the host itself
    is a container, its own id is passed over.
    """
    own = _CONTAINER.findall(_read(root, "proc/self/cgroup"))
    found = _CONTAINER.findall(_read(root, f"proc/{pid}/cgroup"))
    return next((name for name in found if name not in own), None)


def _nvml_name(address: str) -> str:
    domain, rest = address.split(":", 1)
    return f"{domain:0>8}:{rest}".upper()


def _sysfs_name(bus_id: str) -> str:
    domain, rest = bus_id.split(":", 1)
    return f"{int(domain, 16):04x}:{rest}".lower()


def _read(*path: str) -> str:
    """Return the text of a file of the kernel, empty where there is none."""
    try:
        with open(os.path.join(*path), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
