# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The kernels vLLM chooses, by GPU generation, release, flag and variable."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import backends, models
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import Model, Refusal

GPT_OSS = models.model("openai/gpt-oss-20b")
DENSE = replace(
    GPT_OSS,
    name="org/dense",
    architecture="LlamaForCausalLM",
    experts=0,
    experts_per_token=0,
    quantization="",
    attention_sinks=False,
)
TRITON = {"attention-backend": "TRITON_ATTN"}
OLD_NAME = {"VLLM_ATTENTION_BACKEND": "TRITON_ATTN_VLLM_V1"}
A100, RTX3090, L4, H100, B200, B300, RTX5090, GB10 = (
    (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1)
)  # fmt: skip


@pytest.mark.parametrize(
    ("capability", "release", "attention", "moe"),
    [
        (A100, "0.10.1", "TRITON_ATTN", "MARLIN"),
        (A100, "0.33.0", "TRITON_ATTN", "MARLIN"),
        (RTX3090, "0.12.0", "TRITON_ATTN", "MARLIN"),
        (L4, "0.12.0", "TRITON_ATTN", "MARLIN"),
        (H100, "0.11.2", "FLASH_ATTN", "MARLIN"),
        (H100, "0.12.0", "FLASH_ATTN", "TRITON"),
        (H100, "0.26.0", "FLASH_ATTN", "TRITON"),
        (B200, "0.10.2", "FLASHINFER", "FLASHINFER_TRTLLM_MXFP4_BF16"),
        (B200, "0.33.0", "FLASHINFER", "FLASHINFER_TRTLLM_MXFP4_BF16"),
        (B300, "0.12.0", "TRITON_ATTN", "TRITON"),
        (B300, "0.26.0", "FLASHINFER", "FLASHINFER_TRTLLM_MXFP4_BF16"),
        (RTX5090, "0.11.2", "TRITON_ATTN", "MARLIN"),
        (RTX5090, "0.27.1", "TRITON_ATTN", "MARLIN"),
        (RTX5090, "0.28.0", "FLASHINFER", "MARLIN"),
        (GB10, "0.24.0", "TRITON_ATTN", "MARLIN"),
    ],
)
def test_gpt_oss_by_itself(
    capability: tuple[int, int], release: str, attention: str, moe: str
) -> None:
    chosen = backends.automatic(capability, GPT_OSS, release)
    assert (chosen.attention, chosen.moe) == (attention, moe)


@pytest.mark.parametrize(
    ("capability", "attention"),
    [(A100, "FLASH_ATTN"), (L4, "FLASH_ATTN"), (B200, "FLASHINFER"), (RTX5090, "FLASH_ATTN")],
)
def test_a_dense_model_has_no_experts_and_the_fast_attention(
    capability: tuple[int, int], attention: str
) -> None:
    chosen = backends.automatic(capability, DENSE, "0.26.0")
    assert (chosen.attention, chosen.moe) == (attention, "")


def test_an_fp8_cache_moves_a_dense_model_off_flash_attention_2() -> None:
    flags = {"kv-cache-dtype": "fp8"}
    assert backends.chosen(L4, DENSE, "0.26.0", flags, {}).attention == "FLASHINFER"
    assert backends.chosen(H100, DENSE, "0.26.0", flags, {}).attention == "FLASH_ATTN"


@pytest.mark.parametrize(
    ("release", "sampler"),
    [("0.16.0", "torch"), ("0.17.0", "triton"), ("0.20.2", "triton"), ("0.21.0", "flashinfer")],
)
def test_the_sampler_follows_the_release(release: str, sampler: str) -> None:
    assert backends.automatic(H100, GPT_OSS, release).sampler == sampler


def test_the_sampler_s_variable_wins() -> None:
    off = {"VLLM_USE_FLASHINFER_SAMPLER": "0"}
    on = {"VLLM_USE_FLASHINFER_SAMPLER": "1"}
    assert backends.chosen(H100, GPT_OSS, "0.26.0", {}, off).sampler == "triton"
    assert backends.chosen(H100, GPT_OSS, "0.12.0", {}, off).sampler == "torch"
    assert backends.chosen(H100, GPT_OSS, "0.12.0", {}, on).sampler == "flashinfer"


