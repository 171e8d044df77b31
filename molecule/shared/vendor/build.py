# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""All repositories, in one directory that the server serves; built once, under a hash."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vendor import docker_ce, nvidia, toolkit
from vendor.docker_ce import Unpacked
from vendor.keys import ORDER, VENDORS, Keyring
from vendor.package import Package
from vendor.repository import Repository

HERE = Path(__file__).resolve().parent
STAND_IN = HERE.parent / "nvml" / "stand_in.c"

# Paths below the server's root are those of the vendors' servers.
_KEY_FILES = {"bookworm": "3bf863cc.pub", "trixie": "8793F200.pub"}
_TOOLKIT = Repository(
    "toolkit",
    "libnvidia-container/stable/deb/amd64",
    "libnvidia-container/gpgkey",
    "https://nvidia.github.io/libnvidia-container",
    "NVIDIA CORPORATION",
)

_KEYS = "keys"  # in the cache, kept as long as that

Fetch = Callable[[str, Sequence[str], Path], Mapping[str, Path]]
"""Fetches packages of a Debian release into a directory: archives by package name."""


def digest() -> str:
    """A hash of all that the repositories are made from on this machine."""
    sources = [STAND_IN, *sorted(HERE.rglob("*.py")), *sorted(HERE.glob("stand_in/**/*.*"))]
    found = hashlib.sha256()
    for path in sources:
        if "__pycache__" not in path.parts:
            found.update(path.read_bytes())
    return found.hexdigest()[:12]


def build(cache: Path, fetch: Fetch) -> tuple[Path, dict[str, Any]]:
    """The root for the server and what inventories need to know of it, built unless it is there."""
    directory = cache / digest()
    description = directory / "vendor.json"
    if not description.exists():
        for outdated in cache.glob("*"):
            if outdated.name != _KEYS:
                shutil.rmtree(outdated)
        described = _build(cache, directory / "root", fetch)
        description.write_text(json.dumps(described, indent=2) + "\n")
        shutil.rmtree(cache / "work", ignore_errors=True)
    return directory / "root", json.loads(description.read_text())


def _build(cache: Path, root: Path, fetch: Fetch) -> dict[str, Any]:
    work = cache / "work"
    keyring = Keyring(cache / _KEYS)
    try:
        drivers = _built(nvidia.packages(work), root / "pool")
        for suite, release in docker_ce.SUITES.items():
            cuda = _cuda(suite, release)
            archives = _linked(drivers, root / cuda.directory)
            cuda.write(root, archives, keyring)
        tools = _built(toolkit.packages(), root / _TOOLKIT.directory)
        _TOOLKIT.write(root, tools, keyring)
        engines = _docker(root, work, fetch, keyring)
        keys = {
            vendor: {order: keyring.key(vendor, order).fingerprint for order in ORDER}
            for vendor in VENDORS
        }
    finally:
        keyring.close()
    return {
        "keys": keys,
        "driver": list(nvidia.RELEASES),
        "toolkit": list(toolkit.RELEASES),
        "docker": engines,
    }


def _cuda(suite: str, release: str) -> Repository:
    directory = f"compute/cuda/repos/debian{release}/x86_64"
    key = f"{directory}/{_KEY_FILES[suite]}"
    return Repository("cuda", directory, key, "NVIDIA", "NVIDIA CUDA")


def _docker(root: Path, work: Path, fetch: Fetch, keyring: Keyring) -> list[str]:
    sources = [
        _unpacked(fetch(source, docker_ce.PROGRAMS, work / source), work / source / "tree")
        for source in docker_ce.SOURCES
    ]
    for suite in docker_ce.SUITES:
        repository = Repository(
            *("docker", "linux/debian", "linux/debian/gpg", "Docker", "Docker CE"),
            *(suite, "stable"),
        )
        below = work / f"low-{suite}"
        low = _unpacked(fetch(suite, docker_ce.LOW_LEVEL, below), below / "tree")
        pool = root / repository.directory / "dists" / suite / "pool/stable/amd64"
        repository.write(root, _built(docker_ce.packages(suite, sources, low), pool), keyring)
    return [found["docker.io"].version for found in sources]


def _unpacked(archives: Mapping[str, Path], directory: Path) -> dict[str, Unpacked]:
    return {name: Unpacked.of(archive, directory) for name, archive in archives.items()}


def _built(packages: Iterable[Package], directory: Path) -> list[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    return [package.build(directory) for package in packages]


def _linked(archives: Iterable[Path], directory: Path) -> list[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    links = []
    for archive in archives:
        link = directory / archive.name
        link.hardlink_to(archive)
        links.append(link)
    return links
