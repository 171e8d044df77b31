# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Percentiles, and the tables of what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median


def percentile(values: Iterable[float], share: float) -> float:
    """The least of the values that at least `share` (0..1) of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median_ratio(rounds: Sequence[float], bases: Sequence[float]) -> float:
    """Each round over its own base, so that a slow moment of the machine weighs on both."""
    return median(value / base for value, base in zip(rounds, bases, strict=True))


@dataclass(frozen=True)
class Figure:
    """A line of a table; `met` is None where there is no target."""

    what: str
    columns: Sequence[str]
    target: str = ""
    met: bool | None = None

    @property
    def ok(self) -> bool:
        return self.met is not False

    @property
    def verdict(self) -> str:
        if self.met is None:
            return ""
        return f"{self.target}: {'met' if self.met else 'MISSED'}"


def at_most(limit: float, what: str, columns: Sequence[str], value: float) -> Figure:
    """
    :param value: the one of the columns that must not exceed the limit, before it was rounded.
    """
    return Figure(what, columns, f"at most {limit:g}", value <= limit)


def table(titles: Sequence[str], figures: Iterable[Figure]) -> str:
    """Markdown, as docs/edge-benchmark.md has it."""
    rows = [[*titles, "target"]]
    rows += [[figure.what, *figure.columns, figure.verdict] for figure in figures]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows)
