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
        *("Name", "UUID", "Index", "MinorNumber", "Serial", "Brand", "Architecture"),
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
        "Unknown": ask("nvmlDeviceGetVbiosVersion", device),
    }


def machine() -> dict[str, Any]:
    found: dict[str, Any] = {"init": ask("nvmlInit")}
    for name in ("DriverVersion", "NVMLVersion", "CudaDriverVersion", "CudaDriverVersion_v2"):
        found[name] = ask(f"nvmlSystemGet{name}")
    found["count"] = count = ask("nvmlDeviceGetCount")
    handles = [ask("nvmlDeviceGetHandleByIndex", n) for n in range(count or 0)] if count != str(
        count
    ) else []
    found["gpus"] = [handle if isinstance(handle, str) else gpu(handle) for handle in handles]
    found["ancestors"] = [
        [ask("nvmlDeviceGetTopologyCommonAncestor", one, other) for other in handles]
        for one in handles
        if not isinstance(one, str)
    ]
    found["shutdown"] = ask("nvmlShutdown")
    return found


if __name__ == "__main__":
    json.dump(machine(), sys.stdout, indent=1)