@pytest.mark.parametrize(
    ("model", "release", "runner"),
    [
        (GPT_OSS, "0.28.0", "v1"),
        (GPT_OSS, "0.29.0", "v2"),
        (DENSE, "0.22.1", "v1"),
        (DENSE, "0.23.0", "v2"),
        (replace(DENSE, quantization="awq"), "0.23.0", "v1"),
        (replace(DENSE, quantization="awq"), "0.24.0", "v2"),
        (replace(DENSE, architecture="Phi3ForCausalLM"), "0.24.0", "v1"),
        (replace(DENSE, architecture="Phi3ForCausalLM"), "0.25.0", "v2"),
    ],
)
def test_the_model_runner(model: Model, release: str, runner: str) -> None:
    assert backends.automatic(H100, model, release).model_runner == runner


def test_the_model_runner_s_variable_wins() -> None:
    env = {"VLLM_USE_V2_MODEL_RUNNER": "1"}
    assert backends.chosen(H100, GPT_OSS, "0.26.0", {}, env).model_runner == "v2"


@pytest.mark.parametrize(
    ("capability", "release", "flags", "env", "attention", "moe"),
    [
        (H100, "0.26.0", TRITON, {}, "TRITON_ATTN", "TRITON"),
        (H100, "0.26.0", {"attention-config": {"backend": "TRITON_ATTN"}}, {}, "TRITON_ATTN",
         "TRITON"),
        (H100, "0.12.0", {}, {"VLLM_ATTENTION_BACKEND": "TRITON_ATTN"}, "TRITON_ATTN", "TRITON"),
        (L4, "0.10.2", {}, OLD_NAME, "TRITON_ATTN", "MARLIN"),
        (H100, "0.30.0", {"attention-backend": "FLASHINFER"}, {}, "FLASHINFER", "TRITON"),
        (H100, "0.26.0", {"moe-backend": "marlin"}, {}, "FLASH_ATTN", "MARLIN"),
        (H100, "0.12.0", {}, {"VLLM_MXFP4_USE_MARLIN": "1"}, "FLASH_ATTN", "MARLIN"),
        (H100, "0.23.0", {}, {"VLLM_USE_FLASHINFER_MOE_MXFP4_BF16": "1"}, "FLASH_ATTN",
         "FLASHINFER_CUTLASS_MXFP4_BF16"),
        (B200, "0.20.0", {}, {"VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8": "1"}, "FLASHINFER",
         "FLASHINFER_TRTLLM_MXFP4_MXFP8"),
        (RTX5090, "0.32.0", {"moe-backend": "triton"}, {}, "FLASHINFER", "TRITON"),
    ],
)  # fmt: skip
def test_what_somebody_asks_for(
    capability: tuple[int, int],
    release: str,
    flags: dict[str, object],
    env: dict[str, str],
    attention: str,
    moe: str,
) -> None:
    chosen = backends.chosen(capability, GPT_OSS, release, flags, env)
    assert (chosen.attention, chosen.moe) == (attention, moe)


