# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""GPUs for the planner: from the catalogue, or from the facts of a host."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import GIB, Gpu, Refusal

_DATA = Path(__file__).parent / "data" / "gpus.json"

# Usual servers have four GPUs on each of two sockets (HGX boards: `nvidia-smi topo -m`).
_GPUS_PER_NUMA_NODE = 4
# GPUs that one NVLink bridge joins.
_BRIDGED = {"none": 1, "pairs": 2, "quads": 4}
# What an idle driver holds by itself; less than this in use is nobody's process.
_IDLE_BYTES = GIB // 2


@functools.lru_cache(maxsize=1)
def _catalogue() -> Mapping[str, Any]:
    data: Mapping[str, Any] = json.loads(_DATA.read_text(encoding="utf-8"))
    return data


def names() -> tuple[str, ...]:
    """Names that :func:`gpu_set` knows, without the other spellings."""
    return tuple(_catalogue()["gpus"])


def gpu_set(name: str, count: int) -> tuple[Gpu, ...]:
    """A server of ``count`` equal GPUs.

    :param name: a key of the catalogue: ``h100-80``.
    :raises Refusal: the name is unknown or the count is below 1.
    """
    entry = _catalogue()["gpus"].get(_key(name))
    if entry is None:
        near = get_close_matches(_key(name), _spellings(), n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise Refusal(f"GPU set {name!r} is not known; known are {', '.join(names())}{hint}")
    if count < 1:
        raise Refusal(f"gpu_count is '{count}'; it must be a whole number from 1.")
    return tuple(_member(entry, index, count) for index in range(count))


def _key(name: str) -> str:
    key = name.strip().lower().replace("_", "-").replace(" ", "-")
    alias: str = _catalogue()["aliases"].get(key, key)
    return alias


def _spellings() -> list[str]:
    return [*_catalogue()["gpus"], *_catalogue()["aliases"]]


def _member(entry: Mapping[str, Any], index: int, count: int) -> Gpu:
    reach = _BRIDGED.get(entry["links"], count)
    first = index - index % reach
    peers = range(first, min(first + reach, count))
    return Gpu(
        name=entry["name"],
        capability=_capability(entry["capability"]),
        memory_bytes=_bytes(entry["memory_gib"]),
        index=index,
        uuid=_uuid(index),
        pci_bus_id=f"00000000:{index + 1:02X}:00.0",
        numa_node=index // _GPUS_PER_NUMA_NODE,
        nvlink_peers=frozenset(_uuid(peer) for peer in peers if peer != index),
    )


def _bytes(gib: float) -> int:
    return round(gib * GIB)


def _uuid(index: int) -> str:
    """Stands for the identifier of a GPU that nobody has bought yet."""
    return f"GPU-00000000-0000-0000-0000-{index:012d}"


def _capability(text: str) -> tuple[int, int]:
    major, _dot, minor = text.partition(".")
    return int(major), int(minor or 0)


def has_unified_memory(gpu: Gpu) -> bool:
    """Whether the operating system and the page cache live in the same memory (DGX Spark)."""
    return gpu.name in _catalogue()["unified_memory"]


def may_drive_screens(gpu: Gpu) -> bool:
    """Whether it is a card for desktops, by its name."""
    screens = _catalogue()["screens"]
    named = any(mark in gpu.name for mark in screens["named"])
    return named and not any(mark in gpu.name for mark in screens["but_not"])


def from_facts(facts: Mapping[str, Any], own_containers: Collection[str] = ()) -> tuple[Gpu, ...]:
    """The GPUs of a host, as the module gpu_info describes them.

    :param own_containers: ids of the containers whose memory will be free when they are replaced.
    :raises Refusal: the driver or a GPU is not usable, with the module's sentence.
    """
    if facts.get("state", "ok") != "ok":
        raise Refusal(facts.get("message") or f"the GPUs are in state {facts['state']}.")
    found: list[Gpu] = []
    for entry in facts.get("gpus", ()):
        found += _from_entry(entry, own_containers)
    return tuple(found)


def _from_entry(entry: Mapping[str, Any], own: Collection[str]) -> Iterable[Gpu]:
    mig = entry.get("mig") or {}
    whole = _whole(entry, own, mig_enabled=bool(mig.get("enabled")))
    if not mig.get("enabled") or not mig.get("instances"):
        return [whole]
    mine = any(_is_own(item.get("container_id"), own) for item in entry.get("processes") or ())
    return [_slice(whole, instance, mine) for instance in mig["instances"]]


def _whole(entry: Mapping[str, Any], own: Collection[str], mig_enabled: bool) -> Gpu:
    foreign, holders = _foreign(entry, own)
    return Gpu(
        name=entry["name"],
        capability=_capability(entry["compute_capability"]),
        memory_bytes=_memory_bytes(entry),
        index=entry["index"],
        uuid=entry["uuid"],
        pci_bus_id=entry.get("pci_bus_id") or "",
        numa_node=entry.get("numa_node"),
        nvlink_peers=frozenset((entry.get("nvlink") or {}).get("peers") or ()),
        foreign_bytes=foreign,
        display=bool(entry.get("display_active")),
        mig_enabled=mig_enabled,
        holders=holders,
    )


def _slice(gpu: Gpu, instance: Mapping[str, Any], mine: bool) -> Gpu:
    """One MIG instance; what is not free there is another's, unless something of ours runs."""
    total = int(instance["memory_total_bytes"]) - int(instance.get("memory_reserved_bytes") or 0)
    free = instance.get("memory_free_bytes")
    used = 0 if free is None or mine else total - int(free)
    return Gpu(
        name=f"{gpu.name} MIG {instance.get('profile') or 'slice'}",
        capability=gpu.capability,
        memory_bytes=total,
        index=gpu.index,
        uuid=instance["uuid"],
        pci_bus_id=gpu.pci_bus_id,
        numa_node=gpu.numa_node,
        foreign_bytes=used if used > _IDLE_BYTES else 0,
        mig_enabled=True,
        mig_slice=True,
    )


def _memory_bytes(entry: Mapping[str, Any]) -> int:
    total = entry.get("memory_total_bytes")
    if total:
        return int(total) - int(entry.get("memory_reserved_bytes") or 0)
    # NVML does not count unified memory: the catalogue has what CUDA sees there.
    for known in _catalogue()["gpus"].values():
        if known["name"] == entry["name"]:
            return _bytes(known["memory_gib"])
    raise Refusal(
        f"GPU {entry['index']} ({entry['name']}) does not say how much memory it has; leave it out"
        " of the instance's gpus."
    )


def _foreign(entry: Mapping[str, Any], own: Collection[str]) -> tuple[int, tuple[str, ...]]:
    """Bytes that processes of others hold, and who they are."""
    processes = entry.get("processes") or ()
    others = [item for item in processes if not _is_own(item.get("container_id"), own)]
    held = sum(item.get("memory_bytes") or 0 for item in others)
    used = entry.get("memory_used_bytes") or 0
    if len(others) == len(processes) and used > _IDLE_BYTES:
        # Nothing of ours runs: what is in use and not accounted for is another's too.
        held = max(held, used)
    if held <= _IDLE_BYTES:
        # A screen or a monitoring agent: every plan leaves room for so much.
        return 0, ()
    holders = tuple(f"{item.get('name') or 'process'} (pid {item['pid']})" for item in others)
    return held, holders


def _is_own(container: str | None, own: Collection[str]) -> bool:
    return bool(container) and any(
        str(container).startswith(name) or name.startswith(str(container)) for name in own
    )
