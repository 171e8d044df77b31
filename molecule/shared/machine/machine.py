#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The machine around a lab host: its PCI bus, firmware and kernel modules. Runs inside the host.

boot            shows the hardware below /sys and /proc and lets kmod load what drives it
insert MODULE   what modprobe calls to load a module; `remove` to unload it
set KEY=VALUE   changes the machine for its next boot: kernel, nouveau, secure_boot, gpus
log LINE        writes a line of the kernel into the journal, such as an Xid

Everything it shows lies below /run, so that a reboot forgets it as a machine does. Standard library
only; modules are found and told apart by the host's own kmod, from what DKMS really built.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HOME = Path("/usr/lib/lab-machine")
RUN = Path("/run/lab-machine")
GPUS = HOME / "gpus.txt"
CONFIGURATION = HOME / "machine.json"
KERNEL_RELEASE = HOME / "kernel-release"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NVML = RUN / "nvml.txt"
"""What the stand-in for NVML reads: there while the module is loaded."""

_MAJOR = 195  # of /dev/nvidia*, in Linux' list of device numbers
_NVIDIA = 0x10DE
_MELLANOX = 0x15B3
_SWITCH = 0x22A3  # an NVSwitch of the third generation, beside H100
_CONNECTX7 = 0x1021
_OLDEST = (7, 5)  # compute capability from which the open kernel modules drive a GPU
_VARIABLE = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_OWNER_KEYS = "MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23"
_ATTRIBUTES = b"\x06\0\0\0"  # before the value of a variable
_DKMS_KEY = Path("/var/lib/dkms/mok.pub")
_VERSION = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (lab@lab)\n"
    "GCC version:  gcc version 14.2.0 (Debian)\n"
)


class Refused(Exception):  # noqa: N818 - says what happened
    """The kernel does not take a module: the end of modprobe's message."""


# -- what the machine has ------------------------------------------------------------------------


def configuration() -> dict[str, Any]:
    """The machine's settings."""
    found: dict[str, Any] = json.loads(CONFIGURATION.read_text())
    return found


def sections(text: str) -> Iterator[dict[str, str]]:
    """The GPUs of a set of the stand-in for NVML, each with what it takes from the one before."""
    found: dict[str, str] = {}
    for block in re.split(r"^\[gpu\]$", text, flags=re.M)[1:]:
        found = {**found}
        for line in block.partition("[mig]")[0].splitlines():
            key, _, value = (part.strip() for part in line.partition("="))
            if value and not key.startswith("#"):
                # Several lines of one GPU tell of its links.
                found[f"nvlink {value}" if key == "nvlink" else key] = value
        yield found


def devices() -> Iterator[tuple[str, dict[str, str]]]:
    """PCI devices by address, as sysfs has them: the GPUs, then what belongs to their NVSwitches.

    Those of NVLink 5 are no devices on the bus: network cards manage them, and say so in their
    vital product data.
    """
    switches: dict[str, None] = {}
    managed = False
    for gpu in sections(GPUS.read_text()):
        identity = int(gpu["pci_device"], 16)
        node = int(gpu.get("near", "-1").split()[0])
        display = gpu.get("display_active") == "1"
        shown = _device(identity >> 16, "0x030000" if display else "0x030200", node)
        yield gpu["pci"].lower()[4:], shown
        for key in gpu:
            if link := re.fullmatch(r"nvlink \S+ switch (0{8}:\S+)", key):
                switches[link[1].lower()[4:]] = None
            managed |= key.startswith("nvlink") and "switch FFFFFFFF" in key
    for address in switches:
        yield address, _device(_SWITCH, "0x068000", 0)
    for address in ("0000:05:00.0", "0000:05:00.1") if managed else ():
        card = _device(_CONNECTX7, "0x020700", 0, _MELLANOX)
        yield address, {**card, "vpd": "\x82\x08\0ConnectX\x90\x14\0PN\x03MT7V1\x0bSMDL=SW_MNG"}


def _device(device: int, kind: str, node: int, vendor: int = _NVIDIA) -> dict[str, str]:
    of_class = f"bc{kind[2:4]}sc{kind[4:6]}i{kind[6:]}"
    alias = f"pci:v{vendor:08X}d{device:08X}sv{vendor:08X}sd00000000{of_class}"
    return {
        "vendor": f"0x{vendor:04x}",
        "device": f"0x{device:04x}",
        "class": kind,
        "subsystem_vendor": f"0x{vendor:04x}",
        "subsystem_device": "0x0000",
        "numa_node": str(node),
        "modalias": alias,
    }


# -- boot ----------------------------------------------------------------------------------------


