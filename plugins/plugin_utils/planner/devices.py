# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Which GPUs a plan may use, and which of them work together."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import GIB, Gpu, Refusal

# Boards of one kind differ by some MiB (ECC, reserved rows).
_EQUAL_SHARE = 0.02


def check(gpus: Sequence[Gpu]) -> None:
    """
    :raises Refusal: there is no GPU, one is not usable as it is, or they are not equal.
    """
    if not gpus:
        raise Refusal(
            "There is no GPU to plan for; give a gpu_set with gpu_count of 1 or more, or a host"
            " whose driver shows its GPUs."
        )
    for gpu in gpus:
        _check_one(gpu)
    _check_equal(gpus)


def _check_one(gpu: Gpu) -> None:
    where = f"GPU {gpu.index} ({gpu.name})"
    if gpu.mig_enabled and not gpu.mig_slice:
        raise Refusal(
            f"{where} has MIG enabled but no instance; create one (nvidia-smi mig -cgi ... -C) or"
            " disable MIG."
        )


def _check_equal(gpus: Sequence[Gpu]) -> None:
    kinds: list[list[Gpu]] = []
    for gpu in gpus:
        same = next((kind for kind in kinds if _is_equal(kind[0], gpu)), None)
        if same is None:
            kinds.append([gpu])
        else:
            same.append(gpu)
    if len(kinds) < 2:
        return
    groups = "; ".join(
        f"{kind[0].name} with {kind[0].memory_bytes / GIB:.1f} GiB is gpus:"
        f" [{', '.join(gpu.uuid if gpu.mig_slice else str(gpu.index) for gpu in kind)}]"
        for kind in kinds
    )
    raise Refusal(
        f"The GPUs are not equal, and one instance needs equal ones; list one kind ({groups})."
    )


def _is_equal(one: Gpu, other: Gpu) -> bool:
    """Whether one set of flags suits both; boards of one kind differ by some MiB."""
    difference = abs(one.memory_bytes - other.memory_bytes)
    same = (one.name, one.capability) == (other.name, other.capability)
    return same and difference <= _EQUAL_SHARE * one.memory_bytes


def assign(
    gpus: Sequence[Gpu], tensor_parallel: int, replicas: int
) -> tuple[tuple[tuple[Gpu, ...], ...], tuple[Gpu, ...]]:
    """The GPUs of each replica, and those that stay idle.

    NVLink peers come first, then one NUMA node, then the index.
    """
    free = sorted(gpus, key=_order)
    groups: list[tuple[Gpu, ...]] = []
    for _replica in range(replicas):
        places = min(
            (_group(seed, free, tensor_parallel) for seed in range(len(free))),
            key=lambda group: _distance([free[place] for place in group]),
        )
        groups.append(tuple(free[place] for place in places))
        free = [gpu for place, gpu in enumerate(free) if place not in places]
    return tuple(groups), tuple(free)


def _order(gpu: Gpu) -> tuple[int, str]:
    return gpu.index, gpu.uuid


def _group(seed: int, free: Sequence[Gpu], size: int) -> list[int]:
    """Places in ``free`` of ``size`` GPUs around one, the nearest first."""
    group = [seed]
    others = [place for place in range(len(free)) if place != seed]
    while len(group) < size:
        nearest = min(others, key=lambda place: _farness(free, group, place))
        group.append(nearest)
        others.remove(nearest)
    return sorted(group)


def _farness(free: Sequence[Gpu], group: Sequence[int], place: int) -> tuple[int, bool, int]:
    gpu, seed = free[place], free[group[0]]
    links = sum(gpu.uuid in free[member].nvlink_peers for member in group)
    return -links, gpu.numa_node != seed.numa_node, place


def _distance(group: Sequence[Gpu]) -> tuple[int, int, list[int], list[str]]:
    links = sum(gpu.uuid in other.nvlink_peers for gpu in group for other in group)
    nodes = len({gpu.numa_node for gpu in group})
    return (-links, nodes, [gpu.index for gpu in group], [gpu.uuid for gpu in group])


def is_linked(group: Sequence[Gpu]) -> bool:
    """Whether every GPU of a group reaches every other over NVLink."""
    return all(gpu == other or gpu.uuid in other.nvlink_peers for gpu in group for other in group)


def name_of(gpu: Gpu) -> str:
    """How a plan calls a GPU: its UUID, or the index where it has none."""
    return gpu.uuid or str(gpu.index)
