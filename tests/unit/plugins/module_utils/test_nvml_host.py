# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the kernel's files say of GPUs, in the formats that have been seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils import _nvml_host as host

OUTER, INNER = "0a" * 32, "1b" * 32


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("line", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.274.02  Thu Sep 11 10:23:54 2025",
            "535.274.02",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build"
            "  (dvs-builder@U22)",
            "580.159.04",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  610.43  Release", "610.43"),
    ],
)
def test_the_version_of_each_kind_of_kernel_module(tmp_path: Path, line: str, version: str) -> None:
    write(tmp_path / "proc/driver/nvidia/version", f"{line}\nGCC version:  gcc version 12.3.0\n")
    assert host.kernel_module_version(str(tmp_path)) == version


def test_the_version_where_a_container_hides_proc(tmp_path: Path) -> None:
    write(tmp_path / "sys/module/nvidia/version", "580.159.04\n")
    assert host.kernel_module_version(str(tmp_path)) == "580.159.04"


def test_a_host_without_the_module_has_no_version(tmp_path: Path) -> None:
    assert host.kernel_module_version(str(tmp_path)) is None


def test_display_controllers_of_nvidia_with_their_drivers(tmp_path: Path) -> None:
    devices = tmp_path / "sys/bus/pci/devices"
    (tmp_path / "drivers/nouveau").mkdir(parents=True)
    for address, vendor, kind in (
        ("0000:01:00.0", "0x10de", "0x030000"),
        ("0000:01:00.1", "0x10de", "0x040300"),  # its sound
        ("0000:05:00.0", "0x10de", "0x068000"),  # an NVSwitch
        ("0000:02:00.0", "0x1002", "0x030000"),
        ("10000:ca:00.0", "0x10de", "0x030200"),
    ):
        write(devices / address / "vendor", f"{vendor}\n")
        write(devices / address / "class", f"{kind}\n")
    (devices / "0000:01:00.0/driver").symlink_to(tmp_path / "drivers/nouveau")
    assert host.pci_devices(str(tmp_path)) == [
        ("00000000:01:00.0", "nouveau"),
        ("00010000:CA:00.0", None),
    ]


def test_gpus_of_the_driver_that_this_host_may_use(tmp_path: Path) -> None:
    for minor, excluded in enumerate(("No", "Yes", "No")):
        write(
            tmp_path / f"proc/driver/nvidia/gpus/0000:0{minor}:00.0/information",
            f"Model: \t\t NVIDIA L4\nDevice Minor: \t {minor}\nGPU Excluded:\t {excluded}\n",
        )
    for minor in (0, 1):  # the third was not given to this container
        write(tmp_path / f"dev/nvidia{minor}", "")
    assert host.driver_gpus(str(tmp_path)) == ["00000000:00:00.0"]


@pytest.mark.parametrize(("text", "node"), [("1\n", 1), ("0\n", 0), ("-1\n", None)])
def test_the_numa_node_of_a_device(tmp_path: Path, text: str, node: int | None) -> None:
    write(tmp_path / "sys/bus/pci/devices/0000:ca:00.0/numa_node", text)
    assert host.numa_node("00000000:CA:00.0", str(tmp_path)) == node
    assert host.numa_node("00000000:CB:00.0", str(tmp_path)) is None


@pytest.mark.parametrize(
    ("cgroup", "container"),
    [
        (f"0::/system.slice/docker-{INNER}.scope\n", INNER),
        (f"0::/system.slice/docker-{INNER}.scope/init.scope\n", INNER),
        (f"12:devices:/docker/{INNER}\n11:cpu:/docker/{INNER}\n0::/\n", INNER),
        (f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{INNER}.scope\n", INNER),
        (f"0::/machine.slice/libpod-{INNER}.scope/container\n", INNER),
        (f"0::/docker/{OUTER}/docker/{INNER}\n", OUTER),
        ("0::/system.slice/vllm@gpt-oss-20b.service\n", None),
        (f"0::/user.slice/{INNER}ff\n", None),
        ("", None),
    ],
)
def test_the_container_of_a_process(tmp_path: Path, cgroup: str, container: str | None) -> None:
    write(tmp_path / "proc/7/cgroup", cgroup)
    assert host.container_id(7, str(tmp_path)) == container


def test_a_host_that_is_a_container_passes_over_its_own(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", f"0::/docker/{OUTER}/init.scope\n")
    write(tmp_path / "proc/7/cgroup", f"0::/docker/{OUTER}/docker/{INNER}\n")
    write(tmp_path / "proc/8/cgroup", f"0::/docker/{OUTER}/system.slice/sshd.service\n")
    assert host.container_id(7, str(tmp_path)) == INNER
    assert host.container_id(8, str(tmp_path)) is None