def boot() -> None:
    """Show the hardware, then load what kmod finds for it."""
    if (RUN / "booted").exists():
        return
    settings = configuration()
    RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
    kernel = settings.get("kernel") or _installed_kernel()
    KERNEL_RELEASE.write_text(f"{kernel}\n")
    _cover(Path("/sys/module"))
    _cover(Path("/proc/driver"))
    _mount("tmpfs", "/sys/bus/pci/devices", "-t", "tmpfs")
    for address, shown in devices():
        directory = Path("/sys/bus/pci/devices", address)
        directory.mkdir()
        for name, value in shown.items():
            (directory / name).write_text(value if name == "vpd" else f"{value}\n")
    listed = Path("/proc/modules")  # not there where this machine's kernel knows no modules
    (RUN / "modules").write_text(listed.read_text() if listed.exists() else "")
    if listed.exists():
        _mount(str(RUN / "modules"), str(listed), "--bind")
    _mount(str(KERNEL_RELEASE), "/proc/sys/kernel/osrelease", "--bind")
    # The journal tells boots apart by it, and a container would keep that of this machine.
    (RUN / "boot-id").write_text(f"{uuid.uuid4()}\n")
    _mount(str(RUN / "boot-id"), str(BOOT_ID), "--bind")
    _firmware(settings.get("secure_boot"), settings.get("enrolled", False))
    (RUN / "booted").touch()
    for alias in sorted({shown["modalias"] for _, shown in devices()}):
        _load_for(alias)


def _load_for(alias: str) -> None:
    """What udev does for a device: all modules with its alias, but for the blacklisted.

    Not by modprobe, which would first load what a real nouveau depends on, into a real kernel.
    """
    blacklisted = {
        line.split()[1] for line in _modprobe("--showconfig") if line.startswith("blacklist ")
    }
    for module in _modprobe("--resolve-alias", alias):
        if module in ("nouveau", "nvidia") and module not in blacklisted:
            with contextlib.suppress(Refused):
                insert(module)


