# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Why a plan is not possible, in one sentence: the arithmetic, and the nearest plan that fits."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import (
    backends,
    fit,
    gpus,
    intents,
    models,
    releases,
    settings,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.memory import outside_bytes
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import (
    GIB,
    Gpu,
    Refusal,
)

# What to look at in the catalogue, the smallest first.
_LARGER_SETS = ("l4", "rtx4090", "l40s", "a100-80", "h100-80", "h200", "b200", "b300")
_SMALLER_MODELS = ("openai/gpt-oss-20b",)

# MXFP4 kernels and attention sinks need it (get_min_capability of quantization/mxfp4.py), and no
# kernel of an older GPU is in the planner's catalogue.
OLDEST_CAPABILITY = (8, 0)

# It takes FP8 in e4m3 only (flash_attn_supports_fp8 and get_fp8_dtype_for_flashattn, 0.10.1 to
# 0.33.0).
_WITHOUT_E5M2 = "FLASH_ATTN"

# Above it, flags that suit the GPU in use would waste the others.
_BUSY_SHARE = 0.1

_Tries = Callable[[fit.Request], "fit.Fit | None"]
_Way = Callable[[fit.Request, _Tries], str]


def check_capability(request: fit.Request, tries: _Tries) -> None:
    """
    :raises Refusal: a GPU is older than all that the planner knows.
    """
    gpu = request.gpu
    if gpu.capability >= OLDEST_CAPABILITY:
        return
    needs = "this planner knows kernels from 8.0 on"
    if releases.is_gpt_oss(request.model):
        needs = "MXFP4 and attention sinks need 8.0 or newer"
    raise Refusal(
        f"GPU {gpu.index} ({gpu.name}) has compute capability"
        f" {releases.capability_name(gpu.capability)}, but {needs};"
        f" nearest: {_larger_gpu(request, tries) or 'none is known'}."
    )


def check_options(request: fit.Request) -> None:
    """
    :raises Refusal: options contradict each other or the GPU, whatever the plan is.
    """
    options, gpu = request.options, request.gpu
    kv_dtype = str(options.get("kv-cache-dtype", "auto"))
    verdict, why = backends.fp8_kv(gpu.capability, request.model, request.release)
    if kv_dtype.startswith("fp8") and verdict == "no":
        raise Refusal(
            f"options.kv-cache-dtype is {kv_dtype!r}, which does not work on {gpu.name} with vLLM"
            f" {request.release}: {why}; leave it out."
        )
    if kv_dtype == "fp8_e5m2" and _attention(request) == _WITHOUT_E5M2:
        raise Refusal(
            f"options.kv-cache-dtype is 'fp8_e5m2', which {_WITHOUT_E5M2}, the attention kernel on"
            f" {gpu.name}, cannot read; give 'fp8', which is e4m3, or leave it out."
        )
    seqs, tokens = options.get("max-num-seqs"), options.get("max-num-batched-tokens")
    if seqs and tokens and seqs > tokens:
        raise Refusal(
            f"options.max-num-seqs is {seqs}, more than max-num-batched-tokens {tokens}: every"
            " sequence needs a token of each step; raise the one or lower the other."
        )
    _check_utilization(request)
    _check_prompt(request)


def _attention(request: fit.Request) -> str:
    """The attention kernel that is asked for, or the one that vLLM takes by itself."""
    flags = {
        **request.options,
        "attention-config": settings.nested(request.options, "attention-config"),
    }
    nearest = releases.nearest_capability(request.gpu.capability)
    chosen = backends.chosen(
        nearest, request.model, request.release, flags, fit.environment(request)
    )
    return chosen.attention


def check_busy(gpus: Sequence[Gpu]) -> None:
    """
    :raises Refusal: others use some of the GPUs, while one set of flags has to suit all.
    """
    busy = [gpu for gpu in gpus if gpu.foreign_bytes > _BUSY_SHARE * gpu.memory_bytes]
    if busy and len(busy) < len(gpus):
        gpu = busy[0]
        idle = ", ".join(str(other.index) for other in gpus if other not in busy)
        raise Refusal(
            f"GPU {gpu.index} ({gpu.name}) is in use: {_holders(gpu)} of {_gib(gpu.memory_bytes)};"
            f" end them, or list the others (gpus: [{idle}])."
        )