@pytest.mark.parametrize(
    ("capability", "release", "flags", "env", "sentence"),
    [
        ((7, 0), "0.26.0", {}, {}, "Compute capability 7.0 is too old"),
        (A100, "0.26.0", {"attention-backend": "FLASH_ATTN"}, {},
         "FLASH_ATTN cannot do the attention sinks of openai/gpt-oss-20b on compute capability"),
        (H100, "0.29.0", {"attention-backend": "FLASHINFER"}, {}, "use FLASH_ATTN or TRITON_ATTN"),
        (H100, "0.12.0", TRITON, {},
         "attention-backend exists from vLLM 0.13.0"),
        (H100, "0.26.0", {}, {"VLLM_ATTENTION_BACKEND": "TRITON_ATTN"},
         "does not read VLLM_ATTENTION_BACKEND"),
        (RTX5090, "0.26.0", {"moe-backend": "flashinfer_b12x"}, {},
         "moe-backend flashinfer_b12x is no choice for MXFP4 experts on compute capability 12.0"),
        (RTX5090, "0.31.0", {"moe-backend": "triton"}, {}, "it can be auto, humming, marlin."),
        (H100, "0.18.1", {"moe-backend": "marlin"}, {}, "no effect on MXFP4 experts before vLLM"),
        (H100, "0.24.0", {}, {"VLLM_MXFP4_USE_MARLIN": "1"}, "gone in 0.24.0"),
        (H100, "0.11.0", {}, {"VLLM_MXFP4_USE_MARLIN": "1"}, "never reads it"),
        (A100, "0.20.0", {}, {"VLLM_USE_FLASHINFER_MOE_MXFP4_BF16": "1"},
         "needs another compute capability than 8.0"),
    ],
)  # fmt: skip
def test_what_vllm_would_not_do_is_refused(
    capability: tuple[int, int],
    release: str,
    flags: dict[str, object],
    env: dict[str, str],
    sentence: str,
) -> None:
    with pytest.raises(Refusal, match=sentence.replace(".", r"\.")):
        backends.chosen(capability, GPT_OSS, release, flags, env)


@pytest.mark.parametrize(
    ("capability", "release", "verdict"),
    [
        (A100, "0.33.0", "no"),
        (RTX3090, "0.12.0", "no"),
        (L4, "0.11.0", "no"),
        (L4, "0.12.0", "works"),
        (H100, "0.11.0", "no"),
        (H100, "0.22.1", "no"),
        (H100, "0.26.0", "opt-in"),
        (B200, "0.11.0", "no"),
        (B200, "0.26.0", "works"),
        (GB10, "0.23.0", "no"),
        (GB10, "0.32.0", "opt-in"),
    ],
)
def test_fp8_cache_by_chip_and_release(
    capability: tuple[int, int], release: str, verdict: str
) -> None:
    found, why = backends.fp8_kv(capability, GPT_OSS, release)
    assert (found, bool(why)) == (verdict, True)


def test_a_dense_model_may_use_an_fp8_cache_on_hopper() -> None:
    assert backends.fp8_kv(H100, DENSE, "0.20.0")[0] == "works"


def test_an_fp8_cache_on_an_unknown_chip_is_unknown_rather_than_unsound() -> None:
    verdict, why = backends.fp8_kv((11, 0), GPT_OSS, "0.32.0")
    assert verdict == "opt-in"
    assert "nobody has shown" in why


@pytest.mark.parametrize(
    ("model", "flags", "env", "names"),
    [
        (GPT_OSS, {}, {}, ("", "")),
        (GPT_OSS, {"attention-backend": "auto", "moe-backend": "auto"}, {}, ("", "")),
        (GPT_OSS, {"moe-backend": "marlin"}, {}, ("", "moe-backend")),
        (GPT_OSS, {"attention-config": {"backend": "TRITON_ATTN"}}, {}, ("attention-config", "")),
        (GPT_OSS, {}, {"VLLM_ATTENTION_BACKEND": "TRITON_ATTN"}, ("VLLM_ATTENTION_BACKEND", "")),
        (GPT_OSS, {}, {"VLLM_MXFP4_USE_MARLIN": "1"}, ("", "VLLM_MXFP4_USE_MARLIN")),
        (GPT_OSS, {}, {"VLLM_MXFP4_USE_MARLIN": "0"}, ("", "")),
        (DENSE, {}, {"VLLM_MXFP4_USE_MARLIN": "1"}, ("", "")),
    ],
)
def test_who_asks_for_a_kernel(
    model: Model, flags: dict[str, Any], env: dict[str, str], names: tuple[str, str]
) -> None:
    assert backends.asked_by(model, flags, env) == names
