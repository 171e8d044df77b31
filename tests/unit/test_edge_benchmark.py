# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The arithmetic of `make edge-benchmark`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "edge")]

from edge_benchmark import keep_alive
from edge_benchmark.figures import Figure, at_most, median_ratio, percentile, table


@pytest.mark.parametrize(
    ("count", "share", "expected"), [(100, 0.5, 50), (100, 0.99, 99), (7, 0.5, 4), (1, 0.99, 1)]
)
def test_percentile_is_one_of_the_values(count: int, share: float, expected: float) -> None:
    assert percentile(range(count, 0, -1), share) == expected


def test_one_slow_round_on_both_ways_does_not_count() -> None:
    assert median_ratio([11, 110, 22], [10, 100, 20]) == pytest.approx(1.1)
    assert median_ratio([11, 900, 22], [10, 100, 20]) == pytest.approx(1.1)


def test_a_figure_without_target_is_never_missed() -> None:
    assert Figure("gap", ["10.00"]).ok


@pytest.mark.parametrize(("value", "met"), [(1.02, True), (1.0201, False)])
def test_a_target_includes_its_limit(value: float, met: bool) -> None:
    assert at_most(1.02, "p50", ["20.8"], value).ok is met


@pytest.mark.parametrize(
    ("lost", "by_control", "met"), [(0, 70, True), (1, 70, False), (0, 0, False)]
)
def test_nothing_lost_counts_only_where_the_control_lost(
    lost: int, by_control: int, met: bool
) -> None:
    assert keep_alive.figure(lost, by_control, bursts=16).ok is met


def test_table_is_markdown() -> None:
    figures = [at_most(1.02, "p50", ["20.8"], 1.03), Figure("gap", ["10.0"])]
    assert table(("", "edge"), figures).splitlines() == [
        "|     | edge | target               |",
        "| --- | ---- | -------------------- |",
        "| p50 | 20.8 | at most 1.02: MISSED |",
        "| gap | 10.0 |                      |",
    ]
