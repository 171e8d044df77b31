# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""From flags to the settings that memory and KV cache depend on, as vLLM resolves them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import version
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import backends, releases
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import (
    Backends,
    Engine,
    Gpu,
    Model,
)

# First release with max-cudagraph-capture-size; before it cuda-graph-sizes is a list.
_CAPTURE_FLAG = "0.11.1"
# From 0.18.0 (envs.py); on by default from 0.20.0.
_ESTIMATE_VARIABLE = "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS"
# vLLM's own block (config/cache.py).
_BLOCK_SIZE = 16


def engine(
    flags: Mapping[str, Any], env: Mapping[str, str], gpu: Gpu, model: Model, release: str
) -> Engine:
    """What ``vllm serve`` makes of these flags on this GPU.

    :raises Refusal: the flags ask for a kernel that the GPU or the release does not have.
    """
    usual = releases.defaults(release)
    tokens, seqs = usual.batch_sizes(gpu)
    if flags.get("performance-mode") == "throughput":
        # It doubles what is left to vLLM (arg_utils.py, from 0.17.0).
        tokens, seqs = 2 * tokens, 2 * seqs
    tokens = flags.get("max-num-batched-tokens", tokens)
    seqs = flags.get("max-num-seqs", min(seqs, tokens))
    return Engine(
        release=release,
        tensor_parallel=flags.get("tensor-parallel-size", 1),
        max_model_len=flags.get("max-model-len", model.max_model_len),
        max_num_batched_tokens=tokens,
        max_num_seqs=seqs,
        max_capture_size=capture_size(flags, gpu, model, release, tokens, seqs),
        kv_bytes_each=1 if str(flags.get("kv-cache-dtype", "auto")).startswith("fp8") else 2,
        block_size=flags.get("block-size", _BLOCK_SIZE),
        async_scheduling=_schedules_async(flags, usual),
        hybrid_kv_cache=bool(has_hybrid_cache(flags, release)),
        backends=_backends(flags, env, gpu, model, release),
        capability=gpu.capability,
        estimate_cuda_graphs=_estimates_graphs(env),
    )


def _estimates_graphs(env: Mapping[str, str]) -> bool | None:
    """Whether vLLM is told to deduct CUDA graphs beforehand; None leaves it to the release."""
    told = env.get(_ESTIMATE_VARIABLE)
    return None if told is None else backends.is_true(told)


def _backends(
    flags: Mapping[str, Any], env: Mapping[str, str], gpu: Gpu, model: Model, release: str
) -> Backends:
    """vLLM's kernels; for a GPU that no release was read for, those of the nearest known one."""
    nearest = releases.nearest_capability(gpu.capability)
    flags = {**flags, "attention-config": nested(flags, "attention-config")}
    return backends.chosen(nearest, model, release, flags, env)


def _schedules_async(flags: Mapping[str, Any], usual: releases.Defaults) -> bool:
    if flags.get("async-scheduling") is not None:
        return bool(flags["async-scheduling"])
    drafter = speculation(flags).get("method", "")
    # Drafters other than EAGLE and MTP switch it off (config/vllm.py).
    return usual.async_scheduling and not (
        drafter and "eagle" not in drafter and "mtp" not in drafter
    )


def nested(flags: Mapping[str, Any], section: str) -> dict[str, Any]:
    """A flag of JSON, with the keys that are given as ``section.key``."""
    value = flags.get(section)
    merged = dict(value) if isinstance(value, Mapping) else {}
    for name, item in flags.items():
        if name.startswith(f"{section}."):
            merged[name[len(section) + 1 :]] = item
    return merged


