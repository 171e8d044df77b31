# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils._instance_plans import (
    Host,
    plan_instances,
    unplanned,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import HostPlans
from ansible_collections.baremetal.vllm.plugins.plugin_utils._release import build
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.display import plan_text

GIB = 2**30
UUIDS = [f"GPU-0000000{index}-1111-2222-3333-444444444444" for index in range(4)]
ONE = {"name": "gpt-oss-20b", "model": "openai/gpt-oss-20b"}
TINY_DIRECTORY = "/srv/models/gpt-oss-tiny"
# The lab's model, molecule/shared/engine_image/tiny_model/config.py.
TINY_CONFIG = {
    "architectures": ["GptOssForCausalLM"],
    "model_type": "gpt_oss",
    "dtype": "bfloat16",
    "vocab_size": 201088,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"],
    "sliding_window": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}
CONFIGS = {TINY_DIRECTORY: {"config": TINY_CONFIG, "checkpoint_bytes": 53000000}}


def gpu_info(count: int = 1, **changes: Any) -> dict[str, Any]:
    """H200s, as the module gpu_info describes them; ``changes`` are of GPU 0."""
    gpu: dict[str, Any] = {
        "name": "NVIDIA H200",
        "compute_capability": "9.0",
        "memory_total_bytes": 143771 * 2**20,
        "memory_reserved_bytes": 615 * 2**20,
        "memory_free_bytes": 143156 * 2**20,
        "memory_used_bytes": 0,
        "mig": {"supported": True, "enabled": False, "instances": []},
        "nvlink": {"active_links": 0, "peers": [], "nvswitch": False},
        "numa_node": 0,
        "display_active": False,
        "processes": [],
        "lost": False,
        "message": "",
    }
    gpus = [
        copy.deepcopy(gpu) | {"index": index, "uuid": UUIDS[index], "pci_bus_id": f"0:{index}"}
        for index in range(count)
    ]
    gpus[0] |= changes
    return {"state": "ok", "message": "", "gpus": gpus, "lost_gpus": []}


def busy(gib: float, name: str = "python3") -> dict[str, Any]:
    """Changes of a GPU on which a process that is not ours holds memory."""
    held = round(gib * GIB)
    process = {"pid": 77, "name": name, "memory_bytes": held, "container_id": None}
    return {
        "processes": [process],
        "memory_used_bytes": held,
        "memory_free_bytes": 143156 * 2**20 - held,
    }


def found(*instances: dict[str, Any], **host: Any) -> HostPlans:
    return plan_instances(instances or (ONE,), Host(**host), "0.32.0")


def test_an_instance_gets_flags_a_prediction_and_its_gpu_by_uuid() -> None:
    planned = found(gpu_info=gpu_info(), cdi_devices=[f"nvidia.com/gpu={UUIDS[0]}"])
    assert planned.problems == []
    entry = planned.plans["gpt-oss-20b"]
    assert entry["flags"]["tool-call-parser"] == "openai"
    assert entry["devices"] == [[UUIDS[0]]]
    assert entry["kv_tokens"] > 1_000_000
    assert entry["in_use"] == ""


def test_indices_stand_in_where_the_specification_has_no_uuids() -> None:
    planned = found(gpu_info=gpu_info(), cdi_devices=["nvidia.com/gpu=0", "nvidia.com/gpu=all"])
    assert planned.plans["gpt-oss-20b"]["devices"] == [["0"]]


TWO_NODES = {"0": "0-15", "1": "16-31"}


@pytest.mark.parametrize(
    ("numa_cpus", "numa_node", "expected"),
    [
        (TWO_NODES, 1, {"cpus": "16-31", "mems": "1"}),
        (TWO_NODES, None, None),
        ({"0": "0-31"}, 0, None),
        ({}, 0, None),
    ],
)
def test_processors_are_those_near_the_gpu(
    numa_cpus: dict[str, str], numa_node: int | None, expected: dict[str, str] | None
) -> None:
    planned = found(gpu_info=gpu_info(numa_node=numa_node), numa_cpus=numa_cpus)
    assert planned.plans["gpt-oss-20b"]["cpusets"] == [expected]


