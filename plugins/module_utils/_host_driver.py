# Copyright (c) 2026 baremetal.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Read the state of the kernel and of NVIDIA's driver. Changes nothing.

Every function stands alone and works on a host that lacks what it asks about. `root` is the
directory below which /proc, /sys, /etc, /lib, /run, /usr and /var are looked for.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import typing as t

from ansible_collections.baremetal.vllm.plugins.module_utils._host_state import (
    JSONObject,
    below,
    output_of,
    text_of,
)

# Names of the UEFI specification (section 3.3) and of shim's, with their GUIDs. The value comes
# after four bytes of attributes (Documentation/filesystems/efivarfs.rst of the kernel).
_EFI_VARIABLES = "/sys/firmware/efi/efivars"
_SECURE_BOOT = f"{_EFI_VARIABLES}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23"
_SHIM_DISABLED = f"{_EFI_VARIABLES}/MokSBStateRT-{_SHIM}"
_OWNER_KEYS = f"{_EFI_VARIABLES}/MokListRT*-{_SHIM}"
# Where DKMS keeps the certificate of its key: Debian's dkms, and Ubuntu's shim-signed.
_DKMS_CERTIFICATES = ("/var/lib/dkms/mok.pub", "/var/lib/shim-signed/mok/MOK.der")

_LIBRARY = "libnvidia-ml.so.1"
_LIBRARY_DIRECTORIES = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu/nvidia/current",
    "/usr/lib/aarch64-linux-gnu/nvidia/current",
    "/usr/local/lib",
    "/usr/lib64",
    "/usr/lib",
)
_LINKS = 40  # as many as the kernel follows, path_resolution(7)
_VERSION = re.compile(r"\d{3}\.\d+(?:\.\d+)?")
# Where modules lie that DKMS did not build: Ubuntu's signed ones, NVIDIA's own installer, others.
_MODULE_FILES = (
    "kernel/nvidia-*/nvidia.ko*",
    "kernel/drivers/video/nvidia.ko*",
    "kernel/drivers/char/drm/nvidia.ko*",
    "updates/dkms/nvidia*.ko*",
    "updates/nvidia.ko*",
    "extra/nvidia.ko*",
    "extra/*/nvidia.ko*",
)
_MELLANOX = "0x15b3"
_INFINIBAND = "0x0207"
_SWITCH_MANAGER = b"SW_MNG"
# They hold the GPUs open as long as they run and go with the driver.
_PARTS_OF_DRIVER = ("nvidia-persiste", "nv-fabricmanage", "nvlsm")  # the kernel cuts at 15
_LOG_WORDS = re.compile(r"NVRM|nvidia|nouveau|\bXid\b")
_XID = re.compile(r"\bXid\b")
_LOG_LINES = 200
_LOG_TIME = re.compile(r"\d{4}-\d\d-\d\dT\S+")


# -- kernel --------------------------------------------------------------------------------------


def kernel(root: str = "/") -> JSONObject:
    """Return what building and loading a kernel module depends on."""
    release = text_of(below(root, "/proc/sys/kernel/osrelease")).strip() or os.uname().release
    secure_boot = _secure_boot(root)
    return {
        "release": release,
        "headers": os.path.isdir(below(root, f"/lib/modules/{release}/build")),
        "secure_boot": secure_boot,
        "module_key_enrolled": _module_key_enrolled(root) if secure_boot else None,
        "nouveau": os.path.isdir(below(root, "/sys/module/nouveau")),
        "reboot_required": any(
            os.path.exists(below(root, f"{directory}/reboot-required"))
            for directory in ("/run", "/var/run")
        ),
    }


def _secure_boot(root: str) -> bool | None:
    """Tell whether modules must be signed, None where the host was not booted by EFI.

    A user can switch shim's checks off; the kernel counts that as Secure Boot off.
    """
    if not os.path.isdir(below(root, "/sys/firmware/efi")):
        return None
    enabled = _bytes(below(root, _SECURE_BOOT))[4:] == b"\1"
    return enabled and _bytes(below(root, _SHIM_DISABLED))[4:] != b"\1"


def _module_key_enrolled(root: str) -> bool:
    """Tell whether the key with which DKMS signs is among the machine owner's."""
    enrolled = b"".join(_bytes(path) for path in sorted(glob.glob(below(root, _OWNER_KEYS))))
    certificates = [_bytes(below(root, path)) for path in _DKMS_CERTIFICATES]
    return any(certificate and certificate in enrolled for certificate in certificates)


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


# -- NVIDIA --------------------------------------------------------------------------------------


def nvidia(devices: t.Sequence[JSONObject], root: str = "/") -> JSONObject:
    """Return the driver that runs, and what of it lies on the disk.

    :param devices: NVIDIA's devices, as `_host_state.nvidia_devices` has them.
    """
    return {
        "devices": list(devices),
        "switch_managers": _switch_managers(root) if devices else [],
        "module": _loaded_module(root),
        "library": _library(root),
        "built": _built(root),
    }


