# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""GPUs for the planner: from the catalogue, or from the facts of a host."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
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
    if not mig.get("enabled"):
        return [_whole(entry, own)]
    whole = replace(_whole(entry, own), mig_enabled=True)
    return [_slice(whole, entry, instance, own) for instance in mig.get("instances") or ()] or [
        whole
    ]


def _whole(entry: Mapping[str, Any], own: Collection[str]) -> Gpu:
    foreign, holders = _foreign(entry, own)
    return Gpu(
        name=_told(entry, "name", "its name"),
        capability=_capability(_told(entry, "compute_capability", "its compute capability")),
        memory_bytes=_memory_bytes(entry),
        index=_told(entry, "index", "its index"),
        uuid=_told(entry, "uuid", "its UUID"),
        pci_bus_id=entry.get("pci_bus_id") or "",
        numa_node=entry.get("numa_node"),
        nvlink_peers=frozenset((entry.get("nvlink") or {}).get("peers") or ()),
        foreign_bytes=foreign,
        display=bool(entry.get("display_active")),
        holders=holders,
    )


def _slice(
    gpu: Gpu, entry: Mapping[str, Any], instance: Mapping[str, Any], own: Collection[str]
) -> Gpu:
    """One MIG instance, with its own processes: the card's are those of all its instances."""
    profile = instance.get("profile") or "slice"
    described = {**instance, "index": gpu.index, "name": f"{gpu.name} MIG {profile}"}
    if not instance.get("memory_total_bytes"):
        raise _untold(described, "how much memory it has")
    if instance.get("processes") is None:
        # NVML does not say who is there, so the card's processes tell whether any is ours.
        described["processes"] = [
            {**item, "memory_bytes": 0} for item in entry.get("processes") or ()
        ]
    foreign, holders = _foreign(described, own)
    return Gpu(
        name=described["name"],
        capability=gpu.capability,
        memory_bytes=_less_reserved(described),
        index=gpu.index,
        uuid=_told(described, "uuid", "its UUID"),
        pci_bus_id=gpu.pci_bus_id,
        numa_node=gpu.numa_node,
        foreign_bytes=foreign,
        mig_enabled=True,
        mig_slice=True,
        holders=holders,
    )


def _told(entry: Mapping[str, Any], key: str, what: str) -> Any:
    """A fact that planning cannot do without; NVML leaves out what a driver refuses to say."""
    if entry.get(key) is None:
        raise _untold(entry, what)
    return entry[key]


def _untold(entry: Mapping[str, Any], what: str) -> Refusal:
    return Refusal(
        f"{_where(entry)} does not say {what}; see what `nvidia-smi -q` says of it, and update its"
        " driver."
    )


def _where(entry: Mapping[str, Any]) -> str:
    """How a sentence names a GPU of which not everything is known."""
    index, name = entry.get("index"), entry.get("name")
    number = entry.get("pci_bus_id") or "without an index" if index is None else index
    return f"GPU {number} ({name})" if name else f"GPU {number}"


def _memory_bytes(entry: Mapping[str, Any]) -> int:
    if entry.get("memory_total_bytes"):
        return _less_reserved(entry)
    # NVML does not count unified memory: the catalogue has what CUDA sees there.
    for known in _catalogue()["gpus"].values():
        if known["name"] == entry.get("name"):
            return _bytes(known["memory_gib"])
    raise _untold(entry, "how much memory it has")


def _less_reserved(entry: Mapping[str, Any]) -> int:
    """What CUDA lets a process see."""
    total, reserved = int(entry["memory_total_bytes"]), int(entry.get("memory_reserved_bytes") or 0)
    if reserved >= total:
        raise Refusal(
            f"{_where(entry)} has {total / GIB:.2f} GiB, and its driver reserves all of them;"
            " reset it (nvidia-smi --gpu-reset) or restart the host."
        )
    return total - reserved


def _used_bytes(entry: Mapping[str, Any]) -> int:
    used, free = entry.get("memory_used_bytes"), entry.get("memory_free_bytes")
    if used is None and free is not None and entry.get("memory_total_bytes"):
        return max(_less_reserved(entry) - int(free), 0)
    return int(used or 0)


def _foreign(entry: Mapping[str, Any], own: Collection[str]) -> tuple[int, tuple[str, ...]]:
    """Bytes that processes of others hold, and who they are."""
    processes = entry.get("processes") or ()
    others = [item for item in processes if not _is_own(item.get("container_id"), own)]
    held = sum(item.get("memory_bytes") or 0 for item in others)
    used = _used_bytes(entry)
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
