# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What a vLLM release does by itself, what its image needs, and what is known to be wrong."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import (
    catalogue,
    nearest,
    version,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import (
    GIB,
    Gpu,
    Model,
    Refusal,
)

_DATA = Path(__file__).parent / "data" / "releases.json"

# gpt-oss came with it.
_OLDEST = "0.10.1"


@functools.lru_cache(maxsize=1)
def _data() -> Mapping[str, Any]:
    data: Mapping[str, Any] = json.loads(_DATA.read_text(encoding="utf-8"))
    return data


@functools.lru_cache(maxsize=1)
def known() -> tuple[str, ...]:
    """Releases that can be planned for, oldest first."""
    return tuple(name for name in catalogue().releases if version(name) >= version(_OLDEST))


def check(release: str) -> None:
    """
    :raises Refusal: the release is not in the catalogue.
    """
    if release in known():
        return
    hint = nearest(release, known(), cutoff=0.8) or "; set one of them."
    raise Refusal(f"vllm_release is {release!r}; known are {', '.join(known())}{hint}")


def _holding(table: str, release: str) -> dict[str, Any]:
    """Entries up to ``release``, later ones over earlier ones."""
    merged: dict[str, Any] = {}
    for entry in _data()[table]:
        if version(entry["from"]) <= version(release):
            merged |= entry
    return merged


@dataclass(frozen=True)
class Defaults:
    """What ``vllm serve`` takes where a flag is not given."""

    gpu_memory_utilization: float
    async_scheduling: bool
    gpt_oss_capture_size: int
    capture_size: int
    capture_size_sm100: int
    batch: tuple[Mapping[str, Any], ...]

    def batch_sizes(self, gpu: Gpu) -> tuple[int, int]:
        """max-num-batched-tokens and max-num-seqs (arg_utils.get_batch_defaults)."""
        for tier in self.batch:
            if _is_in_tier(gpu, tier):
                return tier["tokens"], tier["seqs"]
        raise AssertionError("the last tier takes every GPU")


def _is_in_tier(gpu: Gpu, tier: Mapping[str, Any]) -> bool:
    if gpu.memory_bytes < tier.get("min_gib", 0) * GIB:
        return False
    if "not_named" in tier and tier["not_named"] in gpu.name.lower():
        return False
    return tier.get("not_capability") != capability_name(gpu.capability)


@functools.lru_cache(maxsize=64)
def defaults(release: str) -> Defaults:
    """The defaults of a release."""
    entry = _holding("defaults", release)
    return Defaults(
        gpu_memory_utilization=entry["gpu_memory_utilization"],
        async_scheduling=entry["async_scheduling"],
        gpt_oss_capture_size=entry["gpt_oss_capture_size"],
        capture_size=entry["capture_size"],
        capture_size_sm100=entry["capture_size_sm100"],
        batch=tuple(entry["batch"]),
    )


def capability_name(capability: tuple[int, int]) -> str:
    """``(9, 0)`` as ``9.0``."""
    return f"{capability[0]}.{capability[1]}"


def is_known_capability(capability: tuple[int, int]) -> bool:
    return capability_name(capability) in _data()["capabilities"]


def nearest_capability(capability: tuple[int, int]) -> tuple[int, int]:
    """The newest known capability up to this one."""
    return max(
        (known for known in _capabilities() if known <= capability), default=_capabilities()[0]
    )


@functools.lru_cache(maxsize=1)
def _capabilities() -> tuple[tuple[int, int], ...]:
    pairs = [version(text) for text in _data()["capabilities"]]
    return tuple((major, minor) for major, minor in pairs)


@dataclass(frozen=True)
class Image:
    """What the official image is built with; drivers are branches: 580."""

    cuda: str
    driver: int
    variant: str
    variant_driver: int


@functools.lru_cache(maxsize=64)
def image(release: str) -> Image:
    """The image of a release, and its variant for older drivers where there is one."""
    entry = _holding("images", release)
    return Image(entry["cuda"], entry["driver"], entry["variant"], entry["variant_driver"])


def driver_note(release: str) -> str:
    """One sentence: which driver the image needs."""
    needed = image(release)
    text = (
        f"The image of {release} has CUDA {needed.cuda} and wants driver {needed.driver} or newer"
    )
    if needed.variant:
        text += f"; v{release}-{needed.variant} runs on {needed.variant_driver} and newer"
    return f"{text}."


def is_gpt_oss(model: Model) -> bool:
    return model.architecture == "GptOssForCausalLM"


def _applies(entry: Mapping[str, Any], release: str, gpu: Gpu, model: Model) -> bool:
    if not version(entry["first"]) <= version(release) <= version(entry["last"]):
        return False
    if entry.get("gpt_oss") and not is_gpt_oss(model):
        return False
    share = model.checkpoint_bytes / gpu.memory_bytes
    if not entry.get("min_weights_share", 0) <= share < entry.get("max_weights_share", share + 1):
        return False
    if "capability" not in entry:
        return True
    low, high = (version(text) for text in entry["capability"])
    return low <= gpu.capability <= high


def issues(release: str, gpu: Gpu, model: Model) -> tuple[str, ...]:
    """Known troubles of this release with this model on this GPU, a sentence each."""
    return tuple(
        f"vLLM {release} {entry['text']}"
        for entry in _data()["issues"]
        if _applies(entry, release, gpu, model)
    )


def workarounds(
    release: str, gpu: Gpu, model: Model, intent: str
) -> Iterable[tuple[Mapping[str, str], str]]:
    """Variables where the automatic choice of a release is wrong, each with the reason."""
    for entry in _data()["workarounds"]:
        if intent in entry["intents"] and _applies(entry, release, gpu, model):
            yield entry["env"], entry["why"]


def advisories(release: str) -> list[Mapping[str, str]]:
    """The holes of a release: ``id``, ``fixed`` (a release) and ``text``, which may be empty."""
    return [entry for entry in _data()["advisories"] if version(release) < version(entry["fixed"])]


def advisory_note(release: str) -> str:
    """The security fixes that a release lacks, or nothing."""
    open_ones = [_advisory(entry) for entry in advisories(release)]
    return f"vLLM {release} has known holes: {'; '.join(open_ones)}." if open_ones else ""


def _advisory(entry: Mapping[str, str]) -> str:
    """What is wrong and where it is right; some were published without a description."""
    if not entry["text"]:
        return f"{entry['id']} (fixed in {entry['fixed']})"
    return f"{entry['text']} ({entry['id']}, fixed in {entry['fixed']})"


def hybrid_beside(connectors: Iterable[str], release: str, explicit: bool) -> bool | None:
    """Whether sliding layers free what left their window beside these KV connectors.

    :param connectors: the connector, or all that a MultiConnector joins.
    :param explicit: whether the hybrid KV cache is asked for (disable-hybrid-kv-cache-manager
        false).
    :return: None where a connector is not known.
    """
    rule = _data()["kv_connectors"]
    if version(release) < version(rule["by_class"]):
        return explicit and version(release) >= version(rule["asks"])
    able: Mapping[str, str] = rule["with_hybrid"]
    named = list(connectors)
    if not named or any(name not in able and name not in rule["without"] for name in named):
        return None
    return explicit or all(version(able.get(name, "9999")) <= version(release) for name in named)


def left_out() -> Mapping[str, str]:
    """Flags that guides for older releases name, and why the plan has none of them."""
    flags: Mapping[str, str] = _data()["left_out"]
    return flags


def replacement(flag: str) -> str:
    """What took the place of a flag that is gone; empty where that is not known."""
    text: str = _data()["retired"].get(flag, "")
    return text
