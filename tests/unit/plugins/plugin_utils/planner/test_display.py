# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

from datetime import date

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import display
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import (
    GIB,
    KvCache,
    Memory,
    Plan,
    Reason,
)


def memory(**changes: float) -> Memory:
    """An H200 with gpt-oss-20b; sizes in GiB."""
    sizes = {
        "total": 139.8,
        "requested": 128.6,
        "weights": 13.0,
        "activation": 2.9,
        "cuda_graphs": 0.6,
        "cuda_graphs_reserved": 0.6,
        "other": 0.2,
        "kv": 111.9,
        "outside": 0.5,
    }
    return Memory(**{name: round(size * GIB) for name, size in (sizes | changes).items()})


def plan(**changes: object) -> Plan:
    values = {
        "flags": {"max-model-len": 131072, "max-num-seqs": 256},
        "env": {},
        "tensor_parallel_size": 1,
        "replicas": 1,
        "devices": (("GPU-0",),),
        "memory": memory(),
        "kv_cache": KvCache(1, 4341729, 33.1246, 1),
        "reasons": (Reason("max-model-len", 131072, "the model's own"),),
    }
    return Plan(**(values | changes))  # type: ignore[arg-type]


def test_the_whole_text_of_a_plan() -> None:
    text = display.plan_text("gpt-oss-20b on gpu1", plan(notes=("Driver 580 is wanted.",)), 60)
    assert text == (
        "gpt-oss-20b on gpu1\n"
        "===================\n"
        "\n"
        "  flag           value   why\n"
        "  -------------  ------  -----------------------------------\n"
        "  max-model-len  131072  the model's own\n"
        "  max-num-seqs   256\n"
        "\n"
        "  Memory of each GPU, 139.8 GiB\n"
        "  [█████▓▒▚▞░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░····]\n"
        "  █ weights       13.00 GiB    9.3%\n"
        "  ▓ activation     2.90 GiB    2.1%\n"
        "  ▒ CUDA graphs    0.60 GiB    0.4%\n"
        "  ▚ other          0.20 GiB    0.1%\n"
        "  ▞ CUDA, NCCL     0.50 GiB    0.4%\n"
        "  ░ KV cache     111.90 GiB   80.0%\n"
        "  · free          10.70 GiB    7.7%\n"
        "\n"
        "  KV cache: 4,341,729 tokens, 33.12 requests of 131,072\n"
        "    tokens at once.\n"
        "\n"
        "  - Driver 580 is wanted.\n"
    )


@pytest.mark.parametrize("width", [72, 80, 100, 132])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    reasons = (
        Reason("compilation-config", {"cudagraph_mode": "FULL_AND_PIECEWISE"}, "word " * 60),
        Reason("kv-cache-dtype", None, "left out"),
    )
    text = display.plan_text("x" * 40, plan(reasons=reasons, notes=("note " * 60,)), width)
    assert max(len(line) for line in text.splitlines()) <= width
    drawn = next(line for line in text.splitlines() if "[" in line and "█" in line)
    assert len(drawn) == width


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (True, "true"),
        (False, "false"),
        (0.9, "0.9"),
        ({"b": 1, "a": [2]}, '{"a": [2], "b": 1}'),
        ({"day": date(2026, 11, 21)}, '{"day": "2026-11-21"}'),  # YAML reads one
        ("openai", "openai"),
    ],
)
def test_values_read_as_in_the_configuration(value: object, text: str) -> None:
    assert display.value_text(value) == text


def test_what_has_no_reason_is_still_shown() -> None:
    shown = display.rows(plan(env={"VLLM_X": "1"}))
    assert [row.flag for row in shown] == ["max-model-len", "max-num-seqs", "VLLM_X"]


def test_the_smallest_part_is_seen_and_the_bar_is_full() -> None:
    drawn = display.memory_bar(memory(other=0.01)).splitlines()[1].strip()
    assert drawn.count("▚") == 1
    assert len(drawn) == display.WIDTH - 2


def test_the_parts_add_up_to_the_whole_gpu() -> None:
    whole = memory()
    assert sum(display.parts_of(whole).values()) == whole.total


def test_a_gpu_without_room_for_a_cache_has_a_bar_too() -> None:
    text = display.memory_bar(memory(weights=140.0, kv=-12.0))
    assert "KV cache       0.00 GiB" in text


@pytest.mark.parametrize(
    ("first", "restart", "said"),
    [
        (11.9, 0, "tokens at once."),  # not known
        (11.9, 11.94, "tokens at once."),
        (11.86, 11.94, "at once; 11.94 GiB instead of 11.86 after a restart, when kernels are"),
        (11.9, 12.9, "at once; 12.9 GiB instead of 11.9 after a restart, when kernels are compil"),
        (11.9, 10.9, "at once; 10.9 GiB instead of 11.9 after a restart, when kernels are compil"),
    ],
)
def test_a_restart_is_told_where_its_cache_is_another(
    first: float, restart: float, said: str
) -> None:
    found = plan(memory=memory(kv=first), restart_kv_bytes=round(restart * GIB))
    text = display.prediction(found)
    assert said in text
    assert text.endswith(".")
    assert ("restart" in text) is ("restart" in said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"replicas": 2}, "2 replicas, one GPU each"),
        ({"replicas": 2, "tensor_parallel_size": 4}, "2 replicas, GPUs in groups of 4"),
        ({"tensor_parallel_size": 8}, "one, over 8 GPUs (tensor parallel)"),
    ],
)
def test_several_gpus_are_told(changes: dict[str, int], said: str) -> None:
    assert said in display.plan_text("x", plan(**changes))


def test_nothing_is_told_of_one_engine_on_one_gpu() -> None:
    assert "Engine" not in display.plan_text("x", plan())
