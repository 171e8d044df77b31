# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What vLLM will report as available KV cache memory, from flags alone.

``available = ceil(total x utilization) - weights - activation peak - outside PyTorch - graphs``
(v1/worker/gpu_worker.py, determine_available_memory). Every constant and its source is in
``data/memory.json``. The prediction is for the first start: later ones find torch.compile's cache
and may have up to one input embedding more for the KV cache (``compiled=True``).
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import version
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import (
    GIB,
    Engine,
    Memory,
    Model,
)

_DATA = Path(__file__).parent / "data" / "memory.json"
_MIB = 1 << 20
_KIB = 1 << 10


def memory(
    total_bytes: int,
    utilization: float,
    model: Model,
    engine: Engine,
    kv_bytes: int | None = None,
    compiled: bool = False,
) -> Memory:
    """Where the memory of one GPU goes.

    :param total_bytes: what CUDA calls the GPU's total memory.
    :param kv_bytes: the flag kv-cache-memory-bytes, with which vLLM sizes nothing itself.
    :param compiled: whether torch.compile's cache is there from an earlier start.
    """
    requested = math.ceil(total_bytes * utilization)
    weights = weight_bytes(model, engine)
    activation = activation_bytes(model, engine, compiled)
    other = other_bytes(model, engine)
    held, reserved = graph_bytes(model, engine)
    kv = requested - weights - activation - other - reserved if kv_bytes is None else kv_bytes
    outside = outside_bytes(engine.tensor_parallel)
    return Memory(total_bytes, requested, weights, activation, held, reserved, other, kv, outside)


def at_share(found: Memory, utilization: float, kv_bytes: int | None = None) -> Memory:
    """The same engine with another gpu-memory-utilization.

    :param kv_bytes: the flag kv-cache-memory-bytes; without it, the KV cache takes the difference.
    """
    requested = math.ceil(found.total * utilization)
    kv = found.kv + requested - found.requested if kv_bytes is None else kv_bytes
    return replace(found, requested=requested, kv=kv)


def capture_sizes(largest: int) -> list[int]:
    """The batch sizes with a CUDA graph, up to ``largest`` (config/vllm.py)."""
    sizes = [size for size in (1, 2, 4) if size <= largest]
    sizes += list(range(8, min(largest + 1, 256), 8))
    return sizes + list(range(256, largest + 1, 16))


def weight_bytes(model: Model, engine: Engine) -> int:
    """Bytes of weights on one GPU: what vLLM prints as ``Model loading took``."""
    ranks = engine.tensor_parallel
    rest = (model.checkpoint_bytes - model.expert_bytes) / ranks
    if not _has_mxfp4_experts(model):
        beyond = _data()["plain_weights_beyond"]
        rotary = model.max_model_len * model.head_dim * beyond["rotary_bytes"]
        return int(model.expert_bytes / ranks + rest + rotary + beyond["mib"] * _MIB)
    rule = _rule(
        entry
        for entry in _data()["weights_beyond"]
        if engine.backends.moe.startswith(entry["backend"]) and _applies(entry, engine.release)
    )
    padding = model.layers * rule["mib_per_layer"] * _MIB
    padding += model.layers * model.experts * rule["kib_per_expert"] * _KIB / ranks
    return int(_mxfp4_expert_bytes(model, engine) + rest + padding)


def activation_bytes(model: Model, engine: Engine, compiled: bool = False) -> int:
    """Peak of the profiling run: its largest moment, and what stays allocated beside it."""
    kept, passing = _forward_bytes(model, engine)
    moments = [passing, _sampler_bytes(model, engine)]
    if not compiled and engine.max_capture_size:
        moments.append(_compilation_bytes(model, engine) - kept)
    return int(kept + max(moments))


def other_bytes(model: Model, engine: Engine) -> int:
    """Memory outside PyTorch, and from 0.27.0 on what the model runner keeps."""
    data = _data()
    rule = _rule(r for r in data["outside_pytorch"] if _applies(r, engine.release))
    gib = rule["sharded_gib" if engine.tensor_parallel > 1 else "gib"]
    kept, logits = data["kept_buffers"], 0
    if _applies(kept, engine.release):
        gib += kept["gib"]
        logits = engine.max_num_seqs * model.vocabulary * kept["bytes_per_logit"]
    return int(gib * GIB + logits)


