# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Every set of GPUs and every state, through the real nvidia-ml-py and the NVML stand-in.

What is read runs in a process of its own with an empty environment, as it does on a host.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils import _nvml, _nvml_library

ROOT = Path(_nvml.__file__).resolve().parents[2]
COLLECTIONS = next(
    parent.parent for parent in Path(_nvml.__file__).parents if parent.name == "ansible_collections"
)
LAB = ROOT / "molecule" / "shared"
MIB = 1024**2
CONTAINER = "5c" * 32

pynvml = importlib.util.find_spec("pynvml")
if pynvml is None or pynvml.origin is None:
    pytest.skip("nvidia-ml-py is not installed here", allow_module_level=True)
if not (LAB / "nvml").is_dir():
    pytest.skip("the lab is not in this tree", allow_module_level=True)
sys.path[:0] = [str(LAB), str(ROOT / "tests")]

from nvml import build
from steps import cores

SOURCE = Path(pynvml.origin).read_bytes()
PROGRAM = (
    "import json, sys\n"
    "from ansible_collections.baremetal.vllm.plugins.module_utils import _nvml\n"
    "print(json.dumps(_nvml.read(sys.stdin.read(), sys.argv[1])))\n"
)


def read(
    gpu_set: str | None,
    root: Path | str = "/nowhere",
    packed: str | None = None,
    python: str = sys.executable,
    path: tuple[Path, ...] = (),
) -> dict[str, Any]:
    """The facts of a host with these GPUs; without a set, there is no NVML library."""
    command = [python, "-B", "-S", "-c", PROGRAM, str(root)]
    done = subprocess.run(
        command,
        env={
            "PYTHONPATH": os.pathsep.join(map(str, (COLLECTIONS, *path))),
            **(build.environment(gpu_set) if gpu_set else {"LD_LIBRARY_PATH": "/nowhere"}),
        },
        input=_nvml_library.pack(SOURCE) if packed is None else packed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@functools.cache
def well(gpu_set: str) -> dict[str, Any]:
    found = read(gpu_set)
    assert (found["state"], found["message"], found["lost_gpus"]) == ("ok", "", [])
    return found


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def on_the_bus(root: Path, address: str, driver: str | None = None) -> None:
    """Put an NVIDIA GPU into sysfs."""
    device = root / "sys/bus/pci/devices" / address
    write(device / "vendor", "0x10de\n")
    write(device / "class", "0x030200\n")
    if driver:
        (root / "drivers" / driver).mkdir(parents=True, exist_ok=True)
        (device / "driver").symlink_to(root / "drivers" / driver)


def driven(root: Path, address: str, minor: int) -> None:
    """Let the NVIDIA driver know a GPU, and give the host its device node."""
    write(
        root / "proc/driver/nvidia/gpus" / address / "information",
        f"Model: \t\t NVIDIA L4\nDevice Minor: \t {minor}\nGPU Excluded:\t No\n",
    )
    write(root / f"dev/nvidia{minor}", "")


def module_runs(root: Path, version: str) -> None:
    write(
        root / "proc/driver/nvidia/version",
        f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build\n",
    )


# -- the sets of GPUs ----------------------------------------------------------------------------

# Count, name, architecture, compute capability, MiB, driver, CUDA, watts and PCIe generation.
SETS = {
    "l4": (1, "NVIDIA L4", "Ada Lovelace", "8.9", 23034, "580.159.04", "13.0", 72.0, 4),
    "rtx4090": (
        *(2, "NVIDIA GeForce RTX 4090", "Ada Lovelace", "8.9", 24564),
        *("575.64.03", "12.9", 450.0, 4),
    ),
    "a100-80": (
        *(2, "NVIDIA A100 80GB PCIe", "Ampere", "8.0", 81920, "570.211.01", "12.8", 300.0, 4),
    ),
    "mig": (1, "NVIDIA A100-SXM4-80GB", "Ampere", "8.0", 81920, "570.211.01", "12.8", 400.0, 4),
    "h100-8": (8, "NVIDIA H100 80GB HBM3", "Hopper", "9.0", 81559, "580.159.04", "13.0", 700.0, 5),
    "h200-2": (2, "NVIDIA H200", "Hopper", "9.0", 143771, "580.159.04", "13.0", 700.0, 5),
    "b200": (8, "NVIDIA B200", "Blackwell", "10.0", 183359, "580.159.04", "13.0", 1000.0, 6),
    "v100": (1, "Tesla V100-SXM2-16GB", "Volta", "7.0", 16384, "535.274.02", "12.2", 300.0, 3),
}
BROKEN = {"none", "no-devices", "mismatch", "lost"}


def test_every_set_of_the_stand_in_is_read_here() -> None:
    assert {path.stem for path in build.SETS.iterdir()} == BROKEN | set(SETS)


@pytest.mark.parametrize("gpu_set", SETS)
def test_a_set_is_read(gpu_set: str) -> None:
    count, name, architecture, capability, mib, driver, cuda, watts, generation = SETS[gpu_set]
    found = well(gpu_set)
    assert (found["driver_version"], found["cuda_driver_version"]) == (driver, cuda)
    assert found["nvml_version"] == f"{cuda.split('.')[0]}.{driver}"
    assert [gpu["index"] for gpu in found["gpus"]] == list(range(count))
    assert len({gpu["uuid"] for gpu in found["gpus"]}) == count
    for gpu in found["gpus"]:
        assert gpu["uuid"].startswith("GPU-")
        assert (gpu["name"], gpu["architecture"]) == (name, architecture)
        assert gpu["compute_capability"] == capability
        assert gpu["memory_total_bytes"] // MIB == mib
        parts = ("reserved", "free", "used")
        assert sum(gpu[f"memory_{part}_bytes"] for part in parts) == gpu["memory_total_bytes"]
        assert (gpu["power_limit_watts"], gpu["power_limit_default_watts"]) == (watts, watts)
        assert (gpu["pcie"]["generation_max"], gpu["pcie"]["width_max"]) == (generation, 16)
        assert (gpu["lost"], gpu["message"]) == (False, "")


@pytest.mark.parametrize(("gpu_set", "links"), [("h100-8", 18), ("b200", 18), ("h200-2", 18)])
def test_behind_nvswitches_every_other_gpu_is_a_peer(gpu_set: str, links: int) -> None:
    found = well(gpu_set)
    uuids = {gpu["uuid"] for gpu in found["gpus"]}
    assert found["nvswitch"] is True
    for gpu in found["gpus"]:
        nvlink = gpu["nvlink"]
        assert (nvlink["active_links"], nvlink["nvswitch"]) == (links, True)
        assert len(nvlink["peers"]) == len(uuids) - 1
        assert set(nvlink["peers"]) == uuids - {gpu["uuid"]}


@pytest.mark.parametrize(
    ("gpu_set", "fabric"),
    [
        ("h100-8", {"state": "completed", "status": 0}),
        ("b200", {"state": "completed", "status": 0}),
        ("h200-2", None),  # in a virtual machine: the host below has the switches
        ("l4", None),
    ],
)
def test_the_fabric_of_switches(gpu_set: str, fabric: object) -> None:
    assert [gpu["fabric"] for gpu in well(gpu_set)["gpus"]] == [fabric] * len(well(gpu_set)["gpus"])


@pytest.mark.parametrize(
    ("line", "fabric"),
    [
        ("fabric = 1 0", {"state": "not_started", "status": None}),
        ("fabric = 2 0", {"state": "in_progress", "status": None}),
        ("fabric = 3 999", {"state": "completed", "status": 999}),
        ("fabric = 0 0", None),
        ("fabric = NOT_SUPPORTED", None),
    ],
)
def test_a_fabric_that_is_not_completed(tmp_path: Path, line: str, fabric: object) -> None:
    write(tmp_path / "set.txt", f"{(build.SETS / 'l4.txt').read_text()}\n{line}\n")
    (gpu,) = read(str(tmp_path / "set.txt"))["gpus"]
    assert gpu["fabric"] == fabric


def test_bridged_gpus_are_peers_of_each_other() -> None:
    found = well("a100-80")
    first, second = found["gpus"]
    assert found["nvswitch"] is False
    assert first["nvlink"] == {"active_links": 12, "peers": [second["uuid"]], "nvswitch": False}
    assert second["nvlink"] == {"active_links": 12, "peers": [first["uuid"]], "nvswitch": False}


@pytest.mark.parametrize("gpu_set", ["l4", "rtx4090", "v100", "mig"])
def test_without_nvlink_there_are_no_peers(gpu_set: str) -> None:
    found = well(gpu_set)
    assert found["nvswitch"] is False
    for gpu in found["gpus"]:
        assert gpu["nvlink"] == {"active_links": 0, "peers": [], "nvswitch": False}


def test_a_gpu_behind_a_switch_is_no_peer_of_one_without_links(tmp_path: Path) -> None:
    text = (build.SETS / "h200-2.txt").read_text()
    write(tmp_path / "set.txt", f"{text}\nnvlink = 0-17 down\n")
    first, second = read(str(tmp_path / "set.txt"))["gpus"]
    assert first["nvlink"] == {"active_links": 18, "peers": [], "nvswitch": True}
    assert second["nvlink"] == {"active_links": 0, "peers": [], "nvswitch": False}


def test_a_row_that_waits_for_a_reset_is_seen() -> None:
    first, second = well("a100-80")["gpus"]
    none = {"correctable": 0, "uncorrectable": 0, "pending": False, "failed": False}
    assert first["remapped_rows"] == none
    assert second["remapped_rows"] == {**none, "uncorrectable": 1, "pending": True}
    assert second["ecc"] == {
        "supported": True,
        "enabled": True,
        "pending": True,
        "uncorrected_volatile": 1,
        "uncorrected_aggregate": 1,
    }


def test_what_a_gpu_does_not_have_is_null() -> None:
    (v100,) = well("v100")["gpus"]
    assert v100["remapped_rows"] is None
    assert v100["mig"] == {"supported": False, "enabled": None, "pending": None, "instances": []}
    consumer = well("rtx4090")["gpus"][0]
    assert (consumer["ecc"]["supported"], consumer["ecc"]["enabled"]) == (True, False)
    assert consumer["ecc"]["uncorrected_volatile"] is None  # nothing counts while it is off


@pytest.mark.parametrize("error", ["NOT_SUPPORTED", "NO_PERMISSION", "UNKNOWN", "TIMEOUT"])
def test_whatever_nvml_refuses_is_null(tmp_path: Path, error: str) -> None:
    write(tmp_path / "set.txt", f"[gpu]\nanswers = {error}\n")
    found = read(str(tmp_path / "set.txt"))
    assert (found["state"], found["driver_version"], found["versions_match"]) == ("ok", None, None)
    (gpu,) = found["gpus"]
    supported = False if error == "NOT_SUPPORTED" else None
    unknown = {"supported": supported, "enabled": None, "pending": None}
    errors = {"uncorrected_volatile": None, "uncorrected_aggregate": None}
    assert {key: value for key, value in gpu.items() if value is not None} == {
        "index": 0,
        "ecc": {**unknown, **errors},
        "mig": {**unknown, "instances": []},
        "pcie": {"generation": None, "generation_max": None, "width": None, "width_max": None},
        "nvlink": {"active_links": 0, "peers": [], "nvswitch": False},
        "lost": False,
        "message": "",
    }


def test_a_driver_without_the_newer_memory_call_is_asked_by_the_older(tmp_path: Path) -> None:
    """Drivers before 510 lack nvmlDeviceGetMemoryInfo_v2 and count what they reserve as used."""
    code = build.SOURCE.read_text().replace("nvmlDeviceGetMemoryInfo_v2", "not_there_yet")
    write(tmp_path / "source.c", code)
    library = tmp_path / build.LIBRARY
    compile_it = ["cc", *build.FLAGS, f"-Wl,-soname,{build.LIBRARY}", "-o", str(library)]
    subprocess.run([*compile_it, str(tmp_path / "source.c")], check=True)
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROGRAM, "/nowhere"],
        env={
            **build.environment("l4"),
            "LD_LIBRARY_PATH": str(tmp_path),
            "PYTHONPATH": str(COLLECTIONS),
        },
        input=_nvml_library.pack(SOURCE),
        capture_output=True,
        text=True,
        check=True,
    )
    (gpu,) = json.loads(done.stdout)["gpus"]
    assert gpu["memory_total_bytes"] == 24152899584
    assert gpu["memory_reserved_bytes"] is None
    assert gpu["memory_used_bytes"] == 509607936
    assert gpu["memory_free_bytes"] == 24152899584 - 509607936


