# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The GPUs of a host as facts, and what is wrong where there are none. Changes nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ansible_collections.baremetal.vllm.plugins.module_utils import _nvml_gpu as gpu
from ansible_collections.baremetal.vllm.plugins.module_utils import _nvml_host as host
from ansible_collections.baremetal.vllm.plugins.module_utils._nvml_gpu import Facts, GpuLost, Nvml
from ansible_collections.baremetal.vllm.plugins.module_utils._nvml_library import State, load


@dataclasses.dataclass(frozen=True)
class Silent:
    """A GPU that does not answer: its index in NVML, its PCI id and NVML's error."""

    index: int | None
    bus_id: str | None
    error: str

    def __str__(self) -> str:
        where = self.bus_id or "PCI id unknown"
        return f"GPU {where}" if self.index is None else f"GPU {self.index} ({where})"


def read(packed: str = "", root: str = "/") -> Facts:
    """Return the facts; whatever is wrong is their `state`, with a sentence in `message`.

    `packed` is nvidia-ml-py as _nvml_library.pack() made it. `root` is where /proc, /sys and /dev
    are below.
    """
    facts: Facts = {
        "state": "ok",
        "message": "",
        "driver_version": None,
        "cuda_driver_version": None,
        "nvml_version": None,
        "kernel_module_version": host.kernel_module_version(root),
        "versions_match": None,
        "nvswitch": False,
        "gpus": [],
        "lost_gpus": [],
    }
    try:
        library = load(packed)
        _start(library, facts, root)
        try:
            _read_system(Nvml(library), facts)
            _read_gpus(library, facts, root)
        finally:
            with contextlib.suppress(library.NVMLError):  # all that could be read was read
                library.nvmlShutdown()
    except State as state:
        facts.update(state=state.name, message=str(state))
    return facts


def _start(library: t.Any, facts: Facts, root: str) -> None:
    """Start NVML. Raises State, as far as possible with what is known without a running NVML."""
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        if error.value == library.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
            facts["nvml_version"] = Nvml(library).ask("SystemGetNVMLVersion")
            raise _mismatch(facts) from error
        if error.value in (
            library.NVML_ERROR_LIBRARY_NOT_FOUND,
            library.NVML_ERROR_DRIVER_NOT_LOADED,
        ):
            missing = error.value == library.NVML_ERROR_LIBRARY_NOT_FOUND
            raise _no_driver(facts["kernel_module_version"], missing, root) from error
        raise _nvml_error(library, error, "did not start") from error


def _read_system(nvml: Nvml, facts: Facts) -> None:
    cuda = nvml.ask("SystemGetCudaDriverVersion_v2")
    facts.update(
        driver_version=nvml.ask("SystemGetDriverVersion"),
        cuda_driver_version=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
        nvml_version=nvml.ask("SystemGetNVMLVersion"),
    )
    library = _library_version(facts["nvml_version"])
    if library and facts["kernel_module_version"]:
        facts["versions_match"] = library == facts["kernel_module_version"]


def _library_version(nvml_version: str | None) -> str | None:
    """Return the driver release that the library is from: 13.580.159.04 is CUDA 13's of that."""
    return nvml_version.partition(".")[2] or None if nvml_version else None


def _read_gpus(library: t.Any, facts: Facts, root: str) -> None:
    nvml = Nvml(library)
    read: list[tuple[Facts, gpu.NvLinks]] = []
    silent: list[Silent] = []
    for index in range(_count(library)):
        bus_id = None
        try:
            device = _handle(library, index)
            bus_id = gpu.pci_bus_id(nvml, device)
            read.append((gpu.gpu_facts(nvml, device, index, root), gpu.nvlinks(nvml, device)))
        except GpuLost as error:
            silent.append(Silent(index, bus_id, str(error)))
    for each, links in read:
        others = (pair for pair in read if pair[0] is not each)
        each["nvlink"] = gpu.nvlink_facts(links, others)
    facts["gpus"] = [each for each, _links in read]
    facts["nvswitch"] = any(links.switch for _each, links in read)
    known = {each["pci_bus_id"] for each in facts["gpus"]}
    lost = _found_again(silent, known, root)
    if lost:
        _add_lost(facts, lost)
        raise _gpu_lost(lost)
    if not read:
        raise _no_gpu(facts["driver_version"], root)


def _add_lost(facts: Facts, lost: list[Silent]) -> None:
    told: list[Facts] = [
        {"index": each.index, "pci_bus_id": each.bus_id, "message": f"{each}: {each.error}."}
        for each in lost
    ]
    facts["lost_gpus"] = told
    facts["gpus"] = sorted(
        facts["gpus"] + [gpu.lost_gpu_facts(**each) for each in told], key=_by_index
    )


