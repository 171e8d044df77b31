# Copyright (c) 2026 baremetal.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What host_state tells of kernel and driver, on trees of files that stand for hosts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils import _host_driver as driver

RELEASE = "6.1.0-41-amd64"
EFI = "sys/firmware/efi/efivars"
SECURE_BOOT = f"{EFI}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23"
ATTRIBUTES = b"\x06\0\0\0"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.178.04  Release Build"
    "  (dvs-builder@U22-I3-B17-02-5)  Tue Sep 23 09:55:41 UTC 2026\n"
    "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
)
PROPRIETARY = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Wed Apr 29 2026\n"


def write(path: Path, content: str | bytes = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def program(directory: Path, name: str, body: str) -> None:
    write(directory / name, f"#!/bin/sh\n{body}\n")
    (directory / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "bin"
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return directory


# -- kernel --------------------------------------------------------------------------------------


def test_a_kernel_that_modules_can_be_built_for(tmp_path: Path) -> None:
    write(tmp_path / "proc/sys/kernel/osrelease", f"{RELEASE}\n")
    (tmp_path / f"usr/src/linux-headers-{RELEASE}").mkdir(parents=True)
    build = tmp_path / f"lib/modules/{RELEASE}/build"
    build.parent.mkdir(parents=True)
    build.symlink_to(tmp_path / f"usr/src/linux-headers-{RELEASE}")
    (tmp_path / "sys/module/nouveau").mkdir(parents=True)
    write(tmp_path / "run/reboot-required")
    assert driver.kernel(str(tmp_path)) == {
        "release": RELEASE,
        "headers": True,
        "secure_boot": None,
        "module_key_enrolled": None,
        "nouveau": True,
        "reboot_required": True,
    }


def test_a_link_to_headers_that_are_gone_is_none(tmp_path: Path) -> None:
    write(tmp_path / "proc/sys/kernel/osrelease", f"{RELEASE}\n")
    (tmp_path / f"lib/modules/{RELEASE}").mkdir(parents=True)
    (tmp_path / f"lib/modules/{RELEASE}/build").symlink_to("/usr/src/gone")
    assert driver.kernel(str(tmp_path))["headers"] is False


@pytest.mark.parametrize(
    ("variables", "secure"),
    [
        ({}, False),  # firmware without Secure Boot
        ({SECURE_BOOT: ATTRIBUTES + b"\0"}, False),
        ({SECURE_BOOT: ATTRIBUTES + b"\1"}, True),
        # `mokutil --disable-validation`: the kernel takes unsigned modules then.
        (
            {
                SECURE_BOOT: ATTRIBUTES + b"\1",
                f"{EFI}/MokSBStateRT-{SHIM}": ATTRIBUTES + b"\1",
            },
            False,
        ),
    ],
)
def test_secure_boot_is_read_from_the_firmware(
    tmp_path: Path, variables: dict[str, bytes], secure: bool
) -> None:
    (tmp_path / EFI).mkdir(parents=True)
    for name, value in variables.items():
        write(tmp_path / name, value)
    assert driver.kernel(str(tmp_path))["secure_boot"] is secure


@pytest.mark.parametrize("certificate", ["var/lib/dkms/mok.pub", "var/lib/shim-signed/mok/MOK.der"])
def test_the_key_of_dkms_is_looked_for_among_the_owners(tmp_path: Path, certificate: str) -> None:
    write(tmp_path / SECURE_BOOT, ATTRIBUTES + b"\1")
    assert driver.kernel(str(tmp_path))["module_key_enrolled"] is False
    write(tmp_path / certificate, b"\x30\x82certificate")
    write(tmp_path / f"{EFI}/MokListRT-{SHIM}", ATTRIBUTES + b"list of another \x30\x82key")
    assert driver.kernel(str(tmp_path))["module_key_enrolled"] is False
    write(tmp_path / f"{EFI}/MokListRT1-{SHIM}", ATTRIBUTES + b"head\x30\x82certificate")
    assert driver.kernel(str(tmp_path))["module_key_enrolled"] is True


# -- NVIDIA --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "module"),
    [
        ({}, None),
        (
            {"proc/driver/nvidia/version": OPEN, "sys/module/nvidia/version": "580.178.04\n"},
            {"version": "580.178.04", "open": True},
        ),
        ({"proc/driver/nvidia/version": PROPRIETARY}, {"version": "580.159.04", "open": False}),
        ({"sys/module/nvidia/version": "580.178.04\n"}, {"version": "580.178.04", "open": None}),
    ],
)
def test_the_loaded_module(tmp_path: Path, files: dict[str, str], module: object) -> None:
    for name, content in files.items():
        write(tmp_path / name, content)
    assert driver.nvidia([], str(tmp_path))["module"] == module


def test_the_library_is_what_the_link_leads_to(tmp_path: Path) -> None:
    write(tmp_path / LIBRARIES / "libnvidia-ml.so.580.178.04")
    (tmp_path / LIBRARIES / "libnvidia-ml.so.1").symlink_to("libnvidia-ml.so.580.178.04")
    assert driver.nvidia([], str(tmp_path))["library"] == "580.178.04"


def test_the_library_is_found_behind_debians_alternatives(tmp_path: Path) -> None:
    real = f"/{LIBRARIES}/nvidia/current"
    write(tmp_path / LIBRARIES / "nvidia/current/libnvidia-ml.so.550.163.01")
    (tmp_path / "etc/alternatives").mkdir(parents=True)
    links = {
        f"{LIBRARIES}/libnvidia-ml.so.1": "/etc/alternatives/nvidia--libnvidia-ml.so.1",
        "etc/alternatives/nvidia--libnvidia-ml.so.1": f"{real}/libnvidia-ml.so.1",
        f"{LIBRARIES}/nvidia/current/libnvidia-ml.so.1": "libnvidia-ml.so.550.163.01",
    }
    for link, target in links.items():
        (tmp_path / link).symlink_to(target)
    assert driver.nvidia([], str(tmp_path))["library"] == "550.163.01"


def test_a_link_in_a_circle_or_to_nowhere_is_no_library(tmp_path: Path) -> None:
    (tmp_path / LIBRARIES).mkdir(parents=True)
    link = tmp_path / LIBRARIES / "libnvidia-ml.so.1"
    link.symlink_to("libnvidia-ml.so.1")
    assert driver.nvidia([], str(tmp_path))["library"] is None
    link.unlink()
    link.symlink_to("libnvidia-ml.so.580.178.04")
    assert driver.nvidia([], str(tmp_path))["library"] is None


def test_what_dkms_installed_counts_before_what_it_built(tmp_path: Path) -> None:
    tree = tmp_path / "var/lib/dkms/nvidia"
    for version, release in (
        ("580.178.04", RELEASE),
        ("580.126.09", RELEASE),
        ("580.126.09", "6.1.0-39-amd64"),
    ):
        write(tree / version / release / "x86_64/module/nvidia.ko.xz")
    (tree / "580.178.04/build").mkdir()
    (tree / f"kernel-{RELEASE}-x86_64").symlink_to(f"580.178.04/{RELEASE}/x86_64")
    assert driver.nvidia([], str(tmp_path))["built"] == {
        RELEASE: "580.178.04",
        "6.1.0-39-amd64": "580.126.09",
    }


def test_debians_own_name_of_the_module_is_known(tmp_path: Path) -> None:
    module = f"nvidia-current-open/550.163.01/{RELEASE}/x86_64/module/nvidia-current-open.ko.xz"
    write(tmp_path / "var/lib/dkms" / module)
    assert driver.nvidia([], str(tmp_path))["built"] == {RELEASE: "550.163.01"}


@pytest.mark.parametrize(
    "place",
    [
        "kernel/nvidia-580-open/nvidia.ko",
        "kernel/drivers/video/nvidia.ko",
        "updates/dkms/nvidia.ko.zst",
    ],
)
def test_other_modules_are_asked_for_their_version(
    tmp_path: Path, programs: Path, place: str
) -> None:
    program(programs, "modinfo", '[ "$1 $2" = "-F version" ] && echo 580.126.09')
    write(tmp_path / "lib/modules" / RELEASE / place)
    assert driver.nvidia([], str(tmp_path))["built"] == {RELEASE: "580.126.09"}


def test_managers_of_nvlink_5_switches_are_told_by_their_product_data(tmp_path: Path) -> None:
    cards = {
        "0000:05:00.0": ("0x15b3", "0x020700", b"x\0SMDL=SW_MNG\0"),
        "0000:06:00.0": ("0x15b3", "0x020700", b"an ordinary card"),
        "0000:07:00.0": ("0x10de", "0x030200", b"SW_MNG"),
    }
    for address, (vendor, kind, data) in cards.items():
        directory = tmp_path / "sys/bus/pci/devices" / address
        write(directory / "vendor", vendor)
        write(directory / "class", kind)
        write(directory / "vpd", data)
    gpu = {"address": "0000:07:00.0", "device": "2901", "class": "030200"}
    assert driver.nvidia([gpu], str(tmp_path))["switch_managers"] == ["0000:05:00.0"]
    assert driver.nvidia([], str(tmp_path))["switch_managers"] == []


def test_users_of_gpus_are_told_without_the_parts_of_the_driver(tmp_path: Path) -> None:
    processes = {
        "4711": ("python3", "/dev/nvidia0"),
        "812": ("nvidia-persiste", "/dev/nvidiactl"),
        "900": ("nginx", "/dev/null"),
        "12": ("VLLM::Worker", "/dev/nvidia-uvm"),
    }
    for pid, (name, device) in processes.items():
        write(tmp_path / "proc" / pid / "comm", f"{name}\n")
        (tmp_path / "proc" / pid / "fd").mkdir()
        (tmp_path / "proc" / pid / "fd/3").symlink_to(device)
    write(tmp_path / "proc/uptime", "1 1")
    (tmp_path / "proc/13").mkdir()  # it has gone meanwhile
    assert driver.gpu_users(str(tmp_path)) == [
        {"pid": 12, "process": "VLLM::Worker"},
        {"pid": 4711, "process": "python3"},
    ]
    assert driver.gpu_users(str(tmp_path / "missing")) == []


# -- log and time --------------------------------------------------------------------------------

XID = "NVRM: Xid (PCI:0000:5d:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


def test_the_log_of_this_boot_is_searched_for_gpus(programs: Path) -> None:
    journal = (
        f"2026-11-21T04:57:31+0000 gpu-1 kernel: {XID}\n"
        "2026-11-21T04:57:32+0000 gpu-1 kernel: usb 1-1: new device\n"
        "2026-11-21T04:57:33+0000 gpu-1 kernel: nouveau 0000:01:00.0: unknown chipset\n"
    )
    program(programs, "journalctl", f"cat <<'END'\n{journal}END")
    program(programs, "dmesg", "echo 'NVRM: not asked'")
    assert driver.kernel_log() == [
        {"time": "2026-11-21T04:57:31+0000", "line": XID},
        {
            "time": "2026-11-21T04:57:33+0000",
            "line": "nouveau 0000:01:00.0: unknown chipset",
        },
    ]


def test_dmesg_is_asked_where_there_is_no_journal(programs: Path) -> None:
    program(programs, "journalctl", "echo 'No journal files were found.' >&2; exit 1")
    program(programs, "dmesg", f"echo \"[    1.5] {XID}\"; echo '[    2.0] other'")
    assert driver.kernel_log() == [{"time": None, "line": f"[    1.5] {XID}"}]


def test_the_last_lines_of_a_long_log_are_told(programs: Path) -> None:
    program(programs, "journalctl", 'for i in $(seq 300); do echo "kernel: NVRM: $i"; done')
    lines = driver.kernel_log()
    assert (len(lines), lines[-1]["line"]) == (200, "kernel: NVRM: 300")


def test_what_follows_an_xid_does_not_push_it_out(programs: Path) -> None:
    chatter = 'for i in $(seq 300); do echo "kernel: NVRM: $i"; done'
    program(programs, "journalctl", f"echo 'kernel: {XID.replace(chr(39), '')}'; {chatter}")
    lines = [entry["line"] for entry in driver.kernel_log()]
    assert "Xid (PCI:0000:5d:00): 79" in lines[0]
    assert (len(lines), lines[1]) == (201, "kernel: NVRM: 101")


def test_xids_are_capped_too_and_stay_in_their_order(programs: Path) -> None:
    both = 'echo "kernel: NVRM: Xid (PCI:0000:5d:00): $i"; echo "kernel: NVRM: after $i"'
    program(programs, "journalctl", f"for i in $(seq 300); do {both}; done")
    lines = [entry["line"] for entry in driver.kernel_log()]
    assert len(lines) == 400
    assert lines[:2] == ["kernel: NVRM: Xid (PCI:0000:5d:00): 101", "kernel: NVRM: after 101"]
    assert lines[-1] == "kernel: NVRM: after 300"


@pytest.mark.parametrize(("answer", "state"), [("yes", True), ("no", False), ("", None)])
def test_the_clock(programs: Path, answer: str, state: bool | None) -> None:
    program(programs, "timedatectl", f"echo {answer}")
    assert driver.clock() == {"synchronized": state}
