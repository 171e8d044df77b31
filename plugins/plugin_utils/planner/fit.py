# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Flags for one tensor-parallel size, and what they leave for the KV cache.

With equal flags, more memory never gives fewer tokens. Across flags it cannot be promised: a
larger batch step is taken as soon as it fits, and costs KV cache at the very size of GPU where it
does. What holds there (tests/unit/plugins/plugin_utils/planner/test_properties.py):

- The context never gets shorter.
- A larger step costs a quarter of the tokens at most (22 % measured, from 16 to 160 GiB), and never
  the requests that the intent wants at least.
- Where 16 bits hold enough requests, long_context leaves FP8, and with it half of the tokens.
- Of two GPUs of the catalogue with one compute capability, the larger has no fewer tokens, for
  gpt-oss on 0.12.0, 0.26.0 and 0.32.0. Elsewhere two of them may lie on both sides of a step.

A workaround that one release needs on some sizes of GPU only (data/releases.json) comes on top.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import (
    catalogue,
    version,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import (
    backends,
    gpus,
    models,
    releases,
    settings,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.intents import Intent
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.kv_cache import kv_cache
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.memory import at_share, memory
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import (
    GIB,
    Engine,
    Gpu,
    KvCache,
    Memory,
    Model,
    Refusal,
)

# Context lengths that people use, the longest first; the model's own comes before them.
_LENGTHS = (
    1_048_576, 524_288, 262_144, 196_608, 131_072, 98_304, 65_536, 49_152, 40_960, 32_768,
    24_576, 16_384, 12_288, 8_192, 6_144, 4_096, 2_048,
)  # fmt: skip
# Chat with a system prompt and a few turns; below it, one request more is better than none.
_USEFUL_LENGTH = 8_192

# Share and bytes that a plan leaves to the driver, fragmentation and what is captured or compiled
# after profiling, beside what lies outside in any case: together 0.95 of one 80 GB card, and less
# of two, which vLLM's recipe gives for gpt-oss-120b.
_SHARE = 0.96
_SPARE_BYTES = round(0.25 * GIB)
# Weights above this share of a GPU leave no room for large batches: the same recipe asks for
# max-num-batched-tokens 1024 there.
_TIGHT_SHARE = 0.7
# Pages and programs share the memory there; 0.82 was the most that passed vLLM's check on start
# (GLM-5.3-Flash-EXL3-2x-DGX-Sparks#47).
_UNIFIED_SHARE = 0.80
# A GPU that no release was measured on.
_UNKNOWN_SHARE = 0.85
# What a desktop may take on a card that drives screens, whether one is attached now or not: a plan
# must not change with a cable.
_SCREEN_BYTES = GIB
# What a process that is already there may still take.
_FOREIGN_BYTES = GIB // 2
# The prediction is within the larger of these; exact KV bytes must not depend on it.
_TOLERANCE_BYTES = GIB // 2
_TOLERANCE_SHARE = 0.03
KV_BYTES_STEP = 16 << 20
# For a first look; what the plan's own share depends on does not depend on it.
_PROBED_SHARE = 0.9
_SHARE_FLAG = "gpu-memory-utilization"
_KV_BYTES_FLAG = "kv-cache-memory-bytes"

# Part of the requests that fit with the smallest batches which larger ones may not go below.
_MOST_OF_THEM = 0.8

# Requests of full length below which 8-bit KV is worth it where it is sound.
_FP8_BELOW = 4
# A drafter's weights where nothing else is known: EAGLE3 heads for gpt-oss are 1 to 2 GiB.
_DRAFTER_BYTES = round(1.5 * GIB)


@dataclass(frozen=True)
class Request:
    """What a person asked for, checked.

    :param max_model_len: tokens, or None for as long as fits.
    """

    gpus: tuple[Gpu, ...]
    model: Model
    intent: Intent
    release: str
    options: Mapping[str, Any]
    env: Mapping[str, str]
    max_model_len: int | None
    shutdown_timeout: int

    @functools.cached_property
    def gpu(self) -> Gpu:
        """The one with the least to give: all of them run the same flags."""
        return min(self.gpus, key=lambda gpu: gpu.memory_bytes - gpu.foreign_bytes)

    @functools.cached_property
    def served(self) -> Model:
        """The model as it lies in memory: with the drafter, if there is one."""
        if not settings.speculation(self.options).get("model"):
            return self.model
        return replace(
            self.model,
            full_layers=self.model.full_layers + 1,
            checkpoint_bytes=self.model.checkpoint_bytes + _DRAFTER_BYTES,
        )


@dataclass(frozen=True)
class Fit:
    """Flags that matter for memory, and what comes of them."""

    flags: Mapping[str, Any]
    env: Mapping[str, str]
    engine: Engine
    memory: Memory
    kv_cache: KvCache

    @property
    def works(self) -> bool:
        return self.memory.kv >= self.kv_cache.needed_bytes


def fit(request: Request, tensor_parallel: int) -> Fit:
    """The best flags for this tensor-parallel size; they may still not work.

    :raises Refusal: the options ask for what the GPU cannot do.
    """
    *larger, last = request.intent.steps
    smallest = _at(request, tensor_parallel, *last)
    if not smallest.works or is_tight(smallest.memory):
        return smallest
    tried: list[Fit] = []
    for seqs, tokens in larger:
        found = _at(request, tensor_parallel, seqs, tokens)
        if is_enough(request, found) and _keeps_context(request, found, smallest):
            return found
        tried.append(found)
    return next((found for found in tried if _is_as_good(request, found, smallest)), smallest)


def is_tight(found: Memory) -> bool:
    """Whether the weights leave room for small batches only."""
    return found.weights > _TIGHT_SHARE * found.total


def _keeps_context(request: Request, found: Fit, smallest: Fit) -> bool:
    """Whether the context is at least what the largest of the tight GPUs has.

    Large batches begin right above it, and more memory must not shorten the context there.
    """
    length = found.engine.max_model_len
    if length >= smallest.engine.max_model_len:
        return True  # as much as the smallest step has here, and it has no more on a smaller GPU
    spare = request.gpu.memory_bytes - math.floor(smallest.memory.weights / _TIGHT_SHARE)
    smaller = tuple(replace(gpu, memory_bytes=gpu.memory_bytes - spare) for gpu in request.gpus)
    last = request.intent.steps[-1]
    tight = _at(replace(request, gpus=smaller), smallest.engine.tensor_parallel, *last)
    return not tight.works or length >= tight.engine.max_model_len


def _is_as_good(request: Request, found: Fit, smallest: Fit) -> bool:
    """Whether a larger step costs nothing that the intent asks for.

    A smaller step is worth it for more context, for the requests that the intent wants at least
    (or a good part of those that fit, where it cannot have them), and for room beyond the error of
    the prediction.
    """
    requests, fitting = found.kv_cache.concurrency, smallest.kv_cache.concurrency
    wanted = min(request.intent.minimum_requests, _MOST_OF_THEM * fitting)
    if _holds_enough(request, smallest):
        wanted = request.intent.minimum_requests
    return (
        found.works
        and found.engine.max_model_len >= smallest.engine.max_model_len
        and requests >= wanted
        and (is_thin(smallest) or not is_thin(found))
    )


def is_enough(request: Request, found: Fit) -> bool:
    """Whether it surely holds the context and the requests that the intent asks for."""
    return (
        found.engine.max_model_len >= _enough(request)
        and _holds_enough(request, found)
        and not is_thin(found)
    )


def is_thin(found: Fit) -> bool:
    """Whether the KV cache exceeds one request by less than the prediction may be off.

    vLLM does not start where the cache holds less than one. Bytes that are given are no prediction.
    """
    spare = found.memory.kv - found.kv_cache.needed_bytes
    return _KV_BYTES_FLAG not in found.flags and spare < tolerance(found.memory.kv)


def tolerance(kv_bytes: int) -> int:
    """By how much a predicted KV cache may be off, in bytes."""
    return max(round(_TOLERANCE_SHARE * kv_bytes), _TOLERANCE_BYTES)


def _enough(request: Request) -> int:
    own = request.max_model_len or request.model.max_model_len
    return min(request.intent.enough_tokens or own, own)


def _holds_enough(request: Request, found: Fit) -> bool:
    return found.works and found.kv_cache.concurrency >= request.intent.minimum_requests


def _shortened(request: Request, long: Fit) -> Fit:
    """The longest context that leaves room for the intent's requests, or for one."""
    if request.max_model_len or _holds_enough(request, long):
        return long
    shorter = [length for length in _LENGTHS if length < request.model.max_model_len]
    if long.memory.kv <= 0:
        return _with_length(request, long, shorter[-1]) if shorter else long
    for length in shorter:
        choice = _with_length(request, long, length)
        if length >= _USEFUL_LENGTH and _holds_enough(request, choice):
            return choice
    if not shorter:
        return long
    # Too few fit at once: then at least no context is kept that costs more of them.
    most = _USEFUL_LENGTH if request.intent.minimum_requests > 1 else shorter[0]
    rest = [_with_length(request, long, length) for length in shorter if length <= most]
    return next((choice for choice in rest if choice.works), rest[-1])


def _with_length(request: Request, old: Fit, length: int) -> Fit:
    engine = replace(old.engine, max_model_len=length)
    return replace(
        old,
        flags={**old.flags, "max-model-len": length},
        engine=engine,
        kv_cache=kv_cache(request.served, engine, max(old.memory.kv, 0)),
    )


def _at(request: Request, tensor_parallel: int, seqs: int, tokens: int) -> Fit:
    """One step of the intent, with as much context as it holds; in FP8 where bf16 is little."""
    length = request.max_model_len or request.model.max_model_len
    drafted = draft(request, tensor_parallel, seqs, tokens, length)
    found = measure(request, drafted)
    enough = found.kv_cache.concurrency >= _FP8_BELOW and found.works
    if not enough and found.memory.kv > 0 and _may_use_fp8(request):
        found = measure(request, {**drafted, "kv-cache-dtype": "fp8"})
    return _shortened(request, found)


def _may_use_fp8(request: Request) -> bool:
    if request.intent.name != "long_context" or "kv-cache-dtype" in request.options:
        return False
    verdict, _why = backends.fp8_kv(request.gpu.capability, request.model, request.release)
    return verdict == "works"


def draft(
    request: Request, tensor_parallel: int, seqs: int, tokens: int, length: int
) -> dict[str, Any]:
    """Flags that memory depends on: the plan's, overruled by the options."""
    options = request.options
    tokens = options.get("max-num-batched-tokens") or tokens
    if options.get("enable-chunked-prefill") is False:
        tokens = max(tokens, length)
    seqs = options.get("max-num-seqs") or min(seqs, tokens)
    flags = {
        "tensor-parallel-size": tensor_parallel,
        "max-model-len": length,
        "max-num-seqs": seqs,
        "max-num-batched-tokens": tokens,
    }
    if _plans_capture(request):
        # A step checks every drafted token, so a batch has so many more tokens than sequences.
        drafted = int(settings.speculation(options).get("num_speculative_tokens", 0))
        covered = settings.covering(min(seqs * (1 + drafted), 512))
        largest = settings.rounded(min(covered, tokens))
        flags["max-cudagraph-capture-size"] = largest
    if _schedules(request):
        flags["async-scheduling"] = True
    merged = {**flags, **options, "max-model-len": length}
    return {name: value for name, value in merged.items() if value is not None}


def _plans_capture(request: Request) -> bool:
    return (
        catalogue().has_flag("max-cudagraph-capture-size", request.release)
        and not settings.is_eager(request.options)
        and not settings.given_capture_sizes(request.options)
        and "max_cudagraph_capture_size"
        not in settings.nested(request.options, "compilation-config")
    )


def _schedules(request: Request) -> bool:
    """Whether async scheduling is sound and not yet the default (#28635, #27878 up to 0.11.0)."""
    release = version(request.release)
    return (0, 11, 1) <= release < (0, 14, 0) and not settings.speculation(request.options)


def measure(request: Request, drafted: Mapping[str, Any]) -> Fit:
    """What the flags make of one GPU, with utilization chosen where it is not given."""
    gpu, model, release = request.gpu, request.served, request.release
    env = environment(request)
    engine = settings.engine(drafted, env, gpu, model, release)
    flags = dict(drafted)
    given = flags.get(_KV_BYTES_FLAG)
    probe = memory(gpu.memory_bytes, _PROBED_SHARE, model, engine, given)
    share = _share(request, probe)
    if request.options.get(_SHARE_FLAG, share) is not None:
        flags[_SHARE_FLAG] = share
    used = at_share(probe, share, given)
    exact = _exact_bytes(request, used)
    if exact:
        flags[_KV_BYTES_FLAG] = exact
        used = replace(used, kv=exact)
    return Fit(flags, env, engine, used, kv_cache(model, engine, max(used.kv, 0)))


def restart_kv_bytes(request: Request, found: Fit) -> int:
    """KV cache of a start that finds torch.compile's cache: more than that of the first one."""
    gpu, exact = request.gpu, found.flags.get(_KV_BYTES_FLAG)
    share = _share(request, found.memory)
    return memory(gpu.memory_bytes, share, request.served, found.engine, exact, compiled=True).kv


def _share(request: Request, probe: Memory) -> float:
    """gpu-memory-utilization: a person's, vLLM's own where they want that, or the plan's."""
    if _SHARE_FLAG in request.options:
        usual = releases.defaults(request.release).gpu_memory_utilization
        asked = request.options[_SHARE_FLAG]
        return usual if asked is None else float(asked)
    return utilization(request.gpu, probe)


def environment(request: Request) -> dict[str, str]:
    """Variables that memory depends on: workarounds of the release, and the person's own."""
    found: dict[str, str] = {}
    for variables, _why in releases.workarounds(
        request.release, request.gpu, request.model, request.intent.name
    ):
        found |= variables
    return found | dict(request.env)


def utilization(gpu: Gpu, probe: Memory) -> float:
    """gpu-memory-utilization in hundredths, so that what comes after profiling still fits."""
    total, later = gpu.memory_bytes, max(probe.cuda_graphs - probe.cuda_graphs_reserved, 0)
    spare = total * (1 - _SHARE) + max(_SPARE_BYTES, later)
    if gpus.may_drive_screens(gpu):
        spare = max(spare, _SCREEN_BYTES + _SPARE_BYTES + later)
    share = (total - probe.outside - spare) / total
    if gpus.has_unified_memory(gpu):
        share = min(share, _UNIFIED_SHARE)
    if not releases.is_known_capability(gpu.capability):
        share = min(share, _UNKNOWN_SHARE)
    if gpu.foreign_bytes:
        beside = gpu.foreign_bytes + _FOREIGN_BYTES + probe.outside + later
        share = min(share, (total - beside) / total)
    return max(math.floor(share * 100), 1) / 100


def _exact_bytes(request: Request, used: Memory) -> int | None:
    """KV bytes for a shared GPU: profiling would count what others take meanwhile."""
    asked = {_KV_BYTES_FLAG, _SHARE_FLAG} & set(request.options)
    if asked or not request.gpu.foreign_bytes:
        return None
    if not catalogue().has_flag(_KV_BYTES_FLAG, request.release):
        return None
    spare = used.kv - tolerance(used.kv)
    return spare - spare % KV_BYTES_STEP if spare >= KV_BYTES_STEP else None


def held(found: Memory) -> int:
    """All that the instance holds on one GPU, beside what lies outside."""
    return found.weights + found.activation + found.cuda_graphs + found.other + max(found.kv, 0)


def sizes(request: Request, dividing: Collection[int]) -> list[int]:
    """Tensor-parallel sizes to try, the smallest first: powers of two that the GPUs allow.

    :param dividing: sizes that the model can be divided by.
    :raises Refusal: there is none, or a person asks for another one.
    """
    most = 1 if request.gpu.mig_slice else len(request.gpus)
    if not dividing:
        raise Refusal(
            f"vLLM cannot load {request.model.name} on any number of GPUs: none divides"
            f" {models.undivided(request.model, 1)}; use a checkpoint that is quantized in"
            " another way."
        )
    asked = request.options.get("tensor-parallel-size")
    allowed = sorted(dividing)
    if asked is None:
        return [size for size in allowed if size <= most and size & (size - 1) == 0]
    if asked > 1 and request.gpu.mig_slice:
        raise Refusal(
            f"options.tensor-parallel-size is {asked}, but MIG slices cannot work together; leave"
            " it out or disable MIG."
        )
    if asked > most:
        raise Refusal(
            f"options.tensor-parallel-size is {asked}, but the instance has"
            f" {most} GPU{'s' * (most > 1)}; it must be {most} or less."
        )
    if asked not in allowed:
        words = ", ".join(str(size) for size in allowed if size <= most)
        raise Refusal(
            f"options.tensor-parallel-size is {asked}, which does not divide"
            f" {models.undivided(request.model, asked)} of {request.model.name}; here it"
            f" must be one of {words}."
        )
    return [asked]