def test_mig_instances_have_their_own_memory() -> None:
    (gpu,) = well("mig")["gpus"]
    mig = gpu["mig"]
    assert (mig["supported"], mig["enabled"], mig["pending"]) == (True, True, True)
    assert [each["profile"] for each in mig["instances"]] == ["3g.40gb", "3g.40gb"]
    assert [each["gpu_instance_id"] for each in mig["instances"]] == [1, 2]
    assert len({each["uuid"] for each in mig["instances"]}) == 2
    for each in mig["instances"]:
        assert each["uuid"].startswith("MIG-")
        assert each["memory_total_bytes"] == 40192 * MIB
        assert each["memory_free_bytes"] == 40192 * MIB - 38797312


def test_a_display_gpu_is_seen_with_what_holds_its_memory(tmp_path: Path) -> None:
    write(tmp_path / "proc/4711/comm", "game\n")
    write(tmp_path / "proc/4711/cgroup", f"0::/system.slice/docker-{CONTAINER}.scope\n")
    write(tmp_path / "proc/1650/comm", "Xorg\n")
    write(tmp_path / "proc/1650/cgroup", "0::/system.slice/display-manager.service\n")
    first, second = read("rtx4090", tmp_path)["gpus"]
    assert (first["display_active"], second["display_active"]) == (True, False)
    assert (first["pcie"]["width"], second["pcie"]["width"]) == (16, 8)
    assert first["processes"] == [
        {"pid": 1650, "name": "Xorg", "memory_bytes": 88 * MIB, "container_id": None},
        {"pid": 4711, "name": "game", "memory_bytes": 1893 * MIB, "container_id": CONTAINER},
    ]
    assert second["processes"] == []


