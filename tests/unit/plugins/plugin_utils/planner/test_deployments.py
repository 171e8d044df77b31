# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Published deployments of gpt-oss, each from the entry of an inventory in docs/deployments.md.

Where the plan differs from the published flags, the reason is in its rows; where it must not
differ, the published flags are given as options and kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import catalogue
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import check_instance
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import gpus
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import plan as plan_module
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.plan import plan
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import Plan, Refusal

CURRENT = "0.32.0"

DOCUMENT = (Path(plan_module.__file__).parents[3] / "docs" / "deployments.md").read_text()
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.S)]
L4, FOUR_H100, DETECTED, AGENTS, BEGINNERS = BLOCKS


def of(instance: Mapping[str, Any], gpu: str, count: int, release: str, **options: Any) -> Plan:
    given = {**instance.get("options", {}), **options}
    return plan(
        gpus.gpu_set(gpu, count),
        instance["model"],
        instance.get("intent", "chat"),
        release,
        {name.replace("_", "-"): value for name, value in given.items()},
        max_model_len=instance.get("max_model_len", "auto"),
    )


def why(found: Plan, flag: str) -> str:
    (row,) = [row for row in found.reasons if row.flag == flag]
    return row.why


@pytest.mark.parametrize("entry", BLOCKS)
def test_every_entry_is_accepted(entry: Mapping[str, Any]) -> None:
    assert check_instance(entry, CURRENT) == []


# -- D1: 20b with 128,000 tokens on one L4, vLLM 0.12.0 ------------------------------------------


@pytest.mark.parametrize("release", ["0.12.0", CURRENT])
def test_d1_without_a_typed_flag(release: str) -> None:
    found = of(L4, "l4", 1, release)
    assert found.flags["max-model-len"] == 128_000
    assert found.flags["kv-cache-dtype"] == "fp8"
    assert found.flags["tensor-parallel-size"] == 1
    assert found.flags["tool-call-parser"] == "openai"
    assert found.flags["enable-auto-tool-choice"] is True
    # Three at once was the limit there; more may run here as long as their tokens fit.
    assert found.kv_cache.concurrency > 2.68
    assert found.flags["max-num-seqs"] >= 3
    assert found.flags["gpu-memory-utilization"] >= 0.85


def test_d1_with_its_own_figures() -> None:
    found = of(
        L4, "l4", 1, "0.12.0", gpu_memory_utilization=0.85, max_num_seqs=3,
        max_num_batched_tokens=8128, swap_space=6, max_num_partial_prefills=1,
    )  # fmt: skip
    assert (found.flags["swap-space"], found.flags["max-num-partial-prefills"]) == (6, 1)
    # Its log is of a restart: 4.17 GiB of KV cache, with kernels compiled before (13.7 s).
    assert found.restart_kv_bytes / 2**30 == pytest.approx(4.17, abs=0.05)
    assert found.kv_cache.tokens < 182_336
    assert found.memory.weights / 2**30 == pytest.approx(13.72, abs=0.1)
    assert why(found, "max-num-seqs").startswith("your option; the plan alone: ")


def test_d1_has_the_figures_of_the_page() -> None:
    ours, current = of(L4, "l4", 1, "0.12.0"), of(L4, "l4", 1, CURRENT)
    options = {"gpu_memory_utilization": 0.85, "max_num_seqs": 3, "max_num_batched_tokens": 8128}
    theirs = of(L4, "l4", 1, "0.12.0", **options)
    rows = [
        f"| {ours.flags['gpu-memory-utilization']} | ",
        f"| {ours.flags['max-num-seqs']} and {ours.flags['max-num-batched-tokens']} |",
        f"{ours.kv_cache.concurrency:.2f} requests of full length at once instead of 2.68",
        f"and {current.kv_cache.concurrency:.2f} on {CURRENT}",
        f"With theirs it has {theirs.kv_cache.concurrency:.2f} requests at once",
    ]
    assert [row for row in rows if row not in DOCUMENT] == []


def test_d1_on_a_current_release_says_what_became_of_its_flags() -> None:
    found = of(L4, "l4", 1, CURRENT)
    assert why(found, "swap-space").startswith("was removed in 0.18.0; ")
    assert why(found, "max-num-partial-prefills").startswith("was removed in 0.27.0; ")
    for flag, value in (("swap_space", 6), ("max_num_partial_prefills", 1)):
        with pytest.raises(Refusal, match="nothing replaces it"):
            of(L4, "l4", 1, CURRENT, **{flag: value})


# -- D2: 20b and 120b on rented hosts ------------------------------------------------------------


@pytest.mark.parametrize("release", ["0.11.2", CURRENT])
def test_d2_bf16_on_an_a100(release: str) -> None:
    instance = {"model": "openai/gpt-oss-20b", "max_model_len": 32_768}
    found = of(
        instance, "a100-80", 1, release,
        dtype="bfloat16", gpu_memory_utilization=0.90, max_num_seqs=256,
    )  # fmt: skip
    assert found.kv_cache.concurrency > 20
    assert found.flags["dtype"] == "bfloat16"
    assert why(found, "gpu-memory-utilization").startswith("your option; the plan alone: 0.9")


