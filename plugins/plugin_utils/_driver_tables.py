# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Names, keys and limits of NVIDIA's driver by distribution and branch, with their sources."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

REPOSITORY = "https://developer.download.nvidia.com/compute/cuda/repos"
# Directory of the repository and key in it. Debian 13 has a key of its own, as its apt refuses the
# SHA-1 signature that binds the older one. Sources: NVIDIA/cuda-repo-management issues 30 and 39,
# NVIDIA/apt-packaging-cuda-keyring README.
_OLD_KEY = ("3bf863cc.pub", "EB693B3035CD5710E231E123A4B469963BF863CC")
_NEW_KEY = ("8793F200.pub", "02182E60104FCDC26EAE1B8597A5D4CB8793F200")
# The key before both, withdrawn in April 2022 and still trusted where nobody removed it. Source:
# NVIDIA's developer blog, "Updating the CUDA Linux GPG Repository Key".
WITHDRAWN_KEY = "AE09FE4BBD223A84B2CCFCE3F60F4B3D7FA2AF80"
REPOSITORIES = {
    "Debian 12": ("debian12", *_OLD_KEY),
    "Debian 13": ("debian13", *_NEW_KEY),
    "Ubuntu 22.04": ("ubuntu2204", *_OLD_KEY),
    "Ubuntu 24.04": ("ubuntu2404", *_OLD_KEY),
}
# The architecture of Ansible's facts: dpkg's name, the repository's name.
ARCHITECTURES = {"x86_64": ("amd64", "x86_64"), "aarch64": ("arm64", "sbsa")}

# The oldest branch that vLLM's images (CUDA 13) run on, and the first releases with all fixes.
# Source: NVIDIA's security bulletin 5861 of September 2026.
OLDEST_BRANCH = 580
SECURE_VERSIONS = {580: "580.178.04", 595: "595.91.07", 610: "610.57.04", 615: "615.71.09"}

# Turing and newer work with the open modules, and only they do. In pci.ids of August 2026 no
# display function is an exception: Volta ends at 1df6, Turing begins at 1e02. Source also: README
# of NVIDIA/open-gpu-kernel-modules, "Compatible GPUs".
FIRST_OPEN_DEVICE = 0x1E00
# GPUs of HGX baseboards whose NVLink 5 switches are no devices on the bus. Source: pci.ids.
NVLINK5_DEVICES = ("2901", "2909", "3182")

# What the names of a driver's packages look like; some others look so too, their versions do not.
GLOBS = (
    "nvidia-*",
    "libnvidia-*",
    "libcuda1",
    "libcudadebugger1",
    "libxnvctrl*",
    "firmware-nvidia-gsp*",
    "cuda-drivers*",
    "linux-modules-nvidia-*",
    "xserver-xorg-video-nvidia*",
)
DRIVER_VERSION = re.compile(r"\d{3}\.\d{2,3}(\.\d{2,3})?")
PREBUILT = "linux-modules-nvidia-"
# What PREBUILT needs in its own release, so that it must follow the kernel too.
PREBUILT_NEEDS = ("nvidia-kernel-common-", "nvidia-firmware-")
PINNING = "nvidia-driver-pinning"  # NVIDIA's own way to pin; two ways would quarrel

# Packages of Debian that the vendor's repository does not have, and the proprietary module.
# Source: package index of Debian 13, November 2026; `nvidia-driver-cuda` conflicts with nvidia-smi.
_DEBIAN_ONLY = re.compile(
    r"nvidia-open-kernel-(dkms|source|support)|nvidia-smi|nvidia-driver-bin|nvidia-driver-full"
    r"|(lib)?nvidia-(tesla|legacy-\d+xx)-.*"
)
_VENDOR_ONLY_ON_DEBIAN = re.compile(
    r"nvidia-kernel-open-dkms|nvidia-driver-cuda|nvidia-open|cuda-drivers.*|nvidia-fabricmanager"
)
_PROPRIETARY = re.compile(
    r"nvidia-kernel-(dkms|source)|cuda-drivers.*"
    r"|nvidia-(dkms|kernel-source|headless|headless-no-dkms|driver)(-\d{3})?(-server)?"
)
# Debian's metapackages take either module: it is the module's own package that tells.
_PROPRIETARY_ON_DEBIAN = re.compile(r"nvidia-kernel-(dkms|source)")
# Programs for a screen, which follow no driver: Ubuntu's have versions like those of NVIDIA's.
_FOR_SCREENS = ("nvidia-settings", "libxnvctrl")
_BRANCHED_ON_DEBIAN = ("nvidia-fabricmanager-", "nvidia-imex-", "libnvidia-nscq-", "libnvsdm-")
_BRANCH = re.compile(r".*-(\d{3})(-server)?(-open)?(-\d{3}\..*)?")
_BRANCH_OF_PREBUILT = re.compile(rf"{PREBUILT}(\d{{3}})-")


