# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""GPUs out of the catalogue and out of a host's facts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import gpus
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import GIB, Refusal

# The names that a person may plan with before buying (issue: "Faces").
PROMISED = [
    "l4", "a10", "rtx3090", "rtx4090", "rtx5090", "rtx-pro-6000", "l40s", "a100-40", "a100-80",
    "h100-80", "h100-nvl", "h200", "h200-nvl", "b200", "gb10",
]  # fmt: skip


@pytest.mark.parametrize("name", PROMISED)
def test_every_promised_set_is_there(name: str) -> None:
    (gpu,) = gpus.gpu_set(name, 1)
    assert gpu.capability >= (8, 0)
    assert 20 * GIB < gpu.memory_bytes < 180 * GIB


@pytest.mark.parametrize(
    ("name", "capability", "gib"),
    [
        ("l4", (8, 9), 22.03),
        ("a100-80", (8, 0), 79.25),
        ("h100-80", (9, 0), 79.18),
        ("h200", (9, 0), 139.8),
        ("b200", (10, 0), 178.35),
        ("rtx5090", (12, 0), 31.36),
        ("gb10", (12, 1), 121.69),
        ("v100", (7, 0), 31.73),
    ],
)
def test_capability_and_what_cuda_sees(name: str, capability: tuple[int, int], gib: float) -> None:
    (gpu,) = gpus.gpu_set(name, 1)
    assert gpu.capability == capability
    assert gpu.memory_bytes == pytest.approx(gib * GIB, rel=1e-6)


@pytest.mark.parametrize("spelling", ["H100", "h100_80", "h100 80", "h100-80"])
def test_other_spellings(spelling: str) -> None:
    assert gpus.gpu_set(spelling, 1) == gpus.gpu_set("h100-80", 1)


def test_an_unknown_set_names_the_nearest() -> None:
    with pytest.raises(Refusal, match=r"'h10-80' is not known.*did you mean h100-80\?"):
        gpus.gpu_set("h10-80", 1)


@pytest.mark.parametrize("count", [0, -1])
def test_a_set_has_a_gpu_at_least(count: int) -> None:
    with pytest.raises(Refusal, match=f"gpu_count is '{count}'; it must be a whole number from 1"):
        gpus.gpu_set("h200", count)


@pytest.mark.parametrize(
    ("name", "screens"),
    [
        ("rtx4090", True),
        ("rtx5080", True),
        ("a6000", True),
        ("rtx6000-ada", True),
        ("rtx-pro-5000", True),
        ("rtx-pro-6000", False),
        ("l4", False),
        ("a10", False),
        ("h200", False),
        ("gb10", False),
    ],
)
def test_cards_for_desktops_are_known_by_their_names(name: str, screens: bool) -> None:
    (gpu,) = gpus.gpu_set(name, 1)
    assert gpus.may_drive_screens(gpu) is screens
    assert not gpus.may_drive_screens(replace(gpu, name=f"{gpu.name} MIG 1g.24gb"))


def test_a_board_of_eight_is_switched_and_has_two_sockets() -> None:
    board = gpus.gpu_set("h100-80", 8)
    assert all(len(gpu.nvlink_peers) == 7 for gpu in board)
    assert [gpu.numa_node for gpu in board] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert len({gpu.uuid for gpu in board}) == 8


def test_bridges_join_neighbours() -> None:
    pairs = gpus.gpu_set("h100-nvl", 4)
    assert pairs[0].nvlink_peers == {pairs[1].uuid}
    assert pairs[3].nvlink_peers == {pairs[2].uuid}
    assert not gpus.gpu_set("rtx4090", 2)[0].nvlink_peers


def facts(**changes: Any) -> dict[str, Any]:
    """An idle H200 as gpu_info describes it."""
    entry = {
        "index": 0,
        "uuid": "GPU-aaaaaaaa",
        "pci_bus_id": "00000000:9B:00.0",
        "name": "NVIDIA H200",
        "compute_capability": "9.0",
        "memory_total_bytes": 150_754_820_096,
        "memory_reserved_bytes": 640_679_936,
        "memory_used_bytes": 0,
        "mig": {"supported": True, "enabled": False, "pending": False, "instances": []},
        "nvlink": {"active_links": 18, "peers": ["GPU-bbbbbbbb"], "nvswitch": True},
        "numa_node": 1,
        "display_active": False,
        "processes": [],
        "lost": False,
        "message": "",
    }
    return {"state": "ok", "message": "", "gpus": [entry | changes]}


