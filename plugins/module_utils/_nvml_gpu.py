# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Read one GPU through nvidia-ml-py. What NVML refuses to tell is None."""

from __future__ import annotations

import ctypes
import re
import typing as t

from ansible_collections.baremetal.vllm.plugins.module_utils import _nvml_host as host

Facts = t.Dict[str, t.Any]  # noqa: UP006 - evaluated at run time on Python 3.9

# NVML_DEVICE_ARCH_* of nvml.h, in the words of nvidia-smi.
_ARCHITECTURES = {
    2: "Kepler",
    3: "Maxwell",
    4: "Pascal",
    5: "Volta",
    6: "Turing",
    7: "Ampere",
    8: "Ada Lovelace",
    9: "Hopper",
    10: "Blackwell",
    13: "Rubin",
}
_REMAPPED_ROWS = ("correctable", "uncorrectable", "pending", "failed")  # NVML's order
_FABRIC_STATES = {1: "not_started", 2: "in_progress", 3: "completed"}  # nvmlGpuFabricState_t
_PROFILE = re.compile(r" MIG (\S+)$")  # NVIDIA A100-SXM4-80GB MIG 3g.40gb


class GpuLost(Exception):  # noqa: N818 - says a state
    """The GPU does not answer any more; the text is NVML's."""


class Nvml:
    """nvidia-ml-py, with answers in plain types."""

    def __init__(self, library: t.Any) -> None:
        self._library = library
        self._lost = (library.NVML_ERROR_GPU_IS_LOST, library.NVML_ERROR_RESET_REQUIRED)

    def ask(self, function: str, *arguments: t.Any) -> t.Any:
        """Return the answer of the function `nvml<function>`, None where NVML has none.

        Raises GpuLost if the GPU has fallen off the bus or waits for a reset.
        """
        asked = getattr(self._library, f"nvml{function}", None)
        try:
            answer = asked(*arguments) if asked else None
        except self._library.NVMLError as error:
            if error.value in self._lost:
                raise GpuLost(str(error)) from error
            return None
        except UnicodeDecodeError:  # a GPU that is about to be lost answers all ones
            return None
        return answer.decode() if isinstance(answer, bytes) else answer

    def flag(self, function: str, *arguments: t.Any) -> bool | None:
        """Return an answer that is 0 or 1."""
        answer = self.ask(function, *arguments)
        return None if answer is None else bool(answer)

    def watts(self, function: str, device: t.Any) -> float | None:
        """Return an answer in mW."""
        answer = self.ask(function, device)
        return None if answer is None else answer / 1000

    def fill(self, function: str, structure: str, device: t.Any) -> t.Any:
        """Return a structure of nvidia-ml-py that NVML has filled in, None where it has not.

        Raises GpuLost.
        """
        make = getattr(self._library, structure, None)
        filled = make() if make else None
        asked = None if filled is None else self.ask(function, device, ctypes.byref(filled))
        return None if asked is None else filled

    def supports(self, function: str, device: t.Any) -> bool | None:
        """Tell NotSupported (False) from an answer (True) and from another error (None)."""
        try:
            getattr(self._library, f"nvml{function}")(device)
        except self._library.NVMLError as error:
            # Drivers older than a function have no GPU with what it asks about.
            no = (
                self._library.NVML_ERROR_NOT_SUPPORTED,
                self._library.NVML_ERROR_FUNCTION_NOT_FOUND,
            )
            return False if error.value in no else None
        return True


class NvLinks(t.NamedTuple):
    """The active links of a GPU: how many, the PCI ids at other ends, whether a switch is one."""

    active: int
    remote: frozenset[str]
    switch: bool