@dataclass(frozen=True)
class Packages:
    """The packages of one way to have the driver.

    :param names: all of the driver's version, without which nothing works.
    :param optional: wanted where the repository has them.
    :param fabric: the fabric manager, of the driver's version too; empty where there is none.
    :param prebuilt: prefix of packages with signed modules, one per kernel; empty for DKMS.
    """

    names: Sequence[str]
    optional: Sequence[str] = ()
    fabric: Sequence[str] = ()
    prebuilt: str = ""


# With switches of NVLink 5 the fabric manager needs the subnet manager, which has versions of its
# own, and these modules. Source: NVIDIA/gpu-driver-container, install.sh and nvidia-driver.
NVLINK5_PACKAGES = ("nvlsm", "infiniband-diags")
NVLINK5_MODULES = ("mlx5_core", "ib_umad")


def vendor_packages(system: str, branch: int) -> Packages:
    """Return NVIDIA's compute-only set: no X, no desktop.

    Source: NVIDIA Driver Installation Guide, Debian and Ubuntu, "Compute-only System"; names
    without a branch from 590 on: its "Recent Updates". From 580 on the fabric manager has no branch
    in its name: NVIDIA/gpu-driver-container, ubuntu24.04/install.sh.
    """
    tools = ("nvidia-persistenced", "nvidia-modprobe")
    fabric = ("nvidia-fabricmanager",)
    if system.startswith("Debian"):
        return Packages(("nvidia-driver-cuda", "nvidia-kernel-open-dkms", *tools), (), fabric)
    if branch < 590:
        return Packages(
            (f"libnvidia-compute-{branch}", f"nvidia-dkms-{branch}-open", *tools),
            (f"nvidia-utils-{branch}",),  # not in every snapshot of the repository
            fabric,
        )
    return Packages(("libnvidia-compute", "nvidia-dkms-open", *tools), ("nvidia-utils",), fabric)


def distribution_packages(system: str, branch: int) -> Packages:
    """Return the distribution's own set. Source: the package indexes of both archives.

    Ubuntu's modules are signed by Canonical and built for each of its kernels.
    """
    if system.startswith("Debian"):
        names = ("nvidia-open-kernel-dkms", "nvidia-smi", "libcuda1", "nvidia-persistenced")
        return Packages(names, ("nvidia-modprobe",))
    return Packages(
        (f"nvidia-headless-no-dkms-{branch}-server-open", f"nvidia-utils-{branch}-server"),
        (),
        (f"nvidia-fabricmanager-{branch}",),
        f"{PREBUILT}{branch}-server-open-",
    )


def is_driver(name: str, version: str | None) -> bool:
    """Tell whether a package that matches GLOBS is of the driver."""
    if name.startswith(PREBUILT):
        return True
    return bool(version and DRIVER_VERSION.match(version)) and not name.startswith(
        ("nvidia-container", "libnvidia-container")
    )


def foreign(system: str, source: str, installed: Mapping[str, Any]) -> dict[str, str]:
    """Return installed packages that another source brought, each with the source's name.

    Names that both sources have are left out: apt takes them from one version to the other.

    :param source: ``nvidia`` or ``distro``.
    :param installed: the driver's packages and their versions.
    """
    found: dict[str, str] = {}
    proprietary = _PROPRIETARY_ON_DEBIAN if system.startswith("Debian") else _PROPRIETARY
    for name, version in installed.items():
        origin = _origin(system, name, str(version or ""))
        if source == "nvidia" and proprietary.fullmatch(name):
            found[name] = "proprietary"
        elif origin and origin != source:
            found[name] = origin
    return found


def _origin(system: str, name: str, version: str) -> str:
    """Return the source of a package, empty where its name and version do not tell.

    Ubuntu's own versions end in `-0ubuntu0.24.04.1` and the like, NVIDIA's in `-1ubuntu1`.
    """
    if name.startswith(_FOR_SCREENS):
        return ""
    if system.startswith("Ubuntu"):
        if "ubuntu0." in version or name.startswith(PREBUILT) or "-server" in name:
            return "distro"
        return "nvidia" if re.search(r"-\dubuntu\d", version) else ""
    if _DEBIAN_ONLY.fullmatch(name):
        return "distro"
    return "nvidia" if _VENDOR_ONLY_ON_DEBIAN.fullmatch(name) else ""


def of_other_branch(system: str, branch: int, installed: Mapping[str, Any]) -> list[str]:
    """Return packages with another branch in their name, which apt would keep beside ours.

    On Debian only the fabric manager and its companions had one, until 575.
    """
    suspects = [
        name
        for name in installed
        if system.startswith("Ubuntu") or name.startswith(_BRANCHED_ON_DEBIAN)
    ]
    return [name for name in suspects if branch_of(name) not in (0, branch)]


def branch_of(name: str) -> int:
    """Return the branch in a package's name, 0 where it has none."""
    match = _BRANCH.fullmatch(name) or _BRANCH_OF_PREBUILT.match(name)
    return int(match[1]) if match else 0
