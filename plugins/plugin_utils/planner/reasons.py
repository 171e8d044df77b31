# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The rows of a plan: every flag with its value and one sentence that says why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import (
    catalogue,
    version,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import (
    backends,
    fit,
    gpus,
    releases,
    settings,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import (
    GIB,
    Backends,
    Reason,
    Refusal,
)

# Longer than nginx keeps an idle connection to its upstream, so that vLLM never closes first.
KEEP_ALIVE_SECONDS = 120
# Proxies and clients give up on a silent stream after 30 to 60 s.
_SSE_SECONDS = 15
# First release with the tool call parser `openai`.
_TOOL_PARSER = "0.10.2"
# Stands for a person's value of a variable: whatever its name, it may be a secret.
_HIDDEN = "(set)"


def rows(request: fit.Request, found: fit.Fit, replicas: int) -> tuple[Reason, ...]:
    """All rows, in the order in which a reader asks."""
    alone = _plan_alone(request, found)
    planned = [*_size_rows(request, found, replicas), *_batch_rows(request, found)]
    planned += [*_kernel_rows(request, found), *_server_rows(request, found)]
    planned += _old_rows(request)
    known = catalogue()
    kept: list[Reason] = []
    for row in planned:
        if row.flag in request.options:
            kept.append(_own(request, found, row, alone))
        elif row.value is None or known.has_flag(row.flag, request.release):
            kept.append(row)
    mentioned = {row.flag for row in kept}
    kept += [
        _own(request, found, Reason(name, None, ""), alone)
        for name in request.options
        if name not in mentioned
    ]
    return tuple(kept + list(_variable_rows(request)))


def _plan_alone(request: fit.Request, found: fit.Fit) -> Mapping[str, Any]:
    """Flags without anybody's options, to say what they changed."""
    if not request.options:
        return {}
    free = replace(request, options={}, env={}, max_model_len=None)
    try:
        return fit.fit(free, found.engine.tensor_parallel).flags
    except Refusal:
        return {}


def _own(request: fit.Request, found: fit.Fit, row: Reason, alone: Mapping[str, Any]) -> Reason:
    """A person's value, beside what the plan had in mind."""
    value = request.options[row.flag]
    planned = alone.get(row.flag, row.value)
    if value is None:
        taken = _left_to_vllm(request, found).get(row.flag)
        takes = "" if taken is None else f", which takes {taken}"
        return Reason(row.flag, None, f"your option: left to vLLM{takes}")
    consequence = _consequence(request, found, row.flag, value)
    if not consequence and planned is not None and planned != value:
        consequence = f"the plan alone: {planned}"
    return Reason(row.flag, value, f"your option; {consequence}" if consequence else "your option")


def _left_to_vllm(request: fit.Request, found: fit.Fit) -> Mapping[str, Any]:
    """What vLLM takes for a flag that is not written."""
    engine = found.engine
    return {
        "gpu-memory-utilization": releases.defaults(request.release).gpu_memory_utilization,
        "max-num-seqs": engine.max_num_seqs,
        "max-num-batched-tokens": engine.max_num_batched_tokens,
        "max-cudagraph-capture-size": engine.max_capture_size,
        "block-size": engine.block_size,
        "async-scheduling": "true" if engine.async_scheduling else "false",
    }


def _consequence(request: fit.Request, found: fit.Fit, flag: str, value: Any) -> str:
    if flag == "kv-cache-dtype" and str(value).startswith("fp8"):
        _verdict, why = backends.fp8_kv(request.gpu.capability, request.model, request.release)
        return f"twice the tokens per GiB; {why}"
    if flag == "kv-cache-memory-bytes":
        return f"{_gib(value)} exactly, without profiling"
    if flag in ("attention-backend", "moe-backend"):
        return _automatic_kernel(request, found, flag)
    if flag == "async-scheduling" and value and version(request.release) < (0, 11, 1):
        return "streams are scrambled in this release (#28635) and penalties ignored (#27878)"
    if flag == "enforce-eager" and value:
        return "no CUDA graphs and no compilation: a quicker start, slower tokens"
    return ""


def _automatic_kernel(request: fit.Request, found: fit.Fit, flag: str) -> str:
    """What vLLM would have taken by itself."""
    automatic = _automatic_kernels(request, found)
    alone = automatic.attention if flag == "attention-backend" else automatic.moe
    return f"vLLM alone would take {alone}" if alone else ""


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB"


def _size_rows(request: fit.Request, found: fit.Fit, replicas: int) -> Iterator[Reason]:
    flags = found.flags
    why = _why_parallel(request, found, replicas)
    yield Reason("tensor-parallel-size", flags["tensor-parallel-size"], why)
    yield Reason("max-model-len", flags["max-model-len"], _why_length(request, found))
    why = _why_utilization(request, found)
    yield Reason("gpu-memory-utilization", flags.get("gpu-memory-utilization"), why)
    if "kv-cache-memory-bytes" in flags:
        why = (
            f"others use this GPU, so KV gets exactly {_gib(flags['kv-cache-memory-bytes'])} and"
            " nothing depends on what they hold while vLLM profiles"
        )
        yield Reason("kv-cache-memory-bytes", flags["kv-cache-memory-bytes"], why)
    elif request.gpu.foreign_bytes:
        yield Reason("kv-cache-memory-bytes", None, _why_no_bytes(request, found))
    yield _kv_dtype_row(request, found)


def _why_no_bytes(request: fit.Request, found: fit.Fit) -> str:
    """Why the KV cache of a shared GPU is left to what vLLM finds while it profiles."""
    risk = "vLLM measures it, and counts against it what others take meanwhile"
    if not catalogue().has_flag("kv-cache-memory-bytes", request.release):
        return f"not in this release: {risk}"
    kv = found.memory.kv
    if kv - fit.tolerance(kv) < fit.KV_BYTES_STEP:
        return (
            f"{_gib(kv)} are too little to give exactly, as the prediction may be off by"
            f" {_gib(fit.tolerance(kv))}: {risk}"
        )
    return f"your utilization says how much there is: {risk}"


def _why_parallel(request: fit.Request, found: fit.Fit, replicas: int) -> str:
    size, weights, kv = found.engine.tensor_parallel, found.memory.weights, found.memory.kv
    parts = f"{_gib(weights)} of weights and {_gib(kv)} of KV"
    if size > 1:
        asked = f"the context and the requests that {request.intent.name} asks for"
        spare = f"with {_gib(fit.tolerance(kv))} to spare, by which a prediction may be off"
        fewer = f"fewer GPUs do not hold {asked} {spare}"
        if not fit.is_enough(request, found):
            fewer = f"no number of these GPUs holds {asked} {spare}, and {size} come nearest"
        return f"{fewer}: {parts} on each of {size} GPUs"
    if replicas == 1:
        return f"{parts} fit one GPU"
    alone = "none of them waits for another GPU"
    if releases.is_gpt_oss(request.model):
        alone = "NVIDIA's recipe for gpt-oss has eight of them behind a router"
    return f"{parts} fit one GPU, so there are {replicas} independent replicas: {alone}"


def _why_length(request: fit.Request, found: fit.Fit) -> str:
    length, concurrency = found.engine.max_model_len, found.kv_cache.concurrency
    at_once = f"{concurrency:.2f} requests of full length fit at once"
    if request.max_model_len:
        return f"your context; {at_once}"
    if length == request.model.max_model_len:
        return f"the model's own; {at_once}"
    own, kv = request.model.max_model_len, _gib(found.memory.kv)
    return f"the model has {own:,}, but {kv} of KV hold less; {at_once}"


def _why_utilization(request: fit.Request, found: fit.Fit) -> str:
    gpu, memory = request.gpu, found.memory
    share = f"{_gib(memory.requested)} of {_gib(memory.total)}"
    others = f"; other processes hold {_gib(gpu.foreign_bytes)}" * bool(gpu.foreign_bytes)
    if "kv-cache-memory-bytes" in found.flags:
        return (
            f"a check on start only: {share} must be free; the KV cache has its own bytes{others}"
        )
    takers = "CUDA and NCCL" if found.engine.tensor_parallel > 1 else "CUDA itself"
    beside = [f"{_gib(memory.outside)} for {takers}"]
    later = memory.cuda_graphs - memory.cuda_graphs_reserved
    if later > 0:
        beside.append(f"{_gib(later)} for CUDA graphs that vLLM does not count before")
    if gpus.has_unified_memory(gpu):
        beside.append("some for the operating system, which lives in the same memory")
    if gpus.may_drive_screens(gpu):
        beside.append("some for a screen, attached or not")
    kept = f"{_gib(memory.total - memory.requested)} stay out of it"
    return f"{share}; {kept}: {', '.join(beside)}, the rest spare{others}"


def _kv_dtype_row(request: fit.Request, found: fit.Fit) -> Reason:
    verdict, why = backends.fp8_kv(request.gpu.capability, request.model, request.release)
    value = found.flags.get("kv-cache-dtype")
    if value is not None:
        return Reason("kv-cache-dtype", value, f"twice the tokens per GiB; {why}")
    heads = {
        "works": "auto (16 bits) is safest; fp8 would hold twice the tokens",
        "opt-in": "auto (16 bits); fp8 is yours to try",
        "no": "auto (16 bits); fp8 is not sound here",
    }
    return Reason("kv-cache-dtype", None, f"{heads[verdict]}: {why}")


def _batch_rows(request: fit.Request, found: fit.Fit) -> Iterator[Reason]:
    flags, intent, engine = found.flags, request.intent, found.engine
    why = f"{intent.name}: {intent.why_seqs}"
    yield Reason("max-num-seqs", flags.get("max-num-seqs"), why)
    yield Reason(
        "max-num-batched-tokens", flags.get("max-num-batched-tokens"), _why_tokens(request, found)
    )
    if "max-cudagraph-capture-size" in flags:
        size = flags["max-cudagraph-capture-size"]
        yield Reason("max-cudagraph-capture-size", size, _why_capture(request, found))
    elif not catalogue().has_flag("max-cudagraph-capture-size", request.release):
        yield Reason(
            "max-cudagraph-capture-size",
            None,
            f"came with 0.11.1; vLLM captures up to {engine.max_capture_size} by itself",
        )
    yield _scheduling_row(request, found)


def _why_tokens(request: fit.Request, found: fit.Fit) -> str:
    if request.options.get("enable-chunked-prefill") is False:
        return (
            "without chunked prefill a prompt is one step, and running requests wait for all of it"
        )
    if fit.is_tight(found.memory):
        share = found.memory.weights / found.memory.total
        return f"weights fill {share:.0%} of the GPU, and small steps need little beside them"
    return f"{request.intent.name}: {request.intent.why_tokens}"


def _why_capture(request: fit.Request, found: fit.Fit) -> str:
    """Up to which batch there are graphs, what they cost, and why not up to vLLM's own size."""
    engine, size = found.engine, found.engine.max_capture_size
    drafted = int(settings.speculation(request.options).get("num_speculative_tokens", 0))
    tokens = engine.max_num_seqs * (1 + drafted)
    if size >= tokens:
        with_drafts = f" with {drafted} drafted tokens each" * bool(drafted)
        why = f"graphs for every batch up to max-num-seqs{with_drafts}"
    else:
        why = f"graphs for batches up to {size:,} of {tokens:,} tokens; larger ones run without"
    why += f", {_gib(found.memory.cuda_graphs)}"
    usual = releases.defaults(request.release).gpt_oss_capture_size
    if releases.is_gpt_oss(request.model) and size < usual:
        why += f"; vLLM's own {usual} would only lengthen the start"
    return why


def _scheduling_row(request: fit.Request, found: fit.Fit) -> Reason:
    if found.flags.get("async-scheduling") and "async-scheduling" not in request.options:
        why = "prepares the next step while the GPU works; on by default from 0.14.0"
        return Reason("async-scheduling", True, why)
    if found.engine.async_scheduling:
        return Reason("async-scheduling", None, "on by default in this release")
    if releases.defaults(request.release).async_scheduling:
        return Reason("async-scheduling", None, "vLLM leaves it off beside this drafter")
    why = "left off: scrambled streams (#28635) and ignored penalties (#27878) before 0.11.1"
    if version(request.release) >= (0, 11, 1):
        why = "left off: not every drafter works with it in this release"
    return Reason("async-scheduling", None, why)


def _kernel_rows(request: fit.Request, found: fit.Fit) -> Iterator[Reason]:
    if not releases.is_known_capability(request.gpu.capability):
        yield Reason("attention-backend", None, "left to vLLM, which may know this GPU")
        return
    used, alone = found.engine.backends, _automatic_kernels(request, found)
    flags = {
        **found.flags,
        "attention-config": settings.nested(found.flags, "attention-config"),
    }
    attention, moe = backends.asked_by(request.model, flags, found.env)
    where = f"compute capability {releases.capability_name(request.gpu.capability)}"
    why = _why_kernel(used.attention, alone.attention, attention, where)
    yield Reason("attention-backend", None, why)
    if used.moe:
        yield Reason("moe-backend", None, _why_kernel(used.moe, alone.moe, moe, where))


def _why_kernel(used: str, alone: str, asked_by: str, where: str) -> str:
    if not asked_by:
        return f"vLLM chooses {used} by itself for {where}"
    return f"{asked_by} asks for {used}; vLLM alone would take {alone} for {where}"


def _automatic_kernels(request: fit.Request, found: fit.Fit) -> Backends:
    """What vLLM would take where nobody asks for a kernel; an FP8 cache has a say in it."""
    nearest = releases.nearest_capability(request.gpu.capability)
    cached = {"kv-cache-dtype": found.flags.get("kv-cache-dtype", "auto")}
    return backends.chosen(nearest, request.model, request.release, cached, {})


def _server_rows(request: fit.Request, found: fit.Fit) -> Iterator[Reason]:
    yield from _parser_rows(request)
    most = found.engine.max_num_seqs * (1 + request.intent.queue)
    known = catalogue()
    if known.has_flag("max-num-queued-reqs", request.release):
        why = f"{request.intent.queue} waiting for each that runs; more get HTTP 503 at once"
        yield Reason("max-num-queued-reqs", most, why)
    else:
        why = "came with 0.29.0; the queue has no end in this release"
        yield Reason("max-num-queued-reqs", None, why)
    if known.has_flag("shutdown-timeout", request.release):
        why = f"a stop lets running requests finish for {request.shutdown_timeout} s"
        yield Reason("shutdown-timeout", request.shutdown_timeout, why)
    else:
        yield Reason("shutdown-timeout", None, "came with 0.18.0; a stop cuts running requests")
    why = f"a comment every {_SSE_SECONDS} s keeps a silent stream open"
    yield Reason("sse-keep-alive-interval", _SSE_SECONDS, why)
    yield Reason("disable-fastapi-docs", True, "no pages that list the server's endpoints")


def _parser_rows(request: fit.Request) -> Iterator[Reason]:
    model = request.model
    if releases.is_gpt_oss(model):
        if version(request.release) < version(_TOOL_PARSER):
            yield Reason("tool-call-parser", None, "the parser for gpt-oss came with 0.10.2")
            return
        yield Reason("enable-auto-tool-choice", True, "tools are called when the model wants to")
        yield Reason("tool-call-parser", "openai", "gpt-oss calls tools in the Harmony format")
        yield Reason("reasoning-parser", None, "vLLM sets openai_gptoss for gpt-oss by itself")
        return
    if model.tool_call_parser:
        yield Reason("enable-auto-tool-choice", True, "tools are called when the model wants to")
        yield Reason("tool-call-parser", model.tool_call_parser, "the format of this model")
    if model.reasoning_parser:
        yield Reason("reasoning-parser", model.reasoning_parser, "the format of this model")


def _old_rows(request: fit.Request) -> Iterator[Reason]:
    known = catalogue()
    for flag, why in releases.left_out().items():
        if not known.has_flag(flag, request.release):
            gone = known.absence(known.flags[flag], request.release)
            why = f"{gone.replace('it was', 'was')}; {why}"
        yield Reason(flag, None, why)


def variables(request: fit.Request) -> dict[str, str]:
    """The environment of the plan: what it wants, overruled by the person's own."""
    wanted = {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(KEEP_ALIVE_SECONDS)}
    return wanted | fit.environment(request)


def _variable_rows(request: fit.Request) -> Iterator[Reason]:
    whys = {
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "longer than the edge keeps an idle connection, so that"
        " vLLM never closes one in use"
    }
    for found, why in releases.workarounds(
        request.release, request.gpu, request.model, request.intent.name
    ):
        whys |= dict.fromkeys(found, why)
    for name, value in variables(request).items():
        own = name in request.env
        yield Reason(name, _HIDDEN if own else value, "your variable" if own else whys[name])


def written(request: fit.Request, why: tuple[Reason, ...]) -> Mapping[str, Any]:
    """The flags of the plan: every row with a value that is no variable."""
    names = set(variables(request))
    return {row.flag: row.value for row in why if row.value is not None and row.flag not in names}


def notes(
    request: fit.Request, found: fit.Fit, idle: tuple[str, ...], linked: bool
) -> tuple[str, ...]:
    """What a reader should know beside the rows, a sentence each."""
    gpu, release = request.gpu, request.release
    major, minor = gpu.capability
    said = []
    if idle:
        said.append(
            f"{_stay_idle(idle)}: {len(request.gpus)} GPUs do not divide by"
            f" tensor-parallel-size {found.engine.tensor_parallel}."
        )
    if gpu.display:
        said.append(f"A screen is attached to GPU {gpu.index}; the plan is the same without it.")
    if not linked:
        said.append(
            "The GPUs of a group have no NVLink to one another: every token waits for PCIe."
        )
    if not releases.is_known_capability(gpu.capability):
        said.append(
            f"Compute capability {major}.{minor} is newer than this planner: kernels are left to"
            " vLLM, and the figures are estimates."
        )
    if settings.speculation(request.options).get("model"):
        said.append(
            "The drafter counts as 1.5 GiB of weights and one more layer of KV: its own size is"
            " not known."
        )
    if found.kv_cache.concurrency < request.intent.minimum_requests:
        said.append(
            f"Only {found.kv_cache.concurrency:.2f} requests of {found.engine.max_model_len:,}"
            " tokens fit at once; shorter ones share the same cache."
        )
    if fit.is_thin(found):
        spare, error = _gib(_spare(found)), _gib(fit.tolerance(found.memory.kv))
        said.append(
            f"One request of {found.engine.max_model_len:,} tokens leaves {spare} of the predicted"
            f" KV cache, and the prediction may be off by {error}: if vLLM says at the start that"
            " the cache is too small, lower max_model_len."
        )
    said += releases.issues(release, gpu, request.model)
    said.append(releases.driver_note(release))
    said.append(releases.advisory_note(release))
    return tuple(note for note in said if note)


def _spare(found: fit.Fit) -> int:
    """Bytes of the KV cache beyond one request of full length."""
    return found.memory.kv - found.kv_cache.needed_bytes


def _stay_idle(idle: tuple[str, ...]) -> str:
    if len(idle) == 1:
        return f"GPU {idle[0]} stays idle"
    return f"GPUs {', '.join(idle[:-1])} and {idle[-1]} stay idle"
