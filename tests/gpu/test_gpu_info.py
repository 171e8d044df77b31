# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What gpu_info reads of real GPUs, against nvidia-smi on the same machine.

Needs pytest, nvidia-ml-py and this checkout; no Ansible:

    python3 -m pytest -rA -p no:cacheprovider tests/gpu/test_gpu_info.py
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

if shutil.which("nvidia-smi") is None:
    pytest.skip("there is no nvidia-smi, so no NVIDIA GPU to read", allow_module_level=True)
found = importlib.util.find_spec("pynvml")
if found is None or found.origin is None:
    pytest.skip("nvidia-ml-py is not installed here", allow_module_level=True)

LIBRARY = Path(found.origin).read_bytes()
ROOT = Path(__file__).resolve().parents[2]
MIB = 1024**2
FIELDS = (
    *("index", "uuid", "pci.bus_id", "name", "compute_cap", "memory.total", "memory.reserved"),
    *("driver_version", "ecc.mode.current", "ecc.mode.pending", "mig.mode.current"),
    *("ecc.errors.uncorrected.volatile.total", "persistence_mode", "power.limit"),
    *("power.default_limit", "pcie.link.gen.max", "pcie.link.width.max", "display_active"),
)
NONE = {"[N/A]", "N/A", "[Not Supported]", ""}


def smi(query: str, fields: tuple[str, ...]) -> list[dict[str, str | None]]:
    """Rows of nvidia-smi; None for what it does not know."""
    command = ["nvidia-smi", f"--query-{query}={','.join(fields)}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rows = csv.reader(io.StringIO(done.stdout), skipinitialspace=True)
    return [
        {key: None if value in NONE else value for key, value in zip(fields, row)} for row in rows
    ]


def read() -> dict[str, Any]:
    """The facts, read in a process without any package, as on a host."""
    program = (
        "import json, sys\n"
        "from ansible_collections.baremetal.vllm.plugins.module_utils import _nvml, _nvml_library\n"
        "print(json.dumps(_nvml.read(_nvml_library.pack(sys.stdin.buffer.read()))))\n"
    )
    with tempfile.TemporaryDirectory() as directory:
        link = Path(directory, "ansible_collections", "baremetal", "vllm")
        link.parent.mkdir(parents=True)
        link.symlink_to(ROOT)
        done = subprocess.run(
            [sys.executable, "-B", "-S", "-c", program],
            env={**os.environ, "PYTHONPATH": directory},
            input=LIBRARY,
            capture_output=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode()
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    facts = read()
    print(json.dumps(facts, indent=1))  # with -rA the report shows what was read
    return facts


@pytest.fixture(scope="module")
def pairs(facts: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, str | None]]]:
    """Each GPU beside nvidia-smi's row of it."""
    rows = smi("gpu", FIELDS)
    assert [str(gpu["index"]) for gpu in facts["gpus"]] == [row["index"] for row in rows]
    return list(zip(facts["gpus"], rows))


def test_every_gpu_answers(facts: dict[str, Any]) -> None:
    assert (facts["state"], facts["message"], facts["lost_gpus"]) == ("ok", "", [])
    assert facts["gpus"]


def test_the_driver_is_the_one_that_nvidia_smi_names(
    facts: dict[str, Any], pairs: list[Any]
) -> None:
    assert {row["driver_version"] for _gpu, row in pairs} == {facts["driver_version"]}
    assert facts["nvml_version"].endswith(facts["driver_version"])
    header = subprocess.run(["nvidia-smi"], check=True, capture_output=True, text=True).stdout
    cuda = re.search(r"CUDA Version: (\d+\.\d+)", header)
    assert cuda
    assert facts["cuda_driver_version"] == cuda.group(1)
    if facts["kernel_module_version"]:  # a sandbox may hide it
        assert facts["kernel_module_version"] == facts["driver_version"]
    assert facts["versions_match"] is (True if facts["kernel_module_version"] else None)


