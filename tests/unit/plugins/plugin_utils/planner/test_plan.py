# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the plan decides, one case a line; what it refuses, with the sentence."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import fit, gpus, models
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.plan import as_json, plan
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import (
    GIB,
    Gpu,
    Plan,
    Refusal,
)

BIG, SMALL = "openai/gpt-oss-120b", "openai/gpt-oss-20b"
NEW, OLD = "0.32.0", "0.12.0"


def planned(
    gpu: str = "h100-80",
    count: int = 1,
    model: str = SMALL,
    intent: str = "chat",
    release: str = NEW,
    options: dict[str, Any] | None = None,
    **more: Any,
) -> Plan:
    return plan(gpus.gpu_set(gpu, count), model, intent, release, options, **more)


def refused(*arguments: Any, **more: Any) -> str:
    with pytest.raises(Refusal) as caught:
        planned(*arguments, **more)
    sentence = str(caught.value)
    assert sentence.endswith((".", "?")) and "\n" not in sentence
    return sentence


def why(found: Plan, flag: str) -> str:
    (row,) = [row for row in found.reasons if row.flag == flag]
    return row.why


# -- tensor parallel and replicas ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "count", "model", "size", "replicas"),
    [
        ("l4", 1, SMALL, 1, 1),
        ("l4", 4, SMALL, 1, 4),
        ("h200", 8, BIG, 1, 8),
        ("h100-80", 3, BIG, 1, 3),
        ("l40s", 2, BIG, 2, 1),
        ("l40s", 4, BIG, 2, 2),
        ("l4", 4, BIG, 4, 1),
        ("l4", 8, BIG, 8, 1),
        ("a100-40", 4, BIG, 4, 1),
        ("l40s", 8, BIG, 2, 4),
        ("rtx5080", 2, SMALL, 2, 1),
        ("gb10", 1, BIG, 1, 1),
    ],
)
def test_what_fits_one_gpu_is_replicated(
    gpu: str, count: int, model: str, size: int, replicas: int
) -> None:
    found = planned(gpu, count, model)
    assert (found.tensor_parallel_size, found.replicas) == (size, replicas)
    assert found.flags["tensor-parallel-size"] == size
    assert [len(group) for group in found.devices] == [size] * replicas


@pytest.mark.parametrize("intent", ["chat", "long_context"])
def test_more_gpus_rather_than_less_than_the_intent_wants(intent: str) -> None:
    """Two would hold the weights and a short context."""
    found = planned("a100-80", 4, BIG, intent, options={"gpu-memory-utilization": 0.46})
    fewer = planned(
        "a100-80", 4, BIG, intent,
        options={"gpu-memory-utilization": 0.46, "tensor-parallel-size": 2},
    )  # fmt: skip
    assert (found.tensor_parallel_size, found.flags["max-model-len"]) == (4, 131_072)
    assert found.kv_cache.concurrency > 10
    assert fewer.flags["max-model-len"] * fewer.kv_cache.concurrency < 2 * 131_072


def test_the_nearest_where_no_size_is_enough() -> None:
    """Eight requests of 16,384 tokens are too many for four small cards."""
    found = planned("l4", 4, BIG, "throughput")
    assert found.tensor_parallel_size == 4
    assert found.flags["max-model-len"] == 8192
    assert found.kv_cache.concurrency < 8


@pytest.mark.parametrize("gib", [19.7, 19.8, 20.4, 20.6, 24.0])
def test_a_larger_step_never_costs_requests_that_are_wanted(gib: float) -> None:
    """At 19.8 GiB the next step fits, with 5.96 requests where the smallest has 10.51."""
    (l4,) = gpus.gpu_set("l4", 1)
    found = plan((replace(l4, memory_bytes=round(gib * GIB)),), SMALL, "throughput", NEW)
    assert found.kv_cache.concurrency >= 8


def test_a_larger_step_costs_a_fifth_of_the_requests_at_most() -> None:
    """Two of these cards hold fewer than eight requests of 8,192 tokens with any batch."""
    found = planned("rtx4080", 2, "Qwen/Qwen3-8B", "throughput", "0.12.0")
    asked: dict[str, Any] = {"max-num-seqs": 64, "max-num-batched-tokens": 1024}
    most = planned("rtx4080", 2, "Qwen/Qwen3-8B", "throughput", "0.12.0", asked)
    assert found.flags["max-num-seqs"] == 128
    assert 0.8 < found.kv_cache.concurrency / most.kv_cache.concurrency < 1
    assert most.kv_cache.concurrency < 8


def test_a_smaller_step_is_worth_a_plan_that_is_not_thin() -> None:
    model = "meta-llama/Llama-3.1-8B-Instruct"
    found = planned("rtx3090", 1, model, "long_context", "0.12.0")
    asked = {"max-num-seqs": 16, "max-num-batched-tokens": 2048}
    thin = planned("rtx3090", 1, model, "long_context", "0.12.0", asked)
    assert found.flags["max-model-len"] == thin.flags["max-model-len"]
    spare = [each.memory.kv - each.kv_cache.needed_bytes for each in (found, thin)]
    assert spare[1] < GIB / 2 < spare[0]