def _by_index(facts: Facts) -> tuple[bool, int]:
    return facts["index"] is None, facts["index"] or 0


def _count(library: t.Any) -> int:
    try:
        return int(library.nvmlDeviceGetCount())
    except library.NVMLError as error:
        raise _nvml_error(library, error, "did not count the GPUs") from error


def _handle(library: t.Any, index: int) -> t.Any:
    """Return the handle of a GPU. Raises GpuLost; State where the user may not ask."""
    try:
        return library.nvmlDeviceGetHandleByIndex(index)
    except library.NVMLError as error:
        if error.value == library.NVML_ERROR_NO_PERMISSION:
            raise _nvml_error(library, error, f"refused GPU {index}") from error
        # A GPU off the bus answers GpuIsLost, ResetRequired, or just Unknown.
        raise GpuLost(str(error)) from error


def _found_again(silent: list[Silent], known: t.AbstractSet[str | None], root: str) -> list[Silent]:
    """Return the GPUs that do not answer with their PCI ids, as far as the kernel knows them.

    NVML counts in the order of PCI ids, and need not tell the id of a GPU that is lost: it is one
    of those that the kernel shows and NVML does not. One that failed when the driver started is
    not even counted by NVML.
    """
    known = known | {each.bus_id for each in silent}
    driven = [bus_id for bus_id in host.driver_gpus(root) if bus_id not in known]
    bound = (each.bus_id for each in host.pci_devices(root) if each.driver == "nvidia")
    unseen = driven or [bus_id for bus_id in bound if bus_id not in known]
    named = [each for each in silent if each.bus_id]
    nameless = [each for each in silent if not each.bus_id]
    if len(unseen) == len(nameless):
        nameless = [
            dataclasses.replace(each, bus_id=bus_id) for each, bus_id in zip(nameless, unseen)
        ]
    elif len(driven) > len(nameless):
        nameless = [Silent(None, bus_id, "NVML does not show it") for bus_id in driven]
    return named + nameless


# -- sentences -----------------------------------------------------------------------------------


def _nvml_error(library: t.Any, error: t.Any, what: str) -> State:
    if error.value == library.NVML_ERROR_NO_PERMISSION:
        mend = "let the task run as root (become: true)"
    else:
        mend = "run nvidia-smi on the host and look for NVRM in `journalctl -k`"
    return State("error", f"NVML {what} ({error}, error {error.value}): {mend}.")


def _mismatch(facts: Facts) -> State:
    facts["versions_match"] = False
    module = facts["kernel_module_version"] or "another release"
    library = _library_version(facts["nvml_version"]) or "another release"
    return State(
        "mismatch",
        f"The libraries of the NVIDIA driver are {library} and the kernel module that runs is"
        f" {module}: the driver was upgraded while it ran; reboot the host.",
    )


def _no_driver(module: str | None, missing: bool, root: str) -> State:
    devices = host.pci_devices(root)
    if module and missing:
        return State(
            "no_driver",
            f"The NVIDIA kernel module {module} runs, but its library libnvidia-ml.so.1 is not"
            " installed: install the libraries of that driver release (Debian: libnvidia-ml1,"
            " Ubuntu: libnvidia-compute).",
        )
    if module:
        return State(
            "no_driver",
            f"The NVIDIA kernel module {module} is loaded and does not answer: run `nvidia-smi` as"
            " root, and look for NVRM in `journalctl -k`.",
        )
    if devices:
        return State(
            "no_driver",
            f"No NVIDIA driver runs for the GPU at {_listed(devices)}: install it, or"
            " `modprobe nvidia` where it is installed already.",
        )
    return State("no_gpu", "There is no NVIDIA GPU on the PCI bus of this host: add one.")


def _no_gpu(driver: str | None, root: str) -> State:
    devices = host.pci_devices(root)
    if devices:
        return State(
            "no_gpu",
            f"The NVIDIA driver {driver} runs and was given no GPU; on the PCI bus is"
            f" {_listed(devices)}: bind it to the driver nvidia and do not exclude it there.",
        )
    return State(
        "no_gpu", f"The NVIDIA driver {driver} runs, but no NVIDIA GPU is on the PCI bus: add one."
    )


def _listed(devices: t.Iterable[host.PciDevice]) -> str:
    return " and ".join(
        f"{bus_id} (bound to {driver})" if driver else bus_id for bus_id, driver in devices
    )


def _gpu_lost(lost: t.Sequence[Silent]) -> State:
    names = " and ".join(map(str, lost))
    verb, pronoun = ("does", "it") if len(lost) == 1 else ("do", "them")
    return State(
        "gpu_lost",
        f"{names} {verb} not answer the driver: look for Xid and NVRM in `journalctl -k`, reboot"
        f" the host, and have {pronoun} checked if that does not help.",
    )