def outside_bytes(tensor_parallel: int) -> int:
    """Bytes of one GPU that its engine holds beyond ``requested``.

    They are taken before vLLM's first look at the GPU, which asks only whether ``requested`` is
    free beside them.
    """
    outside = _data()["outside_requested"]
    return int(outside["sharded_gib" if tensor_parallel > 1 else "gib"] * GIB)


def graph_bytes(model: Model, engine: Engine) -> tuple[int, int]:
    """What CUDA graphs hold, and what vLLM deducts for them before it sizes the KV cache."""
    data = _data()["cuda_graphs"]
    if not engine.max_capture_size:
        return 0, 0
    sizes = capture_sizes(engine.max_capture_size)
    full = [s for s in sizes if s <= engine.max_num_seqs]
    if _before(engine.release, data["full_from"]):
        full = []
    first = _first_graph_mib(model, engine, full)
    second_runner = engine.backends.model_runner == "v2"
    held = (first + _held_mib(model, sizes, full, second_runner)) * _MIB
    if not _estimates_graphs(engine):
        return int(held), 0
    if second_runner:
        return int(held), int(held)
    more = _estimated_mib(model, engine, sizes, full)
    return int(held), int((first + more) * _MIB)


@functools.cache
def _data() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(_DATA.read_text(encoding="utf-8"))
    return read


