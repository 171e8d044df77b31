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
    :param predicted: ``memory_gib`` with ``kv`` (and ``kv_restart``), ``kv_tokens`` and
        ``max_concurrency``, as plan.json has them; None where the plan predicts nothing.
    :param reported: as ``_startup_log.figures_of`` returns them.
    """
    if not predicted or predicted.get("kv_tokens") is None or not reported:
        return Comparison()
    first, kv_gib = predicted["memory_gib"]["kv"], reported.get("kv_gib")
    meant = _meant(predicted["memory_gib"], reported)
    # The plan has tokens and concurrency of a first start; both go with the memory.
    more = meant.gib / first if first else 1.0
    tokens = round(predicted["kv_tokens"] * more), reported.get("kv_tokens")
    concurrency = predicted["max_concurrency"] * more, reported.get("max_concurrency")
    texts = [text for text in (_memory(meant, kv_gib), _capacity(tokens, concurrency)) if text]
    line = f"{who}: {'; '.join(texts)}" if texts else ""
    # Tokens are held against the memory that there is: on a small card half a GiB is many of them.
    scale = kv_gib / meant.gib if meant.gib and kv_gib else 1.0
    apart = _differ(meant.gib, kv_gib, TOLERANCE_GIB) or _differ(tokens[0] * scale, tokens[1])
    if not apart:
        return Comparison(line)
    return Comparison(
        line,
        f"{line} - the prediction is off by more than {TOLERANCE:.0%}; the engine serves, but look"
        " for what else uses the GPU, or report this line as a bug of the planner.",
    )


@dataclass(frozen=True)
class _Meant:
    """The prediction that a start is held against: GiB of KV cache, and how the line says it."""

    gib: float
    text: str


def _meant(memory: Mapping[str, Any], reported: Mapping[str, Any]) -> _Meant:
    """The prediction for a start like this one.

    Compiling the model takes memory that a start with torch.compile's cache has for the KV cache.
    Where the log does not say which of the two it was, anything between them is right.
    """
    first, restart = memory["kv"], memory.get("kv_restart")
    if restart is None or restart == first:
        return _Meant(first, f"{_gib(first, first)} predicted")
    if reported.get("compiled") is True:
        return _Meant(first, f"{_gib(first, first)} predicted for a first start")
    if reported.get("compiled") is False:
        return _Meant(restart, f"{_gib(restart, first)} predicted for a restart")
    low, high = sorted((first, restart))
    nearest = min(max(reported.get("kv_gib", first), low), high)
    ends = f"{_gib(first, first)} (first start) to {_gib(restart, first)} (restart)"
    return _Meant(nearest, f"{ends} predicted")


def _differ(predicted: float, reported: float | None, least: float = 0.0) -> bool:
    if reported is None:
        return False
    return abs(reported - predicted) > max(TOLERANCE * abs(predicted), least)


def _deviation(predicted: float, reported: float) -> str:
    if not predicted:
        return ""
    # Adding zero turns -0.0 into 0.0.
    return f" ({round(100 * (reported - predicted) / predicted, 1) + 0.0:+.1f} %)"


def _gib(size: float, scale: float) -> str:
    """:param scale: the size that decides how many digits are worth reading."""
    return f"{size:.{1 if scale >= 10 else 2}f} GiB"


def _memory(meant: _Meant, reported: float | None) -> str:
    if reported is None:
        return ""
    return (
        f"KV cache {meant.text}, {_gib(reported, meant.gib)} reported"
        f"{_deviation(meant.gib, reported)}"
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