@pytest.mark.parametrize("count", [4, 8])
def test_a_plan_is_not_thinner_than_its_error_where_more_gpus_help(count: int) -> None:
    """Four L4 hold one request of 131,072 tokens with 0.2 GiB to spare."""
    found = planned("l4", count, BIG, "long_context")
    spare = found.memory.kv - found.kv_cache.needed_bytes
    thin = [note for note in found.notes if "the prediction may be off by 0.50 GiB" in note]
    assert found.tensor_parallel_size == count
    assert found.flags["max-model-len"] == 131_072
    if count == 4:
        assert 0 < spare < GIB / 2
        (note,) = thin
        assert note.startswith(f"One request of 131,072 tokens leaves {spare / GIB:.2f} GiB of")
    else:
        assert spare > GIB / 2 and not thin
        assert "0.50 GiB to spare" in why(found, "tensor-parallel-size")


def test_bytes_that_are_given_are_not_thin() -> None:
    options = {"kv-cache-memory-bytes": 22_792 * 196_608}
    found = planned("l4", max_model_len=128_000, options=options)
    assert not any("may be off by" in note for note in found.notes)


def test_no_size_is_left_to_vllm() -> None:
    """It would take one GPU."""
    left = planned("l40s", 2, BIG, options={"tensor-parallel-size": None, "max-num-seqs": 64})
    assert left.flags["tensor-parallel-size"] == left.tensor_parallel_size == 2
    assert left == planned("l40s", 2, BIG, options={"max-num-seqs": 64})


def test_an_odd_gpu_stays_idle_and_is_named() -> None:
    found = planned("l40s", 3, BIG)
    assert (found.tensor_parallel_size, found.replicas) == (2, 1)
    assert any("GPU 2 stays idle: 3 GPUs do not divide" in note for note in found.notes)


def test_odd_gpus_stay_idle() -> None:
    assert any("GPUs 4, 5 and 6 stay idle: 7 GPUs" in note for note in planned("l4", 7, BIG).notes)


def test_devices_are_uuids_in_a_fixed_order() -> None:
    board = gpus.gpu_set("h200", 4)
    one = plan(board, SMALL, "chat", NEW)
    other = plan(tuple(reversed(board)), SMALL, "chat", NEW)
    assert one.devices == other.devices == tuple((gpu.uuid,) for gpu in board)


def test_a_group_over_pcie_is_told() -> None:
    assert any("no NVLink" in note for note in planned("l40s", 2, BIG).notes)
    assert not any("no NVLink" in note for note in planned("h200", 2, BIG).notes)


def test_the_reader_learns_why_there_are_replicas() -> None:
    assert "8 independent replicas" in why(planned("h200", 8, BIG), "tensor-parallel-size")
    assert "17." in why(planned("l4", 4, BIG), "tensor-parallel-size")


def test_a_recipe_is_that_of_its_model() -> None:
    other = why(planned("h100-80", 4, "meta-llama/Llama-3.1-8B-Instruct"), "tensor-parallel-size")
    assert "4 independent replicas: none of them waits for another GPU" in other
    assert "NVIDIA's recipe for gpt-oss" in why(planned("h100-80", 4), "tensor-parallel-size")


def test_the_reason_for_more_gpus_is_true() -> None:
    """Two A100 of 40 GB, and fewer than eight L4, are too few; four L4 are, too."""
    for gpu, count, enough in (("a100-40", 4, True), ("l4", 8, True), ("l4", 4, False)):
        told = why(planned(gpu, count, BIG), "tensor-parallel-size")
        assert ("fewer GPUs do not hold" in told) is enough
        assert ("come nearest" in told) is not enough


# -- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "count", "model", "most"),
    [
        ("l4", 1, SMALL, 0.93),
        ("h100-80", 1, SMALL, 0.95),
        ("h200", 1, SMALL, 0.96),
        # NCCL's buffers come on top: 20.09 of 22.03 GiB are free when vLLM looks.
        ("l4", 4, BIG, 0.91),
        ("rtx4090", 4, BIG, 0.91),
    ],
)
def test_utilization_leaves_room(gpu: str, count: int, model: str, most: float) -> None:
    found = planned(gpu, count, model)
    assert 0.85 <= found.flags["gpu-memory-utilization"] <= most
    assert found.memory.requested <= found.memory.total - found.memory.outside


def test_two_80_gb_cards_leave_more_than_one() -> None:
    """vLLM's recipe: below 0.95 with tensor parallel on the H100."""
    found = planned("h100-80", 2, BIG, options={"tensor-parallel-size": 2})
    assert found.flags["gpu-memory-utilization"] < 0.95


def test_a_restart_has_what_compiling_took() -> None:
    """gpt-oss-20b on an L4: about a GiB of input embedding and hidden states."""
    for found in (planned("l4"), planned("h100-80", 1, BIG)):
        assert 0.5 * GIB < found.restart_kv_bytes - found.memory.kv < 1.2 * GIB


@pytest.mark.parametrize(
    "options",
    [{"enforce-eager": True}, {"kv-cache-memory-bytes": 2 * GIB}],
)
def test_a_restart_without_compilation_is_like_the_first(options: dict[str, Any]) -> None:
    found = planned(options=options)
    assert found.restart_kv_bytes == found.memory.kv


@pytest.mark.parametrize("gpu", ["h100-80", "a100-80"])
def test_the_large_model_on_80_gb_follows_the_recipe(gpu: str) -> None:
    flags = planned(gpu, 1, BIG).flags
    assert flags["gpu-memory-utilization"] == 0.95
    assert flags["max-num-batched-tokens"] == 1024


def test_unified_memory_is_shared_with_the_operating_system() -> None:
    found = planned("gb10", 1, BIG)
    assert found.flags["gpu-memory-utilization"] <= 0.8
    assert "operating system" in why(found, "gpu-memory-utilization")