def test_gpus_at_two_nodes_are_pinned_to_none() -> None:
    both = ONE | {"options": {"tensor-parallel-size": 2}}
    planned = found(both, gpu_info=gpu_info(2, numa_node=1), numa_cpus=TWO_NODES)
    assert planned.plans["gpt-oss-20b"]["cpusets"] == [None]


@pytest.mark.parametrize(
    ("gpus", "devices"),
    [
        (1, [[UUIDS[0]]]),
        ([2], [[UUIDS[2]]]),
        ([UUIDS[3]], [[UUIDS[3]]]),
        (2, [[UUIDS[0]], [UUIDS[1]]]),
        ("all", [[uuid] for uuid in UUIDS]),
    ],
    ids=["count", "index", "uuid", "two replicas", "all"],
)
def test_gpus_are_those_that_are_asked_for(gpus: Any, devices: list[list[str]]) -> None:
    planned = found(ONE | {"gpus": gpus}, gpu_info=gpu_info(4))
    assert planned.problems == []
    assert planned.plans["gpt-oss-20b"]["devices"] == devices


def test_counts_take_what_lists_leave() -> None:
    first = ONE | {"name": "first", "gpus": 1}
    second = ONE | {"name": "second", "gpus": [0], "port": 8100}
    planned = found(first, second, gpu_info=gpu_info(2))
    assert planned.problems == []
    assert planned.plans["first"]["devices"] == [[UUIDS[1]]]
    assert planned.plans["second"]["devices"] == [[UUIDS[0]]]


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({"gpus": "all"}, {"gpus": [0]}, "shares a GPU with other; give each its own gpus"),
        ({"gpus": 1}, {"gpus": 1}, "wants 1 GPUs; 0 of the host's 1 are left for it"),
        (
            {"gpus": [0], "options": {"gpu-memory-utilization": 0.6}},
            {"gpus": [0], "options": {"gpu_memory_utilization": 0.5}},
            "adds up to 1.1",
        ),
        ({"gpus": [7]}, {"gpus": "none"}, "wants GPUs 7; there are 0 "),
    ],
    ids=["all and a list", "too many", "more than a GPU", "not there"],
)
def test_a_gpu_is_not_given_twice(one: dict[str, Any], other: dict[str, Any], said: str) -> None:
    planned = found(ONE | one, ONE | other | {"name": "other"}, gpu_info=gpu_info())
    assert len(planned.problems) == 1
    assert said in planned.problems[0]


def test_two_instances_share_a_gpu_when_each_limits_itself() -> None:
    half = {"gpus": [0], "options": {"gpu-memory-utilization": 0.45}}
    planned = found(ONE | half, ONE | half | {"name": "other"}, gpu_info=gpu_info())
    assert planned.problems == []
    assert planned.plans["gpt-oss-20b"]["devices"] == planned.plans["other"]["devices"]


def test_the_plan_does_not_depend_on_what_runs() -> None:
    """Else the second run would find another plan than the first, and restart the engine."""
    mine = {"pid": 1, "name": "vllm", "memory_bytes": 130 * GIB, "container_id": "ours"}
    busy = {"processes": [mine], "memory_used_bytes": 130 * GIB, "memory_free_bytes": 9 * GIB}
    idle = found(gpu_info=gpu_info())
    assert found(gpu_info=gpu_info(**busy), own_containers={"ours"}).plans == idle.plans


def test_memory_that_others_hold_is_told_and_changes_no_flag() -> None:
    other = {"pid": 77, "name": "python3", "memory_bytes": 100 * GIB, "container_id": None}
    busy = {"processes": [other], "memory_used_bytes": 100 * GIB, "memory_free_bytes": 39 * GIB}
    planned = found(gpu_info=gpu_info(**busy))
    assert planned.problems == []
    entry = planned.plans["gpt-oss-20b"]
    assert entry["in_use"].startswith("vllm_instances (gpt-oss-20b)")
    assert "100.0" in entry["in_use"]
    idle = found(gpu_info=gpu_info()).plans["gpt-oss-20b"]
    assert entry | {"in_use": ""} == idle


