# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What holds for every GPU, every context and every setting (hypothesis)."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, configuration, given, settings
from hypothesis import strategies as some

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import (
    gpus,
    intents,
    releases,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.plan import as_json, plan
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import (
    GIB,
    Gpu,
    Plan,
    Refusal,
)

# Hypothesis keeps notes; not in the checkout.
configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir(), "hypothesis"))

NAMES = some.sampled_from(gpus.names())
MODELS = some.sampled_from(["openai/gpt-oss-20b", "openai/gpt-oss-120b"])
INTENTS = some.sampled_from(["chat", "throughput", "long_context"])
RELEASES = some.sampled_from(releases.known())
LENGTHS = some.integers(min_value=1024, max_value=131_072)
MEMORY = some.floats(min_value=8, max_value=300)

QUICK = settings(max_examples=150, deadline=None, derandomize=True, database=None)


def answer(there: tuple[Gpu, ...], *question: Any, **more: Any) -> Plan | None:
    try:
        return plan(there, *question, **more)
    except Refusal:
        return None


def one(name: str, gib: float | None = None) -> tuple[Gpu, ...]:
    (gpu,) = gpus.gpu_set(name, 1)
    return (gpu if gib is None else replace(gpu, memory_bytes=round(gib * GIB)),)


@QUICK
@given(NAMES, MODELS, INTENTS, RELEASES, MEMORY, MEMORY, LENGTHS)
def test_more_memory_with_equal_flags_never_gives_fewer_tokens(
    name: str, model: str, intent: str, release: str, first: float, second: float, length: int
) -> None:
    small, large = sorted((first, second))
    flags = {"max-num-seqs": 64, "max-num-batched-tokens": 2048, "kv-cache-dtype": "auto"}
    options = flags | {"tensor-parallel-size": 1}
    less = answer(one(name, small), model, intent, release, options, max_model_len=length)
    assume(less is not None)
    assert less is not None
    more = answer(one(name, large), model, intent, release, options, max_model_len=length)
    assert more is not None
    assert more.kv_cache.tokens >= less.kv_cache.tokens


def by_memory() -> list[list[str]]:
    """GPUs of the catalogue that differ in memory alone, the smallest first."""
    kinds: dict[tuple[int, int], list[Gpu]] = {}
    names = {}
    for name in gpus.names():
        (gpu,) = one(name)
        names[gpu.name] = name
        kinds.setdefault(gpu.capability, []).append(gpu)
    return [
        [names[gpu.name] for gpu in sorted(kind, key=lambda gpu: gpu.memory_bytes)]
        for capability, kind in kinds.items()
        if capability >= (8, 0)
    ]


@pytest.mark.parametrize("release", ["0.12.0", "0.26.0", "0.32.0"])
@pytest.mark.parametrize("kind", by_memory(), ids=lambda kind: kind[-1])
def test_of_two_gpus_one_can_buy_the_larger_never_has_fewer_tokens(
    kind: list[str], release: str
) -> None:
    every = itertools.product(("openai/gpt-oss-20b", "openai/gpt-oss-120b"), intents.names())
    for model, intent in every:
        found = [answer(one(name), model, intent, release) for name in kind]
        tokens = [plan.kv_cache.tokens if plan else 0 for plan in found]
        assert tokens == sorted(tokens), (model, intent, dict(zip(kind, tokens)))


# What a larger batch step may cost; 22 % is the most that was seen in steps of 0.1 GiB.
STEP_COST = 0.25


@pytest.mark.parametrize("release", ["0.19.1", "0.26.0", "0.32.0"])
@pytest.mark.parametrize("intent", intents.names())
@pytest.mark.parametrize(
    ("name", "model", "least", "most"),
    [
        ("l4", "openai/gpt-oss-20b", 16, 60),
        ("h200", "openai/gpt-oss-20b", 16, 72),
        ("h200", "openai/gpt-oss-120b", 76, 150),
        ("rtx5090", "openai/gpt-oss-120b", 76, 120),
        ("b200", "openai/gpt-oss-120b", 76, 120),
        ("gb10", "openai/gpt-oss-20b", 18, 40),
    ],
)
def test_memory_that_grows(
    name: str, model: str, least: int, most: int, intent: str, release: str
) -> None:
    """Without fixed flags: a step costs tokens where it is taken, never context."""
    requests = 1 if intent == "long_context" else {"chat": 2, "throughput": 8}[intent]
    before: Plan | None = None
    for quarter in range(4 * least, 4 * most):
        found = answer(one(name, quarter / 4), model, intent, release)
        assert found is not None or before is None, quarter / 4
        if found is None:
            continue
        if before is not None:
            where = (quarter / 4, before.flags, found.flags)
            old, new = before.kv_cache, found.kv_cache
            assert found.flags["max-model-len"] >= before.flags["max-model-len"], where
            assert new.concurrency >= min(requests, old.concurrency * (1 - STEP_COST)), where
            batches = ("max-num-seqs", "max-num-batched-tokens")
            same = all(found.flags[flag] == before.flags[flag] for flag in batches)
            leaves_fp8 = found.flags.get("kv-cache-dtype") != before.flags.get("kv-cache-dtype")
            if leaves_fp8:
                # Half as many tokens per GiB, and still enough requests.
                assert (intent, before.flags["kv-cache-dtype"]) == ("long_context", "fp8"), where
                assert new.tokens > old.tokens / 2.1 and new.concurrency >= 4, where
            elif same:
                assert new.tokens >= old.tokens, where
            else:
                assert new.tokens >= old.tokens * (1 - STEP_COST), where
        before = found
    assert before is not None