def test_graphs_that_are_not_counted_get_room() -> None:
    """Before 0.20 vLLM deducts nothing for the graphs that it captures afterwards."""
    old, new = planned(release="0.19.1"), planned(release="0.20.0")
    assert old.memory.cuda_graphs_reserved == 0 < new.memory.cuda_graphs_reserved
    for found in (old, new):
        memory = found.memory
        later = memory.cuda_graphs - memory.cuda_graphs_reserved
        assert memory.requested + later < memory.total


def held_bytes(found: Plan) -> int:
    memory = found.memory
    return memory.weights + memory.activation + memory.cuda_graphs + memory.other + memory.kv


def with_others(held: int, display: bool = False, gpu: str = "h100-80") -> tuple[Gpu, ...]:
    (one,) = gpus.gpu_set(gpu, 1)
    holders = ("python3 (pid 4711)",) if held else ()
    return (replace(one, foreign_bytes=held, holders=holders, display=display),)


@pytest.mark.parametrize(("held", "display"), [(20 * GIB, False), (GIB, False), (GIB // 2, True)])
def test_a_shared_gpu_gets_exact_kv_bytes(held: int, display: bool) -> None:
    shared = plan(with_others(held, display), SMALL, "chat", NEW)
    alone = planned()
    assert shared.flags["kv-cache-memory-bytes"] == shared.memory.kv < alone.memory.kv
    left = shared.memory.total - shared.memory.outside - held
    assert held_bytes(shared) < left
    assert shared.memory.requested <= left
    assert "others use this GPU" in why(shared, "kv-cache-memory-bytes")


@pytest.mark.parametrize(
    ("held", "gpu", "release", "said"),
    [
        (4.8, "l4", NEW, "are too little to give exactly, as the prediction may be off by 0.50"),
        (20, "h100-80", "0.10.1", "not in this release: vLLM measures it"),
    ],
)
def test_a_shared_gpu_without_exact_bytes_says_so(
    held: float, gpu: str, release: str, said: str
) -> None:
    found = plan(with_others(round(held * GIB), gpu=gpu), SMALL, "chat", release)
    assert "kv-cache-memory-bytes" not in found.flags
    assert said in why(found, "kv-cache-memory-bytes")


@pytest.mark.parametrize("gpu", ["h100-80", "rtx4090", "rtx5090", "a6000"])
def test_a_screen_is_no_one_who_uses_the_gpu(gpu: str) -> None:
    lit, dark = plan(with_others(0, True, gpu), SMALL, "chat", NEW), planned(gpu)
    assert lit.flags == dark.flags
    assert "kv-cache-memory-bytes" not in lit.flags


@pytest.mark.parametrize("gpu", ["rtx4090", "rtx5090", "rtx-pro-4500"])
def test_a_desktop_fits_beside_the_plan_of_a_card_for_desktops(gpu: str) -> None:
    memory = planned(gpu).memory
    assert memory.total - memory.requested - memory.outside >= GIB


def test_a_gpu_in_use_is_refused_with_who_holds_it() -> None:
    with pytest.raises(Refusal) as caught:
        plan(with_others(20 * GIB), BIG, "chat", NEW)
    sentence = str(caught.value)
    assert "python3 (pid 4711) holds 20.00 GiB" in sentence
    assert "once the others are gone" in sentence


def test_one_busy_gpu_of_four_is_left_to_its_user() -> None:
    board = list(gpus.gpu_set("h100-80", 4))
    board[1] = replace(board[1], foreign_bytes=70 * GIB)
    with pytest.raises(Refusal, match=r"GPU 1 .* 70.00 GiB of 79.18 GiB;.*gpus: \[0, 2, 3\]"):
        plan(board, SMALL, "chat", NEW)


# -- context -------------------------------------------------------------------------------------


def test_auto_takes_the_models_own_where_it_fits() -> None:
    found = planned("h200")
    assert found.flags["max-model-len"] == 131_072
    assert found.kv_cache.concurrency > 30


@pytest.mark.parametrize("intent", ["chat", "throughput"])
def test_auto_shortens_to_a_readable_length(intent: str) -> None:
    found = planned("l4", intent=intent)
    length = found.flags["max-model-len"]
    assert length < 131_072 and length % 4096 == 0
    assert found.kv_cache.concurrency >= {"chat": 2, "throughput": 8}[intent]
    assert "131,072" in why(found, "max-model-len")


def test_a_given_length_is_kept() -> None:
    found = planned("l4", max_model_len=128_000)
    assert found.flags["max-model-len"] == 128_000
    assert why(found, "max-model-len").startswith("your context")


@pytest.mark.parametrize("given", [8192, "8192", "8.192k"])
def test_the_length_may_be_an_option(given: Any) -> None:
    assert planned(options={"max-model-len": given}).flags["max-model-len"] == 8192


def test_two_lengths_are_one_too_many() -> None:
    assert "keep one of them" in refused(max_model_len=1000, options={"max_model_len": 2000})


def test_longer_than_the_model() -> None:
    assert "made for 131,072 tokens" in refused(max_model_len=200_000)


def test_a_length_that_does_not_fit_names_one_that_does() -> None:
    sentence = refused("rtx4080", 2, max_model_len=131_072, options={"kv-cache-memory-bytes": "1G"})
    assert "GiB" in sentence and "nearest:" in sentence


# -- batches, graphs, scheduling -----------------------------------------------------------------


def test_intents_differ_where_they_should() -> None:
    chat, throughput, long = (
        planned("h200", intent=intent).flags for intent in ("chat", "throughput", "long_context")
    )
    assert chat["max-num-seqs"] < throughput["max-num-seqs"]
    assert long["max-num-seqs"] < chat["max-num-seqs"]
    assert chat["max-num-batched-tokens"] < throughput["max-num-batched-tokens"]


@pytest.mark.parametrize(
    ("seqs", "size"), [(1, 1), (3, 4), (5, 8), (100, 104), (256, 256), (300, 304), (4000, 512)]
)
def test_graphs_cover_every_sequence(seqs: int, size: int) -> None:
    assert planned(options={"max-num-seqs": seqs}).flags["max-cudagraph-capture-size"] == size


def test_graphs_are_not_captured_where_the_person_says_so() -> None:
    for options in (
        {"enforce-eager": True},
        {"compilation-config": {"cudagraph_mode": "NONE"}},
        {"compilation-config.cudagraph_mode": "NONE"},
    ):
        found = planned(options=options)
        assert "max-cudagraph-capture-size" not in found.flags
        assert found.memory.cuda_graphs == 0


def test_a_release_without_the_flag_says_so() -> None:
    found = planned(release="0.11.0")
    assert "max-cudagraph-capture-size" not in found.flags
    assert "came with 0.11.1; vLLM captures up to 992" in why(found, "max-cudagraph-capture-size")


@pytest.mark.parametrize(
    ("release", "value"),
    [
        ("0.10.2", None),
        ("0.11.0", None),
        ("0.11.1", True),
        ("0.13.0", True),
        ("0.14.0", None),
        ("0.33.0", None),
    ],
)
def test_async_scheduling_only_where_it_is_sound_and_not_the_default(
    release: str, value: bool | None
) -> None:
    assert planned(release=release).flags.get("async-scheduling") is value


def test_async_scheduling_before_its_fix_is_called_by_its_issue() -> None:
    assert "#28635" in why(planned(release="0.10.2"), "async-scheduling")
    found = planned(release="0.11.0", options={"async-scheduling": True})
    assert "#28635" in why(found, "async-scheduling")


# -- KV dtype ------------------------------------------------------------------------------------


def test_long_context_on_ada_takes_fp8() -> None:
    found = planned("l4", intent="long_context", release=OLD)
    assert found.flags["kv-cache-dtype"] == "fp8"
    assert found.flags["max-model-len"] == 131_072


@pytest.mark.parametrize("gpu", ["a10", "rtx3090", "h100-80", "rtx5090"])
def test_fp8_is_not_the_plans_idea_elsewhere(gpu: str) -> None:
    assert "kv-cache-dtype" not in planned(gpu, intent="long_context").flags


def test_bf16_stays_where_it_holds_enough() -> None:
    assert "kv-cache-dtype" not in planned("l40s", intent="long_context").flags


@pytest.mark.parametrize(
    ("gpu", "release", "allowed"),
    [
        ("l4", OLD, True),
        ("l4", NEW, True),
        ("b200", NEW, True),
        ("h200", "0.26.0", True),
        ("h200", "0.10.2", False),
        ("a100-80", NEW, False),
        ("rtx3090", OLD, False),
    ],
)
def test_fp8_as_an_option(gpu: str, release: str, allowed: bool) -> None:
    options = {"kv_cache_dtype": "fp8"}
    if allowed:
        found = planned(gpu, release=release, options=options)
        plain = planned(gpu, release=release, options={"kv_cache_dtype": "auto"})
        doubled = planned(gpu, release=release, options=options, max_model_len=16_384)
        single = planned(
            gpu, release=release, options={"kv_cache_dtype": "auto"}, max_model_len=16_384
        )
        assert doubled.kv_cache.tokens == pytest.approx(2 * single.kv_cache.tokens, rel=0.01)
        assert "twice the tokens" in why(found, "kv-cache-dtype")
        assert plain.flags["kv-cache-dtype"] == "auto"
    else:
        sentence = refused(gpu, release=release, options=options)
        assert "kv-cache-dtype is 'fp8', which does not work on" in sentence


@pytest.mark.parametrize(
    ("gpu", "model", "options", "allowed"),
    [
        ("h100-80", SMALL, {}, False),
        ("h200", "meta-llama/Llama-3.1-8B-Instruct", {}, False),
        ("h200", SMALL, {"attention-backend": "TRITON_ATTN"}, True),
        ("l4", SMALL, {}, True),
        ("b200", SMALL, {}, True),
    ],
)
def test_e5m2_is_not_for_flash_attention(
    gpu: str, model: str, options: dict[str, Any], allowed: bool
) -> None:
    asked = options | {"kv-cache-dtype": "fp8_e5m2"}
    if allowed:
        assert planned(gpu, model=model, options=asked).flags["kv-cache-dtype"] == "fp8_e5m2"
    else:
        sentence = refused(gpu, model=model, options=asked)
        assert "which FLASH_ATTN, the attention kernel on" in sentence
        assert planned(gpu, model=model, options={"kv-cache-dtype": "fp8"})


# -- kernels, parsers, server --------------------------------------------------------------------


@pytest.mark.parametrize("gpu", ["l4", "a100-80", "h200", "b200", "rtx5090", "gb10"])
@pytest.mark.parametrize("release", ["0.11.2", "0.24.0", "0.33.0"])
def test_kernels_are_left_to_vllm(gpu: str, release: str) -> None:
    found = planned(gpu, release=release)
    assert not {"attention-backend", "moe-backend"} & set(found.flags)
    assert "by itself" in why(found, "attention-backend")


def test_a_workaround_of_one_release_is_a_variable_with_its_issue() -> None:
    found = planned("h100-80", release="0.12.0")
    assert found.env["VLLM_MXFP4_USE_MARLIN"] == "1"
    assert "#28894" in why(found, "VLLM_MXFP4_USE_MARLIN")
    for gpu, release, intent in (
        ("h100-80", "0.13.0", "chat"),
        ("h100-80", "0.12.0", "throughput"),
        ("l4", "0.12.0", "chat"),
    ):
        assert "VLLM_MXFP4_USE_MARLIN" not in planned(gpu, release=release, intent=intent).env


@pytest.mark.parametrize(
    ("release", "parser"), [("0.10.1", None), ("0.10.2", "openai"), ("0.33.0", "openai")]
)
def test_tools_of_gpt_oss(release: str, parser: str | None) -> None:
    flags = planned(release=release).flags
    assert flags.get("tool-call-parser") == parser
    assert flags.get("enable-auto-tool-choice") is (True if parser else None)
    assert "reasoning-parser" not in flags  # set by vLLM itself for gpt-oss


def test_server_flags_come_with_their_releases() -> None:
    old, new = planned(release="0.12.0"), planned(release="0.29.0", shutdown_timeout=90)
    assert new.flags["shutdown-timeout"] == 90
    assert new.flags["sse-keep-alive-interval"] == 15
    assert new.flags["max-num-queued-reqs"] > new.flags["max-num-seqs"]
    assert not {"shutdown-timeout", "sse-keep-alive-interval", "max-num-queued-reqs"} & set(
        old.flags
    )
    assert "came with 0.18.0" in why(old, "shutdown-timeout")
    assert old.env["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"] == "120"


def test_a_persons_variable_wins() -> None:
    found = planned(env={"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": 30, "MINE": "x"})
    assert found.env == {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "30", "MINE": "x"}
    assert why(found, "MINE") == "your variable"
    assert "env.VLLM_ATTENTION_BACKEND" in refused(env={"VLLM_ATTENTION_BACKEND": "TRITON_ATTN"})


@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"])
def test_devices_are_not_a_matter_of_variables(name: str) -> None:
    assert refused(env={name: "1"}).endswith("leave it out and set the instance's gpus.")


@pytest.mark.parametrize(("release", "gone"), [("0.17.1", False), ("0.18.0", True)])
def test_a_flag_of_old_guides_is_missed_aloud(release: str, gone: bool) -> None:
    found = planned(release=release)
    assert "swap-space" not in found.flags
    assert ("was removed in 0.18.0" in why(found, "swap-space")) is gone


# -- options -------------------------------------------------------------------------------------


def test_options_win_and_say_what_they_replaced() -> None:
    options = {"gpu_memory_utilization": 0.8, "max-num-seqs": 32, "dtype": "bfloat16"}
    found = planned(options=options)
    assert found.flags["gpu-memory-utilization"] == 0.8
    assert found.flags["max-num-seqs"] == 32
    assert found.flags["dtype"] == "bfloat16"
    assert why(found, "gpu-memory-utilization") == "your option; the plan alone: 0.95"
    assert found.memory.requested == pytest.approx(0.8 * 79.18 * GIB, rel=1e-6)


def test_a_forced_kernel_names_the_automatic_one() -> None:
    options = {"attention-backend": "TRITON_ATTN", "moe-backend": "marlin"}
    found = planned("h200", options=options)
    assert why(found, "attention-backend") == "your option; vLLM alone would take FLASH_ATTN"
    assert why(found, "moe-backend") == "your option; vLLM alone would take TRITON"
    assert found.flags["moe-backend"] == "marlin"


def test_throughput_mode_doubles_what_is_left_to_vllm() -> None:
    left: dict[str, Any] = dict.fromkeys(["max-num-seqs", "max-num-batched-tokens"])
    plain = planned("l4", options=left, max_model_len=8192)
    doubled = planned("l4", options=left | {"performance-mode": "throughput"}, max_model_len=8192)
    given = planned(
        "l4", options={"max-num-seqs": 512, "max-num-batched-tokens": 4096}, max_model_len=8192
    )
    assert doubled.memory.activation == given.memory.activation > plain.memory.activation


def test_null_leaves_a_flag_to_vllm_and_predicts_its_default() -> None:
    left = ("gpu-memory-utilization", "max-num-seqs", "max-num-batched-tokens")
    found = planned(release="0.26.0", options=dict.fromkeys(left))
    given = planned(
        release="0.26.0",
        options={
            "gpu-memory-utilization": 0.92, "max-num-seqs": 1024, "max-num-batched-tokens": 8192,
        },
    )  # fmt: skip
    assert not set(left) & set(found.flags)
    assert why(found, left[0]) == "your option: left to vLLM, which takes 0.92"
    assert found.memory.requested == given.memory.requested


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"swap-space": 6}, "removed in 0.18.0; nothing replaces it: a preempted request"),
        ({"max-num-partial-prefills": 1}, "removed in 0.27.0; nothing replaces it"),
        ({"cuda-graph-sizes": [8]}, "removed in 0.13.0; use cudagraph-capture-sizes"),
        ({"max-num-sequences": 8}, "did you mean max-num-seqs?"),
        ({"max-num-seqs": "many"}, "takes a whole number"),
        ({"max-num-seqs": 0}, "whole number from 1"),
        ({"port": 1}, "set by the collection"),
        ({"pipeline-parallel-size": 2}, "cannot be planned: one host needs no pipeline"),
        ({"data-parallel-size": 2}, "independent replicas instead"),
        ({"num-gpu-blocks-override": 9}, "kv-cache-memory-bytes instead"),
        ({"max-num-seqs": 512, "max-num-batched-tokens": 256}, "more than max-num-batched-tokens"),
        ({"tensor-parallel-size": 2}, "the instance has 1 GPU;"),
        ({"moe-backend": "flashinfer_b12x"}, "no choice for MXFP4 experts"),
        ({"attention-backend": "NO_SUCH"}, "NO_SUCH"),
        ({"quantization": "fp8"}, "are mxfp4"),
        ({"dtype": "float16"}, "takes auto or bfloat16"),
        ({"kv-cache-dtype": "nvfp4"}, "the planner knows auto"),
        ({"gpu-memory-utilization": 1.2}, "above 0 and at most 1"),
        ({"enable-chunked-prefill": False, "max-num-batched-tokens": 512}, "one step"),
        ({"compilation-config": "{"}, "is no JSON"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], said: str) -> None:
    assert said in refused(options=options)