def test_a_host_gives_what_cuda_sees_of_it() -> None:
    (gpu,) = gpus.from_facts(facts())
    assert gpu.memory_bytes == 150_754_820_096 - 640_679_936
    assert (gpu.uuid, gpu.numa_node, gpu.capability) == ("GPU-aaaaaaaa", 1, (9, 0))
    assert gpu.nvlink_peers == {"GPU-bbbbbbbb"}
    assert gpu.foreign_bytes == 0


def test_processes_of_others_hold_memory() -> None:
    process = {"pid": 4711, "name": "python3", "memory_bytes": 5 * GIB, "container_id": None}
    (gpu,) = gpus.from_facts(facts(processes=[process], memory_used_bytes=6 * GIB))
    assert gpu.foreign_bytes == 6 * GIB  # the rest of it is nobody's that we know
    assert gpu.holders == ("python3 (pid 4711)",)


def test_what_a_screen_takes_is_no_holder() -> None:
    process = {"pid": 900, "name": "Xorg", "memory_bytes": 4 << 20, "container_id": None}
    (gpu,) = gpus.from_facts(facts(processes=[process], memory_used_bytes=30 << 20))
    assert (gpu.foreign_bytes, gpu.holders) == (0, ())


def test_small_processes_add_up() -> None:
    processes = [
        {"pid": pid, "name": "python3", "memory_bytes": 300 << 20, "container_id": None}
        for pid in (1, 2)
    ]
    (gpu,) = gpus.from_facts(facts(processes=processes))
    assert (gpu.foreign_bytes, len(gpu.holders)) == (600 << 20, 2)


def test_our_own_container_is_not_another() -> None:
    process = {"pid": 1, "name": "vllm", "memory_bytes": 90 * GIB, "container_id": "0123456789ab"}
    (gpu,) = gpus.from_facts(
        facts(processes=[process], memory_used_bytes=91 * GIB), ["0123456789abcdef0123"]
    )
    assert (gpu.foreign_bytes, gpu.holders) == (0, ())


def test_memory_in_use_without_a_name_is_anothers() -> None:
    (gpu,) = gpus.from_facts(facts(memory_used_bytes=3 * GIB))
    assert gpu.foreign_bytes == 3 * GIB


def test_unified_memory_comes_from_the_catalogue() -> None:
    (gpu,) = gpus.from_facts(
        facts(name="NVIDIA GB10", compute_capability="12.1", memory_total_bytes=None)
    )
    assert gpu.memory_bytes == gpus.gpu_set("gb10", 1)[0].memory_bytes
    assert gpus.has_unified_memory(gpu)


def test_memory_that_nobody_tells_is_a_sentence() -> None:
    with pytest.raises(Refusal, match=r"GPU 0 \(NVIDIA Z1\) does not say how much memory"):
        gpus.from_facts(facts(name="NVIDIA Z1", memory_total_bytes=None))


def test_mig_instances_are_gpus_of_their_size() -> None:
    instances = [
        {"uuid": f"MIG-{n}", "profile": "3g.71gb", "memory_total_bytes": 70 * GIB} for n in (1, 2)
    ]
    slices = gpus.from_facts(facts(mig={"enabled": True, "instances": instances}))
    assert [gpu.uuid for gpu in slices] == ["MIG-1", "MIG-2"]
    assert all(gpu.mig_slice and gpu.memory_bytes == 70 * GIB for gpu in slices)
    assert slices[0].name == "NVIDIA H200 MIG 3g.71gb"


def test_a_mig_instance_in_use_is_anothers() -> None:
    instance = {"uuid": "MIG-1", "memory_total_bytes": 70 * GIB, "memory_free_bytes": 20 * GIB}
    (gpu,) = gpus.from_facts(facts(mig={"enabled": True, "instances": [instance]}))
    assert gpu.foreign_bytes == 50 * GIB


def half(name: str, **changes: Any) -> dict[str, Any]:
    """One of two MIG instances of an H200, as gpu_info describes it."""
    idle = {
        "uuid": name,
        "profile": "3g.71gb",
        "memory_total_bytes": 70 * GIB,
        "memory_reserved_bytes": 0,
        "memory_free_bytes": 70 * GIB,
        "memory_used_bytes": 0,
        "processes": [],
    }
    return idle | changes


OURS = {"pid": 1, "name": "vllm", "memory_bytes": 60 * GIB, "container_id": "0123456789ab"}
THEIRS = {"pid": 4711, "name": "python3", "memory_bytes": 30 * GIB, "container_id": None}