def test_a_process_that_computes_and_draws_is_one(tmp_path: Path) -> None:
    unknown = 2**64 - 1  # NVML_VALUE_NOT_AVAILABLE
    write(
        tmp_path / "set.txt",
        f"[gpu]\nname = A\nprocess = 7 100\ngraphics_process = 7 100\nprocess = 9 {unknown}\n",
    )
    (gpu,) = read(str(tmp_path / "set.txt"))["gpus"]
    held = [(process["pid"], process["memory_bytes"]) for process in gpu["processes"]]
    assert held == [(7, 100), (9, None)]


def test_the_kernel_says_the_numa_node_and_nvml_where_it_does_not(tmp_path: Path) -> None:
    write(tmp_path / "sys/bus/pci/devices/0000:19:00.0/numa_node", "3\n")
    write(tmp_path / "sys/bus/pci/devices/0000:3b:00.0/numa_node", "-1\n")
    nodes = [gpu["numa_node"] for gpu in read("h100-8", tmp_path)["gpus"]]
    assert nodes == [3, 0, 0, 0, 1, 1, 1, 1]


def test_a_gpu_near_to_several_numa_nodes_has_none(tmp_path: Path) -> None:
    write(tmp_path / "set.txt", "[gpu]\nname = A\nmemory_affinity = 3\n")
    assert read(str(tmp_path / "set.txt"))["gpus"][0]["numa_node"] is None