def gpu_facts(nvml: Nvml, device: t.Any, index: int, root: str = "/") -> Facts:
    """Return all of one GPU but its NVLink peers. Raises GpuLost."""
    bus_id = pci_bus_id(nvml, device)
    return {
        "index": index,
        "uuid": nvml.ask("DeviceGetUUID", device),
        "pci_bus_id": bus_id,
        "name": nvml.ask("DeviceGetName", device),
        "architecture": _ARCHITECTURES.get(nvml.ask("DeviceGetArchitecture", device)),
        "compute_capability": _compute_capability(nvml, device),
        **memory(nvml, device),
        "ecc": _ecc(nvml, device),
        "remapped_rows": _remapped_rows(nvml, device),
        "mig": _mig(nvml, device, root),
        "persistence_mode": nvml.flag("DeviceGetPersistenceMode", device),
        "power_limit_watts": nvml.watts("DeviceGetPowerManagementLimit", device),
        "power_limit_default_watts": nvml.watts("DeviceGetPowerManagementDefaultLimit", device),
        "pcie": {
            "generation": nvml.ask("DeviceGetCurrPcieLinkGeneration", device),
            "generation_max": nvml.ask("DeviceGetMaxPcieLinkGeneration", device),
            "width": nvml.ask("DeviceGetCurrPcieLinkWidth", device),
            "width_max": nvml.ask("DeviceGetMaxPcieLinkWidth", device),
        },
        "nvlink": None,
        "fabric": _fabric(nvml, device),
        "numa_node": _numa_node(nvml, device, bus_id, root),
        "display_active": nvml.flag("DeviceGetDisplayActive", device),
        "processes": _processes(nvml, device, root),
        "lost": False,
        "message": "",
    }


def lost_gpu_facts(index: int | None, pci_bus_id: str | None, message: str) -> Facts:
    """Return the keys of gpu_facts for a GPU that answers nothing."""
    unknown = dict.fromkeys(
        (
            *("uuid", "name", "architecture", "compute_capability", "memory_total_bytes"),
            *("memory_reserved_bytes", "memory_free_bytes", "memory_used_bytes", "ecc"),
            *("remapped_rows", "mig", "persistence_mode", "power_limit_watts"),
            *("power_limit_default_watts", "pcie", "nvlink", "fabric", "numa_node"),
            *("display_active", "processes"),
        )
    )
    return {**unknown, "index": index, "pci_bus_id": pci_bus_id, "lost": True, "message": message}


def pci_bus_id(nvml: Nvml, device: t.Any) -> str | None:
    """Return the PCI id as NVML writes it: 00000000:19:00.0. Raises GpuLost."""
    return _bus_id(nvml.ask("DeviceGetPciInfo", device))


def _bus_id(pci: t.Any) -> str | None:
    if pci is None:
        return None
    text = pci.busId
    return (text.decode() if isinstance(text, bytes) else str(text)).upper()


def _compute_capability(nvml: Nvml, device: t.Any) -> str | None:
    answer = nvml.ask("DeviceGetCudaComputeCapability", device)
    return "{}.{}".format(*answer) if answer else None


def memory(nvml: Nvml, device: t.Any) -> Facts:
    """Return memory in bytes. Drivers before 510 count what they reserve as used."""
    answer = nvml.ask("DeviceGetMemoryInfo", device, 2 << 24 | 40)  # nvmlMemory_v2 of nvml.h
    if answer is None:
        answer = nvml.ask("DeviceGetMemoryInfo", device)
    names = ("total", "reserved", "free", "used")
    return {f"memory_{name}_bytes": getattr(answer, name, None) for name in names}


def _ecc(nvml: Nvml, device: t.Any) -> Facts:
    now, pending = nvml.ask("DeviceGetEccMode", device) or (None, None)
    uncorrected, since_driver_start, ever = 1, 0, 1  # nvmlMemoryErrorType_t, nvmlEccCounterType_t
    errors = "DeviceGetTotalEccErrors"
    return {
        "supported": nvml.supports("DeviceGetEccMode", device),
        "enabled": _flag(now),
        "pending": _flag(pending),
        "uncorrected_volatile": nvml.ask(errors, device, uncorrected, since_driver_start),
        "uncorrected_aggregate": nvml.ask(errors, device, uncorrected, ever),
    }


def _flag(number: int | None) -> bool | None:
    return None if number is None else bool(number)


def _remapped_rows(nvml: Nvml, device: t.Any) -> Facts | None:
    answer = nvml.ask("DeviceGetRemappedRows", device)
    if answer is None:
        return None
    rows: Facts = dict(zip(_REMAPPED_ROWS, answer))
    return {**rows, "pending": bool(rows["pending"]), "failed": bool(rows["failed"])}