def test_a_size_that_does_not_divide_the_heads() -> None:
    sentence = refused("h100-80", 4, options={"tensor-parallel-size": 3})
    assert "does not divide the 64 attention heads" in sentence
    assert "one of 1, 2, 4." in sentence


BLOCKS = {
    "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256,
    "max_position_embeddings": 131_072,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"tensor-parallel-size": 2}])
def test_blocks_that_no_number_of_gpus_divides(options: dict[str, Any]) -> None:
    """vLLM looks at the halves of gate and up projection on one GPU too."""
    shape = models.from_config("org/model", BLOCKS | {"intermediate_size": 14_400})
    with pytest.raises(Refusal) as caught:
        plan(gpus.gpu_set("h100-80", 2), shape, "chat", NEW, options)
    assert str(caught.value) == (
        "vLLM cannot load org/model on any number of GPUs: none divides the 14,400 columns of the"
        " MLP into whole blocks of 128, which share a scale; use a checkpoint that is quantized in"
        " another way."
    )


def test_a_size_that_divides_the_heads_and_not_the_blocks() -> None:
    shape = models.from_config("org/model", BLOCKS | {"intermediate_size": 14_208})
    with pytest.raises(Refusal, match=r"14,208 columns of the MLP into .*; here it must be one"):
        plan(gpus.gpu_set("h100-80", 2), shape, "chat", NEW, {"tensor-parallel-size": 2})


