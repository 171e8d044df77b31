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

CACHE = Path(__file__).resolve().parents[3] / ".cache" / "lab"
HUB_FILE = CACHE / "hub.json"
"""Where inventories read the hub's endpoint and the commit of every model."""

DISK_GB = 40
"""Free disk wanted before anything is built, and what a lab may occupy (10^9 bytes)."""
DISK_GB_WHEN_BUILT = 10
"""Free disk wanted once the images lie there: room for the hosts' own layers (10^9 bytes)."""
MEMORY_GIB_WANTED = 12
MEMORY_GIB = 16
"""What a lab with two engines serving may occupy."""


@dataclass(frozen=True)
class Host:
    """One machine of the lab."""

    suite: str
    gpu: bool


HOSTS = {
    "gpu1": Host(suite="bookworm", gpu=True),
    "gpu2": Host(suite="trixie", gpu=True),
    "edge1": Host(suite="bookworm", gpu=False),
}


@dataclass(frozen=True)
class Suite:
    """A Debian release: `prefetched` packages lie in the image's apt cache, not installed."""

    prefetched: tuple[str, ...]


SUITES = {
    "bookworm": Suite(prefetched=("docker.io", "nginx", "docker-registry")),
    "trixie": Suite(prefetched=("docker.io", "docker-cli", "nginx")),
}

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