def _check_utilization(request: fit.Request) -> None:
    share = request.options.get("gpu-memory-utilization")
    if share is None:
        return
    share = float(share)
    if not 0 < share <= 1:
        raise Refusal(
            f"options.gpu-memory-utilization is {share}; it must be above 0 and at most 1."
        )
    for gpu in request.gpus:
        outside = outside_bytes(request.options.get("tensor-parallel-size", 1))
        asked, free = gpu.memory_bytes * share, gpu.memory_bytes - gpu.foreign_bytes - outside
        if asked > free:
            others = f"{_holders(gpu)}, and " * bool(gpu.foreign_bytes)
            most = int(100 * free / gpu.memory_bytes) / 100
            ways = [f"lower it to {most}"] * (most > 0) + ["end them"] * bool(others)
            raise Refusal(
                f"options.gpu-memory-utilization {share} asks for {_gib(asked)} of"
                f" {_gib(gpu.memory_bytes)} on GPU {gpu.index}, but {others}an engine takes"
                f" {_gib(outside)} before vLLM looks, which leaves {_gib(max(free, 0))};"
                f" {' or '.join(ways)}."
            )


def _check_prompt(request: fit.Request) -> None:
    tokens = request.options.get("max-num-batched-tokens")
    if request.options.get("enable-chunked-prefill") is not False or not tokens:
        return
    length = request.max_model_len or request.model.max_model_len
    if tokens < length:
        raise Refusal(
            f"options.max-num-batched-tokens is {tokens}, but without chunked prefill a prompt of"
            f" {length} tokens is one step; raise it or leave enable-chunked-prefill on."
        )


def is_sound(request: fit.Request, found: fit.Fit) -> bool:
    """Whether vLLM starts with it: room for one request, and nothing beyond the GPU.

    vLLM does not start unless all that it may use is free, whatever it will use.
    """
    most = max(fit.held(found.memory), found.memory.requested)
    return found.works and most <= _room(request, found)


def _room(request: fit.Request, found: fit.Fit) -> int:
    return request.gpu.memory_bytes - request.gpu.foreign_bytes - found.memory.outside


def sentence(request: fit.Request, found: fit.Fit, tries: _Tries) -> str:
    """What is needed, what there is, what is missing, and the nearest plan that fits."""
    arithmetic = _over(request, found) if found.works else _short(request, found)
    near = " or ".join(_nearest(request, _remembered(tries)))
    return f"{arithmetic}; nearest: {near or 'none is known'}."


def _remembered(tries: _Tries) -> _Tries:
    """The same answers, each worked out once: several ways out begin with the same question."""
    answers: dict[Hashable, fit.Fit | None] = {}

    def answer(request: fit.Request) -> fit.Fit | None:
        # Options are left out in these questions, never changed.
        asked = (request.gpus, request.model, request.intent, request.max_model_len)
        question = (*asked, tuple(request.options))
        if question not in answers:
            answers[question] = tries(request)
        return answers[question]

    return answer


def _over(request: fit.Request, found: fit.Fit) -> str:
    memory, room = found.memory, _room(request, found)
    held = fit.held(memory)
    free = (
        f"the {_gib(room)} of {_gib(memory.total)} that an engine finds free on"
        f" {_where(request, found)}"
    )
    if memory.requested > room:
        return (
            f"vLLM would want {_gib(memory.requested)} (gpu-memory-utilization"
            f" {memory.requested / memory.total:.2f}), {_gib(memory.requested - room)} more than"
            f" {free}"
        )
    return (
        f"{_parts(request, found)} and {_gib(memory.kv)} of KV cache, {_gib(held)} in all,"
        f" {_gib(held - room)} more than {free}"
    )


def _short(request: fit.Request, found: fit.Fit) -> str:
    memory, needed = found.memory, found.kv_cache.needed_bytes
    return (
        f"{_parts(request, found)} and {_gib(needed)} of KV cache for one request of"
        f" {found.engine.max_model_len:,} tokens, and vLLM may use {_gib(memory.requested)} of the"
        f" {_gib(memory.total)} of {_where(request, found)}: {_gib(needed - memory.kv)} are missing"
    )


def _parts(request: fit.Request, found: fit.Fit) -> str:
    memory = found.memory
    beside = memory.activation + memory.other + memory.cuda_graphs_reserved
    return f"{_short_name(request)} needs {_gib(memory.weights)} of weights, {_gib(beside)} to run"


def _short_name(request: fit.Request) -> str:
    return request.model.name.rpartition("/")[2]


def _where(request: fit.Request, found: fit.Fit) -> str:
    gpu, size = request.gpu, found.engine.tensor_parallel
    name = gpu.name if size == 1 else f"each of {size} x {gpu.name}"
    return f"{name}, where {_holders(gpu)}" if gpu.foreign_bytes else name


