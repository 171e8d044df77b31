# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A plan as a person reads it: a table of flags, a bar of memory, and what vLLM will report."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import (
    GIB,
    Memory,
    Plan,
    Reason,
)

WIDTH = 100  # of a terminal, in characters
_INDENT = "  "
_GAP = "  "
# Longer values are continued on the next line, so that reasons keep their room.
_WIDEST_VALUE = 26

# A smaller difference between a first start and a restart is not worth a line.
_SEEN_BYTES = round(0.05 * GIB)

# Part of a GPU's memory and what fills its cells of the bar.
_CELLS = {
    "weights": "█",
    "activation": "▓",
    "CUDA graphs": "▒",
    "other": "▚",
    "CUDA, NCCL": "▞",
    "KV cache": "░",
    "free": "·",
}


_LEFT_OUT = "\N{EN DASH}"


def plan_text(title: str, plan: Plan, width: int = WIDTH) -> str:
    """Everything about one instance: title, table, bar, prediction and notes.

    :param width: of the terminal in characters, 72 or more.
    """
    parts = [
        f"{title}\n{'=' * min(len(title), width)}",
        table(rows(plan), width),
        memory_bar(plan.memory, width),
        "\n".join(wrapped(line, width) for line in (*_placement(plan), prediction(plan))),
    ]
    if plan.notes:
        parts.append("\n".join(wrapped(f"- {note}", width) for note in plan.notes))
    return "\n\n".join(parts) + "\n"


def rows(plan: Plan) -> list[Reason]:
    """The reasons, and behind them the flags and variables that need none."""
    told = {reason.flag for reason in plan.reasons}
    rest = {**plan.flags, **plan.env}
    return [
        *plan.reasons,
        *(Reason(name, value, "") for name, value in rest.items() if name not in told),
    ]


def value_text(value: Any) -> str:
    """A value as the configuration file has it; an en dash for a flag that is left out."""
    if value is None:
        return _LEFT_OUT
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return str(value)


def table(reasons: Iterable[Reason], width: int = WIDTH) -> str:
    """Flag, value and why in columns; the last one takes the room that is left."""
    lines = [("flag", "value", "why")]
    lines += [(reason.flag, value_text(reason.value), reason.why) for reason in reasons]
    flag = max(len(line[0]) for line in lines)
    value = min(_WIDEST_VALUE, max(len(line[1]) for line in lines))
    why = max(20, width - len(_INDENT) - flag - value - 2 * len(_GAP))
    columns = (flag, value, why)
    lines.insert(1, ("-" * flag, "-" * value, "-" * why))
    return "\n".join(text for line in lines for text in _row(line, columns))


def _row(cells: Sequence[str], columns: Sequence[int]) -> list[str]:
    wrapped_cells = [
        textwrap.wrap(cell, column, break_on_hyphens=False) or [""]
        for cell, column in zip(cells, columns)
    ]
    height = max(len(cell) for cell in wrapped_cells)
    padded = [cell + [""] * (height - len(cell)) for cell in wrapped_cells]
    return [
        (_INDENT + _GAP.join(part.ljust(column) for part, column in zip(parts, columns))).rstrip()
        for parts in zip(*padded)
    ]


def parts_of(memory: Memory) -> dict[str, int]:
    """Where the memory of one GPU goes, in bytes; they add up to its total."""
    used = {
        "weights": memory.weights,
        "activation": memory.activation,
        "CUDA graphs": memory.cuda_graphs,
        "other": memory.other,
        "CUDA, NCCL": memory.outside,
        "KV cache": max(0, memory.kv),
    }
    return used | {"free": max(0, memory.total - sum(used.values()))}


def memory_bar(memory: Memory, width: int = WIDTH) -> str:
    """The memory of one GPU as a bar and as a list in GiB and percent."""
    parts = parts_of(memory)
    cells = _cells(list(parts.values()), width - len(_INDENT) - 2)
    drawn = "".join(_CELLS[name] * count for name, count in zip(parts, cells))
    lines = [f"Memory of each GPU, {memory.total / GIB:.1f} GiB", f"[{drawn}]"]
    lines += [
        f"{_CELLS[name]} {name:<12}{size / GIB:>7.2f} GiB{size / memory.total:>8.1%}"
        for name, size in parts.items()
    ]
    return textwrap.indent("\n".join(lines), _INDENT)


def _cells(sizes: Sequence[int], count: int) -> list[int]:
    """``count`` cells shared out by size; what is there at all has at least one."""
    total = sum(sizes)
    if total <= 0:
        return [0] * len(sizes)
    cells = [max(1, round(size * count / total)) if size else 0 for size in sizes]
    # Rounding is paid for by the largest part, where nobody sees it.
    cells[cells.index(max(cells))] += count - sum(cells)
    return cells


def prediction(plan: Plan) -> str:
    """What vLLM will print of its KV cache, and its size where a restart has more of it."""
    length = plan.flags.get("max-model-len")
    of_length = f"{length:,} tokens" if isinstance(length, int) else "full length"
    said = (
        f"KV cache: {plan.kv_cache.tokens:,} tokens, {plan.kv_cache.concurrency:.2f} requests of"
        f" {of_length} at once"
    )
    return f"{said}{_after_a_restart(plan)}."


def _after_a_restart(plan: Plan) -> str:
    first, later = plan.memory.kv, plan.restart_kv_bytes
    if not later or abs(later - first) < _SEEN_BYTES:
        return ""
    # Two digits where one would show the same figure twice.
    digits = 1 if f"{later / GIB:.1f}" != f"{first / GIB:.1f}" else 2
    return (
        f"; {later / GIB:.{digits}f} GiB instead of {first / GIB:.{digits}f} after a restart, when"
        " kernels are compiled"
    )


def _placement(plan: Plan) -> list[str]:
    """Which GPUs each engine gets; nothing to say of one engine on one GPU."""
    if plan.replicas > 1:
        each = "one GPU each" if plan.tensor_parallel_size == 1 else "GPUs in groups of "
        size = "" if plan.tensor_parallel_size == 1 else str(plan.tensor_parallel_size)
        return [f"Engines: {plan.replicas} replicas, {each}{size}; the figures are of one replica."]
    if plan.tensor_parallel_size > 1:
        return [f"Engine: one, over {plan.tensor_parallel_size} GPUs (tensor parallel)."]
    return []


def wrapped(text: str, width: int = WIDTH) -> str:
    """A sentence, indented and broken at the terminal's width."""
    return textwrap.fill(
        text,
        width,
        initial_indent=_INDENT,
        subsequent_indent=_INDENT * 2,
        break_on_hyphens=False,
        break_long_words=False,
    )