def _switch_managers(root: str) -> list[str]:
    """Return the PCI addresses of ConnectX bridges through which NVLink 5 switches are managed.

    From HGX B200 on the switches are no devices of their own on the bus. NVIDIA's own start script
    of the fabric manager looks for the same word in the product data.
    """
    found = []
    for path in sorted(glob.glob(below(root, "/sys/bus/pci/devices/*"))):
        if (
            text_of(f"{path}/vendor").strip() == _MELLANOX
            and text_of(f"{path}/class").startswith(_INFINIBAND)
            and _SWITCH_MANAGER in _bytes(f"{path}/vpd")
        ):
            found.append(os.path.basename(path))
    return found


def _loaded_module(root: str) -> JSONObject | None:
    banner = text_of(below(root, "/proc/driver/nvidia/version"))
    version = text_of(below(root, "/sys/module/nvidia/version")).strip()
    if not version:
        match = _VERSION.search(banner)
        version = match.group(0) if match else ""
    if not version:
        return None
    return {"version": version, "open": "Open Kernel Module" in banner if banner else None}


def _library(root: str) -> str | None:
    """Return the version in the name of the library that programs load to speak to the driver."""
    for directory in _LIBRARY_DIRECTORIES:
        path = below(root, f"{directory}/{_LIBRARY}")
        for _link in range(_LINKS):
            if not os.path.islink(path):
                break
            target = os.readlink(path)
            if os.path.isabs(target):
                path = below(root, target)
            else:
                path = os.path.normpath(os.path.join(os.path.dirname(path), target))
        match = _VERSION.search(os.path.basename(path).replace(_LIBRARY[:-2], ""))
        if match and os.path.exists(path):
            return match.group(0)
    return None


def _built(root: str) -> dict[str, str]:
    """Return the version of the module on the disk for every kernel that has one.

    DKMS links `kernel-<release>-<machine>` to the version that it installed for that kernel; one
    that it has only built is told where none is installed.
    """
    found: dict[str, str] = {}
    trees = below(root, "/var/lib/dkms/nvidia*")
    for link in sorted(glob.glob(f"{trees}/kernel-*")):
        with contextlib.suppress(OSError, ValueError):
            version, release, _machine = os.readlink(link).split("/")[-3:]
            if _has_module(os.path.join(os.path.dirname(link), version, release, "*")):
                found[release] = version
    for module in sorted(glob.glob(f"{trees}/*/*/*/module/nvidia*.ko*")):
        version, release = module.split("/")[-5:-3]
        if _VERSION.fullmatch(version):
            found.setdefault(release, version)
    for directory in sorted(glob.glob(below(root, "/lib/modules/*"))):
        release = os.path.basename(directory)
        if release in found:
            continue
        files = [path for pattern in _MODULE_FILES for path in glob.glob(f"{directory}/{pattern}")]
        version = (output_of(["modinfo", "-F", "version", files[0]]) or "").strip() if files else ""
        if version:
            found[release] = version
    return found


def _has_module(directory: str) -> bool:
    return bool(glob.glob(f"{directory}/module/nvidia*.ko*"))


def gpu_users(root: str = "/") -> list[JSONObject]:
    """Return the processes that hold a GPU open, in containers too, but for the driver's own."""
    users = []
    processes = below(root, "/proc")
    try:
        pids = sorted(int(name) for name in os.listdir(processes) if name.isdigit())
    except OSError:
        return []
    for pid in pids:
        with contextlib.suppress(OSError):  # the process has gone, or is not ours
            if any(_is_gpu(entry.path) for entry in os.scandir(f"{processes}/{pid}/fd")):
                name = text_of(f"{processes}/{pid}/comm").strip()
                if not name.startswith(_PARTS_OF_DRIVER):
                    users.append({"pid": pid, "process": name})
    return users


def _is_gpu(descriptor: str) -> bool:
    try:
        return os.readlink(descriptor).startswith("/dev/nvidia")
    except OSError:
        return False


# -- log and time --------------------------------------------------------------------------------


def kernel_log() -> list[JSONObject]:
    """Return the kernel's last lines of this boot that tell of GPUs, oldest first.

    At most 200 that name an Xid and 200 others: what follows an Xid must not push it out.
    """
    journal = output_of(["journalctl", "-k", "-b", "-o", "short-iso", "--no-pager", "-q"]) or ""
    lines = [_journal_line(line) for line in journal.splitlines()]
    if not lines:
        ring = output_of(["dmesg"]) or ""
        lines = [{"time": None, "line": line} for line in ring.splitlines()]
    told = [entry for entry in lines if _LOG_WORDS.search(entry["line"])]
    xids = [index for index, entry in enumerate(told) if _XID.search(entry["line"])]
    others = sorted(set(range(len(told))) - set(xids))
    return [told[index] for index in sorted(xids[-_LOG_LINES:] + others[-_LOG_LINES:])]


def _journal_line(text: str) -> JSONObject:
    """Split a line of journalctl: time, host, `kernel:` and what the kernel said."""
    time, _space, rest = text.partition(" ")
    if not _LOG_TIME.fullmatch(time):
        return {"time": None, "line": text}
    return {"time": time, "line": rest.partition("kernel: ")[2] or rest}


def clock() -> JSONObject:
    """Tell whether the clock is kept right by the network, None where nobody knows."""
    answer = output_of(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
    return {"synchronized": {"yes": True, "no": False}.get((answer or "").strip())}