def test_too_little_utilization_names_itself_as_the_way_out() -> None:
    sentence = refused(options={"gpu-memory-utilization": 0.1})
    assert "GiB of weights" in sentence and "GiB are missing" in sentence
    assert "without your option gpu-memory-utilization" in sentence


def test_more_kv_than_there_is_memory() -> None:
    sentence = refused(options={"kv-cache-memory-bytes": 70 * GIB})
    assert "70.00 GiB of KV cache" in sentence
    assert "GiB more than the 78.66 GiB of 79.18 GiB that an engine finds free" in sentence


@pytest.mark.parametrize(
    ("gpu", "options", "most"),
    [
        ("l4", {"gpu-memory-utilization": 0.99}, 0.97),
        ("h100-80", {"gpu-memory-utilization": 1.0, "enforce-eager": True}, 0.99),
    ],
)
def test_a_utilization_that_vllm_refuses_at_start(
    gpu: str, options: dict[str, Any], most: float
) -> None:
    sentence = refused(gpu, options=options)
    assert "an engine takes 0.52 GiB before vLLM looks" in sentence
    assert sentence.endswith(f"; lower it to {most}.")
    assert planned(gpu, options=options | {"gpu-memory-utilization": most})


def test_vllms_own_utilization_may_be_too_much_for_a_group() -> None:
    sentence = refused("rtx5080", 2, options={"gpu-memory-utilization": None})
    assert "vLLM would want 14.22 GiB (gpu-memory-utilization 0.92), 0.70 GiB more than" in sentence
    assert sentence.endswith("nearest: the same without your option gpu-memory-utilization.")