@pytest.mark.parametrize(
    ("utilization", "gib", "in_use"),
    [
        (None, 4 / 1024, False),
        (0.9, 3.0, False),
        (0.9, 13.0, False),
        # 13.98 GiB are beside 0.9 of 139.8, less what CUDA takes there.
        (0.9, 13.9, True),
        (0.9, 20.0, True),
    ],
)
def test_a_process_that_leaves_room_is_no_obstacle(
    utilization: float | None, gib: float, in_use: bool
) -> None:
    """vLLM starts where the memory that it asks for is free beside its own context."""
    options = {} if utilization is None else {"gpu-memory-utilization": utilization}
    instance = ONE | {"options": options}
    planned = found(instance, gpu_info=gpu_info(**busy(gib, "Xorg")))
    assert bool(planned.plans["gpt-oss-20b"]["in_use"]) is in_use
    idle = found(instance, gpu_info=gpu_info()).plans["gpt-oss-20b"]
    assert planned.plans["gpt-oss-20b"] | {"in_use": ""} == idle


def test_kv_bytes_that_others_leave_no_room_for_are_told() -> None:
    """They are taken whatever the utilization is that vLLM starts with."""
    options = {"kv-cache-memory-bytes": 100 * GIB, "gpu-memory-utilization": 0.3}
    planned = found(ONE | {"options": options}, gpu_info=gpu_info(**busy(40)))
    said = planned.plans["gpt-oss-20b"]["in_use"]
    assert "gpt-oss-20b" in said
    assert "set gpu-memory-utilization" not in said


def test_who_holds_the_memory_is_told_and_what_would_do() -> None:
    planned = found(ONE | {"gpus": 1}, gpu_info=gpu_info(2, **busy(80)))
    said = planned.plans["gpt-oss-20b"]["in_use"]
    assert "80.00 of 139.80 GiB are held by python3 (pid 77)" in said
    assert "set gpus: [1], or set gpu-memory-utilization: 0.4" in said
    asked = said.partition("gpu-memory-utilization: ")[2].partition(" ")[0]
    less = {"options": {"gpu-memory-utilization": float(asked)}}
    for way in ({"gpus": [1]}, less):
        again = found(ONE | {"gpus": 1} | way, gpu_info=gpu_info(2, **busy(80)))
        assert again.problems == []
        assert again.plans["gpt-oss-20b"]["in_use"] == ""


def test_a_gpu_of_another_instance_is_no_way_out() -> None:
    other = ONE | {"name": "other", "gpus": [1], "port": 8100}
    planned = found(ONE | {"gpus": [0]}, other, gpu_info=gpu_info(2, **busy(125)))
    said = planned.plans["gpt-oss-20b"]["in_use"]
    assert said
    assert "set gpus" not in said
    assert "set gpu-memory-utilization" not in said  # the weights alone need more


def paired() -> dict[str, Any]:
    """Four GPUs, of which 1 and 3 have NVLink to each other."""
    facts = gpu_info(4)
    for one, other in ((1, 3), (3, 1)):
        facts["gpus"][one]["nvlink"] = {"active_links": 4, "peers": [UUIDS[other]]}
    return facts


def test_a_count_takes_gpus_that_work_together() -> None:
    instance = ONE | {"gpus": 2, "options": {"tensor-parallel-size": 2}}
    planned = found(instance, gpu_info=paired())
    assert planned.plans["gpt-oss-20b"]["devices"] == [[UUIDS[1], UUIDS[3]]]


def test_a_count_stays_on_one_numa_node() -> None:
    facts = gpu_info(4)
    for index, node in enumerate((0, 0, 1, 1)):
        facts["gpus"][index]["numa_node"] = node
    first = ONE | {"name": "first", "gpus": [0]}
    planned = found(first, ONE | {"gpus": 2, "port": 8100}, gpu_info=facts)
    assert planned.plans["gpt-oss-20b"]["devices"] == [[UUIDS[2]], [UUIDS[3]]]