@QUICK
@given(NAMES, MODELS, RELEASES, LENGTHS, LENGTHS)
def test_longer_context_never_gives_more_concurrency(
    name: str, model: str, release: str, first: int, second: int
) -> None:
    short, long = sorted((first, second))
    options = {"max-num-seqs": 64, "max-num-batched-tokens": 2048}
    longer = answer(one(name), model, "chat", release, options, max_model_len=long)
    assume(longer is not None)
    assert longer is not None
    shorter = answer(one(name), model, "chat", release, options, max_model_len=short)
    assert shorter is not None
    assert shorter.kv_cache.concurrency >= longer.kv_cache.concurrency


@QUICK
@given(NAMES, MODELS, INTENTS, RELEASES, some.integers(1, 8))
def test_the_same_question_has_the_same_answer(
    name: str, model: str, intent: str, release: str, count: int
) -> None:
    board = gpus.gpu_set(name, count)
    first = answer(board, model, intent, release)
    again = answer(tuple(reversed(board)), model, intent, release)
    assert first == again
    if first is not None and again is not None:
        assert list(as_json(first)["flags"].items()) == list(as_json(again)["flags"].items())


@QUICK
@given(
    NAMES,
    MODELS,
    INTENTS,
    RELEASES,
    some.floats(min_value=0, max_value=1),
    some.booleans(),
    MEMORY,
)
def test_nothing_is_planned_beyond_what_others_leave(
    name: str, model: str, intent: str, release: str, part: float, display: bool, gib: float
) -> None:
    (gpu,) = one(name, gib)
    shared = replace(gpu, foreign_bytes=round(part * gpu.memory_bytes), display=display)
    found = answer((shared,), model, intent, release)
    if found is None:
        return
    memory = found.memory
    held = memory.weights + memory.activation + memory.cuda_graphs + memory.other + memory.kv
    left = shared.memory_bytes - shared.foreign_bytes - memory.outside
    assert held <= left
    assert memory.requested <= left
    assert memory.kv >= found.kv_cache.needed_bytes


@QUICK
@given(NAMES, MODELS, INTENTS, RELEASES, some.sampled_from([1, 2, 4]))
def test_a_screen_changes_no_flag(
    name: str, model: str, intent: str, release: str, count: int
) -> None:
    """A plan must not change, and restart an engine, because somebody plugs a cable in."""
    board = gpus.gpu_set(name, count)
    with_screen = (replace(board[0], display=True), *board[1:])
    dark, lit = (answer(there, model, intent, release) for there in (board, with_screen))
    assert (dark is None) == (lit is None)
    if dark is not None and lit is not None:
        assert (dark.flags, dark.env, dark.devices) == (lit.flags, lit.env, lit.devices)


@QUICK
@given(NAMES, MODELS, INTENTS, RELEASES, some.sampled_from([1, 2, 4]), some.floats(0.5, 1.0))
def test_no_utilization_is_accepted_that_vllm_refuses(
    name: str, model: str, intent: str, release: str, count: int, share: float
) -> None:
    options = {"gpu-memory-utilization": share}
    found = answer(gpus.gpu_set(name, count), model, intent, release, options)
    if found is not None:
        assert found.memory.requested <= found.memory.total - found.memory.outside


@QUICK
@given(NAMES, MODELS, RELEASES, some.integers(1, 2000), some.integers(64, 20_000))
def test_a_persons_batches_are_kept_or_refused(
    name: str, model: str, release: str, seqs: int, tokens: int
) -> None:
    options = {"max-num-seqs": seqs, "max-num-batched-tokens": tokens}
    found = answer(one(name), model, "chat", release, options)
    if found is None:
        return
    assert seqs <= tokens
    assert (found.flags["max-num-seqs"], found.flags["max-num-batched-tokens"]) == (seqs, tokens)