def test_utilization_beyond_what_others_leave() -> None:
    with pytest.raises(Refusal, match=r"asks for 71.26 GiB .* leaves 58.66 GiB; lower it to 0.74"):
        plan(with_others(20 * GIB), SMALL, "chat", NEW, {"gpu-memory-utilization": 0.9})


def test_nothing_is_left_beside_others() -> None:
    with pytest.raises(Refusal, match=r"which leaves 0.00 GiB; end them\.$"):
        plan(with_others(79 * GIB), SMALL, "chat", NEW, {"gpu-memory-utilization": 0.5})


def test_given_bytes_are_exact() -> None:
    """D1 as it was logged: 182,336 tokens and 2.68x in 4.17 GiB."""
    found = planned(
        "l4", release="0.12.0", intent="long_context", max_model_len=128_000,
        options={"kv-cache-memory-bytes": 22_792 * 196_608, "max-num-batched-tokens": 8128},
    )  # fmt: skip
    assert (found.kv_cache.tokens, round(found.kv_cache.concurrency, 2)) == (182_336, 2.68)
    assert "exactly, without profiling" in why(found, "kv-cache-memory-bytes")


def test_a_drafter_costs_memory_and_is_said_to_be_a_guess() -> None:
    eagle = {"method": "eagle3", "model": "org/eagle3", "num_speculative_tokens": 3}
    found = planned("h200", options={"speculative-config": eagle})
    assert found.memory.weights > planned("h200").memory.weights + GIB
    assert any("1.5 GiB" in note for note in found.notes)
    assert found.flags["speculative-config"] == eagle


