# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Which GPUs may be used, and which work together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import devices, gpus
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import GIB, Gpu, Refusal


def row(links: list[tuple[int, int]], nodes: list[int]) -> list[Gpu]:
    """L40S-like GPUs with some links and a NUMA node each."""
    return [
        Gpu(
            name="NVIDIA L40S",
            capability=(8, 9),
            memory_bytes=44 * GIB,
            index=index,
            uuid=f"GPU-{index}",
            numa_node=node,
            nvlink_peers=frozenset(f"GPU-{a + b - index}" for a, b in links if index in (a, b)),
        )
        for index, node in enumerate(nodes)
    ]


def indices(groups: tuple[tuple[Gpu, ...], ...]) -> list[list[int]]:
    return [[gpu.index for gpu in group] for group in groups]


@pytest.mark.parametrize(
    ("links", "nodes", "size", "expected", "idle"),
    [
        ([], [0, 0, 1, 1], 2, [[0, 1], [2, 3]], []),
        ([], [0, 1, 0, 1], 2, [[0, 2], [1, 3]], []),
        ([(0, 2), (1, 3)], [0, 0, 0, 0], 2, [[0, 2], [1, 3]], []),
        ([(0, 3)], [0, 0, 1, 1], 2, [[0, 3], [1, 2]], []),  # a link beats a node
        ([(1, 2)], [0, 0, 0], 2, [[1, 2]], [0]),  # the odd one is the one without link
        ([], [0, 0, 0], 1, [[0], [1], [2]], []),
        ([], [0, 0, 0, 0, 1], 4, [[0, 1, 2, 3]], [4]),
    ],
)
def test_groups(
    links: list[tuple[int, int]],
    nodes: list[int],
    size: int,
    expected: list[list[int]],
    idle: list[int],
) -> None:
    there = row(links, nodes)
    groups, rest = devices.assign(there, size, len(there) // size)
    assert indices(groups) == expected
    assert [gpu.index for gpu in rest] == idle
    shuffled, _rest = devices.assign(list(reversed(there)), size, len(there) // size)
    assert shuffled == groups


def test_eight_switched_gpus_split_by_socket() -> None:
    groups, _rest = devices.assign(gpus.gpu_set("h200", 8), 4, 2)
    assert indices(groups) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert all(devices.is_linked(group) for group in groups)


def test_gpus_without_a_uuid_are_told_apart() -> None:
    twin = Gpu("NVIDIA L4", (8, 9), 22 * GIB)
    groups, rest = devices.assign((twin, twin, twin), 2, 1)
    assert (len(groups[0]), len(rest)) == (2, 1)


def test_links_are_seen() -> None:
    there = row([(0, 1)], [0, 0, 0])
    assert devices.is_linked(there[:2])
    assert not devices.is_linked(there)
    assert devices.is_linked(there[2:])


def test_no_gpu() -> None:
    with pytest.raises(Refusal, match="There is no GPU"):
        devices.check(())


def test_mixed_gpus_name_the_indices_to_list() -> None:
    first, second, third = gpus.gpu_set("h100-80", 3)
    other = replace(gpus.gpu_set("h200", 1)[0], index=3)
    with pytest.raises(Refusal, match=r"not equal.*gpus: \[0, 1, 2\].*gpus: \[3\]"):
        devices.check((first, second, third, other))


def test_boards_that_differ_by_megabytes_are_equal() -> None:
    first, second = gpus.gpu_set("h100-80", 2)
    devices.check((first, replace(second, memory_bytes=second.memory_bytes + 80 * 2**20)))
    with pytest.raises(Refusal, match="not equal"):
        devices.check((first, replace(second, memory_bytes=second.memory_bytes // 2)))


def test_mig_without_instances() -> None:
    (gpu,) = gpus.gpu_set("h100-80", 1)
    with pytest.raises(Refusal, match="MIG enabled but no instance"):
        devices.check((replace(gpu, mig_enabled=True),))
    devices.check((replace(gpu, mig_enabled=True, mig_slice=True),))