@pytest.mark.parametrize(
    ("version", "match"), [("580.159.04", True), ("580.159.03", False), (None, None)]
)
def test_kernel_module_and_library_are_compared(
    tmp_path: Path, version: str | None, match: bool | None
) -> None:
    if version:
        module_runs(tmp_path, version)
    found = read("l4", tmp_path)
    assert (found["kernel_module_version"], found["versions_match"]) == (version, match)


# -- the states and their sentences --------------------------------------------------------------


def assert_state(found: dict[str, Any], state: str, message: str) -> None:
    assert (found["state"], found["message"]) == (state, message)


@pytest.mark.parametrize("gpu_set", ["none", None])
def test_no_gpu(tmp_path: Path, gpu_set: str | None) -> None:
    found = read(gpu_set, tmp_path)
    assert_state(found, "no_gpu", "There is no NVIDIA GPU on the PCI bus of this host: add one.")
    assert (found["gpus"], found["driver_version"]) == ([], None)


@pytest.mark.parametrize("gpu_set", ["none", None])
def test_a_gpu_without_driver(tmp_path: Path, gpu_set: str | None) -> None:
    on_the_bus(tmp_path, "0000:01:00.0", "nouveau")
    on_the_bus(tmp_path, "0000:02:00.0")
    assert_state(
        read(gpu_set, tmp_path),
        "no_driver",
        "No NVIDIA driver runs for the GPU at 00000000:01:00.0 (bound to nouveau) and"
        " 00000000:02:00.0: install it, or `modprobe nvidia` where it is installed already.",
    )


def test_a_driver_without_its_libraries(tmp_path: Path) -> None:
    on_the_bus(tmp_path, "0000:01:00.0", "nvidia")
    module_runs(tmp_path, "580.159.04")
    found = read(None, tmp_path)
    assert_state(
        found,
        "no_driver",
        "The NVIDIA kernel module 580.159.04 runs, but its library libnvidia-ml.so.1 is not"
        " installed: install the libraries of that driver release (Debian: libnvidia-ml1,"
        " Ubuntu: libnvidia-compute).",
    )
    assert found["kernel_module_version"] == "580.159.04"