def _holders(gpu: Gpu) -> str:
    who = ", ".join(gpu.holders) or "other processes"
    return f"{who} hold{'s' if len(gpu.holders) == 1 else ''} {_gib(gpu.foreign_bytes)}"


def _nearest(request: fit.Request, tries: _Tries) -> Iterator[str]:
    """Ways out, the least change first: at most two."""
    ways: tuple[_Way, ...] = (_without_option, _shorter, _freed)
    # Other hardware or another model is no answer to options or to other people's processes.
    changed = request.options or any(gpu.foreign_bytes for gpu in request.gpus)
    if changed and tries(_plain(_idle(request))):
        ways += (_bare,)
    else:
        ways += (_smaller_model, _more_gpus, _larger_gpu)
    return islice(filter(None, (way(request, tries) for way in ways)), 2)


def _without_option(request: fit.Request, tries: _Tries) -> str:
    changing = [
        name
        for name in request.options
        if tries(replace(request, options=_less(request, name))) is not None
    ]
    return f"the same without your option {changing[0]}" if changing else ""


def _less(request: fit.Request, name: str) -> dict[str, object]:
    return {key: value for key, value in request.options.items() if key != name}


def _idle(request: fit.Request) -> fit.Request:
    """The same with nobody else on the GPUs."""
    free = tuple(replace(gpu, foreign_bytes=0, holders=()) for gpu in request.gpus)
    return replace(request, gpus=free)


def _shorter(request: fit.Request, tries: _Tries) -> str:
    if not request.max_model_len:
        return ""
    found = tries(replace(request, max_model_len=None))
    return f"max_model_len {found.engine.max_model_len:,} on {_cards(request)}" if found else ""


def _freed(request: fit.Request, tries: _Tries) -> str:
    if not any(gpu.foreign_bytes for gpu in request.gpus):
        return ""
    return f"{_cards(request)} once the others are gone" if tries(_idle(request)) else ""


def _bare(request: fit.Request, tries: _Tries) -> str:
    """Where no single change is enough."""
    if any(way(request, tries) for way in (_without_option, _freed)):
        return ""
    gone = " once the others are gone" * any(gpu.foreign_bytes for gpu in request.gpus)
    return f"{_cards(request)}{gone} without your options"


def _smaller_model(request: fit.Request, tries: _Tries) -> str:
    if not releases.is_gpt_oss(request.model):
        return ""
    for name in _SMALLER_MODELS:
        smaller = models.model(name)
        if smaller.checkpoint_bytes >= request.model.checkpoint_bytes:
            continue
        text = f"{name.rpartition('/')[2]} on {_cards(request)}"
        said = _said(text, replace(request, model=smaller, max_model_len=None), tries)
        if said:
            return said
    return ""


def _cards(request: fit.Request) -> str:
    return "this GPU" if len(request.gpus) == 1 else "these GPUs"


def _plain(request: fit.Request) -> fit.Request:
    return replace(request, options={})


def _said(text: str, request: fit.Request, tries: _Tries) -> str:
    """A proposal with the options if they fit it, else without; empty where it is none."""
    if tries(request):
        return text
    if request.options and tries(_plain(request)):
        return f"{text} without your options"
    return ""


def _more_gpus(request: fit.Request, tries: _Tries) -> str:
    gpu = request.gpu
    if gpu.mig_slice:
        return ""
    for count in (2, 4, 8):
        weights = request.model.checkpoint_bytes
        if count > len(request.gpus) and count * gpu.memory_bytes > weights:
            idle = replace(gpu, foreign_bytes=0, holders=())
            more = tuple(replace(idle, index=index, uuid=str(index)) for index in range(count))
            text = f"{_short_name(request)} on {count} x {gpu.name}"
            said = _said(text, replace(request, gpus=more), tries)
            if said:
                return said
    return ""


def _larger_gpu(request: fit.Request, tries: _Tries) -> str:
    for name in _LARGER_SETS:
        larger = gpus.gpu_set(name, 1)
        least = max(request.gpu.memory_bytes, request.model.checkpoint_bytes)
        if larger[0].memory_bytes <= least:
            continue
        wanted = intents.intent(request.intent.name, larger[0])
        text = f"{_short_name(request)} on 1 x {name} ({larger[0].memory_bytes / GIB:.0f} GiB)"
        said = _said(text, replace(request, gpus=larger, intent=wanted), tries)
        if said:
            return said
    return ""


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB"
