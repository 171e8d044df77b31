# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What changes between vLLM releases beside flags."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import catalogue
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import (
    gpus,
    models,
    releases,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import Refusal

GPT_OSS = models.model("openai/gpt-oss-20b")


@pytest.mark.parametrize(
    ("gpu", "release", "tokens", "seqs"),
    [
        ("l4", "0.10.1", 2048, 256),
        ("a100-80", "0.33.0", 2048, 256),  # named, whatever its memory
        ("h100-80", "0.10.1", 8192, 1024),
        ("h200", "0.32.0", 8192, 1024),
        ("b200", "0.27.1", 8192, 1024),
        ("b200", "0.28.0", 16384, 1024),
        ("gb10", "0.32.0", 8192, 1024),
        ("gb10", "0.33.0", 2048, 256),
        ("rtx-pro-6000", "0.26.0", 8192, 1024),
    ],
)
def test_batch_defaults_follow_gpu_and_release(
    gpu: str, release: str, tokens: int, seqs: int
) -> None:
    (one,) = gpus.gpu_set(gpu, 1)
    assert releases.defaults(release).batch_sizes(one) == (tokens, seqs)


@pytest.mark.parametrize(
    ("release", "utilization", "async_scheduling", "capture"),
    [
        ("0.10.2", 0.9, False, 1024),
        ("0.11.0", 0.9, False, 992),
        ("0.13.0", 0.9, False, 1024),
        ("0.14.0", 0.9, True, 1024),
        ("0.19.1", 0.9, True, 1024),
        ("0.20.0", 0.92, True, 1024),
        ("0.33.0", 0.92, True, 1024),
    ],
)
def test_engine_defaults(
    release: str, utilization: float, async_scheduling: bool, capture: int
) -> None:
    found = releases.defaults(release)
    assert found.gpu_memory_utilization == utilization
    assert found.async_scheduling is async_scheduling
    assert found.gpt_oss_capture_size == capture


@pytest.mark.parametrize(
    ("release", "cuda", "driver", "variant"),
    [
        ("0.10.1", "12.8", 570, ""),
        ("0.19.1", "12.9", 575, ""),
        ("0.20.0", "13.0", 580, "cu129"),
        ("0.32.0", "13.0", 580, "cu129"),
        ("0.33.0", "13.0", 580, ""),
    ],
)
def test_image_and_driver(release: str, cuda: str, driver: int, variant: str) -> None:
    found = releases.image(release)
    assert (found.cuda, found.driver, found.variant) == (cuda, driver, variant)
    assert f"driver {driver}" in releases.driver_note(release)
    assert ("cu129" in releases.driver_note(release)) is bool(variant)


def test_an_unknown_release_names_the_known_ones() -> None:
    with pytest.raises(Refusal, match=r"'0.32.1'; known are 0.10.1, .*did you mean 0.32.0"):
        releases.check("0.32.1")
    with pytest.raises(Refusal):
        releases.check("0.10.0")  # has no gpt-oss


def named(release: str, gpu: str) -> str:
    return " ".join(releases.issues(release, gpus.gpu_set(gpu, 1)[0], GPT_OSS))


@pytest.mark.parametrize(
    ("release", "gpu", "issue", "said"),
    [
        ("0.11.0", "h100-80", "#26480", True),
        ("0.11.2", "h100-80", "#26480", False),
        ("0.10.2", "rtx5090", "triton#8498", True),
        ("0.10.2", "h100-80", "triton#8498", False),
        ("0.16.0", "gb10", "#37030", True),
        ("0.24.0", "gb10", "#37030", False),
        ("0.31.0", "l4", "#51977", True),
        ("0.32.0", "l4", "#51977", False),
        ("0.30.0", "l4", "TIKTOKEN_ENCODINGS_BASE", True),
        ("0.31.0", "l4", "TIKTOKEN_ENCODINGS_BASE", False),
    ],
)
def test_known_troubles_hold_where_they_hold(
    release: str, gpu: str, issue: str, said: bool
) -> None:
    assert (issue in named(release, gpu)) is said


def test_troubles_of_gpt_oss_are_not_those_of_others() -> None:
    dense = replace(GPT_OSS, architecture="LlamaForCausalLM")
    assert not releases.issues("0.11.0", gpus.gpu_set("h100-80", 1)[0], dense)


@pytest.mark.parametrize(
    ("release", "known", "gone"),
    [
        ("0.13.0", "CVE-2026-22807, fixed in 0.14.0", "CVE-2025-62164"),
        ("0.17.1", "CVE-2026-27893, fixed in 0.18.0", "CVE-2026-22807"),
        ("0.18.1", "CVE-2026-34756, fixed in 0.19.0", "CVE-2026-27893"),
        ("0.30.0", "CVE-2026-114053, fixed in 0.31.0", "CVE-2026-105757"),
        ("0.30.0", "CVE-2026-114051, fixed in 0.31.0", "PYSEC-2026-4353"),
        ("0.31.0", "PYSEC-2026-4344, fixed in 0.32.0", "CVE-2026-114053"),
        ("0.31.0", "PYSEC-2026-4349, fixed in 0.32.0", "CVE-2026-116180"),
        ("0.32.0", "GHSA-5r3c-5x4v-8gjh (fixed in 0.33.0)", "PYSEC"),
    ],
)
def test_an_old_release_lists_its_holes(release: str, known: str, gone: str) -> None:
    said = releases.advisory_note(release)
    assert known in said
    assert gone not in said


def test_the_newest_release_has_no_known_holes() -> None:
    assert releases.advisory_note("0.33.0") == ""


def test_retired_flags_are_retired_and_have_a_successor() -> None:
    known = catalogue()
    for flag in ("swap-space", "max-num-partial-prefills", "disable-log-requests"):
        assert releases.replacement(flag)
        assert not known.has_flag(flag, known.releases[-1])
    assert releases.replacement("max-num-seqs") == ""
    assert set(releases.left_out()) <= set(known.flags)


def test_a_future_gpu_is_compared_with_the_newest_known() -> None:
    assert not releases.is_known_capability((13, 0))
    assert releases.nearest_capability((13, 0)) == (12, 1)
    assert releases.nearest_capability((9, 0)) == (9, 0)
