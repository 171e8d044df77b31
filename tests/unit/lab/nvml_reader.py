# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Print as JSON what nvidia-ml-py reads on this machine, of a driver or of the stand-in.

A call that fails is the name of its NVMLError instead of a value.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pynvml  # type: ignore[import-untyped,import-not-found,unused-ignore]

MEMORY_V2 = 0x02000028
LINKS = 18


def ask(function: str, *arguments: Any, take: Callable[[Any], Any] = lambda value: value) -> Any:
    """The answer of one function, in types that JSON has, or the name of its error."""
    try:
        return take(getattr(pynvml, function)(*arguments))
    except pynvml.NVMLError as error:
        return type(error).__name__


def fields(answer: Any) -> dict[str, Any]:
    """A structure's values by name."""
    pairs = {name: getattr(answer, name) for name, *_ in answer._fields_}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in pairs.items()}


def link(device: Any, number: int) -> dict[str, Any]:
    remote = ask("nvmlDeviceGetNvLinkRemotePciInfo", device, number, take=fields)
    return {
        "state": ask("nvmlDeviceGetNvLinkState", device, number),
        "type": ask("nvmlDeviceGetNvLinkRemoteDeviceType", device, number),
        "remote": remote["busId"] if isinstance(remote, dict) else remote,
    }


def gpu(device: Any) -> dict[str, Any]:
    plain = (
        *("Name", "UUID", "Index", "MinorNumber", "Brand", "Architecture"),
        *("CudaComputeCapability", "EccMode", "RemappedRows", "MigMode", "MaxMigDeviceCount"),
        *("PersistenceMode", "PowerManagementLimit", "PowerManagementLimitConstraints"),
        *("EnforcedPowerLimit", "PowerUsage", "CurrPcieLinkGeneration", "CurrPcieLinkWidth"),
        *("MaxPcieLinkGeneration", "MaxPcieLinkWidth", "NumaNodeId", "DisplayActive"),
    )
    result = {name: ask(f"nvmlDeviceGet{name}", device) for name in plain}
    return result | {
        "Pci": ask("nvmlDeviceGetPciInfo", device, take=fields),
        "Memory": ask("nvmlDeviceGetMemoryInfo", device, take=fields),
        "Memory_v2": ask("nvmlDeviceGetMemoryInfo", device, MEMORY_V2, take=fields),
        "MemoryAffinity": ask("nvmlDeviceGetMemoryAffinity", device, 1, 0, take=list),
        "Temperature": ask("nvmlDeviceGetTemperature", device, 0),
        "ClockInfo": [ask("nvmlDeviceGetClockInfo", device, kind) for kind in range(4)],
        "MaxClockInfo": [ask("nvmlDeviceGetMaxClockInfo", device, kind) for kind in range(4)],
        "Processes": ask(
            "nvmlDeviceGetComputeRunningProcesses",
            device,
            take=lambda found: [[process.pid, process.usedGpuMemory] for process in found],
        ),
        "Links": [link(device, number) for number in range(LINKS + 1)],
        "Instances": [
            instance(device, number) for number in range(ask_number("MaxMigDeviceCount", device))
        ],
        "VbiosVersion": ask("nvmlDeviceGetVbiosVersion", device),
    }


def ask_number(name: str, device: Any) -> int:
    answer = ask(f"nvmlDeviceGet{name}", device)
    return answer if isinstance(answer, int) else 0


def instance(device: Any, number: int) -> Any:
    """A MIG instance, or the name of the error."""
    found = ask("nvmlDeviceGetMigDeviceHandleByIndex", device, number)
    if isinstance(found, str):
        return found
    parent = ask("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", found)
    return {
        "UUID": ask("nvmlDeviceGetUUID", found),
        "GpuInstanceId": ask("nvmlDeviceGetGpuInstanceId", found),
        "Memory": ask("nvmlDeviceGetMemoryInfo", found, take=fields),
        "Parent": ask("nvmlDeviceGetIndex", parent),
    }


def same(device: Any) -> list[Any]:
    """The GPU's index again, by way of its UUID and of its PCI address."""
    uuid = ask("nvmlDeviceGetUUID", device)
    bus = ask("nvmlDeviceGetPciInfo", device, take=lambda pci: pci.busId)
    by_uuid = ask("nvmlDeviceGetHandleByUUID", uuid.encode())
    by_bus = ask("nvmlDeviceGetHandleByPciBusId", bus if isinstance(bus, bytes) else bus.encode())
    return [
        found if isinstance(found, str) else ask("nvmlDeviceGetIndex", found)
        for found in (by_uuid, by_bus)
    ]


def machine() -> dict[str, Any]:
    found: dict[str, Any] = {"init": ask("nvmlInit")}
    for name in ("DriverVersion", "NVMLVersion", "CudaDriverVersion", "CudaDriverVersion_v2"):
        found[name] = ask(f"nvmlSystemGet{name}")
    found["count"] = ask("nvmlDeviceGetCount")
    numbers = range(found["count"]) if isinstance(found["count"], int) else ()
    handles = [ask("nvmlDeviceGetHandleByIndex", number) for number in numbers]
    found["gpus"] = [handle if isinstance(handle, str) else gpu(handle) for handle in handles]
    devices = [handle for handle in handles if not isinstance(handle, str)]
    found["ancestors"] = [
        [ask("nvmlDeviceGetTopologyCommonAncestor", one, other) for other in devices]
        for one in devices
    ]
    found["again"] = [same(device) for device in devices]
    found["shutdown"] = ask("nvmlShutdown")
    return found


if __name__ == "__main__":
    json.dump(machine(), sys.stdout, indent=1)
