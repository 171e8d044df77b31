# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Predicted memory against what vLLM reported, and how it moves with each flag."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import (
    gpus,
    memory,
    models,
    settings,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.plan import plan
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import (
    GIB,
    Engine,
    Gpu,
    Memory,
)

REPORTED = json.loads((Path(__file__).parent / "memory_observations.json").read_text())["reported"]
MEASURED = json.loads(
    (Path(memory.__file__).parents[3] / "tests" / "gpu" / "measurements.json").read_text()
)
GPT_OSS, LARGE = models.model("openai/gpt-oss-20b"), models.model("openai/gpt-oss-120b")
DENSE = models.model("meta-llama/Llama-3.1-8B-Instruct")
L4, H100 = (8, 9), (9, 0)
TOTAL = int(79.18 * GIB)


def engine(
    capability: tuple[int, int] = H100,
    release: str = "0.26.0",
    model: Any = GPT_OSS,
    env: dict[str, str] | None = None,
    **flags: Any,
) -> Engine:
    """An engine with 1,024 sequences and 8,192 tokens, unless flags say otherwise."""
    said = {"max-num-seqs": 1024, "max-num-batched-tokens": 8192, "max-model-len": 131072}
    said |= {name.replace("_", "-"): value for name, value in flags.items()}
    return settings.engine(said, env or {}, Gpu("any", capability, TOTAL), model, release)


def predicted(seen: dict[str, Any]) -> Memory:
    model = models.model(seen["model"])
    capability = tuple(seen.get("capability", H100))
    return memory.memory(
        int(seen["total_gib"] * GIB),
        seen["utilization"],
        model,
        engine(capability, seen["release"], model, seen.get("env"), **seen["flags"]),
        compiled=seen.get("compiled", False),
    )


def options(words: list[str]) -> dict[str, Any]:
    """``["--max-num-seqs", "8", "--enforce-eager"]`` as options."""
    found: dict[str, Any] = {}
    for word, following in zip(words, [*words[1:], "--"]):
        if word.startswith("--"):
            name = word.removeprefix("--")
            found[name] = True if following.startswith("--") else following
    return {name: int(v) if str(v).isdigit() else v for name, v in found.items()}


STARTS = MEASURED["results"] + MEASURED["holdout"] + MEASURED["plans"]


@pytest.mark.parametrize("seen", STARTS, ids=lambda seen: seen["id"])
def test_every_figure_of_a_measured_start(seen: dict[str, Any]) -> None:
    model = DENSE if seen["model"] == "llama-3.1-8b" else models.model(seen["model"])
    started = engine(H100, seen["release"], model, seen["env"], **options(seen["flags"]))
    # A start that had to compile is a first one.
    compiled = not seen["compiled"]
    total = int(seen["total_gib"] * GIB)
    found = memory.memory(total, seen["util"], model, started, compiled=compiled)
    assert found.kv / GIB == pytest.approx(seen["avail_gib"], abs=0.15)
    assert found.weights / GIB == pytest.approx(seen["weights_gib"], abs=0.05)
    assert found.activation / GIB == pytest.approx(seen["activation_gib"], abs=0.1)
    assert found.other / GIB == pytest.approx(seen["non_torch_gib"], abs=0.05)
    # vLLM's estimate is 82 times one sample, and that comes in steps of 2 MiB: 0.16 GiB.
    assert found.cuda_graphs_reserved / GIB == pytest.approx(
        seen["cudagraph_estimate_gib"] or 0, abs=0.17
    )
    if seen["cudagraph_gib"] is not None:
        assert found.cuda_graphs / GIB == pytest.approx(seen["cudagraph_gib"], abs=0.15)


@pytest.mark.parametrize("seen", REPORTED, ids=lambda seen: seen["id"])
def test_a_reported_start_within_three_percent_or_half_a_gib(seen: dict[str, Any]) -> None:
    found = predicted(seen)
    tolerance = max(0.03 * abs(seen["available"]), 0.5)
    if "missed_with" in seen:
        assert found.kv / GIB == pytest.approx(seen["missed_with"], abs=0.01)
        assert seen["missed_with"] - seen["available"] > tolerance
    else:
        assert found.kv / GIB == pytest.approx(seen["available"], abs=tolerance)
    for part, value, within in (
        ("weights", found.weights, 0.03),
        ("activation", found.activation, 0.05),
        ("other", found.other, 0.05),
        ("graphs_reserved", found.cuda_graphs_reserved, 0.17),
        ("graphs_held", found.cuda_graphs, 0.15),
    ):
        if part in seen:
            assert value / GIB == pytest.approx(seen[part], abs=within), part