# -- what does not fit ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "count", "near"),
    [
        ("l4", 1, "gpt-oss-20b on this GPU"),
        ("l40s", 1, "gpt-oss-120b on 2 x NVIDIA L40S"),
        ("rtx5080", 1, "gpt-oss-120b on 1 x a100-80 (79 GiB)"),
        ("rtx4090", 2, "gpt-oss-120b on 4 x NVIDIA GeForce RTX 4090"),
    ],
)
def test_the_large_model_on_a_small_card(gpu: str, count: int, near: str) -> None:
    sentence = refused(gpu, count, BIG)
    assert "GiB are missing" in sentence
    assert near in sentence.partition("nearest:")[2]


@pytest.mark.parametrize(
    ("gpu", "model", "needs", "near"),
    [
        ("v100", SMALL, "MXFP4 and attention sinks need 8.0", "gpt-oss-20b on 1 x l40s (44 GiB)"),
        ("t4", SMALL, "MXFP4 and attention sinks need 8.0", "gpt-oss-20b on 1 x l4 (22 GiB)"),
        ("t4", BIG, "MXFP4 and attention sinks need 8.0", "gpt-oss-120b on 1 x a100-80 (79 GiB)"),
        (
            "t4",
            "meta-llama/Llama-3.1-8B-Instruct",
            "this planner knows kernels from 8.0 on",
            "Llama-3.1-8B-Instruct on 1 x l4 (22 GiB)",
        ),
    ],
)
def test_an_old_gpu_names_a_newer_one(gpu: str, model: str, needs: str, near: str) -> None:
    sentence = refused(gpu, 1, model)
    assert f"but {needs}" in sentence
    assert sentence.endswith(f"nearest: {near}.")


def test_hardware_is_no_answer_to_other_peoples_processes() -> None:
    with pytest.raises(Refusal) as caught:
        plan(with_others(75 * GIB), BIG, "chat", NEW)
    assert str(caught.value).endswith("; nearest: this GPU once the others are gone.")


@pytest.mark.parametrize(
    ("options", "near"),
    [
        ({"kv-cache-memory-bytes": 1000}, "the same without your option kv-cache-memory-bytes"),
        (
            {"kv-cache-memory-bytes": 1000, "max-num-seqs": 8},
            "the same without your option kv-cache-memory-bytes",
        ),
        (
            {"gpu-memory-utilization": 0.1, "kv-cache-memory-bytes": 1000},
            "this GPU without your options",
        ),
    ],
)
def test_hardware_is_no_answer_to_options(options: dict[str, Any], near: str) -> None:
    assert refused(options=options).endswith(f"; nearest: {near}.")


@pytest.mark.parametrize(
    ("options", "near"),
    [
        ({"max-num-seqs": 8}, "gpt-oss-120b on 2 x NVIDIA L40S."),
        ({"tensor-parallel-size": 1}, "gpt-oss-120b on 2 x NVIDIA L40S without your options."),
    ],
)
def test_proposals_keep_the_options_or_say_that_they_do_not(
    options: dict[str, Any], near: str
) -> None:
    assert refused("l40s", 1, BIG, options=options).endswith(near)


def test_more_gpus_are_proposed_idle() -> None:
    (one,) = gpus.gpu_set("l40s", 1)
    with pytest.raises(Refusal, match=r"gpt-oss-120b on 2 x NVIDIA L40S\.$"):
        plan((replace(one, foreign_bytes=20 * GIB),), BIG, "chat", NEW)


def test_a_shorter_context_on_one_gpu_is_on_this_gpu() -> None:
    options = {"max-num-seqs": 8, "kv-cache-memory-bytes": "1G"}
    sentence = refused("l40s", 1, SMALL, max_model_len=131_072, options=options)
    assert "on this GPU" in sentence and "these GPUs" not in sentence


def test_slices_do_not_work_together() -> None:
    slices = tuple(
        Gpu("NVIDIA H100 MIG 3g.40gb", (9, 0), 39 * GIB, uuid=f"MIG-{n}", mig_enabled=True,
            mig_slice=True)
        for n in range(2)
    )  # fmt: skip
    found = plan(slices, SMALL, "chat", NEW)
    assert found.devices == (("MIG-0",), ("MIG-1",))
    with pytest.raises(Refusal, match="GiB are missing"):
        plan(slices, BIG, "chat", NEW)
    with pytest.raises(Refusal, match="MIG slices cannot work together"):
        plan(slices, SMALL, "chat", NEW, {"tensor-parallel-size": 2})


def test_a_gpu_of_the_future_is_planned_with_care() -> None:
    future = (Gpu("NVIDIA X300", (13, 0), 300 * GIB, uuid="GPU-1"),)
    found = plan(future, BIG, "chat", NEW)
    assert found.flags["gpu-memory-utilization"] <= 0.85
    assert any("13.0 is newer than this planner" in note for note in found.notes)
    assert not {"attention-backend", "moe-backend", "kv-cache-dtype"} & set(found.flags)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"gpu": "v100"}, "capability 7.0"),
        ({"count": 0}, "gpu_count is '0'"),
        ({"release": "1.0"}, "vllm_release is '1.0'"),
        ({"intent": "chatt"}, "did you mean chat?"),
        ({"model": "openai/gpt-oss-21b"}, "gpt-oss-20b"),
        ({"max_model_len": "long"}, "max_model_len is 'long'"),
    ],
)
def test_questions_that_have_no_answer(question: dict[str, Any], said: str) -> None:
    assert said in refused(**question)


# -- the result ----------------------------------------------------------------------------------

