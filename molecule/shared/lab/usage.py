# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What a lab occupies: memory of its processes and disk of its images and volumes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lab import settings
from lab.error import LabError

GIB = 1024**3
_CONTAINER = re.compile(r"^(.*?/(?:docker-)?[0-9a-f]{64}(?:\.scope)?)(?:/|$)")
_MOUNT_V1 = Path("/sys/fs/cgroup/memory")
_MOUNT_V2 = Path("/sys/fs/cgroup")


def descendants(parents: dict[int, int], roots: Iterable[int]) -> set[int]:
    """The processes below `roots`, themselves included, of a map from process to parent."""
    children: dict[int, list[int]] = {}
    for process, parent in parents.items():
        children.setdefault(parent, []).append(process)
    found: set[int] = set()
    waiting = [root for root in roots if root in parents]
    while waiting:
        process = waiting.pop()
        if process not in found:
            found.add(process)
            waiting.extend(children.get(process, ()))
    return found


def container_group(cgroup: str) -> str | None:
    """The container's memory cgroup in the text of /proc/<pid>/cgroup, below the mount."""
    for line in cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        found = _CONTAINER.match(path)
        if found and ("memory" in controllers.split(",") or not (controllers or _v1())):
            return found.group(1)
    return None


def peak(now: int, highest: int, cache: int, processes: int) -> int:
    """Highest memory without page cache, in bytes, from what the kernel keeps.

    The kernel's own maximum counts page cache, so today's cache is taken off; the sum of the
    processes' highest resident sets bounds it where cache was dropped since.
    """
    return max(now, min(highest - cache, processes))


def _v1() -> bool:
    return _MOUNT_V1.is_dir()


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _numbers(path: Path) -> dict[str, int]:
    lines = (line.split() for line in path.read_text().splitlines())
    return {
        parts[0].rstrip(":"): int(parts[1])
        for parts in lines
        if len(parts) > 1 and parts[1].isdigit()
    }


def _group_peak(group: str, processes: int) -> int:
    if _v1():
        directory = _MOUNT_V1 / group.lstrip("/")
        stat = _numbers(directory / "memory.stat")
        cache = stat["total_cache"] - stat.get("total_shmem", 0)
        used = _number(directory / "memory.usage_in_bytes")
        highest = _number(directory / "memory.max_usage_in_bytes")
    else:
        directory = _MOUNT_V2 / group.lstrip("/")
        stat = _numbers(directory / "memory.stat")
        cache = stat["file"] - stat["shmem"]
        used = _number(directory / "memory.current")
        highest = _number(directory / "memory.peak")  # since Linux 5.19
    return peak(max(used - cache, 0), highest, cache, processes)


def memory(client: Any, lab: str) -> int:
    """Peak memory of a lab's hosts, the containers inside them and the registry, in bytes."""
    roots = [
        container.attrs["State"]["Pid"]
        for value in (lab, settings.SHARED)
        for container in client.containers.list(filters={"label": f"{settings.LABEL}={value}"})
    ]
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = _parent((entry / "stat").read_text())
            except OSError:
                continue  # ended meanwhile
    if not set(roots) <= set(parents):
        raise LabError("Memory can be read only on the machine on which Docker runs.")
    groups: dict[str, int] = {}
    for process in descendants(parents, roots):
        try:
            group = container_group(Path(f"/proc/{process}/cgroup").read_text())
            status = _numbers(Path(f"/proc/{process}/status"))
        except OSError:
            continue
        if group:
            groups[group] = groups.get(group, 0) + status.get("VmHWM", 0) * 1024
    return sum(_group_peak(group, highest) for group, highest in groups.items())


def _parent(stat: str) -> int:
    # The name in brackets may hold blanks and brackets itself.
    return int(stat.rpartition(")")[2].split()[1])


def image_bytes(images: Iterable[tuple[str, int, int]]) -> int:
    """Disk of images given as (first layer, size, part shared with others), shared parts once."""
    own, shared = 0, {"": 0}
    for first_layer, size, common in images:
        own += size - max(common, 0)
        shared[first_layer] = max(shared.get(first_layer, 0), common)
    return own + sum(shared.values())


def disk(client: Any, lab: str) -> int:
    """Disk of the lab's images, of its volumes and of what its hosts wrote, in bytes."""
    from lab.cleaning import is_ours

    found = client.df()
    images = []
    for image in found["Images"] or []:
        labels = image["Labels"] or {}
        if settings.LABEL in labels or any(map(is_ours, image["RepoTags"] or [])):
            layers = client.api.inspect_image(image["Id"])["RootFS"]["Layers"]
            images.append((layers[0], image["Size"], image["SharedSize"]))
    mine = (lab, settings.SHARED)
    volumes: int = sum(
        volume["UsageData"]["Size"]
        for volume in found["Volumes"] or []
        if (volume["Labels"] or {}).get(settings.LABEL) in mine
    )
    written: int = sum(
        container.get("SizeRw", 0)
        for container in found["Containers"] or []
        if container["Labels"].get(settings.LABEL) in mine
    )
    return image_bytes(images) + volumes + written


def line(memory_bytes: int, disk_bytes: int) -> str:
    """The line that a person reads."""
    return (
        f"memory {memory_bytes / GIB:.1f} GiB of {settings.MEMORY_GIB}, "
        f"disk {disk_bytes / 1e9:.1f} GB of {settings.DISK_GB}"
    )


def within(memory_bytes: int, disk_bytes: int) -> bool:
    """Whether both stay below their limits."""
    return memory_bytes <= settings.MEMORY_GIB * GIB and disk_bytes <= settings.DISK_GB * 10**9
