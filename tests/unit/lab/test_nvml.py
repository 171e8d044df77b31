# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the real nvidia-ml-py reads of each set of GPUs through the NVML stand-in."""

from __future__ import annotations

import ctypes.util
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed here")
# ansible-test runs in a copy of the collection that has no lab.
pytest.importorskip("nvml.build", reason="the lab is not in this tree")

from nvml import build

READER = Path(__file__).with_name("nvml_reader.py")
MIB = 1024**2
GONE = "NVMLError_GpuIsLost"
NO = "NVMLError_NotSupported"


def run(gpu_set: str, *program: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(program or [str(READER)])]
    env = {**os.environ, **build.environment(gpu_set)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=check)


@functools.cache
def read(gpu_set: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(gpu_set).stdout)
    return found


# Total MiB, compute capability, driver, CUDA and active links are what NVIDIA publishes for each.
WHOLE = {
    "l4": (1, "NVIDIA L4", 23034, [8, 9], "580.159.04", 13000, 0),
    "rtx4090": (2, "NVIDIA GeForce RTX 4090", 24564, [8, 9], "575.64.03", 12090, 0),
    "a100-80": (2, "NVIDIA A100 80GB PCIe", 81920, [8, 0], "570.211.01", 12080, 12),
    "mig": (1, "NVIDIA A100-SXM4-80GB", 81920, [8, 0], "570.211.01", 12080, 0),
    "h100-8": (8, "NVIDIA H100 80GB HBM3", 81559, [9, 0], "580.159.04", 13000, 18),
    "h200-2": (2, "NVIDIA H200", 143771, [9, 0], "580.159.04", 13000, 18),
    "b200": (8, "NVIDIA B200", 183359, [10, 0], "580.159.04", 13000, 18),
    "v100": (1, "Tesla V100-SXM2-16GB", 16384, [7, 0], "535.274.02", 12020, 0),
}
BROKEN = {"none", "no-devices", "mismatch", "lost"}


def test_every_set_is_specified_here() -> None:
    assert {path.stem for path in build.SETS.iterdir()} == BROKEN | set(WHOLE)


@pytest.mark.parametrize("gpu_set", WHOLE)
def test_a_set_reads_back(gpu_set: str) -> None:
    count, name, mib, capability, driver, cuda, links = WHOLE[gpu_set]

    found = read(gpu_set)

    assert (found["init"], found["shutdown"]) == (None, None)
    assert (found["DriverVersion"], found["CudaDriverVersion"]) == (driver, cuda)
    assert found["NVMLVersion"] == f"{cuda // 1000}.{driver}"
    assert found["count"] == len(found["gpus"]) == count
    assert [gpu["Index"] for gpu in found["gpus"]] == list(range(count))
    assert [gpu["MinorNumber"] for gpu in found["gpus"]] == list(range(count))
    assert found["again"] == [[index, index] for index in range(count)]
    for key in ("UUID", "Pci"):
        assert len({str(gpu[key]) for gpu in found["gpus"]}) == count
    for gpu in found["gpus"]:
        assert gpu["Name"] == name
        assert gpu["CudaComputeCapability"] == capability
        assert gpu["Memory"]["total"] == gpu["Memory_v2"]["total"]
        assert gpu["Memory"]["total"] // MIB == mib
        assert sum(link["state"] == 1 for link in gpu["Links"]) == links


@pytest.mark.parametrize("gpu_set", WHOLE)
def test_memory_adds_up_and_the_older_call_counts_what_is_reserved_as_used(gpu_set: str) -> None:
    for gpu in read(gpu_set)["gpus"]:
        old, new = gpu["Memory"], gpu["Memory_v2"]
        assert new["free"] + new["used"] + new["reserved"] == new["total"]
        assert (old["free"], old["used"]) == (new["free"], new["used"] + new["reserved"])


@pytest.mark.parametrize(
    ("gpu_set", "error"),
    [("none", "NVMLError_DriverNotLoaded"), ("mismatch", "NVMLError_LibRmVersionMismatch")],
)
def test_a_driver_that_does_not_start_is_refused_at_init(gpu_set: str, error: str) -> None:
    found = read(gpu_set)
    assert found["init"] == error
    assert found["count"] == found["DriverVersion"] == found["shutdown"]
    assert found["count"] == "NVMLError_Uninitialized"


def test_a_driver_without_a_gpu_counts_none() -> None:
    found = read("no-devices")
    assert (found["init"], found["count"]) == (None, 0)
    assert found["DriverVersion"] == "580.159.04"


def test_a_gpu_is_lost_before_or_after_its_handle_is_given_out() -> None:
    well, before, after = read("lost")["gpus"]
    assert well["Name"] == "NVIDIA L4"
    assert before == GONE
    assert (after["Name"], after["Memory"], after["Processes"]) == (GONE, GONE, GONE)