def test_a_driver_that_does_not_answer(tmp_path: Path) -> None:
    module_runs(tmp_path, "580.159.04")
    assert_state(
        read("none", tmp_path),
        "no_driver",
        "The NVIDIA kernel module 580.159.04 is loaded and does not answer: run `nvidia-smi` as"
        " root, and look for NVRM in `journalctl -k`.",
    )


def test_a_driver_without_a_gpu(tmp_path: Path) -> None:
    assert_state(
        read("no-devices", tmp_path),
        "no_gpu",
        "The NVIDIA driver 580.159.04 runs, but no NVIDIA GPU is on the PCI bus: add one.",
    )
    on_the_bus(tmp_path, "0000:01:00.0", "vfio-pci")
    assert_state(
        read("no-devices", tmp_path),
        "no_gpu",
        "The NVIDIA driver 580.159.04 runs and was given no GPU; on the PCI bus is"
        " 00000000:01:00.0 (bound to vfio-pci): bind it to the driver nvidia and do not exclude it"
        " there.",
    )


def test_a_driver_upgraded_while_it_ran(tmp_path: Path) -> None:
    module_runs(tmp_path, "575.64.03")
    found = read("mismatch", tmp_path)
    assert_state(
        found,
        "mismatch",
        "The libraries of the NVIDIA driver are 580.159.04 and the kernel module that runs is"
        " 575.64.03: the driver was upgraded while it ran; reboot the host.",
    )
    assert found["versions_match"] is False
    assert (found["nvml_version"], found["gpus"]) == ("13.580.159.04", [])


def test_lost_gpus_are_named_and_the_others_reported(tmp_path: Path) -> None:
    for minor in range(3):
        driven(tmp_path, f"0000:00:0{4 + minor}.0", minor)
    found = read("lost", tmp_path)
    assert_state(
        found,
        "gpu_lost",
        "GPU 1 (00000000:00:05.0) and GPU 2 (00000000:00:06.0) do not answer the driver: look for"
        " Xid and NVRM in `journalctl -k`, reboot the host, and have them checked if that does not"
        " help.",
    )
    assert [
        (each["index"], each["pci_bus_id"], each["message"]) for each in found["lost_gpus"]
    ] == [
        (1, "00000000:00:05.0", "GPU 1 (00000000:00:05.0): GPU is lost."),
        (2, "00000000:00:06.0", "GPU 2 (00000000:00:06.0): GPU is lost."),
    ]
    first, second, third = found["gpus"]
    assert (first["name"], first["lost"], first["uuid"]) == (
        *("NVIDIA L4", False),
        "GPU-1000001c-5a1d-4c1a-9d2e-00000000001c",
    )
    assert second.keys() == third.keys() == first.keys()
    assert (second["index"], second["lost"], second["memory_total_bytes"]) == (1, True, None)
    assert second["message"] == "GPU 1 (00000000:00:05.0): GPU is lost."


def test_lost_gpus_are_found_in_sysfs_where_proc_does_not_show_them(tmp_path: Path) -> None:
    for slot in (4, 5, 6):
        on_the_bus(tmp_path, f"0000:00:0{slot}.0", "nvidia")
    on_the_bus(tmp_path, "0000:00:07.0", "vfio-pci")  # given to a virtual machine
    found = read("lost", tmp_path)
    assert [each["pci_bus_id"] for each in found["lost_gpus"]] == [
        "00000000:00:05.0",
        "00000000:00:06.0",
    ]


def test_lost_gpus_keep_their_index_where_the_kernel_shows_nothing(tmp_path: Path) -> None:
    found = read("lost", tmp_path)
    assert [(each["index"], each["pci_bus_id"]) for each in found["lost_gpus"]] == [
        (1, None),
        (2, None),
    ]
    assert found["message"].startswith("GPU 1 (PCI id unknown) and GPU 2 (PCI id unknown) do not")


def test_a_gpu_lost_while_it_is_read_is_named_by_nvml(tmp_path: Path) -> None:
    write(
        tmp_path / "set.txt",
        "[gpu]\nname = A\npci = 00000000:17:00.0\n"
        "[gpu]\npci = 00000000:CA:00.0\nmemory = RESET_REQUIRED\n",
    )
    found = read(str(tmp_path / "set.txt"))
    assert found["lost_gpus"] == [
        {
            "index": 1,
            "pci_bus_id": "00000000:CA:00.0",
            "message": "GPU 1 (00000000:CA:00.0): GPU requires restart.",
        }
    ]