def _rule(fitting: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return next(iter(fitting))


def _before(release: str, other: str) -> bool:
    return version(release) < version(other)


def _applies(rule: Mapping[str, Any], release: str) -> bool:
    return not _before(release, rule.get("from", "0.0.0")) and (
        "until" not in rule or _before(release, rule["until"])
    )


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _has_mxfp4_experts(model: Model) -> bool:
    return model.quantization == "mxfp4" and model.experts > 0


def _experts_rule(model: Model, engine: Engine) -> dict[str, Any]:
    """The MXFP4 kernel's entry; the last one, with the empty name, is of all other experts."""
    rules: Mapping[str, dict[str, Any]] = _data()["experts"]
    kernel = engine.backends.moe if _has_mxfp4_experts(model) else ""
    return _rule(r for name, r in rules.items() if kernel.startswith(name))


def _expert_sizes(model: Model, engine: Engine) -> tuple[int, int]:
    """Hidden and intermediate size of one rank, padded as the kernel wants them."""
    rule = _experts_rule(model, engine)
    inner = -(-model.intermediate_size // engine.tensor_parallel)
    return (
        _round_up(model.hidden_size, rule.get("hidden", 1)),
        _round_up(inner, rule.get("intermediate", 1)),
    )


def _mxfp4_expert_bytes(model: Model, engine: Engine) -> int:
    """All experts of one rank: 4-bit numbers, an 8-bit scale for every 32, biases."""
    rule = _experts_rule(model, engine)
    hidden, inner = _expert_sizes(model, engine)
    numbers = 3 * hidden * inner
    twice = _data()["unswizzled_scales"]
    doubled = engine.backends.moe == twice["backend"] and _applies(twice, engine.release)
    scales = numbers // 32 * (2 if doubled else 1)
    biases = (2 * inner + hidden) * rule.get("bias_bytes", 2)
    return int(numbers // 2 + scales + biases) * model.experts * model.layers


def _sampler_bytes(model: Model, engine: Engine) -> float:
    """The logits of a batch of max-num-seqs requests, in all the copies that sampling makes."""
    data = _data()["sampler"]
    requests = min(engine.max_num_seqs, engine.max_num_batched_tokens)
    if engine.backends.model_runner == "v2":
        rule = _rule(r for r in data["v2"] if _applies(r, engine.release))
        return float(requests * rule["bytes_per_logit"] * model.vocabulary)
    kind = engine.backends.sampler
    rule = data["torch" if requests < data["smallest_triton_batch"]["requests"] else kind]
    rows = 0
    if rule.get("row_per_unit"):
        units = _data()["compute_units"].get("{}.{}".format(*engine.capability), 132)
        rows = min(requests, units)
    logits = (requests * rule["bytes_per_logit"] + rows * 4) * model.vocabulary
    return float(logits + _hidden_bytes(model, engine) + _workspace_bytes(engine))


def _workspace_bytes(engine: Engine) -> int:
    """What the matrix library keeps for itself inside PyTorch."""
    workspaces = _data()["matrix_workspace_mib"]
    return int(workspaces.get(str(engine.capability[0]), workspaces[""]) * _MIB)


def _hidden_bytes(model: Model, engine: Engine) -> int:
    """One copy of the hidden states of a full batch."""
    return engine.max_num_batched_tokens * model.hidden_size * model.dtype_bytes


def _forward_bytes(model: Model, engine: Engine) -> tuple[float, float]:
    """What a full batch needs in its widest layer: kept afterwards, and in passing."""
    hidden, numbers = _hidden_bytes(model, engine), engine.max_num_batched_tokens
    if not model.experts:
        rule = _data()["dense"]
        inner = numbers * model.intermediate_size * model.dtype_bytes / engine.tensor_parallel
        return 0, rule["hidden_copies"] * hidden + rule["intermediate_copies"] * inner
    rule = _experts_rule(model, engine)
    wide = _expert_width(rule, *_expert_sizes(model, engine))
    experts = numbers * model.experts_per_token * wide * model.dtype_bytes
    workspace = _workspace_bytes(engine)
    if _is_kept(rule, engine):
        return experts, rule["hidden_copies"] * hidden + workspace
    copies = rule.get("hidden_copies_before", rule["hidden_copies"])
    return 0, experts + copies * hidden + workspace


def _expert_width(rule: Mapping[str, Any], hidden: int, inner: int) -> int:
    """Numbers that the kernel holds at once for one token in one expert."""
    if "widest_copies" in rule:
        return int(rule["widest_copies"] * max(hidden, 2 * inner))
    return int(rule["wide"][0] * hidden + rule["wide"][1] * inner)


def _is_kept(rule: Mapping[str, Any], engine: Engine) -> bool:
    return "kept_from" in rule and not _before(engine.release, rule["kept_from"])


def _compilation_bytes(model: Model, engine: Engine) -> float:
    """What timing kernels takes while torch.compile runs for the first time."""
    rule = _data()["compilation"]
    if not _applies(rule, engine.release):
        return 0
    embedding = model.vocabulary * model.hidden_size * model.dtype_bytes / engine.tensor_parallel
    return float(embedding + rule["hidden_copies"] * _hidden_bytes(model, engine))


def _first_graph_mib(model: Model, engine: Engine, full: list[int]) -> float:
    """The largest first capture: activations, or FlashAttention's partial results."""
    data = _data()["cuda_graphs"]
    splits = data["splits"]
    partial = 0.0
    if full and engine.backends.attention == splits["backend"] and engine.capability[0] == 9:
        batch = full[-1] if full[-1] <= splits["largest_batch"] else 0
        heads = model.attention_heads // engine.tensor_parallel
        partial = batch * heads * model.head_dim * splits["bytes"] * splits["count"] / _MIB
    activations = data["first_mib_per_token"] * engine.max_capture_size / engine.tensor_parallel
    piecewise = data["first_mib"] + activations
    return float(max(piecewise, partial))


def _held_mib(model: Model, sizes: list[int], full: list[int], second_runner: bool) -> float:
    """What all graphs after the first hold."""
    held = _data()["cuda_graphs"]["held"]
    large = len([size for size in full if size > 512])
    return float(
        len(sizes) * held["piecewise_mib_per_24_layers"] * model.layers / 24
        + (len(full) - large) * held["full_mib"]
        + large * held["full_mib_beyond_512"]
        + second_runner * held["v2_mib"]
    )


def _estimated_mib(model: Model, engine: Engine, sizes: list[int], full: list[int]) -> float:
    """What vLLM expects of all graphs after the first, from measuring the second of each kind."""
    each = _data()["cuda_graphs"]["estimated"]
    sharded = engine.tensor_parallel > 1
    name = "sharded_piecewise_mib" if sharded else "piecewise_mib"
    piecewise = each[name] + each[f"{name}_per_layer"] * model.layers
    whole = each["full_mib_per_32_layers"] * (1 if sharded else math.ceil(model.layers / 32))
    return float((len(sizes) - 1) * piecewise + max(len(full) - 1, 0) * whole)


def _estimates_graphs(engine: Engine) -> bool:
    """Whether the release measures graphs beforehand and deducts them."""
    data = _data()["cuda_graphs"]
    none = data["no_estimate"]
    if engine.backends.model_runner == none["runner"] and _applies(none, engine.release):
        return False
    if engine.estimate_cuda_graphs is not None:
        return engine.estimate_cuda_graphs and not _before(engine.release, "0.18.0")
    return not _before(engine.release, data["estimate_from"])