def speculation(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The drafter that the flags ask for, or nothing; keys without a value are left out."""
    section = nested(flags, "speculative-config")
    asked = {key: value for key, value in section.items() if value is not None}
    for flag, key in (
        ("spec-model", "model"),
        ("spec-method", "method"),
        ("spec-tokens", "num_speculative_tokens"),
    ):
        if flags.get(flag) is not None:
            asked.setdefault(key, flags[flag])
    return asked


def has_hybrid_cache(flags: Mapping[str, Any], release: str) -> bool | None:
    """Whether sliding layers free what left their window; None beside an unknown connector."""
    disabled = flags.get("disable-hybrid-kv-cache-manager")
    transfer = nested(flags, "kv-transfer-config")
    if disabled or not transfer:
        return not disabled
    return releases.hybrid_beside(_connectors(transfer), release, explicit=disabled is False)


def _connectors(transfer: Mapping[str, Any]) -> list[str]:
    """The connector of kv-transfer-config, or those that it joins; nothing where none is named."""
    name = str(transfer.get("kv_connector") or "")
    if transfer.get("kv_connector_module_path"):
        return [f"{name} of {transfer['kv_connector_module_path']}"]
    if name != "MultiConnector":
        return [name]
    extra = transfer.get("kv_connector_extra_config")
    joined = extra.get("connectors") if isinstance(extra, Mapping) else None
    children = joined if isinstance(joined, list) else []
    return [
        name
        for child in children
        for name in (_connectors(child) if isinstance(child, Mapping) else [""])
    ]


def is_eager(flags: Mapping[str, Any]) -> bool:
    """Whether the flags switch CUDA graphs off."""
    compilation = nested(flags, "compilation-config")
    return (
        bool(flags.get("enforce-eager"))
        or str(compilation.get("cudagraph_mode", "")).upper() == "NONE"
        or str(flags.get("optimization-level", "")) == "0"
    )


def given_capture_sizes(flags: Mapping[str, Any]) -> list[int]:
    """The sizes that the flags list, or none."""
    compilation = nested(flags, "compilation-config")
    given = (
        flags.get("cudagraph-capture-sizes"),
        compilation.get("cudagraph_capture_sizes"),
        flags.get("cuda-graph-sizes"),
    )
    sizes = next((sizes for sizes in given if sizes is not None), ())
    return [int(size) for size in (sizes if isinstance(sizes, (list, tuple)) else [sizes])]


def capture_size(
    flags: Mapping[str, Any], gpu: Gpu, model: Model, release: str, tokens: int, seqs: int
) -> int:
    """The largest batch that gets a CUDA graph; 0 for none (config/vllm._set_cudagraph_sizes)."""
    if is_eager(flags):
        return 0
    usual = releases.defaults(release)
    listed = given_capture_sizes(flags)
    gpt_oss = releases.is_gpt_oss(model)
    old = version(release) < version(_CAPTURE_FLAG)
    if old and len(listed) == 1:
        # One number is a limit there, and gpt-oss raises it.
        return rounded(min(max(listed[0], usual.gpt_oss_capture_size * gpt_oss), tokens))
    if listed:
        return max((size for size in listed if size <= tokens), default=0)
    compilation = nested(flags, "compilation-config")
    limit = flags.get("max-cudagraph-capture-size", compilation.get("max_cudagraph_capture_size"))
    if limit is None:
        limit = usual.gpt_oss_capture_size if gpt_oss else _usual_size(flags, usual, gpu, seqs)
    return rounded(min(int(limit), tokens))


def _usual_size(flags: Mapping[str, Any], usual: releases.Defaults, gpu: Gpu, seqs: int) -> int:
    drafted = int(speculation(flags).get("num_speculative_tokens", 0))
    ceiling = usual.capture_size_sm100 if gpu.capability[0] == 10 else usual.capture_size
    return min(seqs * 2 * (1 + drafted), ceiling)


def rounded(size: int) -> int:
    """The largest size at or below ``size`` that vLLM captures: 1, 2, 4, eights, sixteens."""
    if size >= 256:
        return size - size % 16
    return size - size % 8 if size >= 8 else max((n for n in _small() if n <= size), default=0)


def covering(size: int) -> int:
    """The smallest such size at or above ``size``."""
    if size > 8:
        return to_multiple(size, 16 if size > 256 else 8)
    return next(n for n in (*_small(), 8) if n >= size)


def to_multiple(size: int, step: int) -> int:
    """The multiple of ``step`` at or above ``size``."""
    return -(-size // step) * step


def _small() -> Iterable[int]:
    return (1, 2, 4)