def test_a_gpu_that_failed_when_the_driver_started_is_found(tmp_path: Path) -> None:
    """NVML does not count it; nvidia-smi just shows one GPU less."""
    driven(tmp_path, "0000:00:04.0", 0)
    driven(tmp_path, "0000:00:05.0", 1)
    found = read("l4", tmp_path)
    assert_state(
        found,
        "gpu_lost",
        "GPU 00000000:00:05.0 does not answer the driver: look for Xid and NVRM in"
        " `journalctl -k`, reboot the host, and have it checked if that does not help.",
    )
    assert [(gpu["index"], gpu["lost"]) for gpu in found["gpus"]] == [(0, False), (None, True)]


def test_a_host_whose_gpus_all_answer_has_none_lost(tmp_path: Path) -> None:
    driven(tmp_path, "0000:00:04.0", 0)
    on_the_bus(tmp_path, "0000:00:04.0", "nvidia")
    assert read("l4", tmp_path)["state"] == "ok"


@pytest.mark.parametrize("gpu", ["init = NO_PERMISSION\n", "[gpu]\nhandle = NO_PERMISSION\n"])
def test_a_user_who_may_not_ask_is_told_to_become_root(tmp_path: Path, gpu: str) -> None:
    write(tmp_path / "set.txt", gpu)
    found = read(str(tmp_path / "set.txt"))
    assert found["state"] == "error"
    assert found["message"].startswith("NVML ")
    assert found["message"].endswith(
        " (Insufficient Permissions, error 4): let the task run as root (become: true)."
    )


def test_any_other_error_is_a_sentence(tmp_path: Path) -> None:
    write(tmp_path / "set.txt", "init = IRQ_ISSUE\n")
    assert_state(
        read(str(tmp_path / "set.txt")),
        "error",
        "NVML did not start (Interrupt Request Issue, error 11): run nvidia-smi on the host and"
        " look for NVRM in `journalctl -k`.",
    )


# -- nvidia-ml-py --------------------------------------------------------------------------------


def test_without_the_package_anywhere(tmp_path: Path) -> None:
    assert_state(
        read("l4", tmp_path, packed=""),
        "no_library",
        "The Python package nvidia-ml-py is neither on the controller nor on this host: run"
        " `pip install nvidia-ml-py` for the Python that runs ansible-playbook.",
    )


def test_the_host_s_own_package_is_used_where_the_controller_has_none(tmp_path: Path) -> None:
    (tmp_path / "pynvml.py").write_bytes(SOURCE)
    assert read("l4", packed="", path=(tmp_path,))["gpus"][0]["name"] == "NVIDIA L4"


def test_the_controller_s_package_wins_over_the_host_s(tmp_path: Path) -> None:
    (tmp_path / "pynvml.py").write_text("raise RuntimeError('the host has its own')")
    assert read("l4", path=(tmp_path,))["state"] == "ok"


WRONG = [
    (b"match 1:\n  oops", "SyntaxError"),
    (b"import no_such_module_at_all", "ModuleNotFoundError"),
    (b"raise OSError('no')", "OSError"),
    (b"", "AttributeError"),
]


@pytest.mark.parametrize(("source", "error"), WRONG)
def test_a_package_that_does_not_run_on_the_host_is_a_sentence(
    tmp_path: Path, source: bytes, error: str
) -> None:
    (tmp_path / "pynvml.py").write_bytes(source)
    for whose, packed, path in (
        ("controller", _nvml_library.pack(source), ()),
        ("host", "", (tmp_path,)),
    ):
        found = read("l4", packed=packed, path=path)
        assert found["state"] == "no_library"
        start = f"The module pynvml of the {whose} is no nvidia-ml-py that runs on Python 3."
        assert found["message"].startswith(start)
        assert f"({error}: " in found["message"]


@pytest.mark.parametrize("packed", ["not base64", "AAAA"])
def test_a_damaged_option_is_a_sentence(packed: str) -> None:
    assert read("l4", packed=packed)["state"] == "no_library"


@pytest.mark.parametrize("gpu_set", ["h100-8", "rtx4090", "mig", "lost"])
def test_python_3_9_reads_the_same(gpu_set: str) -> None:
    """Modules run on hosts with Python 3.9, whatever this test runs on."""
    python = cores.interpreter("3.9")
    if python is None:
        pytest.skip("there is no Python 3.9 on PATH, nor kept by pyenv or uv")
    assert read(gpu_set, python=str(python)) == read(gpu_set)