def test_values_of_a_persons_variables_are_in_no_plan() -> None:
    """They may be secrets under names that nobody knows; only the engine's file has them."""
    instance = ONE | {"env": {"FOO_TOKEN": "hunter2", "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "77123"}}
    planned = found(instance, gpu_info=gpu_info())
    entry = planned.plans["gpt-oss-20b"]
    text = json.dumps(entry) + plan_text("plan", planned.planned["gpt-oss-20b"])
    assert "hunter2" not in text
    assert "77123" not in text
    assert "FOO_TOKEN" in text
    settings = {
        "release": "0.32.0",
        "image": "vllm@sha256:ab",
        "listen_address": "127.0.0.1",
        "models": {instance["model"]: {"commit": "c0", "directory": "/store/c0"}},
    }
    files = build(instance, settings, entry)["files"]
    assert "FOO_TOKEN=hunter2\n" in files["environment"]
    assert "VLLM_HTTP_TIMEOUT_KEEP_ALIVE=77123\n" in files["environment"]
    assert "hunter2" not in "".join(files[name] for name in files if name != "environment")


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"state": "mismatch", "message": "The driver is not its library's."}, "not its library's"),
        (gpu_info(memory_total_bytes=8 * GIB, memory_reserved_bytes=0), "missing"),
        (gpu_info(compute_capability="7.0", name="Tesla V100"), "7.0"),
    ],
    ids=["driver", "memory", "too old"],
)
def test_what_cannot_run_is_refused(facts: dict[str, Any], said: str) -> None:
    planned = found(gpu_info=facts)
    assert planned.plans == {}
    assert len(planned.problems) == 1
    assert said in planned.problems[0]


def test_a_model_of_unknown_shape_is_served_without_a_plan() -> None:
    planned = found(ONE | {"model": "someone/else"}, gpu_info=gpu_info())
    assert planned.problems == []
    assert "is not planned" in planned.notes[0]
    assert planned.plans["gpt-oss-20b"]["flags"] == {}
    assert planned.plans["gpt-oss-20b"]["devices"] == [[UUIDS[0]]]


def tiny(**changes: Any) -> dict[str, Any]:
    """The lab's instance."""
    instance: dict[str, Any] = {
        "name": "gpt-oss-tiny",
        "model": TINY_DIRECTORY,
        "gpus": "none",
        "max_model_len": 8192,
        "options": {"kv-cache-memory-bytes": GIB // 4, "max-num-batched-tokens": 1024},
    }
    return found(instance | changes, model_configs=CONFIGS).plans["gpt-oss-tiny"]


@pytest.mark.parametrize(
    ("changes", "tokens", "concurrency"),
    [
        ({}, 906876, 110.70),
        ({"options": {"kv-cache-memory-bytes": "1G"}}, 3273603, 399.61),
        ({"options": {}, "env": {"VLLM_CPU_KVCACHE_SPACE": "1"}}, 3273603, 399.61),
    ],
)
def test_a_cpu_engine_holds_what_vllm_says(
    changes: dict[str, Any], tokens: int, concurrency: float
) -> None:
    """Figures of vLLM 0.32.0's own log in the lab, 2026-11-21."""
    planned = tiny(**changes)
    assert planned["kv_tokens"] == tokens
    assert round(planned["max_concurrency"], 2) == concurrency


@pytest.mark.parametrize(
    "changes",
    [{"options": {}}, {"options": {"kv-cache-memory-bytes": GIB, "tensor-parallel-size": 2}}],
    ids=["a part of the host's memory", "several processes"],
)
def test_a_cpu_engine_is_not_guessed(changes: dict[str, Any]) -> None:
    planned = tiny(**changes)
    assert planned["kv_tokens"] is None
    assert planned["flags"]["tool-call-parser"] == "openai"


def test_a_directory_without_configuration_gets_no_parser() -> None:
    planned = plan_instances([ONE | {"model": "/srv/x", "gpus": "none"}], Host(), "0.32.0")
    assert planned.plans["gpt-oss-20b"]["flags"] == {}
    assert planned.notes == []


def test_without_a_host_the_catalogue_knows_the_parsers() -> None:
    planned = unplanned(ONE, "0.32.0")
    assert planned["flags"] == {"enable-auto-tool-choice": True, "tool-call-parser": "openai"}
    assert planned["devices"] is None
