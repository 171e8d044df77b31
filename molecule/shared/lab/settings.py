# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Names, tables and limits of the lab: everything that is data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LABEL = "vllm.lab"
"""On every container, image, volume and network of the lab; its value is the lab's name."""
SHARED = "shared"
"""Value of the label on what all labs of this machine share."""

NETWORK = "vllm-lab"
IMAGES = "vllm-lab"
MODELS_VOLUME = "vllm-lab-models"
MODELS_DIRECTORY = "/srv/models"

REGISTRY = "vllm-lab-registry"
REGISTRY_SUITE = "bookworm"
REGISTRY_ADDRESS = "127.0.0.1:5055"
REGISTRY_ALIAS = "registry"

HUB = "vllm-lab-hub"
HUB_SUITE = "bookworm"
HUB_ALIAS = "hub"
HUB_PORT = 8080

VENDOR = "vllm-lab-vendor"
VENDOR_ALIAS = "vendor"

CACHE = Path(__file__).resolve().parents[3] / ".cache" / "lab"
HUB_FILE = CACHE / "hub.json"
"""Where inventories read the hub's endpoint and the commit of every model."""

NETWORK_FILE = CACHE / "network.json"
"""Where inventories read the address that hosts may share."""

VENDOR_CACHE = CACHE.parent / "vendor"
VENDOR_FILE = CACHE / "vendor.json"
"""Where inventories read the vendors' repositories: address, fingerprints, versions."""

DISK_GB = 40
"""Free disk wanted before anything is built, and what a lab may occupy (10^9 bytes)."""
DISK_GB_WHEN_BUILT = 10
"""Free disk wanted once the images lie there: room for the hosts' own layers (10^9 bytes)."""
MEMORY_GIB_WANTED = 12
MEMORY_GIB = 16
"""What a lab with two engines serving may occupy."""


@dataclass(frozen=True)
class Host:
    """One machine of the lab; `gpus` is the set of GPUs that its stand-in for hardware shows."""

    suite: str
    gpu: bool
    gpus: str = ""


HOSTS = {
    "gpu1": Host(suite="bookworm", gpu=True),
    "gpu2": Host(suite="trixie", gpu=True),
    "edge1": Host(suite="bookworm", gpu=False),
    "front1": Host(suite="bookworm", gpu=False),
    "front2": Host(suite="trixie", gpu=False),
    "l4": Host(suite="bookworm-machine", gpu=True, gpus="l4"),
    "h100": Host(suite="trixie-machine", gpu=True, gpus="h100-8"),
    "b200": Host(suite="trixie-machine", gpu=True, gpus="b200"),
    "spare": Host(suite="trixie-machine", gpu=True, gpus="l4"),
    **{f"node{number:02}": Host(suite="trixie", gpu=True) for number in range(1, 11)},
}
DEMO = ("gpu1", "gpu2", "edge1")
"""The others come where they are asked for: two edges that share an address, four with hardware to
bring up, and a fleet of ten."""


@dataclass(frozen=True)
class Suite:
    """A Debian release: `prefetched` packages lie in the image's apt cache, not installed."""

    prefetched: tuple[str, ...]
    installed: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()


_EDGE = ("nginx", "libnginx-mod-http-js", "keepalived", "openssl")
SUITES = {
    "bookworm": Suite(prefetched=("docker.io", "docker-registry", "needrestart", *_EDGE)),
    "trixie": Suite(prefetched=("docker.io", "docker-cli", "needrestart", *_EDGE)),
}

# The kernel is there, and what DKMS needs lies on many machines; the headers are a role's to bring.
_TOOLS = ("dpkg-dev", "gcc", "linux-image-amd64", "make", "patch", "systemd-journal-remote")
_FOR_DRIVERS = ("dkms", "infiniband-diags", "libibumad3", "linux-headers-amd64")
_CAREFUL = ("needrestart", "unattended-upgrades")
# An initramfs that boots nothing is made in a second, with all modules in a minute.
_SMALL_INITRAMFS = (
    '--essential-hook=mkdir -p "$1/etc/initramfs-tools/conf.d"',
    "--essential-hook=printf 'MODULES=list\\nCOMPRESS=gzip\\n'"
    ' >"$1/etc/initramfs-tools/conf.d/lab"',
)
MACHINES = {
    "bookworm-machine": Suite(
        prefetched=("docker.io", "nginx", "iptables", *_FOR_DRIVERS, *_CAREFUL),
        installed=_TOOLS,
        hooks=_SMALL_INITRAMFS,
    ),
    "trixie-machine": Suite(
        prefetched=("docker.io", "docker-cli", "nginx", "iptables", *_FOR_DRIVERS, *_CAREFUL),
        installed=_TOOLS,
        hooks=_SMALL_INITRAMFS,
    ),
}
"""Releases of hosts with hardware; their images are built when such a host is asked for."""

INSTALLED = (
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "nftables",
    "procps",
    "python3",
    "python3-apt",
    "systemd",
    "systemd-sysv",
)

MASKED = (
    "apt-daily-upgrade.timer",  # would hold apt's lock in the middle of a test
    "apt-daily.timer",
    "dev-hugepages.mount",  # the machine's own, not a container's business
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "getty.target",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-modules-load.service",  # fails without CAP_SYS_MODULE and /lib/modules
)