def test_one_reported_start_is_missed() -> None:
    assert [seen["id"] for seen in REPORTED if "missed_with" in seen] == ["kr-H100"]


def test_the_parts_add_up_to_what_was_requested() -> None:
    found = memory.memory(TOTAL, 0.9, GPT_OSS, engine())
    parts = found.weights + found.activation + found.other + found.cuda_graphs_reserved
    assert parts + found.kv == found.requested == -(-TOTAL * 9 // 10)


@pytest.mark.parametrize("seen", MEASURED["plans"], ids=lambda seen: seen["id"])
def test_a_plan_that_was_started_is_what_is_planned_today(seen: dict[str, Any]) -> None:
    size, intent = seen["id"].removeprefix("plan-").split("-")
    found = plan(gpus.gpu_set("h200", 1), f"openai/gpt-oss-{size}", intent, seen["release"])
    assert found.flags | {"gpu-memory-utilization": "0.95"} == options(seen["flags"])
    assert found.flags["gpu-memory-utilization"] == seen["util"]
    predicted = found.restart_kv_bytes if not seen["compiled"] else found.memory.kv
    assert predicted / GIB == pytest.approx(seen["predicted_avail_gib"], abs=0.001)
    assert seen["predicted_avail_gib"] == pytest.approx(seen["avail_gib"], rel=0.0013)


@pytest.mark.parametrize("seen", STARTS, ids=lambda seen: seen["id"])
def test_what_is_taken_before_vllm_looks(seen: dict[str, Any]) -> None:
    ranks = options(seen["flags"]).get("tensor-parallel-size", 1)
    taken = seen["total_gib"] - seen["free_gib"]
    assert memory.outside_bytes(ranks) / GIB == pytest.approx(taken, abs=0.01)
    assert memory.outside_bytes(ranks) / GIB > taken


def test_memory_knows_what_lies_outside() -> None:
    one, four = (
        memory.memory(TOTAL, 0.9, LARGE, engine(model=LARGE, tensor_parallel_size=ranks))
        for ranks in (1, 4)
    )
    assert (one.outside, four.outside) == (memory.outside_bytes(1), memory.outside_bytes(4))
    assert four.outside - one.outside > GIB  # NCCL


def test_given_kv_bytes_are_taken_as_they_are() -> None:
    assert memory.memory(TOTAL, 0.9, GPT_OSS, engine(), kv_bytes=7 * GIB).kv == 7 * GIB


def test_the_one_log_that_is_missed() -> None:
    """kr-H100 (0.25.1, 8 sequences, 1,024 tokens): 11.93 GiB are predicted, 10.52 were printed.

    Known: that engine's process held 75,126 MiB of the 75.22 GiB requested, where the same flags on
    an H200 of one's own (120b-8-1024-util95) leave 0.30 GiB; and another user's process came to
    hold 2,960 MiB of that GPU. What a neighbour takes while vLLM profiles, vLLM deducts to the
    MiB: measured on the H200 with the same flags. When the other process grew is not in the log,
    so it stays missed. What is held here: the growth that the engine's own figure asks for is less
    than what the other process came to hold, and with it the prediction would be within its error.
    """
    alone, beside = MEASURED["neighbour"]
    assert alone["flags"] == beside["flags"]
    lost = alone["avail_gib"] - beside["avail_gib"]
    assert lost == pytest.approx(beside["neighbour_grew_gib"], abs=2 / 1024)
    assert beside["non_torch_gib"] - alone["non_torch_gib"] == pytest.approx(lost, abs=1e-6)

    seen = engine(H100, "0.25.1", LARGE, max_num_seqs=8, max_num_batched_tokens=1024)
    found = memory.memory(TOTAL, 0.95, LARGE, seen)
    assert found.kv / GIB == pytest.approx(11.93, abs=0.01)
    neighbour = found.requested / GIB - 75126 / 1024 - 0.30
    assert 0 < neighbour < 2960 / 1024
    assert found.kv / GIB - neighbour == pytest.approx(10.52, abs=0.5)


@pytest.mark.parametrize(
    ("model", "release", "seqs", "tokens", "capability", "size"),
    [
        (GPT_OSS, "0.26.0", 1024, 8192, H100, 1024),
        (GPT_OSS, "0.26.0", 8, 8192, H100, 1024),
        (GPT_OSS, "0.11.0", 1024, 8192, H100, 992),
        (GPT_OSS, "0.26.0", 1024, 300, H100, 288),
        (DENSE, "0.26.0", 1024, 8192, H100, 512),
        (DENSE, "0.26.0", 100, 8192, H100, 200),
        (DENSE, "0.26.0", 1, 8192, H100, 2),
        (DENSE, "0.27.1", 1024, 8192, (10, 0), 512),
        (DENSE, "0.28.0", 1024, 8192, (10, 0), 1024),
    ],
)
def test_the_largest_graph_by_default(
    model: Any, release: str, seqs: int, tokens: int, capability: tuple[int, int], size: int
) -> None:
    gpu = Gpu("any", capability, TOTAL)
    assert settings.capture_size({}, gpu, model, release, tokens, seqs) == size


def test_capture_sizes_are_vllm_s() -> None:
    assert [len(memory.capture_sizes(largest)) for largest in (256, 512, 1024)] == [35, 51, 83]
    assert memory.capture_sizes(16) == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("release", ["0.11.2", "0.18.1", "0.26.0", "0.28.0", "0.33.0"])
@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ({"max_num_seqs": 16}, {"max_num_seqs": 1024}),
        ({"max_num_batched_tokens": 2048}, {"max_num_batched_tokens": 65536}),
    ],
)
def test_larger_batches_leave_less(
    release: str, smaller: dict[str, Any], larger: dict[str, Any]
) -> None:
    left = [
        memory.memory(TOTAL, 0.9, GPT_OSS, engine(release=release, **flags)).kv
        for flags in (smaller, larger)
    ]
    assert left[0] > left[1]