def _modprobe(*arguments: str) -> list[str]:
    done = subprocess.run(["modprobe", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def _installed_kernel() -> str:
    """The kernel that the boot loader would start."""
    return max(Path("/boot").glob("vmlinuz-*")).name.partition("-")[2]


def _cover(directory: Path) -> None:
    """Make a directory of the kernel writable here: a tmpfs with links to what is below it."""
    below = RUN / "kernel" / directory.name
    below.mkdir(parents=True)
    _mount(str(directory), str(below), "--bind")
    _mount("tmpfs", str(directory), "-t", "tmpfs", "-o", "mode=755")
    for entry in below.iterdir():
        if not entry.name.startswith(("nvidia", "nouveau")):
            (directory / entry.name).symlink_to(entry)


def _mount(what: str, where: str, *options: str) -> None:
    subprocess.run(["mount", *options, what, where], check=True)


def _firmware(secure_boot: bool | None, enrolled: bool) -> None:
    """EFI's variables: Secure Boot, and the owner's keys with that of DKMS where it was enrolled.

    Without a setting for Secure Boot the machine boots without EFI.
    """
    _mount("tmpfs", "/sys/firmware", "-t", "tmpfs", "-o", "mode=755")
    if secure_boot is None:
        return
    variables = Path("/sys/firmware/efi/efivars")
    variables.mkdir(parents=True)
    (variables / _VARIABLE).write_bytes(_ATTRIBUTES + bytes([secure_boot]))
    if enrolled and _DKMS_KEY.exists():
        (variables / _OWNER_KEYS).write_bytes(_ATTRIBUTES + _DKMS_KEY.read_bytes())


# -- modules -------------------------------------------------------------------------------------


def insert(module: str) -> None:
    """Load a module that lies on disk for this kernel. Raises Refused."""
    if _loaded(module):
        return
    if module == "nouveau":
        _insert_nouveau()
        return
    if module != "nvidia":
        insert("nvidia")
    version = _modinfo(module, "version")
    gpus = list(sections(GPUS.read_text()))
    if not version:
        directory = f"/lib/modules/{os.uname().release}"
        raise Refused(f"FATAL: Module {module} not found in directory {directory}")
    if configuration().get("secure_boot") and not _is_trusted(module):
        log(f"Loading of module with unavailable key is rejected: {module}")
        raise Refused(f"ERROR: could not insert '{module}': Key was rejected by service")
    drivable = [gpu for gpu in gpus if _capability(gpu) >= _OLDEST]
    if _loaded("nouveau") or not drivable:
        log("NVRM: No NVIDIA GPU found.")
        raise Refused(f"ERROR: could not insert '{module}': No such device")
    _show_module(module, version)
    if module == "nvidia":
        _show_driver(version, gpus)
        log(f"NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build")


def remove(module: str) -> None:
    """Unload a module."""
    shutil.rmtree(Path("/sys/module", module.replace("-", "_")), ignore_errors=True)
    _rewrite_modules()
    if module == "nvidia":
        NVML.unlink(missing_ok=True)
        shutil.rmtree("/proc/driver/nvidia", ignore_errors=True)
        for node in Path("/dev").glob("nvidia*"):
            node.unlink()
    for address, shown in devices():
        link = Path("/sys/bus/pci/devices", address, "driver")
        if shown["class"].startswith("0x03") and link.is_symlink() and link.name == module:
            link.unlink()


def _insert_nouveau() -> None:
    if not configuration().get("nouveau") or _loaded("nvidia"):
        raise Refused("ERROR: could not insert 'nouveau': No such device")
    _show_module("nouveau", "")
    _bind("nouveau")
    log("nouveau 0000:00:00.0: NVIDIA GPU")


def _is_trusted(module: str) -> bool:
    """Whether a module is signed, and the machine's owner has enrolled the key of DKMS."""
    enrolled = Path("/sys/firmware/efi/efivars", _OWNER_KEYS).exists()
    return enrolled and bool(_modinfo(module, "sig_id"))


def _capability(gpu: dict[str, str]) -> tuple[int, ...]:
    return tuple(map(int, gpu["compute_capability"].split()))


def _loaded(module: str) -> bool:
    return Path("/sys/module", module.replace("-", "_")).is_dir()


def _modinfo(module: str, field: str) -> str:
    command = ["modinfo", "--set-version", os.uname().release, "--field", field, module]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _show_module(module: str, version: str) -> None:
    directory = Path("/sys/module", module.replace("-", "_"))
    directory.mkdir()
    (directory / "initstate").write_text("live\n")
    (directory / "refcnt").write_text("0\n")
    if version:
        (directory / "version").write_text(f"{version}\n")
    _rewrite_modules()


def _rewrite_modules() -> None:
    shown = (RUN / "modules").read_text().splitlines()
    others = [line for line in shown if not line.startswith(("nvidia", "nouveau"))]
    ours = [
        f"{found.name} 16384 0 - Live 0x0000000000000000 (OE)"
        for found in sorted(Path("/sys/module").iterdir(), reverse=True)
        if found.name.startswith(("nvidia", "nouveau"))
    ]
    # In place: the file is bound over /proc/modules.
    (RUN / "modules").write_text("".join(f"{line}\n" for line in [*ours, *others]))


def _show_driver(version: str, gpus: list[dict[str, str]]) -> None:
    proc = Path("/proc/driver/nvidia")
    proc.mkdir()
    (proc / "version").write_text(_VERSION.format(version))
    _node("nvidiactl", 255)
    for gpu in gpus:
        _node(f"nvidia{gpu['minor']}", int(gpu["minor"]))
        directory = proc / "gpus" / gpu["pci"].lower()[4:]
        directory.mkdir(parents=True)
        (directory / "information").write_text(
            f"Model: \t\t {gpu['name']}\nGPU UUID: \t {gpu['uuid']}\n"
            f"Device Minor: \t {gpu['minor']}\nGPU Excluded:\t No\n"
        )
    _bind("nvidia")
    described = re.sub(
        r"^driver_version = .*$", f"driver_version = {version}", GPUS.read_text(), flags=re.M
    )
    NVML.write_text(described)


def _bind(driver: str) -> None:
    for address, shown in devices():
        if shown["class"].startswith("0x03"):
            link = Path("/sys/bus/pci/devices", address, "driver")
            link.unlink(missing_ok=True)
            link.symlink_to(f"../../../../bus/pci/drivers/{driver}")


def _node(name: str, minor: int) -> None:
    path = Path("/dev", name)
    if not path.exists():
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(_MAJOR, minor))
        path.chmod(0o666)


# -- settings and log ----------------------------------------------------------------------------


def change(assignment: str) -> None:
    """Change one setting for the next boot; the value is JSON, or text."""
    key, _, value = assignment.partition("=")
    try:
        setting = json.loads(value)
    except ValueError:
        setting = value
    settings = {**configuration(), key: setting}
    CONFIGURATION.write_text(json.dumps(settings, indent=2) + "\n")


def log(line: str) -> None:
    """Write a line into the journal as the kernel's own, in this boot."""
    remote = Path("/lib/systemd/systemd-journal-remote")
    machine_id = Path("/etc/machine-id").read_text().strip()
    journals = [Path(below, "log/journal", machine_id) for below in ("/var", "/run")]
    journal = next((found for found in journals if found.is_dir()), None)
    if not journal:  # early in the boot
        print(line, file=sys.stderr)
        return
    now = time.time_ns() // 1000
    entry = {
        "__REALTIME_TIMESTAMP": now,
        "__MONOTONIC_TIMESTAMP": time.monotonic_ns() // 1000,
        "_BOOT_ID": BOOT_ID.read_text().strip().replace("-", ""),
        "_TRANSPORT": "kernel",
        "_HOSTNAME": os.uname().nodename,
        "_MACHINE_ID": journal.name,
        "SYSLOG_FACILITY": 0,
        "SYSLOG_IDENTIFIER": "kernel",
        "PRIORITY": 3,
        "MESSAGE": line,
    }
    text = "".join(f"{key}={value}\n" for key, value in entry.items())
    subprocess.run(
        [remote, f"--output={journal}/kernel-{now}.journal", "-"],
        input=f"{text}\n",
        text=True,
        check=True,
        capture_output=True,
    )


def main() -> int:
    command, *rest = sys.argv[1:]
    actions = {"insert": insert, "remove": remove, "set": change, "log": log}
    try:
        if command == "boot":
            boot()
        else:
            for argument in rest[:1] if command in ("insert", "remove") else rest:
                actions[command](argument)
    except Refused as refused:
        print(f"modprobe: {refused}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