KEYS = {
    "refused", "flags", "env", "tensor_parallel_size", "replicas", "memory_gib", "kv_tokens",
    "max_concurrency", "reasons",
}  # fmt: skip


def test_json_of_a_plan() -> None:
    found = as_json(planned("h200", 2))
    assert set(found) >= KEYS
    assert found["refused"] is None
    assert set(found["memory_gib"]) == {
        "total", "weights", "activation", "cuda_graphs", "other", "kv", "kv_restart",
    }  # fmt: skip
    assert found["memory_gib"]["kv_restart"] > found["memory_gib"]["kv"]
    assert found["memory_gib"]["total"] == 139.8
    assert {"flag", "value", "why"} == set(found["reasons"][0])


def test_json_of_a_refusal_has_the_same_keys() -> None:
    found = as_json(Refusal("No."))
    assert set(found) == set(as_json(planned()))
    assert (found["refused"], found["flags"], found["memory_gib"]) == ("No.", {}, None)


def test_json_of_a_refusal_has_the_memory_of_the_nearest_plan() -> None:
    with pytest.raises(Refusal) as caught:
        planned("l4", 1, BIG)
    memory = as_json(caught.value)["memory_gib"]
    assert set(memory) == set(as_json(planned())["memory_gib"])
    assert memory["total"] == 22.03 < memory["weights"]
    assert memory["kv"] < 0


def test_every_flag_has_a_reason_and_every_reason_is_a_sentence_part() -> None:
    found = planned("h200", 2, BIG, options={"stream-interval": 4}, env={"MINE": "1"})
    told = [row.flag for row in found.reasons]
    assert len(told) == len(set(told))
    assert set(found.flags) | set(found.env) <= set(told)
    assert all(row.why and "\n" not in row.why for row in found.reasons)


def test_a_hundred_plans_in_half_a_second() -> None:
    planned()  # the catalogues are read once
    start = time.process_time()
    for number in range(100):
        planned("l4", 4, BIG, max_model_len=8192 + number)
    assert time.process_time() - start < 0.5


def seconds(*arguments: Any, **more: Any) -> float:
    """Processor time of one question: the least of eleven, as others on the machine only add."""
    board, (model, intent, options) = gpus.gpu_set(*arguments[:2]), arguments[2:]
    taken = []
    for _run in range(12):
        start = time.process_time()
        with contextlib.suppress(Refusal):
            plan(board, model, intent, NEW, options, **more)
        taken.append(time.process_time() - start)
    return min(taken[1:])  # the first reads the catalogues


# The slowest of 1,260 questions to the catalogue, with and without options.
SLOW: list[tuple[str, int, str, str, dict[str, Any]]] = [
    ("rtx5080", 1, BIG, "throughput", {}),
    ("rtx4000-ada", 1, BIG, "long_context", {}),
    ("rtx4000-ada", 2, BIG, "long_context", {"gpu-memory-utilization": 0.12, "stream-interval": 4}),
    ("rtx4000-ada", 2, BIG, "throughput", {"gpu-memory-utilization": 0.4, "max-num-seqs": 64}),
    (
        "rtx4000-ada", 8, "Qwen/Qwen3-8B", "throughput",
        {"kv-cache-memory-bytes": 200 * GIB, "max-num-seqs": 64},
    ),
    ("l4", 8, BIG, "throughput", {"gpu-memory-utilization": 0.1, "stream-interval": 4}),
]  # fmt: skip


@pytest.mark.parametrize("question", SLOW, ids=lambda asked: f"{asked[0]}-{len(asked[4])}")
def test_a_refusal_takes_under_five_milliseconds(
    question: tuple[str, int, str, str, dict[str, Any]],
) -> None:
    refused(question[0], question[1], question[2], question[3], options=question[4])
    assert seconds(*question) < 0.005


@pytest.mark.parametrize(
    ("gpu", "model", "options"),
    [
        ("rtx5080", BIG, {"gpu-memory-utilization": 0.3, "stream-interval": 4}),
        ("h100-80", SMALL, {"gpu-memory-utilization": 0.1, "kv-cache-memory-bytes": 1000}),
    ],
)
def test_what_cannot_fit_is_measured_once(
    gpu: str, model: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the smallest batches; no larger ones are tried, and no question is asked twice."""
    asked: list[tuple[Any, ...]] = []
    measure = fit.measure

    def measured(request: fit.Request, drafted: Mapping[str, Any]) -> fit.Fit:
        board = [(gpu.name, gpu.uuid, gpu.memory_bytes) for gpu in request.gpus]
        asked.append((board, request.model.name, sorted(drafted.items()), list(request.options)))
        return measure(request, drafted)

    monkeypatch.setattr(fit, "measure", measured)
    refused(gpu, 1, model, "throughput", options=options)
    assert len(asked) == len({repr(each) for each in asked}) > 2


def test_the_slowest_plan_of_the_catalogue_takes_under_five_milliseconds() -> None:
    options = {"gpu-memory-utilization": 0.3, "stream-interval": 4}
    planned("h100-80", 8, SMALL, "throughput", options=options)
    assert seconds("h100-80", 8, SMALL, "throughput", options) < 0.005
    assert seconds("l4", 8, BIG, "throughput", {}) < 0.005


def test_the_package_needs_no_ansible() -> None:
    script = (
        "import sys; sys.modules['ansible'] = None\n"
        "from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import gpus\n"
        "from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.plan import plan\n"
        f"print(plan(gpus.gpu_set('l4', 1), {SMALL!r}, 'chat', {NEW!r}).kv_cache.tokens)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    assert int(answer.stdout) == planned("l4").kv_cache.tokens