@pytest.mark.parametrize("card", [[], [OURS, THEIRS]])
def test_each_mig_instance_has_its_own_processes(card: list[dict[str, Any]]) -> None:
    """NVML lists them for the card too, or only for the instances."""
    instances = [
        half("MIG-1", processes=[OURS], memory_used_bytes=60 * GIB, memory_free_bytes=10 * GIB),
        half("MIG-2", processes=[THEIRS], memory_used_bytes=30 * GIB, memory_free_bytes=40 * GIB),
        half("MIG-3"),
    ]
    seen = facts(mig={"enabled": True, "instances": instances}, processes=card)
    mine, other, idle = gpus.from_facts(seen, ["0123456789abcdef0123"])
    assert (mine.foreign_bytes, mine.holders) == (0, ())
    assert (other.foreign_bytes, other.holders) == (30 * GIB, ("python3 (pid 4711)",))
    assert (idle.foreign_bytes, idle.holders) == (0, ())


@pytest.mark.parametrize(("card", "foreign"), [([THEIRS], 60 * GIB), ([OURS, THEIRS], 0)])
def test_an_instance_that_does_not_say_who_is_there(
    card: list[dict[str, Any]], foreign: int
) -> None:
    used = half("MIG-1", processes=None, memory_used_bytes=60 * GIB, memory_free_bytes=10 * GIB)
    seen = facts(mig={"enabled": True, "instances": [used]}, processes=card)
    (gpu,) = gpus.from_facts(seen, ["0123456789abcdef0123"])
    assert gpu.foreign_bytes == foreign


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": None}, "GPU 0 does not say its name;"),
        ({"compute_capability": None}, "GPU 0 (NVIDIA H200) does not say its compute capability;"),
        ({"uuid": None}, "GPU 0 (NVIDIA H200) does not say its UUID;"),
        ({"index": None}, "GPU 00000000:9B:00.0 (NVIDIA H200) does not say its index;"),
        ({"index": None, "pci_bus_id": None}, "GPU without an index (NVIDIA H200) does not say"),
        (
            {"memory_total_bytes": 22 * GIB, "memory_reserved_bytes": 22 * GIB},
            "GPU 0 (NVIDIA H200) has 22.00 GiB, and its driver reserves all of them;",
        ),
        (
            {"mig": {"enabled": True, "instances": [half("MIG-1", memory_total_bytes=None)]}},
            "GPU 0 (NVIDIA H200 MIG 3g.71gb) does not say how much memory it has;",
        ),
        (
            {"mig": {"enabled": True, "instances": [half("MIG-1", uuid=None)]}},
            "GPU 0 (NVIDIA H200 MIG 3g.71gb) does not say its UUID;",
        ),
        (
            {"mig": {"enabled": True, "instances": [half("", memory_reserved_bytes=70 * GIB)]}},
            "GPU 0 (NVIDIA H200 MIG 3g.71gb) has 70.00 GiB, and its driver reserves all of them;",
        ),
    ],
)
def test_facts_that_planning_cannot_do_without(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(Refusal) as caught:
        gpus.from_facts(facts(**changes))
    assert str(caught.value).startswith(said) and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "key",
    [
        "pci_bus_id", "memory_reserved_bytes", "memory_used_bytes", "mig", "nvlink", "numa_node",
        "display_active", "processes",
    ],
)  # fmt: skip
def test_facts_that_planning_can_do_without(key: str) -> None:
    (gpu,) = gpus.from_facts(facts(**{key: None}))
    assert gpu.memory_bytes > 139 * GIB and gpu.foreign_bytes == 0


@pytest.mark.parametrize(
    "key", ["profile", "memory_reserved_bytes", "memory_free_bytes", "memory_used_bytes"]
)
def test_facts_of_an_instance_that_planning_can_do_without(key: str) -> None:
    instance = half("MIG-1", **{key: None})
    (gpu,) = gpus.from_facts(facts(mig={"enabled": True, "instances": [instance]}))
    assert (gpu.memory_bytes, gpu.foreign_bytes) == (70 * GIB, 0)


def test_mig_without_instances_stays_one_gpu_that_says_so() -> None:
    (gpu,) = gpus.from_facts(facts(mig={"enabled": True, "instances": []}))
    assert gpu.mig_enabled and not gpu.mig_slice


def test_a_broken_driver_speaks() -> None:
    with pytest.raises(Refusal, match="no driver is loaded"):
        gpus.from_facts({"state": "no_driver", "message": "no driver is loaded.", "gpus": []})