def test_a_graph_estimate_can_be_switched_off_and_on() -> None:
    """VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS: from 0.18.0, by default from 0.20.0."""
    reserved = {
        (release, wish): memory.memory(
            TOTAL, 0.9, GPT_OSS, replace(engine(release=release), estimate_cuda_graphs=wish)
        ).cuda_graphs_reserved
        > 0
        for release in ("0.17.1", "0.18.1", "0.20.0")
        for wish in (None, False, True)
    }
    assert {key for key, value in reserved.items() if value} == {
        ("0.18.1", True),
        ("0.20.0", None),
        ("0.20.0", True),
    }


def test_the_second_runner_estimates_graphs_from_0_29_0_on() -> None:
    early, late = (
        memory.memory(TOTAL, 0.9, DENSE, engine(release=release, model=DENSE))
        for release in ("0.28.0", "0.29.0")
    )
    assert (early.cuda_graphs_reserved, late.cuda_graphs_reserved) == (0, late.cuda_graphs)


def test_a_warm_compile_cache_gives_the_embedding_back() -> None:
    small = engine(max_num_seqs=8, max_num_batched_tokens=2048)
    cold = memory.memory(TOTAL, 0.9, GPT_OSS, small)
    warm = memory.memory(TOTAL, 0.9, GPT_OSS, small, compiled=True)
    assert 0.8 < (warm.kv - cold.kv) / GIB < 1.08


def test_tensor_parallel_divides_what_can_be_divided() -> None:
    one, two = (
        memory.weight_bytes(LARGE, engine(model=LARGE, tensor_parallel_size=ranks))
        for ranks in (1, 2)
    )
    assert one / 2 < two < one / 2 * 1.05


def test_ranks_that_do_not_divide_the_experts_evenly_pad_them() -> None:
    """2,880 / 8 = 360 becomes 384 with Marlin."""
    one, eight = (
        memory.weight_bytes(GPT_OSS, engine(L4, "0.19.1", tensor_parallel_size=ranks))
        for ranks in (1, 8)
    )
    assert one < 8 * eight < one * 1.1


def test_every_kernel_the_choice_can_make_has_figures() -> None:
    for capability in ((8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1)):
        for release in ("0.10.1", "0.11.2", "0.17.1", "0.20.0", "0.26.0", "0.33.0"):
            found = memory.memory(TOTAL, 0.9, GPT_OSS, engine(capability, release))
            assert 12.8 < found.weights / GIB < 15.5
            assert 0.5 < found.activation / GIB < 8