@pytest.mark.parametrize("release", ["0.12.0", CURRENT])
def test_d2_fp8_on_a_24_gb_card_depends_on_the_card(release: str) -> None:
    instance = {"model": "openai/gpt-oss-20b", "max_model_len": 16_384}
    options = {"gpu_memory_utilization": 0.92, "kv_cache_dtype": "fp8"}
    assert of(instance, "rtx4090", 1, release, **options).kv_cache.concurrency > 10
    with pytest.raises(Refusal, match=r"8\.9 and later"):
        of(instance, "rtx3090", 1, release, **options)


def test_d2_120b_on_one_h100() -> None:
    instance = {"model": "openai/gpt-oss-120b", "max_model_len": 32_768}
    found = of(instance, "h100-80", 1, CURRENT)
    assert found.tensor_parallel_size == 1
    assert found.kv_cache.concurrency * 32_768 / 1024 > 40  # its 20 to 40 requests of 1K


def test_d2_120b_on_four_h100_is_four_replicas() -> None:
    found = of(FOUR_H100, "h100-80", 4, CURRENT)
    assert (found.tensor_parallel_size, found.replicas) == (1, 4)
    assert "independent replicas" in why(found, "tensor-parallel-size")
    assert found.flags["max-num-batched-tokens"] == 1024
    kept = of(FOUR_H100, "h100-80", 4, CURRENT, tensor_parallel_size=4)
    assert (kept.tensor_parallel_size, kept.replicas) == (4, 1)


# -- D3: an image that looks at its GPU ----------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "backend"),
    [
        ("a100-80", "TRITON_ATTN"),
        ("l40s", "TRITON_ATTN"),
        ("h100-80", "FLASH_ATTN"),
        ("h200", "FLASH_ATTN"),
        ("b200", "FLASHINFER"),
    ],
)
def test_d3_backends_are_what_vllm_takes_by_itself(gpu: str, backend: str) -> None:
    found = of(DETECTED, gpu, 1, CURRENT)
    assert "attention-backend" not in found.flags
    assert f"vLLM chooses {backend} by itself" in why(found, "attention-backend")


def test_d3_its_settings_are_options() -> None:
    found = of(
        {"model": "openai/gpt-oss-120b"}, "h200", 1, CURRENT,
        max_num_seqs=64, max_num_batched_tokens=4096, async_scheduling=True,
        enable_prefix_caching=True, enable_chunked_prefill=True,
    )  # fmt: skip
    assert found.flags["max-model-len"] == 131_072
    assert found.flags["max-num-seqs"] == 64
    assert found.flags["max-cudagraph-capture-size"] == 64


def test_d3_120b_does_not_fit_an_l40s() -> None:
    with pytest.raises(Refusal, match="GiB are missing"):
        of({"model": "openai/gpt-oss-120b"}, "l40s", 1, CURRENT)


def test_d3_and_d4_disagree_on_fp8_and_the_plan_says_who_is_right() -> None:
    for gpu in ("a100-80", "a10"):
        with pytest.raises(Refusal, match="does not work on NVIDIA A10"):
            of(DETECTED, gpu, 1, CURRENT, kv_cache_dtype="fp8")
    for gpu in ("l4", "l40s", "h100-80", "h200", "b200"):
        found = of(DETECTED, gpu, 1, CURRENT, kv_cache_dtype="fp8")
        assert "your option; twice the tokens" in why(found, "kv-cache-dtype")
        told = why(of(DETECTED, gpu, 1, CURRENT), "kv-cache-dtype")
        assert told.startswith("auto (16 bits)") and "fp8" in told


# -- D4: replicas on H100 and H200 ---------------------------------------------------------------


@pytest.mark.parametrize("gpu", ["h100-80", "h200"])
@pytest.mark.parametrize("release", ["0.26.0", CURRENT])
def test_d4(gpu: str, release: str) -> None:
    found = of(AGENTS, gpu, 2, release)
    assert found.replicas == 2
    # Graphs for as many requests as a replica accepts, each with its drafted tokens.
    assert found.flags["max-cudagraph-capture-size"] == 32 * 4
    assert found.kv_cache.concurrency > 32
    assert any("drafter" in note for note in found.notes)


def test_d4_fast_boot_for_developers() -> None:
    instance = {"model": "openai/gpt-oss-20b", "max_model_len": 2**15}
    found = of(instance, "h100-80", 1, CURRENT, enforce_eager=True)
    assert "quicker start" in why(found, "enforce-eager")
    assert found.memory.cuda_graphs == 0


# -- D5: for beginners ---------------------------------------------------------------------------


def test_d5_three_words_are_enough() -> None:
    found = of(BEGINNERS, "rtx3090", 1, CURRENT)
    assert found.flags["max-model-len"] >= 32_768
    assert "TRITON_ATTN by itself" in why(found, "attention-backend")


@pytest.mark.parametrize("release", ["0.13.0", CURRENT])
def test_d5_triton_may_still_be_forced(release: str) -> None:
    found = of(BEGINNERS, "rtx3090", 1, release, attention_backend="TRITON_ATTN")
    assert found.flags["attention-backend"] == "TRITON_ATTN"


@pytest.mark.parametrize(
    ("instance", "gpu"),
    [(L4, "l4"), (FOUR_H100, "h100-80"), (DETECTED, "b200")],
)
def test_every_flag_is_one_of_the_release(instance: Mapping[str, Any], gpu: str) -> None:
    for release in ("0.12.0", CURRENT):
        found = of(instance, gpu, 1, release)
        assert all(catalogue().has_flag(flag, release) for flag in found.flags)
