# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Every plan that the catalogues can give: right flags, no memory too many, or a sentence."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import (
    OWNED_FLAGS,
    catalogue,
    check_environment,
    check_options,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import (
    gpus,
    intents,
    models,
    releases,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.memory import outside_bytes
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.plan import as_json, plan
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import (
    GIB,
    Plan,
    Refusal,
)

GPT_OSS = ("openai/gpt-oss-20b", "openai/gpt-oss-120b")
# One GPU of each generation and size; the others differ from them in memory alone.
KINDS = [
    "l4", "a10", "rtx3090", "rtx4090", "rtx5080", "rtx5090", "rtx-pro-6000", "l40s", "a100-40",
    "a100-80", "h100-80", "h100-nvl", "h200", "b200", "b300", "gb10", "v100-32",
]  # fmt: skip
# Where the way of counting changed, and the two ends.
TURNS = ("0.10.1", "0.14.0", "0.20.1", "0.26.0", "0.32.0", "0.33.0")
# Flags that both the collection and the plan know; the collection writes them.
SHARED_FLAGS = {"max-model-len", "shutdown-timeout"}


def check_plan(found: Plan, release: str, where: str) -> None:
    known = catalogue()
    for flag in found.flags:
        assert known.has_flag(flag, release), (where, flag)
    options = {name: value for name, value in found.flags.items() if name not in OWNED_FLAGS}
    assert set(found.flags) - set(options) <= SHARED_FLAGS, where
    assert check_options(options, release) == {}, where
    assert check_environment(found.env, release) == {}, where
    memory = found.memory
    later = memory.cuda_graphs - memory.cuda_graphs_reserved
    # vLLM does not start unless `requested` is free beside its context and NCCL's buffers.
    assert memory.requested + max(later, 0) + memory.outside <= memory.total, where
    assert memory.outside == outside_bytes(found.tensor_parallel_size) > 0, where
    shown = as_json(found)["memory_gib"]
    held = sum(size for part, size in shown.items() if part not in ("total", "kv_restart"))
    assert held <= shown["total"] - memory.outside / GIB + 0.005, where
    assert found.restart_kv_bytes >= memory.kv, where
    parts = memory.weights + memory.activation + memory.cuda_graphs_reserved + memory.other
    assert parts + memory.kv <= memory.requested, where
    assert memory.kv >= found.kv_cache.needed_bytes, where
    assert found.kv_cache.concurrency >= 1, where
    assert len(found.devices) == found.replicas >= 1, where


def check_refusal(sentence: str, where: str) -> None:
    assert "\n" not in sentence and sentence.endswith("."), where
    cause = "GiB are missing"
    if "compute capability" in sentence:
        cause = "need 8.0 or newer" if "gpt-oss" in where else "kernels from 8.0 on"
    assert re.search(rf"{cause}; nearest: \S", sentence), (where, sentence)
    assert "none is known" not in sentence, where


def check_all(
    release: str, names: Iterable[str], counts: Iterable[int], served: Iterable[str]
) -> None:
    outcomes: Counter[str] = Counter()
    every = itertools.product(names, counts, served, intents.names())
    for name, count, model, intent in every:
        where = f"{count} x {name}, {model}, {intent}, {release}"
        try:
            found = plan(gpus.gpu_set(name, count), model, intent, release)
        except Refusal as refusal:
            outcomes["refused"] += 1
            check_refusal(str(refusal), where)
        else:
            outcomes["planned"] += 1
            check_plan(found, release, where)
    assert outcomes["planned"] > outcomes["refused"] > 0


@pytest.mark.parametrize("release", releases.known())
def test_gpt_oss_on_every_release(release: str) -> None:
    check_all(release, KINDS, (1, 3, 8), GPT_OSS)


@pytest.mark.parametrize("release", TURNS)
def test_gpt_oss_on_any_number_of_gpus(release: str) -> None:
    check_all(release, KINDS, (2, 5, 6, 7), GPT_OSS)


@pytest.mark.parametrize("release", releases.known())
def test_every_gpu_and_model(release: str) -> None:
    check_all(release, gpus.names(), (1, 4) if release in TURNS else (1,), models.models())


@pytest.mark.parametrize("name", [name for name in KINDS if name != "v100-32"])
@pytest.mark.parametrize("model", GPT_OSS)
def test_more_gpus_never_stop_fitting(name: str, model: str) -> None:
    fits = []
    for count in (1, 2, 4, 8):
        try:
            plan(gpus.gpu_set(name, count), model, "chat", "0.32.0")
            fits.append(True)
        except Refusal:
            fits.append(False)
    assert fits == sorted(fits)
    assert fits[-1]