def test_without_the_library_nvidia_ml_py_says_so(tmp_path: Path) -> None:
    env = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    command = [sys.executable, str(READER)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    if ctypes.util.find_library("nvidia-ml"):
        pytest.skip("this machine has an NVIDIA driver of its own")
    assert json.loads(done.stdout)["init"] == "NVMLError_LibraryNotFound"


def test_what_the_real_h200_answered() -> None:
    """Recorded from two H200 of one machine, driver 580.159.04; see the set's file."""
    found = read("h200-2")
    first = found["gpus"][0]
    assert found["ancestors"] == [[NO, 30], [30, NO]]
    assert (first["NumaNodeId"], first["MemoryAffinity"]) == (NO, [1])
    assert first["Memory"] == {
        "total": 150754820096,
        "free": 150109880320,
        "used": 644939776,
    }
    assert first["Pci"] == {
        "busIdLegacy": "0000:00:06.0",
        "domain": 0,
        "bus": 0,
        "device": 6,
        "pciDeviceId": 590680286,
        "pciSubSystemId": 415174878,
        "busId": "00000000:00:06.0",
    }
    assert first["Links"][17] == {"state": 1, "type": 2, "remote": "FFFFFFFF:FF:FF.0"}
    assert set(first["Links"][18].values()) == {"NVMLError_InvalidArgument"}
    assert first["PowerManagementLimitConstraints"] == [200000, 700000]
    assert first["ClockInfo"] == [1980, 1980, 3201, 1545]


def test_h100_board_has_four_switches_and_two_numa_nodes() -> None:
    found = read("h100-8")
    for gpu in found["gpus"]:
        assert len({link["remote"] for link in gpu["Links"][:18]}) == 4
        assert {link["type"] for link in gpu["Links"][:18]} == {2}
    assert [gpu["MemoryAffinity"] for gpu in found["gpus"]] == [[1]] * 4 + [[2]] * 4
    assert found["ancestors"][0] == [NO, 40, 40, 40, 50, 50, 50, 50]


def test_bridged_a100_point_at_each_other_and_one_waits_for_a_reset() -> None:
    first, second = read("a100-80")["gpus"]
    assert {link["remote"] for link in first["Links"][:12]} == {second["Pci"]["busId"]}
    assert {link["remote"] for link in second["Links"][:12]} == {first["Pci"]["busId"]}
    assert {link["type"] for link in first["Links"][:12]} == {0}
    assert (first["RemappedRows"], second["RemappedRows"]) == ([0, 0, 0, 0], [0, 1, 1, 0])


def test_a_display_gpu_has_a_process_and_the_next_gpu_does_not_inherit_it() -> None:
    first, second = read("rtx4090")["gpus"]
    assert first["Processes"] == [[4711, 1893 * MIB]]
    assert second["Processes"] == []
    assert (first["DisplayActive"], second["DisplayActive"]) == (1, 0)
    assert (first["MigMode"], first["RemappedRows"], first["EccMode"]) == (NO, NO, [0, 0])
    assert (first["CurrPcieLinkWidth"], second["CurrPcieLinkWidth"]) == (16, 8)


def test_mig_instances_belong_to_their_gpu() -> None:
    (gpu,) = read("mig")["gpus"]
    first, second, *others = gpu["Instances"]
    assert gpu["MigMode"] == [1, 1]
    assert (first["GpuInstanceId"], second["GpuInstanceId"]) == (1, 2)
    assert first["UUID"].startswith("MIG-")
    assert first["UUID"] != second["UUID"]
    assert first["Parent"] == second["Parent"] == 0
    assert first["Memory"]["total"] == 40192 * MIB
    assert others == ["NVMLError_NotFound"] * 5


def test_v100_is_old() -> None:
    (gpu,) = read("v100")["gpus"]
    assert (gpu["Architecture"], gpu["MigMode"], gpu["RemappedRows"]) == (5, NO, NO)


def test_a_function_that_the_stand_in_lacks_is_one_that_the_driver_lacks() -> None:
    assert read("l4")["gpus"][0]["VbiosVersion"] == "NVMLError_FunctionNotFound"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("name\n", "line 1 of"),
        ("driver_version = 580\n\n[card]\n", "line 3 of"),
        ("[mig]\n", "line 1 of"),
        ("[gpu]\nnvlink = 0-36 down\n", "line 2 of"),
    ],
)
def test_a_set_that_cannot_be_read_is_an_error_with_its_line(
    tmp_path: Path, content: str, complaint: str
) -> None:
    file = tmp_path / "set.txt"
    file.write_text(content)
    done = run(str(file))
    assert json.loads(done.stdout)["init"] == "NVMLError_Unknown"
    assert complaint in done.stderr


def test_one_process_can_see_one_set_after_another() -> None:
    script = (
        "import os, pynvml\n"
        "for name in ('l4', 'v100'):\n"
        f"    os.environ['{build.VARIABLE}'] = f'{build.SETS}/{{name}}.txt'\n"
        "    pynvml.nvmlInit()\n"
        "    print(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)))\n"
        "    pynvml.nvmlShutdown()\n"
    )
    assert run("none", "-c", script).stdout.split("\n")[:2] == ["NVIDIA L4", "Tesla V100-SXM2-16GB"]


def test_the_library_is_compiled_once_under_a_hash_of_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build.build(tmp_path)
    monkeypatch.setenv("PATH", "")  # no compiler any more
    assert build.build(tmp_path) == first
    with pytest.raises(build.BuildError, match="apt install gcc libc6-dev"):
        build.build(tmp_path / "elsewhere")
