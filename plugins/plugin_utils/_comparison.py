# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the plan predicted beside what vLLM's log says: one line, and whether they agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# A prediction counts as right within the larger of the two.
TOLERANCE = 0.03
TOLERANCE_GIB = 0.5


@dataclass(frozen=True)
class Comparison:
    """``line`` is empty where nothing is compared, ``warning`` where all is as predicted."""

    line: str = ""
    warning: str = ""


def compare(
    who: str, predicted: Mapping[str, Any] | None, reported: Mapping[str, Any]
) -> Comparison:
    """Hold the figures of vLLM's log against the plan.

    :param who: how the line begins: ``gpt-oss-20b on gpu1``.
    :param predicted: ``memory_gib`` with ``kv``, ``kv_tokens`` and ``max_concurrency``, as
        plan.json has them; None where the plan predicts nothing.
    :param reported: as ``_startup_log.figures_of`` returns them.
    """
    if not predicted or predicted.get("kv_tokens") is None or not reported:
        return Comparison()
    memory = predicted["memory_gib"]["kv"], reported.get("kv_gib")
    tokens = predicted["kv_tokens"], reported.get("kv_tokens")
    concurrency = predicted["max_concurrency"], reported.get("max_concurrency")
    texts = [text for text in (_memory(*memory), _capacity(tokens, concurrency)) if text]
    line = f"{who}: {'; '.join(texts)}" if texts else ""
    # Tokens are held against the memory that there is: on a small card half a GiB is many of them.
    scale = memory[1] / memory[0] if memory[0] and memory[1] else 1.0
    apart = _differ(*memory, TOLERANCE_GIB) or _differ(tokens[0] * scale, tokens[1])
    if not apart:
        return Comparison(line)
    return Comparison(
        line,
        f"{line} - the prediction is off by more than {TOLERANCE:.0%}; the engine serves, but look"
        " for what else uses the GPU, or report this line as a bug of the planner.",
    )


def _differ(predicted: float, reported: float | None, least: float = 0.0) -> bool:
    if reported is None:
        return False
    return abs(reported - predicted) > max(TOLERANCE * abs(predicted), least)


def _deviation(predicted: float, reported: float) -> str:
    if not predicted:
        return ""
    # Adding zero turns -0.0 into 0.0.
    return f" ({round(100 * (reported - predicted) / predicted, 1) + 0.0:+.1f} %)"


def _memory(predicted: float, reported: float | None) -> str:
    if reported is None:
        return ""
    digits = 1 if predicted >= 10 else 2
    return (
        f"KV cache {predicted:.{digits}f} GiB predicted, {reported:.{digits}f} GiB reported"
        f"{_deviation(predicted, reported)}"
    )


def _capacity(tokens: tuple[int, int | None], concurrency: tuple[float, float | None]) -> str:
    if tokens[1] is None or concurrency[1] is None:
        return ""
    reported = f"{tokens[1]:,} tokens, {concurrency[1]:.2f}x"
    if tokens[0] == tokens[1] and round(concurrency[0], 2) == round(concurrency[1], 2):
        return f"{reported} as predicted"
    return (
        f"{tokens[0]:,} tokens, {concurrency[0]:.2f}x predicted, {reported} reported"
        f"{_deviation(tokens[0], tokens[1])}"
    )