def test_identity(pairs: list[Any]) -> None:
    for gpu, row in pairs:
        assert gpu["uuid"] == row["uuid"]
        assert gpu["pci_bus_id"] == row["pci.bus_id"]
        assert gpu["name"] == row["name"]
        assert gpu["compute_capability"] == row["compute_cap"]
        assert gpu["architecture"]


def test_memory(pairs: list[Any]) -> None:
    for gpu, row in pairs:
        assert gpu["memory_total_bytes"] // MIB == int(row["memory.total"])
        assert gpu["memory_reserved_bytes"] // MIB == pytest.approx(
            int(row["memory.reserved"]), abs=1
        )
        parts = sum(gpu[f"memory_{part}_bytes"] for part in ("reserved", "free", "used"))
        assert parts == gpu["memory_total_bytes"]


def switch(value: str | None) -> bool | None:
    return None if value is None else value in ("Enabled", "Yes")


def test_switches(pairs: list[Any]) -> None:
    for gpu, row in pairs:
        assert gpu["ecc"]["enabled"] == switch(row["ecc.mode.current"])
        assert gpu["ecc"]["pending"] == switch(row["ecc.mode.pending"])
        errors = row["ecc.errors.uncorrected.volatile.total"]
        assert gpu["ecc"]["uncorrected_volatile"] == (None if errors is None else int(errors))
        assert gpu["mig"]["enabled"] == switch(row["mig.mode.current"])
        assert gpu["mig"]["supported"] is (row["mig.mode.current"] is not None)
        assert gpu["persistence_mode"] == switch(row["persistence_mode"])
        assert gpu["display_active"] == switch(row["display_active"])


def test_power_and_pcie(pairs: list[Any]) -> None:
    for gpu, row in pairs:
        for key, field in (
            ("power_limit_watts", "power.limit"),
            ("power_limit_default_watts", "power.default_limit"),
        ):
            assert gpu[key] == (None if row[field] is None else pytest.approx(float(row[field])))
        for key, field in (
            ("generation_max", "pcie.link.gen.max"),
            ("width_max", "pcie.link.width.max"),
        ):
            assert gpu["pcie"][key] == (None if row[field] is None else int(row[field]))
            assert gpu["pcie"][key.removesuffix("_max")] <= gpu["pcie"][key]


def test_nvlink_joins_the_same_gpus_as_the_topology(facts: dict[str, Any]) -> None:
    command = ["nvidia-smi", "nvlink", "-s"]  # fails where no GPU has links
    status = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    per_gpu = re.split(r"^GPU \d+:", status, flags=re.MULTILINE)[1:]
    active = [len(re.findall(r"Link \d+: [\d.]+ GB/s", block)) for block in per_gpu]
    if active:
        assert [gpu["nvlink"]["active_links"] for gpu in facts["gpus"]] == active
    else:
        assert not any(gpu["nvlink"]["active_links"] for gpu in facts["gpus"])
    uuids = {gpu["uuid"] for gpu in facts["gpus"]}
    for gpu in facts["gpus"]:
        assert set(gpu["nvlink"]["peers"]) <= uuids - {gpu["uuid"]}
        if gpu["nvlink"]["nvswitch"]:
            assert facts["nvswitch"] is True
            assert len(gpu["nvlink"]["peers"]) == len(uuids) - 1


def test_processes_are_those_of_nvidia_smi(facts: dict[str, Any]) -> None:
    listed = {(row["gpu_uuid"], row["pid"]) for row in smi("compute-apps", ("gpu_uuid", "pid"))}
    read = {
        (gpu["uuid"], str(process["pid"]))
        for gpu in facts["gpus"]
        for process in gpu["processes"] or ()
    }
    assert listed <= read


def test_reading_twice_says_the_same(facts: dict[str, Any]) -> None:
    """All but what moves by itself: memory in use, PCIe power saving, processes."""

    def still(each: dict[str, Any]) -> list[dict[str, Any]]:
        moving = ("memory_free_bytes", "memory_used_bytes", "pcie", "processes", "ecc", "mig")
        return [{k: v for k, v in gpu.items() if k not in moving} for gpu in each["gpus"]]

    assert still(read()) == still(facts)
