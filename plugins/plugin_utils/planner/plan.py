# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""From GPUs, model, intent and release to the flags of an instance, and what they will give.

Pure: the same question has the same answer anywhere, in under 5 ms. What more memory gives, and
what cannot be promised of it, is said in ``fit``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import (
    devices,
    fit,
    intents,
    models,
    options,
    reasons,
    refusals,
    releases,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import (
    GIB,
    Gpu,
    Memory,
    Model,
    Plan,
    Refusal,
)


def plan(
    gpus: Sequence[Gpu],
    model: Model | str,
    intent: str,
    vllm_release: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    max_model_len: int | str = "auto",
    env: Mapping[str, Any] | None = None,
    shutdown_timeout: int = 60,
) -> Plan:
    """The flags, the devices and the memory of one instance.

    :param gpus: what the instance may use, all of one kind.
    :param model: a model, or its name in the catalogue.
    :param intent: chat, throughput or long_context.
    :param overrides: flags of ``vllm serve`` that a person insists on.
    :param max_model_len: tokens, or ``auto`` for as many as fit, up to the model's own.
    :param env: variables that a person insists on.
    :param shutdown_timeout: seconds that running requests get at a stop.
    :raises Refusal: no plan is possible; one sentence with the arithmetic and the nearest plan.
    """
    request = _request(
        gpus, model, intent, vllm_release, overrides, max_model_len, env, shutdown_timeout
    )
    found = solve(request)
    if not refusals.is_sound(request, found):
        said = refusals.sentence(request, found, _tries)
        raise Refusal(said, found.memory, fit.restart_kv_bytes(request, found))
    return _assemble(request, found)


def _request(
    gpus: Sequence[Gpu],
    model: Model | str,
    intent: str,
    release: str,
    overrides: Mapping[str, Any] | None,
    max_model_len: int | str,
    env: Mapping[str, Any] | None,
    shutdown_timeout: int,
) -> fit.Request:
    releases.check(release)
    devices.check(gpus)
    refusals.check_busy(gpus)
    served = models.model(model) if isinstance(model, str) else model
    asked = options.read(overrides or {}, release, served)
    wanted = intents.intent(intent, gpus[0])
    length = options.length(max_model_len, asked, served)
    request = fit.Request(
        gpus=tuple(gpus),
        model=served,
        intent=wanted,
        release=release,
        options=asked,
        env=options.read_environment(env or {}, release),
        max_model_len=length,
        shutdown_timeout=shutdown_timeout,
    )
    refusals.check_capability(request, _tries)
    refusals.check_options(request)
    return request


def solve(request: fit.Request) -> fit.Fit:
    """The smallest tensor-parallel size that the intent is content with, else the nearest one.

    :raises Refusal: the options ask for what the GPUs cannot do.
    """
    tried: list[fit.Fit] = []
    for size in fit.sizes(request, models.tensor_parallel_sizes(request.model)):
        found = fit.fit(request, size)
        if refusals.is_sound(request, found) and fit.is_enough(request, found):
            return found
        tried.append(found)
    sound = [found for found in tried if refusals.is_sound(request, found)]
    return max(sound, key=_reach) if sound else tried[-1]


def _reach(found: fit.Fit) -> tuple[int, float]:
    return found.engine.max_model_len, found.kv_cache.concurrency


def _tries(request: fit.Request) -> fit.Fit | None:
    """A plan for another question, or None; for the nearest plan that fits."""
    try:
        found = solve(request)
    except Refusal:
        return None
    return found if refusals.is_sound(request, found) else None


def _assemble(request: fit.Request, found: fit.Fit) -> Plan:
    size = found.engine.tensor_parallel
    replicas = len(request.gpus) // size
    groups, idle = devices.assign(request.gpus, size, replicas)
    linked = all(devices.is_linked(group) for group in groups)
    why = reasons.rows(request, found, replicas)
    return Plan(
        flags=reasons.written(request, why),
        env=reasons.variables(request),
        tensor_parallel_size=size,
        replicas=replicas,
        devices=tuple(tuple(devices.name_of(gpu) for gpu in group) for group in groups),
        memory=found.memory,
        kv_cache=found.kv_cache,
        reasons=why,
        notes=reasons.notes(request, found, tuple(str(gpu.index) for gpu in idle), linked),
        restart_kv_bytes=fit.restart_kv_bytes(request, found),
    )


def as_json(result: Plan | Refusal) -> dict[str, Any]:
    """A plan, or a refusal, under the same keys; sizes in GiB on each GPU."""
    if isinstance(result, Refusal):
        return _refused(result)
    return {
        "refused": None,
        "flags": dict(result.flags),
        "env": dict(result.env),
        "tensor_parallel_size": result.tensor_parallel_size,
        "replicas": result.replicas,
        "devices": [list(group) for group in result.devices],
        "memory_gib": _memory_gib(result.memory, result.restart_kv_bytes),
        "kv_tokens": result.kv_cache.tokens,
        "max_concurrency": round(result.kv_cache.concurrency, 2),
        "reasons": [
            {"flag": row.flag, "value": row.value, "why": row.why} for row in result.reasons
        ],
        "notes": list(result.notes),
    }


def _memory_gib(memory: Memory, restart_kv_bytes: int) -> dict[str, float]:
    """``kv`` is of a first start; with ``kv`` the parts add up to what the engine holds."""
    parts = {
        "total": memory.total,
        "weights": memory.weights,
        "activation": memory.activation,
        "cuda_graphs": memory.cuda_graphs,
        "other": memory.other,
        "kv": memory.kv,
        "kv_restart": restart_kv_bytes,
    }
    return {name: round(size / GIB, 3) for name, size in parts.items()}


def _refused(refusal: Refusal) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(
        ("tensor_parallel_size", "replicas", "memory_gib", "kv_tokens", "max_concurrency")
    )
    if refusal.memory is not None:
        empty["memory_gib"] = _memory_gib(refusal.memory, refusal.restart_kv_bytes)
    return {
        "refused": str(refusal),
        "flags": {},
        "env": {},
        "devices": [],
        **empty,
        "reasons": [],
        "notes": [],
    }