def _mig(nvml: Nvml, device: t.Any, root: str) -> Facts:
    now, pending = nvml.ask("DeviceGetMigMode", device) or (None, None)
    slots = nvml.ask("DeviceGetMaxMigDeviceCount", device) if now else 0
    found = (nvml.ask("DeviceGetMigDeviceHandleByIndex", device, n) for n in range(slots or 0))
    return {
        "supported": nvml.supports("DeviceGetMigMode", device),
        "enabled": _flag(now),
        "pending": _flag(pending),
        "instances": [_mig_instance(nvml, each, root) for each in found if each is not None],
    }


def _mig_instance(nvml: Nvml, instance: t.Any, root: str) -> Facts:
    name = nvml.ask("DeviceGetName", instance) or ""
    profile = _PROFILE.search(name)
    return {
        "uuid": nvml.ask("DeviceGetUUID", instance),
        "profile": profile.group(1) if profile else None,
        "gpu_instance_id": nvml.ask("DeviceGetGpuInstanceId", instance),
        "compute_instance_id": nvml.ask("DeviceGetComputeInstanceId", instance),
        **memory(nvml, instance),
        "processes": _processes(nvml, instance, root),
    }


def _fabric(nvml: Nvml, device: t.Any) -> Facts | None:
    """Return how far the GPU is part of a fabric of NVSwitches, None where it is in none."""
    answer = nvml.fill("DeviceGetGpuFabricInfoV", "c_nvmlGpuFabricInfo_v2_t", device)
    state = _FABRIC_STATES.get(answer.state) if answer else None
    # The status means something only when it is completed.
    status = answer.status if state == "completed" else None
    return {"state": state, "status": status} if state else None


def _numa_node(nvml: Nvml, device: t.Any, bus_id: str | None, root: str) -> int | None:
    """Ask the kernel, then NVML. NVML's own NUMA node is not this one, but that of GPU memory."""
    node = host.numa_node(bus_id, root) if bus_id else None
    if node is not None:
        return node
    words = nvml.ask("DeviceGetMemoryAffinity", device, 1, 0)  # 64 nodes, scope node
    mask = words[0] if words else 0
    return mask.bit_length() - 1 if mask and not mask & (mask - 1) else None


def _processes(nvml: Nvml, device: t.Any, root: str) -> list[Facts] | None:
    """Return the processes that hold memory. One that computes and draws is in both of NVML's."""
    kinds = ("DeviceGetComputeRunningProcesses", "DeviceGetGraphicsRunningProcesses")
    answers = [nvml.ask(kind, device) for kind in kinds]
    if answers == [None, None]:
        return None
    held: dict[int, int | None] = {}
    for process in (each for answer in answers for each in answer or ()):
        sizes = (held.get(process.pid), process.usedGpuMemory)
        held[process.pid] = max((size for size in sizes if size is not None), default=None)
    return [
        {
            "pid": pid,
            "name": host.process_name(pid, root),
            "memory_bytes": size,
            "container_id": host.container_id(pid, root),
        }
        for pid, size in sorted(held.items())
    ]


def nvlinks(nvml: Nvml, device: t.Any) -> NvLinks:
    """Return the active links of a GPU. Raises GpuLost."""
    gpu, switch = 0, 2  # NVML_NVLINK_DEVICE_TYPE_*
    numbers = range(36)  # NVML_NVLINK_MAX_LINKS; those that a GPU lacks have no state
    active = [link for link in numbers if nvml.ask("DeviceGetNvLinkState", device, link)]
    kinds = {link: nvml.ask("DeviceGetNvLinkRemoteDeviceType", device, link) for link in active}
    remote = (
        _bus_id(nvml.ask("DeviceGetNvLinkRemotePciInfo", device, link))
        for link, kind in kinds.items()
        if kind == gpu
    )
    return NvLinks(len(active), frozenset(filter(None, remote)), switch in kinds.values())


def nvlink_facts(own: NvLinks, others: t.Iterable[tuple[Facts, NvLinks]]) -> Facts:
    """Return `nvlink` of a GPU. A switch connects every GPU that has links to one."""
    return {
        "active_links": own.active,
        "peers": [
            gpu["uuid"]
            for gpu, links in others
            if gpu["pci_bus_id"] in own.remote or (own.switch and links.switch)
        ],
        "nvswitch": own.switch,
    }
