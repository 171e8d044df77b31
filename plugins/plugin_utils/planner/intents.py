# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What a person wants from an instance, in numbers."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import nearest
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import releases
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import Gpu, Refusal

_DATA = Path(__file__).parent / "data" / "intents.json"
# Steps from which vLLM gives a GPU the larger batches (arg_utils.get_batch_defaults).
_FAST_TOKENS = 8192


@dataclass(frozen=True)
class Intent:
    """One intent on one kind of GPU.

    :param minimum_requests: requests of full length that must fit at once.
    :param enough_tokens: context for which no smaller step is worth it; 0 for the model's own.
    :param steps: (max-num-seqs, max-num-batched-tokens), the most generous first.
    :param queue: requests that may wait for each one that runs.
    """

    name: str
    minimum_requests: int
    enough_tokens: int
    steps: tuple[tuple[int, int], ...]
    queue: int
    why_seqs: str
    why_tokens: str


@functools.lru_cache(maxsize=1)
def _data() -> Mapping[str, Any]:
    data: dict[str, Any] = json.loads(_DATA.read_text(encoding="utf-8"))
    data.pop("_about")
    return data


def names() -> tuple[str, ...]:
    return tuple(_data())


def intent(name: str, gpu: Gpu) -> Intent:
    """
    :raises Refusal: there is no such intent.
    """
    if name not in _data():
        hint = nearest(name, names()) or "."
        raise Refusal(f"intent is {name!r}; it must be {', '.join(names())}{hint}")
    entry = _data()[name]
    # The newest release knows best which GPUs are slow for their memory.
    tokens, _seqs = releases.defaults(releases.known()[-1]).batch_sizes(gpu)
    steps = entry["fast" if tokens >= _FAST_TOKENS else "other"]
    return Intent(
        name=name,
        minimum_requests=entry["minimum_requests"],
        enough_tokens=entry["enough_tokens"],
        steps=tuple((seqs, step) for seqs, step in steps),
        queue=entry["queue"],
        why_seqs=entry["seqs"],
        why_tokens=entry["tokens"],
    )
